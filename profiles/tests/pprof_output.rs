//! Files: whole or not at all, and errors that say what to do.
#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod pprof_batch;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use pprof_batch::{info, small_batch};
use profiles::output::{OutputError, OutputFormat, convert, prepare, read, render, replace, write};
use profiles::profile::pprof::encode;

fn profile() -> pprof_proto::Profile {
    encode(&small_batch(), &info()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_suffix_gives_its_own_form_and_no_other_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a.pb.gz", "a.pprof", "a.pb", "a.html", "a.svg", "a.folded", "a.txt"] {
        write(&profile(), &at(name), "t").unwrap();
    }
    assert_eq!(names(folder.path()), ["a.folded", "a.html", "a.pb", "a.pb.gz", "a.pprof", "a.svg", "a.txt"]);
    for name in ["a.pb.gz", "a.pprof", "a.pb"] {
        assert_eq!(read(&at(name)).unwrap(), profile(), "{name}");
    }
    assert_eq!(fs::read(at("a.pb.gz")).unwrap()[..2], [0x1f, 0x8b]);
    assert!(fs::read_to_string(at("a.svg")).unwrap().starts_with("<?xml"));
    assert!(fs::read_to_string(at("a.html")).unwrap().starts_with("<!doctype html>"));
    assert_eq!(fs::read(at("a.folded")).unwrap(), fs::read(at("a.txt")).unwrap());
}

#[test]
fn converting_reads_any_form_of_pprof() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&profile(), &at("a.pb.gz"), "t").unwrap();
    convert(&at("a.pb.gz"), &at("b.pb")).unwrap();
    convert(&at("b.pb"), &at("b.folded")).unwrap();
    assert_eq!(fs::read(at("b.folded")).unwrap(), render(&profile(), OutputFormat::Folded, "t").unwrap());
}

#[test]
fn the_bytes_are_the_same_each_time() {
    for (suffix, format) in OutputFormat::SUFFIXES {
        assert_eq!(render(&profile(), format, "t").unwrap(), render(&profile(), format, "t").unwrap(), "{suffix}");
    }
}

#[test]
fn an_older_file_is_replaced_and_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pb");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    replace(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target.pb"), folder.path().join("link.pb"));
    fs::write(&target, "old").unwrap();
    symlink(&target, &link).unwrap();
    replace(&link, b"new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&target).unwrap(), b"new");
}

#[test]
fn a_device_is_written_to_not_replaced() {
    replace(Path::new("/dev/null"), b"anything").unwrap();
    let error = replace(Path::new("/dev/full"), b"anything").unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't write /dev/full: No space left on device (os error 28); \
         free some space or choose another folder; an older file is as it was"
    );
}

#[test]
fn what_can_not_be_written_is_named_with_the_errno_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("file"), "").unwrap();
    fs::create_dir(root.join("folder.pb")).unwrap();
    let long = format!("{}.pb", "x".repeat(300));
    let shown = root.display();
    let cases = [
        (
            "missing/a.pb",
            format!("No such file or directory (os error 2); make the folder first: mkdir -p {shown}/missing"),
        ),
        ("file/a.pb", format!("Not a directory (os error 20); {shown}/file is not a folder: choose another one")),
        (
            "folder.pb",
            format!("Is a directory (os error 21); name a file in it, such as {shown}/folder.pb/profile.pb.gz"),
        ),
        (&long, "File name too long (os error 36); choose a shorter name".to_owned()),
    ];
    for (name, expected) in cases {
        let path = root.join(name);
        let expected = format!("can't write {}: {expected}", path.display());
        assert_eq!(write(&profile(), &path, "t").unwrap_err().to_string(), expected);
        assert_eq!(prepare(&path).unwrap_err().to_string(), expected, "before the work");
    }
    assert_eq!(names(root), ["file", "folder.pb"]);
}

#[test]
fn an_unreadable_or_foreign_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, text) = (folder.path().join("missing.pb"), folder.path().join("text.pb"));
    fs::write(&text, "no profile").unwrap();
    let output = folder.path().join("a.folded");
    assert_eq!(
        convert(&missing, &output).unwrap_err().to_string(),
        format!("can't read {}: No such file or directory (os error 2)", missing.display())
    );
    assert!(matches!(convert(&text, &output), Err(OutputError::Decode { path, .. }) if path == text));
    assert_eq!(names(folder.path()), ["text.pb"]);
}

/// Runs `work` in a thread with mounts of its own, on a file system of 64 KiB at `folder`. `false`: that takes root.
fn on_a_tiny_disk(folder: &Path, flags: libc::c_ulong, work: impl FnOnce() + Send + 'static) -> bool {
    let mount_at = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    let thread = std::thread::spawn(move || {
        // SAFETY: unshare(CLONE_NEWNS) and mount change only this thread's view of the file system; all strings are C strings
        // that outlive the calls.
        let mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(
                    c"tmpfs".as_ptr(),
                    mount_at.as_ptr(),
                    c"tmpfs".as_ptr(),
                    flags,
                    c"size=64k".as_ptr().cast(),
                ) == 0
        };
        if mounted {
            work();
        } else {
            let error = std::io::Error::last_os_error();
            assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: a private mount: {error}");
            eprintln!("SKIPPED: a private mount needs root: {error}");
        }
        mounted
    });
    thread.join().unwrap()
}

#[test]
fn a_full_disk_keeps_the_older_file_and_leaves_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    on_a_tiny_disk(folder.path(), 0, move || {
        let path = root.join("a.pb");
        replace(&path, b"old").unwrap();
        let error = replace(&path, &vec![7; 1 << 20]).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&root), ["a.pb"]);
    });
}

#[test]
fn a_read_only_disk_is_noticed_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    on_a_tiny_disk(folder.path(), libc::MS_RDONLY, move || {
        let error = prepare(&root.join("a.pb")).unwrap_err();
        let shown = root.display();
        assert_eq!(
            error.to_string(),
            format!(
                "can't write {shown}/a.pb: Read-only file system (os error 30); {shown} is read-only: choose another folder"
            )
        );
    });
}
