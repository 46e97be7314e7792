//! Rows of processes, of pods and of functions, from what was merged.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use super::merged::{Merged, Only};

/// What processes in no pod, container or unit are listed under.
pub(super) const NO_OWNER: &str = "(none)";

/// What a row stands for, while its numbers change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// pid and start time.
    Process(u32, u64),
    /// Pod, container or unit.
    Owner(Arc<str>),
    /// Name and file.
    Function(Arc<str>, Arc<str>),
    /// A hash of the names from the root. Of two equal ones the cursor may take one for the other, no number is wrong.
    Node(u64),
}

/// Whether a row of the tree has others below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Leaf,
    Open,
    Closed,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    /// CPU time in itself, and with all that it called, ns.
    pub(super) own_ns: u64,
    pub(super) total_ns: u64,
    pub(super) name: Arc<str>,
    /// Of a process its owner, of a function its file, of a pod how many processes.
    pub(super) detail: Arc<str>,
    pub(super) is_kernel: bool,
    /// How many there are above it in the tree, and how far it is set in.
    pub(super) depth: usize,
    pub(super) level: u16,
    pub(super) fold: Fold,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Own,
    Total,
    Name,
}

/// The order in which rows of these numbers and this name are; the same for the same rows, whatever came first.
pub(super) fn order(sort: Sort, own_ns: u64, total_ns: u64, name: &str) -> impl Ord + '_ {
    let (first, second) = match sort {
        Sort::Own => (own_ns, total_ns),
        Sort::Total => (total_ns, own_ns),
        Sort::Name => (0, 0),
    };
    (Reverse(first), Reverse(second), name)
}

fn sorted(mut rows: Vec<Row>, sort: Sort) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let by = |row: &Row| match row.key {
            Key::Process(pid, start_time_ns) => (pid, start_time_ns),
            _ => (0, 0),
        };
        let words = order(sort, a.own_ns, a.total_ns, &a.name).cmp(&order(sort, b.own_ns, b.total_ns, &b.name));
        words.then_with(|| a.detail.cmp(&b.detail)).then_with(|| by(a).cmp(&by(b)))
    });
    rows
}

/// Every process that ran.
pub(super) fn processes(merged: &Merged, only: &Only, sort: Sort) -> Vec<Row> {
    let mut spent = vec![0; merged.processes.len()];
    merged.visit(only, |process, _, ns| spent[process] += ns);
    let rows = merged.processes.iter().zip(spent).filter(|(_, ns)| *ns > 0).map(|(who, ns)| Row {
        key: Key::Process(who.pid, who.start_time_ns),
        own_ns: ns,
        total_ns: ns,
        name: who.comm.clone(),
        detail: who.owner.clone(),
        is_kernel: false,
        depth: 0,
        level: 0,
        fold: Fold::Leaf,
    });
    sorted(rows.collect(), sort)
}

/// Every pod, container or unit that something ran in.
pub(super) fn owners(merged: &Merged, only: &Only, sort: Sort) -> Vec<Row> {
    let mut owners: HashMap<Arc<str>, (u64, u64)> = HashMap::new();
    for row in processes(merged, only, sort) {
        let (ns, processes) = owners.entry(row.detail).or_default();
        *ns += row.total_ns;
        *processes += 1;
    }
    let rows = owners.into_iter().map(|(owner, (ns, processes))| Row {
        own_ns: ns,
        total_ns: ns,
        name: if owner.is_empty() { NO_OWNER.into() } else { owner.clone() },
        key: Key::Owner(owner),
        detail: processes.to_string().into(),
        is_kernel: false,
        depth: 0,
        level: 0,
        fold: Fold::Leaf,
    });
    sorted(rows.collect(), sort)
}

/// Every function that ran or called one that did. One that is in a stack several times counts once.
pub(super) fn functions(merged: &Merged, only: &Only, sort: Sort) -> Vec<Row> {
    let count = merged.functions.len();
    let (mut own, mut total, mut seen_in) = (vec![0; count], vec![0; count], vec![0_u64; count]);
    let mut visit = 0;
    merged.visit(only, |_, path, ns| {
        visit += 1;
        if let Some(leaf) = path.last() {
            own[*leaf] += ns;
        }
        for function in path {
            if seen_in[*function] != visit {
                seen_in[*function] = visit;
                total[*function] += ns;
            }
        }
    });
    let numbers = own.into_iter().zip(total);
    let rows = merged.functions.iter().zip(numbers).filter(|(_, (_, total))| *total > 0);
    let rows = rows.map(|(code, (own_ns, total_ns))| Row {
        key: Key::Function(code.name.clone(), code.file.clone()),
        own_ns,
        total_ns,
        name: code.name.clone(),
        detail: code.file.clone(),
        is_kernel: code.is_kernel,
        depth: 0,
        level: 0,
        fold: Fold::Leaf,
    });
    sorted(rows.collect(), sort)
}

#[cfg(test)]
mod tests {
    use super::super::made::merged;
    use super::*;

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| format!("{} {} {} {}", row.own_ns, row.total_ns, row.name, row.detail)).collect()
    }

    #[test]
    fn a_recursive_function_counts_once_and_rows_are_sorted() {
        let merged = merged(&[&[(1, "a", "", "main;f;f;g", 6), (1, "a", "", "main;f", 3)], &[(2, "b", "", "main", 4)]]);
        let all = |sort| text(&functions(&merged, &Only::Everything, sort));
        assert_eq!(all(Sort::Own), ["6 6 g bin", "4 13 main bin", "3 9 f bin"]);
        assert_eq!(all(Sort::Total), ["4 13 main bin", "3 9 f bin", "6 6 g bin"]);
        assert_eq!(all(Sort::Name), ["3 9 f bin", "6 6 g bin", "4 13 main bin"]);
        let only = Only::Process { pid: 2, start_time_ns: 20, comm: "b".into() };
        assert_eq!(text(&functions(&merged, &only, Sort::Own)), ["4 4 main bin"]);
    }

    #[test]
    fn processes_have_their_newest_name_and_owner_and_pods_add_them_up() {
        let merged = merged(&[
            &[(1, "sh", "", "main", 1), (2, "db", "shop/db/pg", "main", 2), (3, "x", "", "main", 1)],
            &[(1, "app", "shop/cart/app", "main", 5), (4, "sidecar", "shop/cart/app", "main", 1)],
            &[(1, "app", "", "main", 1)],
        ]);
        let everything = Only::Everything;
        assert_eq!(
            text(&processes(&merged, &everything, Sort::Own)),
            ["7 7 app shop/cart/app", "2 2 db shop/db/pg", "1 1 sidecar shop/cart/app", "1 1 x "]
        );
        assert_eq!(
            text(&owners(&merged, &everything, Sort::Own)),
            ["8 8 shop/cart/app 2", "2 2 shop/db/pg 1", "1 1 (none) 1"]
        );
        let only = Only::Owner("shop/db/pg".into());
        assert_eq!(text(&functions(&merged, &only, Sort::Own)), ["2 2 main bin"]);
    }
}
