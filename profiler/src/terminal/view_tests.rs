use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::keys::Action;
use super::made::{Line, slice};
use super::state::{Facts, State, View};
use super::view::{Theme, draw};

const SECOND: u64 = 1_000_000_000;
const LINES: &[Line] = &[
    (1234, "web", "shop/cart-7d9f/app", "main;serve;parse", SECOND),
    (1234, "web", "shop/cart-7d9f/app", "main;serve;read;k_vfs_read", SECOND / 4),
    (7, "cron", "cron.service", "main;tick", SECOND / 100),
];

fn state() -> State {
    let facts = Facts { host: "node-1".into(), frequency_hz: 99, cpus: 2, target: String::new() };
    let mut state = State::new(facts);
    let mut made = slice(1, LINES);
    made.own_cpu_ns = SECOND / 250;
    state.add(made);
    state
}

fn terminal(state: &mut State, width: u16, height: u16, color: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Theme { color })).unwrap();
    terminal
}

/// Lines without the blanks at their ends.
fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(state, width, height, false);
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

const BOTTOM: [&str; 3] = [
    "3 samples/s, 100 % named, 0 lost (0 since the start), itself 0.4 % CPU",
    "ledger: 5 due = 3 + 2 idle + 0 dropped + 0 undelivered",
    "? help  q quit  1-4 view  Enter choose  Esc back  / filter  Space pause  w time",
];

#[test]
fn processes_at_80_by_12() {
    let mut expected = vec![
        "everflame top  node-1  99 Hz on 2 CPUs  last 1 of 10 s",
        "[1 processes] 2 pods  3 functions  4 call tree",
        "   cpu*      pid name             pod, container or unit",
        " 125.0      1234 web              shop/cart-7d9f/app",
        "   1.0         7 cron             cron.service",
    ];
    expected.extend(["", "", "", ""]);
    expected.extend(BOTTOM);
    assert_eq!(screen(&mut state(), 80, 12), expected);
}

#[test]
fn pods_functions_and_the_call_tree() {
    let mut state = state();
    state.apply(Action::Show(View::Owners));
    assert_eq!(
        screen(&mut state, 80, 12)[1..5],
        [
            " 1 processes [2 pods] 3 functions  4 call tree",
            "   cpu*   processes pod, container or unit",
            " 125.0            1 shop/cart-7d9f/app",
            "   1.0            1 cron.service",
        ]
    );
    state.apply(Action::Show(View::Functions));
    assert_eq!(
        screen(&mut state, 80, 12)[2..9],
        [
            "  self*  total  function                                    file",
            "  79.4    79.4  parse                                       bin",
            "  19.8    19.8  k_vfs_read                                  [kernel]",
            "   0.8     0.8  tick                                        bin",
            "   0.0   100.0  main                                        bin",
            "   0.0    99.2  serve                                       bin",
            "   0.0    19.8  read                                        bin",
        ]
    );
    state.apply(Action::Show(View::Tree));
    assert_eq!(
        screen(&mut state, 80, 14)[2..11],
        [
            "  self   total* call tree                                   file",
            "   0.0    99.2  -web",
            "   0.0    99.2  -main                                       bin",
            "   0.0    99.2  -serve                                      bin",
            "  79.4    79.4    parse                                     bin",
            "   0.0    19.8   -read                                      bin",
            "  19.8    19.8    k_vfs_read                                [kernel]",
            "   0.0     0.8  +cron",
            "",
        ]
    );
}

#[test]
fn choice_filter_pause_and_loss_are_said() {
    let mut state = state();
    let mut lossy = slice(2, LINES);
    (lossy.ledger.due, lossy.ledger.undelivered) = (8, 3);
    state.add(lossy);
    for action in [Action::Choose, Action::Pause, Action::Filter, Action::Type('r'), Action::Type('z')] {
        state.apply(action);
    }
    let typing = screen(&mut state, 80, 12);
    assert_eq!(typing[0], format!("{:<72}  PAUSED", "everflame top  node-1  99 Hz on 2 CPUs  last 2 of 10 s"));
    assert_eq!(typing[1], " 1 processes  2 pods [3 functions] 4 call tree  only web (1234)");
    assert_eq!(typing[4], "  nothing has the filter's text in its name; Esc takes the filter back");
    assert_eq!(typing[9], "3 samples/s, 100 % named, 3 lost (3 since the start), itself 0.2 % CPU");
    assert_eq!(typing[10], "ledger: 13 due = 6 + 4 idle + 0 dropped + 3 undelivered");
    assert_eq!(typing[11], "filter: rz_   (Enter keeps it, Esc takes it back)");
    state.apply(Action::Erase);
    state.apply(Action::Choose);
    let kept = screen(&mut state, 80, 12);
    assert_eq!(kept[11], "filter: r   (/ changes it, Esc takes it back)");
    assert_eq!(kept[3], "  80.0    80.0  parse                                       bin");
}

#[test]
fn the_help_fits_80_by_24_and_has_every_key() {
    let mut state = state();
    state.apply(Action::Help);
    let help = screen(&mut state, 80, 24);
    assert_eq!(help[2], "");
    assert_eq!(help[3], " 1 2 3 4  Tab      processes, pods, functions, call tree");
    assert_eq!(help[13], " q  Ctrl-C         quit (Ctrl-Z suspends)");
    assert_eq!(help[18], " ledger: 5 due = 3 + 2 idle + 0 dropped + 0 undelivered");
    assert_eq!(help[21..], BOTTOM);
}

#[test]
fn before_the_first_samples_it_says_so_and_too_small_a_terminal_too() {
    let mut state = State::new(Facts::default());
    assert_eq!(screen(&mut state, 80, 24)[4], "  the first samples come in a second or two");
    assert_eq!(screen(&mut state, 39, 24)[0], "at least 40x9, please");
    assert_eq!(screen(&mut state, 80, 8)[0], "at least 40x9, please");
}

#[test]
fn every_size_can_be_drawn() {
    let mut state = state();
    for view in View::ALL {
        state.apply(Action::Show(view));
        for help in [false, true] {
            state.help = help;
            for (width, height) in [(1, 1), (40, 9), (41, 10), (80, 24), (300, 5), (300, 100)] {
                screen(&mut state, width, height);
            }
        }
    }
}

#[test]
fn without_color_there_is_none_and_the_cursor_is_reversed_still() {
    let mut state = state();
    state.apply(Action::Show(View::Functions));
    for (color, kernel) in [(true, Color::Cyan), (false, Color::Reset)] {
        let terminal = terminal(&mut state, 80, 24, color);
        let buffer = terminal.backend().buffer();
        assert_eq!(buffer[(16, 4)].fg, kernel);
        assert!(buffer[(16, 3)].modifier.contains(Modifier::REVERSED));
        assert!(color || buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}
