//! [`State`]: what the user chose, and the rows that follow from it. Slices and actions in, rows out; no I/O.

use std::sync::Arc;

use super::keys::Action;
use super::merged::{Merged, Only};
use super::rows::{self, Fold, Key, NO_OWNER, Row, Sort};
use super::slice::Slice;
use super::tree::{Folds, tree};
use super::window::{FIRST_LENGTH, LENGTHS, Window};
use crate::ledger::Ledger;

/// Longest filter, letters.
const MAX_FILTER: usize = 64;

/// What the list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Processes,
    Owners,
    Functions,
    Tree,
}

impl View {
    pub(super) const ALL: [View; 4] = [View::Processes, View::Owners, View::Functions, View::Tree];

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Processes => "processes",
            View::Owners => "pods",
            View::Functions => "functions",
            View::Tree => "call tree",
        }
    }
}

/// What the loop does after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Draw,
    Suspend,
    Quit,
}

/// What is sampled, for the first line.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) host: String,
    pub(super) frequency_hz: u32,
    pub(super) cpus: usize,
    /// What `--pid` and the like leave; empty for the whole machine.
    pub(super) target: String,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) facts: Facts,
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) only: Only,
    pub(super) filter: String,
    /// Letters go to the filter.
    pub(super) typing: bool,
    pub(super) help: bool,
    /// What is shown while the screen is held still.
    pub(super) held: Option<Vec<Arc<Slice>>>,
    length: usize,
    window: Window,
    pub(super) merged: Merged,
    pub(super) rows: Vec<Row>,
    /// CPU time of all stacks that are not left out by the choice of a process or pod, ns: what percentages are of.
    pub(super) whole_ns: u64,
    /// Stacks that the call tree has no room for.
    pub(super) cut: u64,
    pub(super) since_start: Ledger,
    /// Samples of intervals that were dropped because naming was behind; also in `since_start`.
    pub(super) unnamed_samples: u64,
    pub(super) notice: Option<String>,
    folds: Folds,
    pub(super) cursor: usize,
    /// What the cursor stays on while rows change their order; at the top it stays at the top.
    on: Option<Key>,
    /// First line that is shown, and how many there are.
    pub(super) first: usize,
    height: usize,
}

impl State {
    pub(super) fn new(facts: Facts) -> State {
        State { facts, length: FIRST_LENGTH, ..State::default() }
    }

    /// Seconds that are shown.
    pub(super) fn seconds(&self) -> u64 {
        LENGTHS[self.length]
    }

    /// Takes an interval.
    pub(super) fn add(&mut self, slice: Slice) -> Effect {
        self.since_start.add(&slice.ledger);
        self.window.push(slice);
        if self.held.is_some() {
            return Effect::Nothing;
        }
        self.merge();
        Effect::Draw
    }

    /// Takes the news that an interval was dropped.
    pub(super) fn dropped(&mut self, ledger: &Ledger) -> Effect {
        let mut lost = *ledger;
        // Not shown, and so not recorded.
        lost.dropped[crate::ledger::Drop::QueueFull as usize] += std::mem::take(&mut lost.recorded);
        self.since_start.add(&lost);
        self.unnamed_samples += ledger.recorded;
        Effect::Draw
    }

    /// How many lines the list has room for.
    pub(super) fn fit(&mut self, height: usize) {
        self.height = height.max(1);
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
        let last_first = self.rows.len().saturating_sub(self.height);
        self.first = self.first.min(last_first).clamp((self.cursor + 1).saturating_sub(self.height), self.cursor);
    }

