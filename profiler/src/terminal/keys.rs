//! The keys, as data: the help screen shows this table, and [`action`] looks in it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::Sort;
use super::state::View;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Show(View),
    NextView,
    PreviousView,
    /// Lines down, or up if negative.
    Move(isize),
    /// Pages down, or up if negative.
    Page(isize),
    First,
    Last,
    /// Only this process or pod; the callers of this function; this node open or closed.
    Choose,
    Back,
    Open,
    Close,
    Sort(Sort),
    Filter,
    Pause,
    Length,
    Help,
    Suspend,
    Quit,
    /// To the filter's text, while it is being typed.
    Type(char),
    Erase,
    EraseAll,
}

/// Keys that do the same.
pub(super) struct Binding {
    codes: &'static [(KeyCode, Action)],
    /// As the help shows them.
    pub(super) keys: &'static str,
    pub(super) help: &'static str,
}

const fn binding(codes: &'static [(KeyCode, Action)], keys: &'static str, help: &'static str) -> Binding {
    Binding { codes, keys, help }
}

/// Without Ctrl and Alt, and while no filter is typed.
pub(super) const BINDINGS: &[Binding] = &[
    binding(
        &[
            (KeyCode::Char('1'), Action::Show(View::Processes)),
            (KeyCode::Char('2'), Action::Show(View::Owners)),
            (KeyCode::Char('3'), Action::Show(View::Functions)),
            (KeyCode::Char('4'), Action::Show(View::Tree)),
            (KeyCode::Tab, Action::NextView),
            (KeyCode::BackTab, Action::PreviousView),
        ],
        "1 2 3 4  Tab",
        "processes, pods, functions, call tree",
    ),
    binding(
        &[
            (KeyCode::Up, Action::Move(-1)),
            (KeyCode::Char('k'), Action::Move(-1)),
            (KeyCode::Down, Action::Move(1)),
            (KeyCode::Char('j'), Action::Move(1)),
            (KeyCode::PageUp, Action::Page(-1)),
            (KeyCode::PageDown, Action::Page(1)),
            (KeyCode::Home, Action::First),
            (KeyCode::Char('g'), Action::First),
            (KeyCode::End, Action::Last),
            (KeyCode::Char('G'), Action::Last),
        ],
        "arrows  j k  g G",
        "move; so do page up and down, Home, End",
    ),
    binding(&[(KeyCode::Enter, Action::Choose)], "Enter", "only this process or pod; who calls this function"),
    binding(
        &[(KeyCode::Esc, Action::Back), (KeyCode::Backspace, Action::Back)],
        "Esc",
        "take the filter back, then the process or pod",
    ),
    binding(
        &[
            (KeyCode::Right, Action::Open),
            (KeyCode::Char('l'), Action::Open),
            (KeyCode::Left, Action::Close),
            (KeyCode::Char('h'), Action::Close),
        ],
        "right  left",
        "in the call tree: open, close (l and h as well)",
    ),
    binding(
        &[
            (KeyCode::Char('s'), Action::Sort(Sort::Own)),
            (KeyCode::Char('t'), Action::Sort(Sort::Total)),
            (KeyCode::Char('n'), Action::Sort(Sort::Name)),
        ],
        "s t n",
        "sort by self, total, name",
    ),
    binding(&[(KeyCode::Char('/'), Action::Filter)], "/", "type what names must contain; Enter keeps it"),
    binding(&[(KeyCode::Char('w'), Action::Length)], "w", "show the last 5, 10, 30 or 60 seconds"),
    binding(
        &[(KeyCode::Char(' '), Action::Pause), (KeyCode::Char('p'), Action::Pause)],
        "Space  p",
        "hold the screen still; sampling goes on",
    ),
    binding(&[(KeyCode::Char('?'), Action::Help), (KeyCode::F(1), Action::Help)], "?", "this help"),
    binding(&[(KeyCode::Char('q'), Action::Quit)], "q  Ctrl-C", "quit (Ctrl-Z suspends)"),
];

/// What to do for a key; `typing` is whether it may be a letter of the filter.
pub(super) fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Suspend),
            KeyCode::Char('u') if typing => Some(Action::EraseAll),
            _ => None,
        };
    }
    if key.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META) {
        return None;
    }
    if typing {
        match key.code {
            KeyCode::Char(letter) => return Some(Action::Type(letter)),
            KeyCode::Backspace => return Some(Action::Erase),
            KeyCode::Home | KeyCode::End | KeyCode::Left | KeyCode::Right | KeyCode::Tab | KeyCode::BackTab => {
                return None;
            }
            _ => {}
        }
    }
    let found = BINDINGS.iter().flat_map(|binding| binding.codes).find(|(code, _)| *code == key.code);
    found.map(|(_, action)| *action)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_has_two_meanings() {
        let mut seen = HashSet::new();
        for (code, _) in BINDINGS.iter().flat_map(|binding| binding.codes) {
            assert!(seen.insert(*code), "{code:?}");
        }
    }

    #[test]
    fn keys_mean_letters_while_a_filter_is_typed() {
        let key = |code, modifiers| KeyEvent::new(code, modifiers);
        let plain = |code| key(code, KeyModifiers::NONE);
        for (event, typing, expected) in [
            (plain(KeyCode::Char('q')), false, Some(Action::Quit)),
            (plain(KeyCode::Char('q')), true, Some(Action::Type('q'))),
            (key(KeyCode::Char('G'), KeyModifiers::SHIFT), false, Some(Action::Last)),
            (key(KeyCode::Char('G'), KeyModifiers::SHIFT), true, Some(Action::Type('G'))),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), true, Some(Action::Quit)),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), false, Some(Action::Quit)),
            (key(KeyCode::Char('q'), KeyModifiers::ALT), false, None),
            (plain(KeyCode::Backspace), false, Some(Action::Back)),
            (plain(KeyCode::Backspace), true, Some(Action::Erase)),
            (plain(KeyCode::Enter), true, Some(Action::Choose)),
            (plain(KeyCode::Esc), true, Some(Action::Back)),
            (plain(KeyCode::Down), true, Some(Action::Move(1))),
            (plain(KeyCode::Char('x')), false, None),
        ] {
            assert_eq!(action(event, typing), expected, "{event:?} {typing}");
        }
    }
}
