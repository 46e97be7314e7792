//! Where things are: the checkout, cargo's target directory, cargo's home.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The checkout's root directory.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, else `target` in the checkout.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(set) if !set.is_empty() => root().join(set),
        _ => root().join("target"),
    }
}

/// Cargo's home: `CARGO_HOME`, else `~/.cargo`.
pub(crate) fn cargo_home() -> PathBuf {
    match env::var_os("CARGO_HOME") {
        Some(set) if !set.is_empty() => PathBuf::from(set),
        _ => env::home_dir().unwrap_or_default().join(".cargo"),
    }
}

/// The first executable of that name in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
