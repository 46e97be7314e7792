//! Perf maps read by the symbolizer's workers.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;

use symbolizer::perf_map::locate::{Place, Version};
use symbolizer::{Options, Symbolizer};

#[test]
fn a_map_is_read_once_for_each_version() {
    let directory = tempfile::tempdir().unwrap();
    let (process, root) = (directory.path().join("700"), directory.path().join("root"));
    fs::create_dir_all(root.join("tmp")).unwrap();
    fs::create_dir(&process).unwrap();
    let user = fs::metadata(&root).unwrap().uid();
    fs::write(process.join("status"), format!("NStgid:\t700\t12\nUid:\t{user}\t{user}\t{user}\t{user}\n")).unwrap();
    symlink(&root, process.join("root")).unwrap();
    let place = Arc::new(Place::of(directory.path(), 700).unwrap());
    let symbolizer = Symbolizer::new(Options::default()).unwrap();
    let read = |known: Option<Version>| {
        let reading = symbolizer.perf_map(&place, 100, known).in_time()?;
        Some((reading.map.lookup(0x10).map(str::to_owned), reading.version))
    };
    assert_eq!(read(None), None, "there is none");
    fs::write(root.join("tmp/perf-12.map"), "10 10 old\n").unwrap();
    let (name, version) = read(None).unwrap();
    assert_eq!((name.as_deref(), version.size), (Some("old"), 10));
    assert_eq!(read(Some(version)), None, "it is known");
    fs::write(root.join("tmp/perf-12.map"), "10 10 old\n10 10 new\n").unwrap();
    let (name, version) = read(Some(version)).unwrap();
    assert_eq!((name.as_deref(), version.size), (Some("new"), 20));
    fs::write(root.join("tmp/perf-12.map"), "n".repeat(101)).unwrap();
    assert_eq!(read(Some(version)), None, "it is too large");
}
