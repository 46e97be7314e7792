//! The history that the words ask for: where it is, and that it is there.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use store::Limits;
use tempfile::TempDir;

use super::page_args::Page;
use super::say::say;
use crate::agent::history::{History, Keeper};

/// Survives restarts; below a folder that is ours.
const FOLDER: &str = "/var/lib/everflame/history";

/// A history that is kept.
pub(super) struct Kept {
    pub(super) keeper: Keeper,
    pub(super) history: History,
    pub(super) folder: Folder,
}

/// Where it is.
pub(super) enum Folder {
    /// Stays.
    Lasting(PathBuf),
    /// Goes when this is dropped.
    Temporary(TempDir),
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        match self {
            Folder::Lasting(path) => path,
            Folder::Temporary(folder) => folder.path(),
        }
    }
}

/// Opens what the words ask for; `None` if they ask for none.
pub(super) fn open(words: &Page) -> anyhow::Result<Option<Kept>> {
    let mut why_temporary = None;
    let folder = match words.store.as_str() {
        "off" => return Ok(None),
        "auto" if !words.is_on() => return Ok(None),
        "auto" => match made(Path::new(FOLDER)) {
            Ok(()) => Folder::Lasting(FOLDER.into()),
            Err(error) => {
                why_temporary = Some(error);
                let made = tempfile::Builder::new().prefix("everflame-history-").tempdir();
                Folder::Temporary(
                    made.context("cannot make a temporary directory for the history; give --store DIRECTORY, or off")?,
                )
            }
        },
        path => Folder::Lasting(path.into()),
    };
    let limits = Limits { age: words.store_age, bytes: words.store_size };
    let (keeper, history) = Keeper::start(folder.path(), limits)?;
    if let Some(error) = why_temporary {
        let path = folder.path().display();
        say(format_args!(
            "the history is kept in {path} and deleted at the end, since {FOLDER} can't be used: {error}"
        ));
        history.note("The history is temporary: it is deleted when everflame ends.".to_owned());
    }
    tracing::info!(folder = %folder.path().display(), "the history is kept here");
    Ok(Some(Kept { keeper, history, folder }))
}

/// Makes a folder for us alone (profiles tell what runs here), and tries to write there.
fn made(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}
