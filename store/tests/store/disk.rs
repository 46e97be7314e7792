//! A disk that is full or can't be written. Needs root, for a file system of its own in a mount namespace of its own.

use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use store::{Limits, Store, StoreError};

use crate::batches::Maker;
use crate::damage::three_segments;
use crate::{assert_holds, open};

/// Runs `test` on a thread that sees a file system of `options` at the folder; not at all without root.
fn on_small_disk(test: impl FnOnce(&Path) + Send) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    std::thread::scope(|scope| {
        let ended = scope.spawn(move || {
            // SAFETY: no pointers; what is unshared is this thread's alone.
            if unsafe { libc::geteuid() != 0 || libc::unshare(libc::CLONE_NEWNS) != 0 } {
                assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: needs root");
                eprintln!("SKIPPED: needs root");
                return;
            }
            mount("none", Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE, "");
            mount("tmpfs", &path, "tmpfs", 0, "size=4m");
            test(&path);
        });
        if let Err(panic) = ended.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, options: &str) {
    let text = |text: &str| CString::new(text).unwrap();
    let (source, target, kind, options) = (text(source), text(target.to_str().unwrap()), text(kind), text(options));
    // SAFETY: five valid arguments, strings that end with NUL.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    assert_eq!(result, 0, "mount: {}", std::io::Error::last_os_error());
}

#[test]
fn on_a_full_disk_batches_are_counted_and_writing_goes_on_once_there_is_room() {
    on_small_disk(|folder| {
        let mut maker = Maker::new(10);
        let mut store = open(folder);
        let mut kept = vec![maker.batch()];
        store.append(&kept[0]).unwrap();
        let mut filler = fs::File::create(folder.join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        drop(filler);

        // The last page of the segment may still have room.
        maker.samples = 2000;
        for _ in 0..3 {
            let error = store.append(&maker.batch()).unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
        }
        let counters = store.counters();
        assert_eq!((counters.batches_failed, counters.samples_failed), (3, 6000));
        assert_holds(&store.reader(), &kept);

        fs::remove_file(folder.join("filler")).unwrap();
        maker.samples = 40;
        for _ in 0..3 {
            let batch = maker.batch();
            store.append(&batch).unwrap();
            kept.push(batch);
        }
        assert_holds(&store.reader(), &kept);
        drop(store);
        assert_holds(&open(folder).reader(), &kept);
    });
}

#[test]
fn an_index_without_room_is_made_again_later_and_no_batch_is_lost() {
    on_small_disk(|folder| {
        let mut maker = Maker::new(12);
        let mut kept = Vec::new();
        let mut store = open(folder);
        // Room for some chunks, and not for what the index grows by.
        let mut filler = Vec::new();
        let mut failed = false;
        for _ in 0..400 {
            let free = {
                let path = CString::new(folder.to_str().unwrap()).unwrap();
                // SAFETY: statvfs is plain numbers, and both pointers are valid.
                let space = unsafe {
                    let mut space: libc::statvfs = std::mem::zeroed();
                    assert_eq!(libc::statvfs(path.as_ptr(), &mut space), 0);
                    space
                };
                space.f_bavail * space.f_bsize
            };
            if free > 64 << 10 {
                filler.push(vec![1_u8; (free - (64 << 10)) as usize]);
                fs::write(folder.join(format!("filler-{}", filler.len())), filler.last().unwrap()).unwrap();
            }
            let batch = maker.batch();
            match store.append(&batch) {
                Ok(()) => kept.push(batch),
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert!(failed, "the disk was to become full");
        for number in 1..=filler.len() {
            fs::remove_file(folder.join(format!("filler-{number}"))).unwrap();
        }
        for _ in 0..2 {
            let batch = maker.batch();
            store.append(&batch).unwrap();
            kept.push(batch);
        }
        assert_holds(&store.reader(), &kept);
    });
}

#[test]
fn on_a_full_disk_what_is_beyond_the_limits_goes_and_makes_room() {
    on_small_disk(|folder| {
        let mut maker = Maker::new(21);
        maker.samples = 2000;
        let mut store = open(folder);
        (0..3).for_each(|_| store.append(&maker.batch()).unwrap());
        drop(store);
        // The index alone takes more, so that all goes but the segment in hand.
        let limits = Limits { age: Duration::from_secs(1 << 32), bytes: 1 << 20 };
        let mut store = Store::open(folder, limits).unwrap();
        let mut filler = fs::File::create(folder.join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        assert!(matches!(store.append(&maker.batch()), Err(StoreError::Io { .. })));
        assert_eq!(store.counters().segments_removed, 1);
        let batch = maker.batch();
        store.append(&batch).unwrap();
        assert_holds(&store.reader(), &[batch]);
    });
}

#[test]
fn files_that_can_be_neither_renamed_nor_removed_end_no_history() {
    on_small_disk(|folder| {
        let batches = three_segments(folder);
        // What something is mounted on: one that is no segment, and one that was being made.
        let stuck = [(1, &b"GARBAGE! of sixteen bytes and more"[..]), (3, b"EVFL")].map(|(number, bytes)| {
            let path = folder.join(format!("0000000{number}.segment"));
            fs::write(&path, bytes).unwrap();
            mount(path.to_str().unwrap(), &path, "none", libc::MS_BIND, "");
            (path, bytes.len() as u64)
        });
        let mut expected = [&batches[..2], &batches[4..]].concat();
        let mut maker = Maker::after(22, 6);
        for _ in 0..2 {
            let mut store = open(folder);
            assert_holds(&store.reader(), &expected);
            let removals_failed = store.counters().removals_failed;
            expected.push(maker.batch());
            store.append(expected.last().unwrap()).unwrap();
            assert_holds(&store.reader(), &expected);
            let counters = store.counters();
            assert_eq!((removals_failed, counters.removals_failed, counters.set_aside), (2, 2, 0));
            let others = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let others = others.filter(|path| !path.ends_with("lock") && stuck.iter().all(|(stuck, _)| path != stuck));
            let others: u64 = others.map(|path| fs::metadata(path).unwrap().len()).sum();
            assert_eq!(store.bytes(), others + stuck[0].1 + stuck[1].1, "they keep their share");
        }
        for (path, _) in &stuck {
            let path = CString::new(path.to_str().unwrap()).unwrap();
            // SAFETY: a valid path.
            assert_eq!(unsafe { libc::umount(path.as_ptr()) }, 0);
        }
        // What has nothing goes, and what is damaged is set aside.
        let store = open(folder);
        assert_holds(&store.reader(), &expected);
        assert_eq!((store.counters().removals_failed, store.counters().set_aside), (0, 1));
        assert!(stuck.iter().all(|(path, _)| !path.exists()));
    });
}

#[test]
fn a_folder_that_can_t_be_written_is_an_error_that_says_so() {
    on_small_disk(|folder| {
        drop(open(folder));
        mount("none", folder, "tmpfs", libc::MS_REMOUNT | libc::MS_RDONLY, "");
        let error = Store::open(folder, Limits::default()).err().unwrap().to_string();
        assert_eq!(error, format!("can't open {}: Read-only file system (os error 30)", folder.join("lock").display()));
    });
}
