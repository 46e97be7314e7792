//! The spool against crashes, damage, full disks and other owners.

use std::collections::VecDeque;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Message {
        id,
        start_ns: 1_000 + number,
        samples: 10 + number,
        headers: vec![("content-type".into(), "application/octet-stream".into())],
        body: vec![number as u8; 100].into(),
    }
}

const MAX: u64 = 1 << 20;

fn open(folder: &Path) -> Spool {
    Spool::open(folder, MAX).unwrap()
}

fn drain(spool: &mut Spool) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((position, message)) = spool.take().unwrap() {
        messages.push(message);
        spool.done(position).unwrap();
    }
    messages
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    files
}

fn only_segment(folder: &Path) -> PathBuf {
    let [path] = files(folder, ".segment").try_into().unwrap();
    path
}

#[test]
fn messages_come_out_in_order_whole_and_once_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    (0..5).for_each(|number| spool.append(&message(number)).unwrap());
    let record = record::encode(&message(0)).unwrap().len() as u64;
    assert_eq!(spool.depth(), Depth { messages: 5, samples: 60, bytes: 5 * record });
    let (position, first) = spool.take().unwrap().unwrap();
    assert_eq!(first, message(0));
    assert_eq!(spool.take().unwrap().unwrap().1, message(0), "until it is done, the same again");
    spool.done(position).unwrap();
    drop(spool);

    let mut spool = open(folder.path());
    assert_eq!(spool.depth(), Depth { messages: 4, samples: 50, bytes: 4 * record });
    spool.append(&message(5)).unwrap();
    assert_eq!(drain(&mut spool), (1..6).map(message).collect::<Vec<_>>());
    assert_eq!((spool.depth(), spool.losses()), (Depth::default(), Losses::default()));
    drop(spool);
    assert_eq!(open(folder.path()).take().unwrap(), None);
    assert_eq!(files(folder.path(), ".segment"), Vec::<PathBuf>::new(), "what is empty is not kept");
}

#[test]
fn a_file_that_is_cut_at_any_byte_gives_the_whole_records_before_the_cut() {
    let source = tempfile::tempdir().unwrap();
    let mut spool = open(source.path());
    (0..3).for_each(|number| spool.append(&message(number)).unwrap());
    // The first is done, so that a done record is cut as well.
    let (position, _) = spool.take().unwrap().unwrap();
    spool.done(position).unwrap();
    drop(spool);
    let bytes = fs::read(only_segment(source.path())).unwrap();
    let record = (bytes.len() - record::SEGMENT_HEAD_BYTES) / 3;

    for cut in 0..=bytes.len() {
        for zeros in [0, 200] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("0000000000000007.segment");
            // A file system may lose the bytes and keep the length.
            let mut torn = bytes[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            fs::write(&path, &torn).unwrap();
            let mut spool = open(folder.path());
            let whole = cut.saturating_sub(record::SEGMENT_HEAD_BYTES) / record;
            let in_payload = (cut.saturating_sub(record::SEGMENT_HEAD_BYTES) % record) >= record::HEAD_BYTES;
            if zeros == 0 {
                let expected: Vec<_> = (1..whole.max(1) as u64).map(message).collect();
                assert_eq!(drain(&mut spool), expected, "cut at {cut}");
                assert_eq!(spool.losses().damaged_segments + spool.losses().damaged.messages, 0, "cut at {cut}");
            } else if in_payload || cut >= record::SEGMENT_HEAD_BYTES {
                let delivered = drain(&mut spool);
                assert!(delivered.iter().all(|message| (1..3).any(|number| *message == self::message(number))));
                assert!(delivered.len() >= whole.saturating_sub(1), "cut at {cut}: {} of {whole}", delivered.len());
            }
            // It goes on after that, and numbers are not given twice.
            spool.append(&message(9)).unwrap();
            assert_eq!(drain(&mut spool), [message(9)]);
            assert!(files(folder.path(), ".segment").iter().all(|path| path.ends_with("0000000000000008.segment")));
        }
    }
}

#[test]
fn a_torn_tail_is_cut_from_the_file_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    (0..2).for_each(|number| spool.append(&message(number)).unwrap());
    drop(spool);
    let path = only_segment(folder.path());
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let spool = open(folder.path());
    assert_eq!((spool.losses().torn, spool.depth().messages), (1, 1));
    let record = record::encode(&message(0)).unwrap().len() as u64;
    assert_eq!(fs::metadata(&path).unwrap().len(), record::SEGMENT_HEAD_BYTES as u64 + record);
}

