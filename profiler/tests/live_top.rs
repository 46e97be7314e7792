//! `everflame top` in a terminal of 80 by 24 that tmux plays: every view, choosing, filter, pause, and the terminal as it was.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fixtures::Flavour;

/// For each thing that should appear: names of everything that runs take a while on a busy machine without optimization.
const PATIENCE: Duration = Duration::from_secs(90);

/// A tmux server of our own, which ends with this.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// A shell in a terminal of 80 by 24.
    fn start(folder: &Path) -> Tmux {
        let tmux = Tmux { socket: folder.join("tmux") };
        tmux.run(&["new-session", "-d", "-x", "80", "-y", "24", "env PS1='$ ' TERM=screen sh"]);
        tmux
    }

    fn run(&self, words: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-f", "/dev/null", "-S"]).arg(&self.socket).args(words).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        let output = tmux.output().unwrap_or_else(|error| panic!("tmux: {error}"));
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// The screen once `wanted` holds for it.
    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        let (_nobody, tick): (_, Receiver<()>) = channel();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(began.elapsed() < PATIENCE, "never seen: {what}\n{screen}");
            let _ = tick.recv_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// The rows of the list.
fn rows(screen: &str) -> impl Iterator<Item = &str> {
    screen.lines().skip(3).take(18)
}

/// The words of the first row that has `word` among them.
fn row<'screen>(screen: &'screen str, word: &str) -> Option<Vec<&'screen str>> {
    rows(screen).map(|row| row.split_whitespace().collect::<Vec<_>>()).find(|words| words.contains(&word))
}

/// Set to put what was captured into `docs/top.md`.
const UPDATE: &str = "EVERFLAME_UPDATE_README";

