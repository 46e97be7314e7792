//! Rotation, names, and folders that can't be written.

use super::super::spool::tests::TinyDisk;
use super::super::transport::tests::run;
use super::*;

fn message(second: u64, bytes: usize) -> Message {
    Message {
        id: [second as u8; 16],
        start_ns: 1_767_323_045_678_000_000 + second * 1_000_000_000,
        samples: 1,
        headers: Vec::new(),
        body: vec![second as u8; bytes].into(),
    }
}

fn sent(folder: &Folder, message: &Message) -> Answer {
    run(FolderTransport::new(folder.clone()).send(message))
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(&folder.path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const DELIVERED: Answer = Answer { outcome: Outcome::Delivered, answered: Answered::Ok };

#[test]
fn a_file_is_named_by_its_start_and_writing_it_again_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder { path: root.path().join("new/folder"), keep: 2, max_bytes: 1_000 };
    for _ in 0..2 {
        assert_eq!(sent(&folder, &message(1, 10)), DELIVERED);
        assert_eq!(names(&folder), ["everflame-20260102T030406.678000000Z-01010101.pb.gz"]);
    }
    assert_eq!(fs::read(folder.path.join(&names(&folder)[0])).unwrap(), [1; 10]);
}

#[test]
fn the_oldest_go_by_number_and_by_bytes_and_other_files_stay() {
    for (keep, max_bytes) in [(3, 1_000_000), (100, 399)] {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder { path: root.path().into(), keep, max_bytes };
        fs::write(root.path().join("mine.pb.gz"), [0; 500]).unwrap();
        for second in 0..6 {
            assert_eq!(sent(&folder, &message(second, 100)), DELIVERED);
        }
        let kept: Vec<_> = names(&folder).iter().map(|name| name[name.len() - 8..].to_owned()).collect();
        assert_eq!(kept, ["03.pb.gz", "04.pb.gz", "05.pb.gz", "ne.pb.gz"]);
        // One that is larger than all that is allowed is kept alone.
        assert_eq!(sent(&folder, &message(7, max_bytes as usize + 1)), DELIVERED);
        assert!(names(&folder).iter().any(|name| name.ends_with("07070707.pb.gz")));
    }
}

#[test]
fn a_folder_that_can_not_be_written_is_tried_again_and_says_why() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = Folder { path: file.path().join("folder"), keep: 1, max_bytes: 1 };
    let Answer { outcome: Outcome::Retry(None, text), answered: Answered::Disk } = sent(&folder, &message(1, 1)) else {
        panic!("a folder in a file");
    };
    assert!(text.starts_with(&format!("can't write profiles to {}: Not a directory", folder.path.display())), "{text}");
}

#[test]
fn a_full_disk_is_tried_again_and_leaves_no_half_file() {
    let Some(disk) = TinyDisk::mount(64) else { return };
    let folder = Folder { path: disk.path().into(), keep: 10, max_bytes: 1 << 20 };
    assert_eq!(sent(&folder, &message(1, 20_000)), DELIVERED);
    let Answer { outcome: Outcome::Retry(None, text), answered: Answered::Disk } = sent(&folder, &message(2, 60_000))
    else {
        panic!("a full disk");
    };
    assert!(text.contains("No space left on device"), "{text}");
    assert_eq!(names(&folder).len(), 1);
    let smaller = Folder { max_bytes: 70_000, ..folder };
    assert!(matches!(sent(&smaller, &message(2, 50_001)), Answer { outcome: Outcome::Delivered, .. }), "after pruning");
}

#[test]
fn a_half_file_of_a_killed_process_is_removed_after_an_hour() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder { path: root.path().into(), keep: 9, max_bytes: 1 << 20 };
    for (name, hours) in [(".everflame-1-0.tmp", 2), (".everflame-1-1.tmp", 0)] {
        let file = fs::File::create(root.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3_600)).unwrap();
    }
    assert_eq!(sent(&folder, &message(1, 10)), DELIVERED);
    let names = names(&folder);
    assert_eq!((names.len(), names[0].as_str()), (2, ".everflame-1-1.tmp"));
}