#[test]
fn a_damaged_payload_costs_one_message_and_a_damaged_head_the_rest_of_its_segment() {
    let record = record::encode(&message(0)).unwrap().len();
    let head = record::SEGMENT_HEAD_BYTES;
    let payload = Depth { messages: 1, samples: 11, bytes: record as u64 };
    let table = [
        // Byte, what still comes, what is counted.
        (head + record + record::HEAD_BYTES, vec![0, 2, 3], Losses { damaged: payload, ..Losses::default() }),
        (
            head + record + 20,
            vec![0, 3],
            Losses { damaged_segments: 1, damaged_bytes: 2 * record as u64, ..Losses::default() },
        ),
    ];
    for (byte, expected, losses) in table {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(folder.path());
        (0..3).for_each(|number| spool.append(&message(number)).unwrap());
        drop(spool);
        let path = only_segment(folder.path());
        let mut spool = open(folder.path());
        spool.append(&message(3)).unwrap();
        drop(spool);
        let mut bytes = fs::read(&path).unwrap();
        bytes[byte] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        let mut spool = open(folder.path());
        assert_eq!(drain(&mut spool), expected.into_iter().map(message).collect::<Vec<_>>(), "byte {byte}");
        assert_eq!(spool.losses(), losses);
    }
}

#[test]
fn the_oldest_are_dropped_first_and_the_disk_holds_no_more_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let large = |number| Message { body: vec![number as u8; 10_000].into(), ..message(number) };
    let mut spool = Spool::open(folder.path(), 200_000).unwrap();
    for number in 0..100 {
        spool.append(&large(number)).unwrap();
        let disk: u64 = files(folder.path(), ".segment").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(disk <= 200_000 && disk == spool.disk_bytes(), "{disk}");
    }
    let kept = drain(&mut spool);
    assert_eq!(kept, (100 - kept.len() as u64..100).map(large).collect::<Vec<_>>(), "the newest, in order");
    let lost = spool.losses().full;
    assert_eq!(lost.messages, 100 - kept.len() as u64);
    let kept_samples: u64 = kept.iter().map(|message| message.samples).sum();
    assert_eq!(lost.samples + kept_samples, (0..100).map(|number| 10 + number).sum::<u64>());
    assert!(kept.len() >= 12, "{}: at most a segment more than needed goes", kept.len());
    assert!(matches!(
        spool.append(&Message { body: vec![0; 200_000].into(), ..message(0) }),
        Err(SpoolError::TooLarge { bytes: 200_000, .. })
    ));
}

#[test]
fn a_taken_message_whose_segment_is_dropped_is_not_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let large = |number| Message { body: vec![0; 60_000].into(), ..message(number) };
    let mut spool = Spool::open(folder.path(), 150_000).unwrap();
    (0..2).for_each(|number| spool.append(&large(number)).unwrap());
    let (position, taken) = spool.take().unwrap().unwrap();
    assert_eq!(taken, large(0));
    assert!(spool.holds(position));
    (2..4).for_each(|number| spool.append(&large(number)).unwrap());
    assert!(!spool.holds(position));
    assert_eq!(spool.losses().full.messages, 1, "number 1 alone");
    spool.done(position).unwrap();
    assert_eq!(drain(&mut spool), [large(2), large(3)]);
}

#[test]
fn a_smaller_bound_than_last_time_drops_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let large = |number| Message { body: vec![0; 60_000].into(), ..message(number) };
    let mut spool = open(folder.path());
    (0..6).for_each(|number| spool.append(&large(number)).unwrap());
    drop(spool);
    let mut spool = Spool::open(folder.path(), 130_000).unwrap();
    assert_eq!(drain(&mut spool), [large(4), large(5)]);
    assert_eq!(spool.losses().full.messages, 4);
}