/// Puts a capture into the guide, if that was asked for.
fn keep(name: &str, screen: &str) {
    if std::env::var_os(UPDATE).is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/top.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- capture: {name} -->\n```text\n");
    let start = guide.find(&mark).unwrap_or_else(|| panic!("docs/top.md has no place for {name}")) + mark.len();
    let end = start + guide[start..].find("```").unwrap();
    let lines: String = screen.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    std::fs::write(&path, format!("{}{lines}{}", &guide[..start], &guide[end..])).unwrap();
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn the_live_screen_in_a_terminal_of_80_by_24() {
    let _alone = live::alone();
    let chain = fixtures::build("chain", Flavour::Static).unwrap();
    let burning = live::Running::fixture(&chain, &[]);
    let pid = burning.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let tmux = Tmux::start(folder.path());
    tmux.wait("a prompt", |screen| screen.starts_with('$'));
    let command = format!("clear; {} top; echo code=$?", env!("CARGO_BIN_EXE_everflame"));
    tmux.keys(&["-l", &command]);
    tmux.keys(&["Enter"]);

    // The program burns a CPU, or as much of one as others leave it.
    // A capture for the guide waits for a whole window, in which programs have their names.
    let whole = std::env::var_os(UPDATE).is_some();
    let hot = |screen: &str| row(screen, &pid).is_some_and(|words| words[0].parse::<f64>().is_ok_and(|cpu| cpu > 5.0));
    let enough = |screen: &str| !whole || screen.lines().next().is_some_and(|line| line.ends_with("last 10 s"));
    let processes = tmux.wait("the process", |screen| hot(screen) && enough(screen));
    keep("processes", &processes);
    assert!(processes.starts_with("everflame top  ") && processes.contains("[1 processes]"), "{processes}");
    assert!(processes.contains(" samples/s, ") && processes.contains("ledger: "), "{processes}");

    // By its name, then by Enter: only its functions.
    tmux.keys(&["/"]);
    tmux.keys(&["-l", "chain-static"]);
    tmux.wait("the filter", |screen| screen.contains("filter: chain-static_") && rows(screen).nth(1) == Some(""));
    tmux.keys(&["Enter", "Enter"]);
    let only = format!("only chain-static ({pid})");
    // Of its time, not of the machine's; seconds before its names were there leave the window.
    tmux.wait("its hot function", |screen| {
        let hot = row(screen, "burn").is_some_and(|words| words[0].parse::<f64>().is_ok_and(|own| own > 50.0));
        screen.contains("[3 functions]") && screen.contains(&only) && row(screen, "level_1").is_some() && hot
    });
    tmux.keys(&["/"]);
    tmux.keys(&["-l", "level_1"]);
    tmux.wait("the filtered list", |screen| row(screen, "level_10").is_some() && row(screen, "burn").is_none());
    tmux.keys(&["Escape"]);
    tmux.wait("no filter", |screen| row(screen, "burn").is_some());

    tmux.keys(&["4"]);
    let depth = |screen: &str, name: &str| rows(screen).position(|row| row.contains(name));
    let tree = tmux.wait("the call tree", |screen| {
        screen.contains("[4 call tree]")
            && depth(screen, "-main").is_some_and(|main| depth(screen, "-level_1 ") > Some(main))
    });
    keep("call tree", &tree);
    // Together they would be Alt-3.
    tmux.keys(&["Escape"]);
    tmux.wait("the processes", |screen| screen.contains("[1 processes]") && !screen.contains(&only));
    tmux.keys(&["3"]);
    let all =
        tmux.wait("everybody's functions", |screen| screen.contains("[3 functions]") && row(screen, "burn").is_some());
    keep("functions", &all);

    // Nothing of the list changes while it is paused, however long the program goes on; afterwards the numbers do.
    tmux.keys(&["Space"]);
    let paused = tmux.wait("the pause", |screen| screen.contains("PAUSED"));
    let before = live::ticks(burning.pid());
    tmux.wait("two more seconds of its time", |_| live::ticks(burning.pid()) >= before + 200);
    assert!(rows(&tmux.screen()).eq(rows(&paused)), "{paused}");
    tmux.keys(&["Space"]);
    tmux.wait("other numbers", |screen| {
        !screen.contains("PAUSED") && screen.lines().rev().nth(1) != paused.lines().rev().nth(1)
    });

    tmux.keys(&["?"]);
    tmux.wait("the help", |screen| screen.contains("quit (Ctrl-Z suspends)"));
    tmux.keys(&["?"]);
    tmux.run(&["resize-window", "-x", "120", "-y", "40"]);
    tmux.wait("a larger screen", |screen| screen.lines().nth(39).is_some_and(|line| line.starts_with("? help")));
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
    // crossterm leaves a key that comes in the same moment as a new size until the next key.
    tmux.wait("the small screen", |screen| screen.lines().nth(23).is_some_and(|line| line.starts_with("? help")));
    tmux.keys(&["q"]);
    tmux.wait("the shell's screen as it was", |screen| screen.trim_end() == "code=0\n$");

    // Ctrl-C, and a signal from elsewhere, end it as well; the terminal shows what is typed again.
    for by_signal in [false, true] {
        let file = folder.path().join("pid");
        let everflame = format!("sh -c 'echo $$ >{}; exec {} top'", file.display(), env!("CARGO_BIN_EXE_everflame"));
        tmux.keys(&["-l", &format!("clear; {everflame}; echo again=$?")]);
        tmux.keys(&["Enter"]);
        tmux.wait("the screen", |screen| screen.contains("[1 processes]"));
        if by_signal {
            let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            // SAFETY: no pointers. The program runs: its screen is there.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        } else {
            tmux.keys(&["C-c"]);
        }
        tmux.wait("the prompt", |screen| screen.starts_with("again=0\n$"));
        tmux.keys(&["-l", "echo typed"]);
        tmux.wait("what was typed", |screen| screen.contains("$ echo typed"));
        tmux.keys(&["C-u"]);
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let output = Command::new(env!("CARGO_BIN_EXE_everflame")).arg("top").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("everflame: standard output is not a terminal") && said.contains("record"), "{said}");
}
