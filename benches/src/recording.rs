//! Driving an engine in this process as `record` does, between points at which counters are read.

use anyhow::{Result, bail};
use profiler::engine::{Engine, Options};
use std::time::{Duration, Instant};

/// How long it may take until tables are built and loaded, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A recording of everything, started.
pub(crate) fn start(frequency_hz: u32) -> Result<Engine> {
    let mut engine = Engine::new(Options { frequency_hz, ..Options::default() })?;
    engine.start()?;
    Ok(engine)
}

/// Rounds for so long, as often as the engine asks for.
pub(crate) fn go_on(engine: &mut Engine, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(engine.round().min(left));
        engine.tick()?;
    }
}

/// Rounds until something has come true.
///
/// # Errors
/// When it has not after [`PATIENCE`].
pub(crate) fn go_on_until(engine: &mut Engine, what: &str, mut done: impl FnMut(&Engine) -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !done(engine) {
        if Instant::now() >= until {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        let round = engine.round();
        go_on(engine, round)?;
    }
    Ok(())
}