#[test]
fn files_of_another_version_are_set_aside_and_others_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("0000000000000001.segment"), b"EVFSPOOL\x63\0\0\0future").unwrap();
    fs::write(path("0000000000000002.segment"), b"").unwrap();
    fs::write(path("notes.txt"), b"mine").unwrap();
    fs::write(path("secret"), b"another's").unwrap();
    symlink(path("secret"), path("0000000000000003.segment")).unwrap();
    fs::create_dir(path("0000000000000004.segment")).unwrap();
    let mut spool = open(folder.path());
    assert_eq!(spool.losses(), Losses { set_aside: 3, ..Losses::default() });
    spool.append(&message(1)).unwrap();
    assert_eq!(drain(&mut spool), [message(1)]);
    assert_eq!(fs::read(path("0000000000000001.segment.set-aside")).unwrap(), b"EVFSPOOL\x63\0\0\0future");
    assert_eq!(fs::read(path("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(path("secret")).unwrap(), b"another's");
    assert_eq!(files(folder.path(), ".segment"), [path("0000000000000005.segment")]);
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let Err(error) = Spool::open(folder.path(), MAX) else { panic!("two owners") };
    assert_eq!(error.to_string(), format!("the spool {} is in use by another process", folder.path().display()));
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_that_can_not_be_made_is_an_error_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let Err(error) = Spool::open(&file.path().join("spool"), MAX) else { panic!("a folder in a file") };
    assert!(
        error.to_string().starts_with(&format!("can't open the spool {}/spool: ", file.path().display())),
        "{error}"
    );
}

/// A file system that is full after some KiB, unmounted at the end; `None` where mounting is not allowed.
pub(crate) struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    pub(crate) fn mount(kib: u32) -> Option<TinyDisk> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={kib}k,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            fixtures::skip("this user can't mount a tmpfs");
        }
        mounted.then_some(TinyDisk(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// A folder that is read-only at its path until this goes; `None` where mounting is not allowed. Files that are open stay writable.
pub(crate) struct ReadOnly(PathBuf);

impl ReadOnly {
    pub(crate) fn make(folder: &Path) -> Option<ReadOnly> {
        let mount = |words: &[&str], paths: &[&Path]| {
            Command::new("mount").args(words).args(paths).output().is_ok_and(|output| output.status.success())
        };
        if !mount(&["--bind"], &[folder, folder]) {
            eprintln!("skipped: this user can't mount a folder over itself");
            return None;
        }
        let mounted = ReadOnly(folder.to_owned());
        assert!(mount(&["-o", "remount,bind,ro"], &[folder]), "{} can't be made read-only", folder.display());
        Some(mounted)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_read_only_folder_is_an_error_with_its_name_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    (0..3).for_each(|number| spool.append(&message(number)).unwrap());
    drop(spool);
    let path = only_segment(folder.path());
    let before = fs::read(&path).unwrap();

    let Some(read_only) = ReadOnly::make(folder.path()) else { return };
    let Err(error) = Spool::open(folder.path(), MAX) else { panic!("a read-only folder") };
    let SpoolError::Open { path: lock, source } = error else { panic!("{error}") };
    assert_eq!((lock, source.kind()), (folder.path().join("lock"), io::ErrorKind::ReadOnlyFilesystem));
    assert_eq!(fs::read(&path).unwrap(), before);
    drop(read_only);
    assert_eq!(drain(&mut open(folder.path())), [message(0), message(1), message(2)]);
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_keeps_the_rest_and_takes_more_once_there_is_space() {
    let Some(disk) = TinyDisk::mount(256) else { return };
    let large = |number| Message { body: vec![7; 30_000].into(), ..message(number) };
    let mut spool = open(&disk.path().join("spool"));
    let mut kept: VecDeque<u64> = VecDeque::new();
    let mut refused = 0;
    for number in 0..40 {
        match spool.append(&large(number)) {
            Ok(()) => kept.push_back(number),
            Err(SpoolError::Write { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 20 && kept.len() >= 5, "{refused} refused, {} kept", kept.len());
    assert!(files(&disk.path().join("spool"), ".segment").len() <= 6, "a try that fails leaves no file behind");
    let (position, first) = spool.take().unwrap().unwrap();
    assert_eq!(first, large(kept.pop_front().unwrap()));
    spool.done(position).unwrap();
    // Its segment has others that wait, until these are done as well.
    let patience = Instant::now() + Duration::from_secs(60);
    while spool.append(&large(99)).is_err() {
        // A process that another test starts has our descriptors until its exec, and with them the space of files that are gone.
        let Some((position, message)) = spool.take().unwrap() else {
            assert!(Instant::now() < patience, "nothing waits, and there is no space");
            std::thread::yield_now();
            continue;
        };
        assert_eq!(message, large(kept.pop_front().unwrap()));
        spool.done(position).unwrap();
    }
    kept.push_back(99);
    drop(spool);
    let mut spool = open(&disk.path().join("spool"));
    assert_eq!(drain(&mut spool), kept.into_iter().map(large).collect::<Vec<_>>());
    assert_eq!(spool.losses(), Losses::default());
}
