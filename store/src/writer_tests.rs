//! What the writer does when the disk does not confirm what was written.

use super::*;
use profiles::ledger::Ledger;
use profiles::profile::BatchBuilder;

#[test]
fn what_the_disk_does_not_confirm_is_counted_and_writing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    store.append(&batch).unwrap();
    store.flush().unwrap();
    assert_eq!(store.counters().syncs_failed, 0);
    // It takes what is written, and there is nothing that could be synced.
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    let error = store.flush().unwrap_err().to_string();
    assert!(error.starts_with("can't sync "), "{error}");
    // What comes next is in a segment of its own.
    store.append(&batch).unwrap();
    store.flush().unwrap();
    let counters = store.counters();
    assert_eq!((counters.syncs_failed, counters.batches, counters.index_failures), (1, 2, 0));
    assert_eq!(store.segments.keys().copied().collect::<Vec<_>>(), [0, 1]);
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    store.end_segment();
    assert_eq!(store.counters().syncs_failed, 2);
}

#[test]
fn the_index_proves_nothing_that_the_disk_did_not_confirm_also_when_it_is_on_the_disk_itself() {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    store.append(&batch).unwrap();
    store.end_segment();
    store.append(&batch).unwrap();
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    store.flush().unwrap_err();
    store.append(&batch).unwrap();
    store.flush().unwrap();
    drop(store);
    let (index, _) = Index::open(&folder.path().join(INDEX_FILE)).unwrap();
    let snapshot = index.snapshot().unwrap();
    assert_eq!([0, 1, 2].map(|number| snapshot.chunks(number).unwrap().len()), [1, 1, 1]);
    assert_eq!([0, 1, 2].map(|number| snapshot.is_doubted(number).unwrap()), [false, true, false]);
    drop((snapshot, index));
    // It is there all the same, and found when opening.
    let store = Store::open(folder.path(), Limits::default()).unwrap();
    let mut found = 0;
    store.reader().batches(0, u64::MAX, |_| found += 1).unwrap();
    assert_eq!((found, store.counters().set_aside), (3, 0));
    // Asked again the disk forgets that it failed: it stays doubted.
    assert!(store.shared.index().unwrap().snapshot().unwrap().is_doubted(1).unwrap());
}

#[test]
fn what_the_disk_did_not_confirm_while_the_index_was_closed_is_doubted_once_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    store.append(&batch).unwrap();
    store.close_index();
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    store.flush().unwrap_err();
    store.append(&batch).unwrap();
    let snapshot = store.shared.index().unwrap().snapshot().unwrap();
    assert_eq!([0, 1].map(|number| snapshot.chunks(number).unwrap().len()), [1, 1]);
    assert_eq!([0, 1].map(|number| snapshot.is_doubted(number).unwrap()), [true, false]);
}

#[test]
fn a_segment_that_a_closed_index_knew_and_the_disk_lost_is_counted_when_the_index_is_opened_and_leaves_no_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    store.append(&batch).unwrap();
    let path = store.shared.segment_path(0);
    let bytes = fs::metadata(&path).unwrap().len();
    // Closing puts its row on the disk.
    store.close_index();
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    store.flush().unwrap_err();
    fs::remove_file(&path).unwrap();
    store.append(&batch).unwrap();
    assert_eq!((store.counters().bytes_cut, store.counters().set_aside), (bytes, 0));
    let snapshot = store.shared.index().unwrap().snapshot().unwrap();
    assert_eq!((snapshot.doubted().unwrap(), snapshot.chunks(0).unwrap().len()), (vec![], 0));
    assert!(store.unconfirmed.is_empty());
}

#[test]
fn what_was_doubted_when_opening_is_doubted_also_in_an_index_that_is_made_anew() {
    let (folder, store) = with_four_batches_unconfirmed();
    drop(store);
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    store.close_index();
    fs::remove_file(folder.path().join(INDEX_FILE)).unwrap();
    store.append(&BatchBuilder::new().finish(10, Ledger::default())).unwrap();
    let snapshot = store.shared.index().unwrap().snapshot().unwrap();
    assert_eq!((snapshot.doubted().unwrap(), snapshot.chunks(0).unwrap().len()), (vec![0], 4));
}

/// A history whose first segment has four batches that the disk did not confirm; there is another batch after them.
fn with_four_batches_unconfirmed() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    let mut store = Store::open(folder.path(), Limits::default()).unwrap();
    for _ in 0..4 {
        store.append(&batch).unwrap();
    }
    store.current.as_mut().unwrap().file = SegmentWriter::over(File::create("/dev/null").unwrap());
    store.flush().unwrap_err();
    store.append(&batch).unwrap();
    (folder, store)
}

#[test]
fn what_the_disk_lost_of_a_segment_that_it_did_not_confirm_is_counted() {
    // To the end of its second chunk, and to nothing.
    for chunks_left in [2, 0] {
        let (folder, store) = with_four_batches_unconfirmed();
        let path = store.shared.segment_path(0);
        let rows = store.shared.index().unwrap().snapshot().unwrap().chunks(0).unwrap();
        let ends: Vec<u64> = rows.iter().map(|row| row.end().unwrap()).collect();
        drop(store);
        let left = if chunks_left > 0 { ends[chunks_left - 1] } else { 0 };
        File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        let store = Store::open(folder.path(), Limits::default()).unwrap();
        let mut found = 0;
        store.reader().batches(0, u64::MAX, |_| found += 1).unwrap();
        let StoreCounters { set_aside, bytes_cut, .. } = store.counters();
        assert_eq!((found, set_aside, bytes_cut), (chunks_left + 1, 0, ends[3] - left));
    }
}

#[test]
fn the_torn_end_of_a_segment_that_a_failed_sync_ended_is_cut_off_and_a_hole_in_it_is_not() {
    for is_hole in [false, true] {
        let (folder, store) = with_four_batches_unconfirmed();
        let path = store.shared.segment_path(0);
        drop(store);
        let mut bytes = fs::read(&path).unwrap();
        let third = bytes.len() - 2 * (bytes.len() - 16) / 4;
        if is_hole {
            bytes[third + 40] ^= 1;
        } else {
            bytes.pop();
        }
        fs::write(&path, bytes).unwrap();
        let store = Store::open(folder.path(), Limits::default()).unwrap();
        let mut found = 0;
        store.reader().batches(0, u64::MAX, |_| found += 1).unwrap();
        let StoreCounters { set_aside, bytes_cut, .. } = store.counters();
        let expected = if is_hole { (1, 1, false) } else { (4, 0, true) };
        assert_eq!((found, set_aside, bytes_cut > 0), expected);
    }
}

#[test]
fn a_new_segments_name_is_put_on_the_disk_with_it() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (parent.path().join("history"), parent.path().join("elsewhere"));
    let batch = BatchBuilder::new().finish(10, Ledger::default());
    let mut store = Store::open(&folder, Limits::default()).unwrap();
    store.append(&batch).unwrap();
    fs::rename(&folder, &elsewhere).unwrap();
    let error = store.flush().unwrap_err().to_string();
    assert!(error.starts_with(&format!("can't sync {}: ", folder.display())), "{error}");
    assert_eq!(store.counters().syncs_failed, 1);
    fs::rename(&elsewhere, &folder).unwrap();
    store.flush().unwrap();
    // Once is enough for each segment.
    fs::rename(&folder, &elsewhere).unwrap();
    store.append(&batch).unwrap();
    store.flush().unwrap();
    assert_eq!(store.counters().syncs_failed, 1);
}
