//! What is too old or too much is removed.

use std::time::Duration;

use store::{Limits, Store};

use crate::batches::{Maker, SECOND, START};
use crate::{all, quick_folder, segments};

#[test]
fn segments_last_an_hour_and_go_when_all_of_them_is_too_old() {
    let folder = quick_folder();
    let limits = Limits { age: Duration::from_secs(3 * 3600), bytes: 1 << 30 };
    let mut store = Store::open(folder.path(), limits).unwrap();
    let reader = store.reader();
    // 6 hours, a batch each 10 minutes.
    for batch in 0..36 {
        let mut maker = Maker::after(8, batch * 60);
        maker.samples = 5;
        store.append(&maker.batch()).unwrap();
    }
    let hours = |hours: u64| START + hours * 3600 * SECOND;
    let (first, _) = reader.extent().unwrap().unwrap();
    // The newest sample is nearly at the sixth hour; the segment of the third one ends after "3 hours ago".
    assert!((hours(2)..hours(2) + 10 * SECOND).contains(&first), "{first}");
    assert_eq!(segments(folder.path()).len(), 4);
    assert_eq!(all(&reader).0.len(), 24);
    assert_eq!(store.counters().segments_removed, 2);
}

#[test]
fn bytes_stay_within_the_limit_and_the_oldest_go_first() {
    let folder = quick_folder();
    let limits = Limits { age: Duration::from_secs(1 << 40), bytes: 8 << 20 };
    let mut store = Store::open(folder.path(), limits).unwrap();
    let mut maker = Maker::new(9);
    maker.samples = 4000;
    let mut last = None;
    for _ in 0..120 {
        let batch = maker.batch();
        store.append(&batch).unwrap();
        // A batch of 4,000 samples may come on top of the limit, and the segment that it is in.
        let index = std::fs::metadata(folder.path().join("index.redb")).unwrap().len();
        assert!(store.bytes() < limits.bytes + limits.bytes / 8, "{} of which index {index}", store.bytes());
        last = Some(batch);
    }
    assert!(store.counters().segments_removed > 0);
    let (found, _) = all(&store.reader());
    assert_eq!(found.last().map(|batch| batch.wall_start_ns), last.map(|batch| batch.wall_start_ns));
    let times: Vec<u64> = found.iter().map(|batch| batch.wall_start_ns).collect();
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 10 * SECOND), "no holes");
    let on_disk: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < store.bytes() + 100, "all files are counted, but for the lock");
}
