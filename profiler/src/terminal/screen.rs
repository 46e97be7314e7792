//! The terminal: taken over, and given back whatever happens.
//!
//! It is given back by [`Screen`]'s end, by a panic's hook before the message is printed, and by whoever ends the process on a
//! signal. Only one screen at a time.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::layout::Rect;

/// One write for most screens.
const BUFFER: usize = 16 << 10;

/// Whether the terminal is not as we found it.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What a thread's panic said while nothing could be printed.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScreenError {
    /// Output or input is a pipe or a file.
    #[error(
        "{0} is not a terminal, so there is no live screen: `everflame record` writes a profile, `everflame top FILE` prints one"
    )]
    NoTerminal(&'static str),
    /// TERM says that the cursor can't be moved.
    #[error(
        "the terminal ({0}) has no addressable cursor: set TERM, or use `everflame record`, which prints what was hot"
    )]
    Dumb(String),
    /// The terminal did not do what it was told.
    #[error("the terminal could not be used: {0}")]
    Io(#[from] io::Error),
}

/// Whether a live screen is possible at all.
pub(crate) fn check() -> Result<(), ScreenError> {
    for (name, is_terminal) in
        [("standard output", io::stdout().is_terminal()), ("standard input", io::stdin().is_terminal())]
    {
        if !is_terminal {
            return Err(ScreenError::NoTerminal(name));
        }
    }
    match std::env::var("TERM") {
        Ok(term) if !term.is_empty() && term != "dumb" => Ok(()),
        Ok(term) if !term.is_empty() => Err(ScreenError::Dumb(format!("TERM={term}"))),
        _ => Err(ScreenError::Dumb("TERM is not set".to_owned())),
    }
}

/// The terminal while it shows the live screen.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Screen> {
        print_panics_after_giving_back();
        let screen = BufWriter::with_capacity(BUFFER, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(screen))?;
        let screen = Screen { terminal };
        take()?;
        Ok(screen)
    }

    /// Stops us, as Ctrl-Z does with other programs, until the shell continues us.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        // SAFETY: no pointers. To this thread, which therefore does not go on before it is continued.
        unsafe { libc::raise(libc::SIGTSTP) };
        take()?;
        // Not `clear`: that asks the terminal where its cursor is, and the answer goes to the thread that reads keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

/// Puts the terminal back as it was. Nothing can be done about a terminal that is gone.
pub(super) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // First what needs no room in the terminal's own queue.
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = io::stdout().flush();
    }
}

/// What a panic of another thread said, once.
pub(super) fn last_words() -> Option<String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A panic of the thread that draws ends us: its message needs the terminal. Others are kept: the symbolizer survives a panic of
/// its readers, and what it prints would be in the middle of the screen.
fn print_panics_after_giving_back() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let draws = std::thread::current().id();
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if std::thread::current().id() == draws || !TAKEN.load(Ordering::SeqCst) {
                give_back();
                before(panic);
            } else {
                *SAID.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
            }
        }));
    });
}