    /// Does what a key asks for.
    pub(super) fn apply(&mut self, action: Action) -> Effect {
        match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Help => self.help = !self.help,
            Action::Back if self.help => self.help = false,
            // Behind the help nothing changes unseen.
            _ if self.help => return Effect::Nothing,
            Action::Show(view) => self.show(view),
            Action::NextView => self.turn(1),
            Action::PreviousView => self.turn(View::ALL.len() - 1),
            Action::Move(lines) => self.go(self.cursor.saturating_add_signed(lines)),
            Action::Page(pages) => self.go(self.cursor.saturating_add_signed(pages * self.height as isize)),
            Action::First => self.go(0),
            Action::Last => self.go(usize::MAX),
            Action::Choose if self.typing => self.typing = false,
            Action::Choose => self.choose(),
            Action::Back => self.back(),
            Action::Open => self.open(),
            Action::Close => self.close(),
            Action::Sort(sort) => {
                self.sort = sort;
                self.list();
            }
            Action::Filter => self.typing = true,
            Action::Type(letter) if self.filter.chars().count() < MAX_FILTER => {
                self.narrow(|filter| filter.push(letter));
            }
            Action::Type(_) => return Effect::Nothing,
            Action::Erase => self.narrow(|filter| {
                filter.pop();
            }),
            Action::EraseAll => self.narrow(String::clear),
            Action::Pause => {
                self.held = match self.held {
                    Some(_) => None,
                    None => Some(self.window.last(self.seconds())),
                };
                self.merge();
            }
            // What is held has the length that it was held with.
            Action::Length if self.held.is_some() => return Effect::Nothing,
            Action::Length => {
                self.length = (self.length + 1) % LENGTHS.len();
                self.merge();
            }
        }
        Effect::Draw
    }

    fn narrow(&mut self, change: impl FnOnce(&mut String)) {
        change(&mut self.filter);
        self.list();
    }

    fn show(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.top();
        }
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.show(View::ALL[(at + by) % View::ALL.len()]);
    }

    fn top(&mut self) {
        (self.cursor, self.first, self.on) = (0, 0, None);
        self.list();
    }

    fn go(&mut self, to: usize) {
        self.cursor = to.min(self.rows.len().saturating_sub(1));
        self.on = self.rows.get(self.cursor).filter(|_| self.cursor > 0).map(|row| row.key.clone());
    }

    fn choose(&mut self) {
        let Some(row) = self.rows.get(self.cursor).cloned() else { return };
        match row.key {
            Key::Process(pid, start_time_ns) => {
                self.only = Only::Process { pid, start_time_ns, comm: row.name };
                self.view = View::Functions;
            }
            Key::Owner(owner) => {
                self.only = Only::Owner(owner);
                self.view = View::Functions;
            }
            Key::Function(name, _) => {
                self.filter = name.chars().take(MAX_FILTER).collect();
                self.view = View::Tree;
                return self.top();
            }
            Key::Node(node) => {
                self.folds.set(node, row.fold == Fold::Closed);
                return self.list();
            }
        }
        // The filter was for the list that the row was chosen from.
        self.filter.clear();
        self.top();
    }

    fn back(&mut self) {
        if self.typing || !self.filter.is_empty() {
            self.typing = false;
            self.filter.clear();
            self.list();
        } else if self.only != Only::Everything {
            self.view = if matches!(self.only, Only::Owner(_)) { View::Owners } else { View::Processes };
            self.only = Only::Everything;
            self.top();
        }
    }

    fn open(&mut self) {
        if let Some(Row { key: Key::Node(node), fold: Fold::Closed, .. }) = self.rows.get(self.cursor) {
            self.folds.set(*node, true);
            self.list();
        }
    }

    /// Closes the node, or what holds it if there is nothing to close.
    fn close(&mut self) {
        let above = self.rows.get(..=self.cursor).unwrap_or_default();
        let mut depth = usize::MAX;
        for (at, row) in above.iter().enumerate().rev() {
            if let (true, Key::Node(node), Fold::Open) = (row.depth < depth, &row.key, row.fold) {
                self.folds.set(*node, false);
                self.go(at);
                return self.list();
            }
            depth = depth.min(row.depth);
        }
    }

    fn merge(&mut self) {
        self.merged = match &self.held {
            Some(slices) => Merged::of(slices),
            None => Merged::of(&self.window.last(self.seconds())),
        };
        self.list();
    }

    /// Makes the rows again.
    fn list(&mut self) {
        let wanted = self.filter.to_lowercase();
        let matches = |text: &str| text.to_lowercase().contains(&wanted);
        let (merged, sort, everything) = (&self.merged, self.sort, Only::Everything);
        self.cut = 0;
        let mut rows = match self.view {
            View::Processes => {
                let only = if matches!(self.only, Only::Owner(_)) { &self.only } else { &everything };
                rows::processes(merged, only, sort)
            }
            View::Owners => rows::owners(merged, &everything, sort),
            View::Functions => rows::functions(merged, &self.only, sort),
            View::Tree => {
                let matches: Option<&dyn Fn(&str) -> bool> = (!wanted.is_empty()).then_some(&matches);
                let made = tree(merged, &self.only, sort, matches, &mut self.folds);
                self.cut = made.cut;
                made.rows
            }
        };
        if !wanted.is_empty() && self.view != View::Tree {
            let pid = |key: &Key| matches!(key, Key::Process(pid, _) if pid.to_string() == wanted);
            // How many processes a pod has is no text to look for.
            let detail = |row: &Row| self.view != View::Owners && matches(&row.detail);
            rows.retain(|row| matches(&row.name) || detail(row) || pid(&row.key));
        }
        self.rows = rows;
        self.whole_ns = 0;
        let (merged, whole) = (&self.merged, &mut self.whole_ns);
        merged.visit(&self.only, |_, _, ns| *whole += ns);
        if let Some(key) = &self.on
            && let Some(at) = self.rows.iter().position(|row| row.key == *key)
        {
            self.cursor = at;
        }
        self.fit(self.height);
    }

    /// What the list is narrowed down to, for the second line.
    pub(super) fn only_text(&self) -> String {
        match &self.only {
            Only::Everything => String::new(),
            Only::Process { pid, comm, .. } => format!("only {comm} ({pid})"),
            Only::Owner(owner) if owner.is_empty() => format!("only {NO_OWNER}"),
            Only::Owner(owner) => format!("only {owner}"),
        }
    }
}
