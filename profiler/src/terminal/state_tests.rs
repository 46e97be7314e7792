use super::keys::Action;
use super::made::{Line, slice};
use super::rows::{Row, Sort};
use super::state::{Effect, Facts, State, View};
use crate::ledger::Ledger;

const BUSY: &[Line] = &[
    (10, "web", "shop/cart/app", "main;serve;parse", 500),
    (10, "web", "shop/cart/app", "main;serve", 100),
    (20, "db", "shop/db/pg", "main;scan", 300),
    (30, "idle", "", "main", 50),
];

fn state() -> State {
    let mut state = State::new(Facts::default());
    state.fit(10);
    assert_eq!(state.add(slice(1, BUSY)), Effect::Draw);
    state
}

fn names(state: &State) -> Vec<&str> {
    state.rows.iter().map(|row: &Row| &*row.name).collect()
}

fn press(state: &mut State, actions: &[Action]) {
    for action in actions {
        assert_eq!(state.apply(*action), Effect::Draw, "{action:?}");
    }
}

#[test]
fn a_chosen_process_shows_its_functions_only_until_it_is_taken_back() {
    let mut state = state();
    assert_eq!(names(&state), ["web", "db", "idle"]);
    press(&mut state, &[Action::Move(1), Action::Choose]);
    assert_eq!((state.view, state.only_text().as_str()), (View::Functions, "only db (20)"));
    assert_eq!((names(&state), state.whole_ns), (vec!["scan", "main"], 300));
    press(&mut state, &[Action::Show(View::Tree)]);
    assert_eq!(names(&state), ["main", "scan"]);
    press(&mut state, &[Action::Back]);
    assert_eq!((state.view, names(&state).len(), state.whole_ns), (View::Processes, 3, 950));
}

#[test]
fn a_chosen_pod_shows_its_functions_and_its_processes() {
    let mut state = state();
    press(&mut state, &[Action::Show(View::Owners)]);
    assert_eq!(names(&state), ["shop/cart/app", "shop/db/pg", "(none)"]);
    press(&mut state, &[Action::Choose]);
    assert_eq!(names(&state), ["parse", "serve", "main"]);
    press(&mut state, &[Action::Show(View::Processes)]);
    assert_eq!(names(&state), ["web"]);
}

#[test]
fn a_function_leads_to_the_stacks_that_it_is_in() {
    let mut state = state();
    press(&mut state, &[Action::Show(View::Functions), Action::Move(1), Action::Choose]);
    assert_eq!((state.view, state.filter.as_str()), (View::Tree, "scan"));
    assert_eq!(names(&state), ["db", "main", "scan"]);
    press(&mut state, &[Action::Back]);
    assert_eq!((state.filter.as_str(), names(&state)[0]), ("", "web"));
}

#[test]
fn the_filter_looks_in_names_owners_and_pids() {
    let mut state = state();
    for (text, expected) in [
        ("DB", vec!["db"]),
        ("cart", vec!["web"]),
        ("30", vec!["idle"]),
        ("3", vec![]),
        ("", vec!["web", "db", "idle"]),
    ] {
        press(&mut state, &[Action::Filter, Action::EraseAll]);
        for letter in text.chars() {
            press(&mut state, &[Action::Type(letter)]);
        }
        press(&mut state, &[Action::Choose]);
        assert!(!state.typing);
        assert_eq!(names(&state), expected, "{text}");
    }
    press(&mut state, &[Action::Filter]);
    for _ in 0..64 {
        press(&mut state, &[Action::Type('x')]);
    }
    assert_eq!(state.apply(Action::Type('x')), Effect::Nothing);
    press(&mut state, &[Action::Erase, Action::Back]);
    assert_eq!((state.filter.as_str(), names(&state).len()), ("", 3));
}

#[test]
fn a_paused_screen_stays_and_then_shows_what_came_meanwhile() {
    let mut state = state();
    press(&mut state, &[Action::Pause]);
    assert_eq!(state.add(slice(2, &[(40, "new", "", "main", 9000)])), Effect::Nothing);
    press(&mut state, &[Action::Sort(Sort::Name)]);
    assert_eq!(names(&state), ["db", "idle", "web"]);
    press(&mut state, &[Action::Pause, Action::Sort(Sort::Own)]);
    assert_eq!(names(&state), ["new", "web", "db", "idle"]);
}

