//! The processor architecture as Go and the container world write it.

/// `amd64`, `arm64`; Rust's name for others.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
