//! The loop between keys, intervals and the screen. It sleeps until one of them has something new.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{Event, KeyEvent, KeyEventKind, read};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::keys;
use super::sampling::{Sampling, Told};
use super::screen::{self, Screen};
use super::state::{Effect, Facts, State};
use super::view::{self, Theme};
use crate::engine::Options;

/// Messages that may wait for the screen: a slow line holds up naming, then intervals are dropped and counted.
const WAITING_MESSAGES: usize = 64;
/// How long a terminal that takes no output (a stopped emulator, a stalled line) may hold up an end by signal.
const GIVE_BACK_PATIENCE: Duration = Duration::from_secs(1);
/// Shells report the end by a signal as 128 and its number.
const SIGNALLED: i32 = 128;

enum Message {
    Key(KeyEvent),
    /// The size is asked for when it is drawn.
    Resized,
    /// The terminal can't be read any more.
    Deaf(std::io::Error),
    Told(Told),
    Signal,
}

impl From<Told> for Message {
    fn from(told: Told) -> Message {
        Message::Told(told)
    }
}

/// Samples and shows until the user quits.
///
/// # Errors
/// When sampling or the terminal can't go on; the terminal is given back before.
pub(crate) fn run(options: Options, host: String, target: String) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("everflame-net")
        .enable_all()
        .build()
        .context("cannot start the network thread")?;
    let (sender, messages) = sync_channel(WAITING_MESSAGES);
    let frequency_hz = options.frequency_hz;
    // Whatever stands in the way is said before the terminal is taken.
    let sampling = Sampling::start(options, runtime.handle().clone(), sender.clone())?;
    let facts = Facts { host, frequency_hz, cpus: sampling.cpus, target };
    watch_signals(sender.clone())?;
    let mut screen = Screen::open().context("the terminal could not be used")?;
    watch_keys(sender)?;
    let theme = Theme { color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let result = show(&mut screen, &messages, State::new(facts), theme);
    drop(screen);
    // Closed, so that nobody waits for room in it.
    drop(messages);
    drop(sampling);
    runtime.shutdown_background();
    match screen::last_words() {
        Some(words) if result.is_err() => result.with_context(|| words),
        _ => result,
    }
}

fn show(screen: &mut Screen, messages: &Receiver<Message>, mut state: State, theme: Theme) -> anyhow::Result<()> {
    let mut draw = true;
    loop {
        if draw {
            screen.terminal.draw(|frame| view::draw(frame, &mut state, theme)).context("the terminal is gone")?;
        }
        draw = false;
        // What came together is drawn once.
        let first = messages.recv().context("nobody is left to tell anything")?;
        for message in std::iter::once(first).chain(messages.try_iter()) {
            let effect = match message {
                Message::Key(key) => match keys::action(key, state.typing) {
                    Some(action) => state.apply(action),
                    None => Effect::Nothing,
                },
                Message::Resized => Effect::Draw,
                Message::Deaf(error) => return Err(error).context("the terminal can't be read"),
                Message::Signal => Effect::Quit,
                Message::Told(Told::Slice(slice)) => state.add(*slice),
                Message::Told(Told::Dropped(ledger)) => state.dropped(&ledger),
                Message::Told(Told::Notice(words)) => {
                    state.notice = Some(words.to_owned());
                    Effect::Draw
                }
                Message::Told(Told::Ended(result)) => return result.context("sampling has ended"),
            };
            match effect {
                Effect::Nothing => {}
                Effect::Draw => draw = true,
                Effect::Suspend => {
                    screen.suspend().context("the terminal could not be used")?;
                    draw = true;
                }
                Effect::Quit => return Ok(()),
            }
        }
    }
}

/// A second signal does not wait for anything.
fn watch_signals(sender: SyncSender<Message>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).context("cannot watch for signals")?;
    std::thread::Builder::new()
        .name("everflame-signals".into())
        .spawn(move || {
            for (number, signal) in signals.forever().enumerate() {
                if number > 0 || sender.try_send(Message::Signal).is_err() {
                    let (given, is_given) = sync_channel::<()>(1);
                    // The thread that draws may hold standard output.
                    let _ = std::thread::Builder::new().spawn(move || {
                        screen::give_back();
                        let _ = given.send(());
                    });
                    let _ = is_given.recv_timeout(GIVE_BACK_PATIENCE);
                    // SAFETY: no pointers. Not `exit`: its handlers flush standard output, which may be held.
                    unsafe { libc::_exit(SIGNALLED + signal) };
                }
            }
        })
        .context("cannot start the thread for signals")?;
    Ok(())
}

fn watch_keys(sender: SyncSender<Message>) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("everflame-keys".into())
        .spawn(move || {
            loop {
                let message = match read() {
                    Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
                    Ok(Event::Resize(..)) => Message::Resized,
                    Ok(_) => continue,
                    Err(error) => Message::Deaf(error),
                };
                let is_last = matches!(message, Message::Deaf(_));
                if sender.send(message).is_err() || is_last {
                    return;
                }
            }
        })
        .context("cannot start the thread for keys")?;
    Ok(())
}
