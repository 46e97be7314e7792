//! The call tree: from the process down to what it called, as the rows that are open.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::merged::{Merged, Only};
use super::rows::{Fold, Key, Row, Sort, order};

/// Most nodes, about 80 bytes each. What goes deeper then belongs to the last node that there is, and is counted.
const MAX_NODES: usize = 500_000;
/// Most rows that are remembered as open or closed, 16 bytes each; then all are forgotten.
const MAX_REMEMBERED: usize = 50_000;
/// A node with one part in so many of the whole opens by itself.
const OPENS_AT: u64 = 10;

/// Which nodes are open. One that has opened stays open, so that rows don't jump when numbers change.
#[derive(Debug, Default)]
pub(super) struct Folds(HashMap<u64, bool>);

impl Folds {
    pub(super) fn set(&mut self, node: u64, open: bool) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(node, open);
    }

    /// A hot node opens, and stays so when it cools. One that leads to what a filter looks for is open as long as it does.
    fn is_open(&mut self, node: u64, is_hot: bool, leads_to_match: bool) -> bool {
        match self.0.get(&node) {
            Some(open) => *open,
            None => {
                if is_hot {
                    self.set(node, true);
                }
                is_hot || leads_to_match
            }
        }
    }
}

/// The rows, and how many stacks were cut short.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) rows: Vec<Row>,
    pub(super) cut: u64,
}

struct Node {
    own_ns: u64,
    total_ns: u64,
    /// A process's name (of several processes, if they have the same), or a function.
    name: Arc<str>,
    detail: Arc<str>,
    is_kernel: bool,
    hash: u64,
    children: Vec<usize>,
    /// Something below is what the filter looks for.
    leads_to_match: bool,
}

struct Making {
    nodes: Vec<Node>,
    /// By parent, and the number of the function or of the process's name behind the functions.
    numbers: HashMap<(usize, usize), usize>,
    cut: u64,
}

/// Of the stacks in which `matches` finds something; of all without.
pub(super) fn tree(
    merged: &Merged,
    only: &Only,
    sort: Sort,
    matches: Option<&dyn Fn(&str) -> bool>,
    folds: &mut Folds,
) -> Tree {
    let root = Node {
        own_ns: 0,
        total_ns: 0,
        name: "".into(),
        detail: "".into(),
        is_kernel: false,
        hash: 0,
        children: Vec::new(),
        leads_to_match: false,
    };
    let mut making = Making { nodes: vec![root], numbers: HashMap::new(), cut: 0 };
    let matching = |name: &str| matches.is_some_and(|matches| matches(name));
    let functions: Vec<bool> = merged.functions.iter().map(|code| matching(&code.name)).collect();
    let mut comms: HashMap<Arc<str>, usize> = HashMap::new();
    let is_one_process = matches!(only, Only::Process { .. });
    merged.visit(only, |process, path, ns| {
        let comm = &merged.processes[process].comm;
        let by_comm = !is_one_process && matching(comm);
        let deepest = path.iter().rposition(|function| functions[*function]);
        if matches.is_some() && !by_comm && deepest.is_none() {
            return;
        }
        making.nodes[0].total_ns += ns;
        let mut at = 0;
        if !is_one_process {
            let next = merged.functions.len() + comms.len();
            let number = *comms.entry(comm.clone()).or_insert(next);
            at = making.child(at, number, comm, &Arc::from(""), false);
            making.spend(at, ns, deepest.is_some());
        }
        for (depth, function) in path.iter().enumerate() {
            if making.nodes.len() >= MAX_NODES && !making.numbers.contains_key(&(at, *function)) {
                making.cut += 1;
                break;
            }
            let code = &merged.functions[*function];
            at = making.child(at, *function, &code.name, &code.file, code.is_kernel);
            making.spend(at, ns, deepest.is_some_and(|deepest| depth < deepest));
        }
        making.nodes[at].own_ns += ns;
    });
    let rows = making.rows(sort, folds);
    Tree { rows, cut: making.cut }
}

impl Making {
    fn child(&mut self, parent: usize, number: usize, name: &Arc<str>, file: &Arc<str>, is_kernel: bool) -> usize {
        if let Some(found) = self.numbers.get(&(parent, number)) {
            return *found;
        }
        let mut hasher = DefaultHasher::new();
        (self.nodes[parent].hash, name, file).hash(&mut hasher);
        let child = self.nodes.len();
        self.nodes.push(Node {
            own_ns: 0,
            total_ns: 0,
            name: name.clone(),
            detail: file.clone(),
            is_kernel,
            hash: hasher.finish(),
            children: Vec::new(),
            leads_to_match: false,
        });
        self.numbers.insert((parent, number), child);
        self.nodes[parent].children.push(child);
        child
    }

    fn spend(&mut self, at: usize, ns: u64, leads_to_match: bool) {
        let node = &mut self.nodes[at];
        node.total_ns += ns;
        node.leads_to_match |= leads_to_match;
    }