#[test]
fn the_cursor_stays_on_its_row_and_at_the_top() {
    let mut state = state();
    let hotter: &[Line] = &[(20, "db", "shop/db/pg", "main;scan", 2000)];
    state.add(slice(2, hotter));
    assert_eq!((names(&state)[0], state.cursor), ("db", 0));
    press(&mut state, &[Action::Move(1)]);
    assert_eq!(names(&state)[state.cursor], "web");
    state.add(slice(3, &[(10, "web", "", "main", 9000)]));
    assert_eq!((names(&state)[0], state.cursor), ("web", 0));
}

#[test]
fn the_list_scrolls_with_the_cursor() {
    let mut state = State::new(Facts::default());
    let comms: Vec<String> = (0..30).map(|number| format!("p{number:02}")).collect();
    let lines: Vec<Line> =
        comms.iter().enumerate().map(|(at, comm)| (at as u32 + 1, comm.as_str(), "", "main", 1)).collect();
    state.fit(10);
    state.add(slice(1, &lines));
    for (action, cursor, first) in [
        (Action::Move(9), 9, 0),
        (Action::Move(1), 10, 1),
        (Action::Page(1), 20, 11),
        (Action::Last, 29, 20),
        (Action::Move(1), 29, 20),
        (Action::Move(-10), 19, 19),
        (Action::First, 0, 0),
        (Action::Page(-1), 0, 0),
    ] {
        press(&mut state, &[action]);
        state.fit(10);
        assert_eq!((state.cursor, state.first), (cursor, first), "{action:?}");
    }
    press(&mut state, &[Action::Last]);
    state.fit(50);
    assert_eq!((state.cursor, state.first), (29, 0));
}

#[test]
fn nodes_open_and_close_where_the_cursor_is() {
    let mut state = state();
    press(&mut state, &[Action::Show(View::Tree)]);
    assert_eq!(names(&state), ["web", "main", "serve", "parse", "db", "main", "scan", "idle"]);
    // From a leaf what holds it is closed, and the cursor goes there.
    press(&mut state, &[Action::Move(3), Action::Close]);
    assert_eq!((names(&state)[..4].to_vec(), state.cursor), (vec!["web", "main", "serve", "db"], 2));
    press(&mut state, &[Action::Choose]);
    assert_eq!(names(&state)[3], "parse");
    press(&mut state, &[Action::First, Action::Close]);
    assert_eq!(names(&state)[..2], ["web", "db"]);
    press(&mut state, &[Action::Open]);
    assert_eq!(names(&state)[..3], ["web", "main", "serve"]);
}

#[test]
fn a_dropped_interval_is_lost_in_the_ledger_and_the_books_balance() {
    let mut state = state();
    let ledger = Ledger { due: 12, recorded: 7, idle: 5, ..Ledger::default() };
    assert_eq!(state.dropped(&ledger), Effect::Draw);
    let since = state.since_start;
    assert_eq!((since.due, since.recorded, since.dropped_total(), since.accounted()), (18, 4, 7, 18));
}

#[test]
fn windows_are_chosen_in_turn_and_help_hides_the_keys() {
    let mut state = state();
    for second in 2..=40 {
        state.add(slice(second, &[(1, "x", "", "main", 1)]));
    }
    for (seconds, whole) in [(30, 30), (60, 950 + 39), (5, 5), (10, 10)] {
        press(&mut state, &[Action::Length]);
        assert_eq!((state.seconds(), state.whole_ns), (seconds, whole));
    }
    press(&mut state, &[Action::Help]);
    assert_eq!(state.apply(Action::Choose), Effect::Nothing);
    press(&mut state, &[Action::Back]);
    assert!(!state.help);
    assert_eq!((state.apply(Action::Quit), state.apply(Action::Suspend)), (Effect::Quit, Effect::Suspend));
}
