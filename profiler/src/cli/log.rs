//! Structured log lines on standard error, as text or JSON.

use tracing::Level;

/// From here on `tracing` writes lines. Words that are no level mean `info`: the flags' table has checked them.
pub(super) fn start(format: &str, level: &str) {
    let level = match level {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        _ => Level::INFO,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A line that can't be written is lost: to say so on the same stream is a panic once a terminal has hung up.
    let lines = lines.log_internal_errors(false);
    // A second start (in tests) keeps the first.
    let _ = if format == "json" { lines.json().try_init() } else { lines.with_ansi(false).try_init() };
}