    fn sorted_children(&self, of: usize, sort: Sort) -> Vec<usize> {
        let mut children = self.nodes[of].children.clone();
        // In a tree the time of its own says little: what leads to the hot place is first by its total.
        let sort = if sort == Sort::Own { Sort::Total } else { sort };
        let key = |number: &usize| {
            let node = &self.nodes[*number];
            (order(sort, node.own_ns, node.total_ns, &node.name), &node.detail)
        };
        children.sort_by(|a, b| key(a).cmp(&key(b)));
        children
    }

    /// Depth first. An only child is not set in further: chains of calls are longer than a terminal is wide.
    fn rows(&self, sort: Sort, folds: &mut Folds) -> Vec<Row> {
        let whole = self.nodes[0].total_ns;
        let mut rows = Vec::new();
        let mut next: Vec<(usize, usize, u16)> =
            self.sorted_children(0, sort).into_iter().rev().map(|child| (child, 0, 0)).collect();
        while let Some((number, depth, level)) = next.pop() {
            let node = &self.nodes[number];
            let is_hot = node.total_ns.saturating_mul(OPENS_AT) >= whole;
            let fold = match node.children.is_empty() {
                true => Fold::Leaf,
                false if folds.is_open(node.hash, is_hot, node.leads_to_match) => Fold::Open,
                false => Fold::Closed,
            };
            if fold == Fold::Open {
                let children = self.sorted_children(number, sort);
                let inner = level.saturating_add(u16::from(children.len() > 1));
                next.extend(children.into_iter().rev().map(|child| (child, depth + 1, inner)));
            }
            rows.push(Row {
                key: Key::Node(node.hash),
                own_ns: node.own_ns,
                total_ns: node.total_ns,
                name: node.name.clone(),
                detail: node.detail.clone(),
                is_kernel: node.is_kernel,
                depth,
                level,
                fold,
            });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Line, merged};
    use super::*;

    const LINES: &[Line] = &[
        (1, "app", "", "main;serve;parse", 50),
        (1, "app", "", "main;serve;render;draw", 30),
        (2, "app", "", "main;serve", 10),
        (3, "cron", "", "main;tick", 4),
    ];

    fn text(tree: &Tree) -> Vec<String> {
        let line = |row: &Row| {
            let mark = match row.fold {
                Fold::Leaf => ' ',
                Fold::Open => '-',
                Fold::Closed => '+',
            };
            format!("{}{mark}{} {}/{}", ".".repeat(row.level.into()), row.name, row.own_ns, row.total_ns)
        };
        tree.rows.iter().map(line).collect()
    }

    #[test]
    fn hot_nodes_are_open_cold_ones_closed_and_chains_not_set_in() {
        let merged = merged(&[LINES]);
        let mut folds = Folds::default();
        let all = tree(&merged, &Only::Everything, Sort::Own, None, &mut folds);
        let mut expected = vec![
            "-app 0/90",
            "-main 0/90",
            "-serve 10/90",
            ". parse 50/50",
            ".-render 0/30",
            ". draw 30/30",
            "+cron 0/4",
        ];
        assert_eq!(text(&all), expected);
        let Key::Node(render) = all.rows[4].key else { panic!() };
        folds.set(render, false);
        expected[4] = ".+render 0/30";
        expected.remove(5);
        assert_eq!(text(&tree(&merged, &Only::Everything, Sort::Own, None, &mut folds)), expected);
        let one = Only::Process { pid: 3, start_time_ns: 30, comm: "cron".into() };
        assert_eq!(text(&tree(&merged, &one, Sort::Own, None, &mut folds)), ["-main 0/4", " tick 4/4"]);
    }

    #[test]
    fn what_has_opened_stays_open_when_it_cools_down() {
        let mut folds = Folds::default();
        let hot = merged(&[LINES]);
        tree(&hot, &Only::Everything, Sort::Own, None, &mut folds);
        let cold = merged(&[LINES, &[(9, "new", "", "main", 10_000)]]);
        let rows = tree(&cold, &Only::Everything, Sort::Own, None, &mut folds);
        assert_eq!(text(&rows)[2..6], ["-app 0/90", "-main 0/90", "-serve 10/90", ". parse 50/50"]);
    }

    #[test]
    fn a_filter_keeps_the_stacks_that_match_and_opens_the_way() {
        let merged = merged(&[LINES]);
        let finds = |wanted: &'static str| {
            let matches = move |name: &str| name.contains(wanted);
            text(&tree(&merged, &Only::Everything, Sort::Own, Some(&matches), &mut Folds::default()))
        };
        assert_eq!(finds("tick"), ["-cron 0/4", "-main 0/4", " tick 4/4"]);
        assert_eq!(finds("render"), ["-app 0/30", "-main 0/30", "-serve 0/30", "-render 0/30", " draw 30/30"]);
        assert_eq!(finds("nothing"), Vec::<String>::new());
    }
}
