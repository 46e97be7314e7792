//! Order and books of what waits, on disk, in memory, and on the way between.

use super::super::spool::tests::{ReadOnly, TinyDisk};
use super::*;

fn message(number: u64) -> Message {
    Message {
        id: [number as u8; 16],
        start_ns: number,
        samples: 1 << number,
        headers: Vec::new(),
        body: vec![number as u8; 20_000].into(),
    }
}

fn queue(limits: MemoryLimits, spool: Option<SpoolOptions>) -> Queue {
    Queue::open("test".into(), limits, spool.as_ref(), Arc::default())
}

fn drain(queue: &mut Queue) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(taken) = queue.take() {
        queue.finish(&taken);
        numbers.push(taken.message.start_ns);
    }
    numbers
}

#[test]
fn without_a_disk_the_oldest_are_dropped_by_number_and_by_bytes() {
    for limits in [MemoryLimits { messages: 3, bytes: 1 << 20 }, MemoryLimits { messages: 99, bytes: 79_999 }] {
        let mut queue = queue(limits, None);
        (0..5).for_each(|number| queue.push(message(number)));
        let snapshot = queue.counters.snapshot();
        assert_eq!(
            (snapshot.dropped(DropReason::MemoryFull).messages, snapshot.dropped(DropReason::MemoryFull).samples),
            (2, 3)
        );
        assert_eq!((snapshot.in_memory.messages, snapshot.in_memory.bytes), (3, 60_000));
        assert_eq!(drain(&mut queue), [2, 3, 4]);
        assert_eq!(queue.counters.snapshot().in_memory.messages, 0);
    }
}

#[test]
fn with_a_disk_nothing_is_in_memory_and_all_survives() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { folder: folder.path().join("sink"), max_bytes: 1 << 20 };
    let mut first = queue(MemoryLimits::default(), Some(options.clone()));
    (0..4).for_each(|number| first.push(message(number)));
    let taken = first.take().unwrap();
    let snapshot = first.counters.snapshot();
    assert_eq!((snapshot.in_memory.messages, snapshot.in_spool.messages), (0, 4));
    assert!(first.is_durable(&taken));
    first.close(Some(taken));
    drop(first);

    let mut second = queue(MemoryLimits::default(), Some(options));
    assert_eq!((second.counters.snapshot().found.messages, second.counters.snapshot().found.samples), (4, 15));
    assert_eq!(drain(&mut second), [0, 1, 2, 3]);
}

#[test]
fn a_full_disk_falls_back_to_memory_in_order_and_back_again() {
    let Some(disk) = TinyDisk::mount(128) else { return };
    let options = SpoolOptions { folder: disk.path().join("sink"), max_bytes: 1 << 20 };
    let mut queue = queue(MemoryLimits::default(), Some(options.clone()));
    (0..10).for_each(|number| queue.push(message(number)));
    let snapshot = queue.counters.snapshot();
    assert!(snapshot.in_memory.messages >= 4 && snapshot.in_spool.messages >= 3, "{snapshot:?}");
    assert_eq!(snapshot.in_memory.messages + snapshot.in_spool.messages, 10);
    assert!(snapshot.spool_errors >= 4, "each failed write is counted");
    // The disk gets room while two are delivered, and what was in memory goes there before the next.
    let (mut delivered, mut next) = (Vec::new(), 10);
    while queue.counters.snapshot().in_memory.messages > 0 {
        for _ in 0..2 {
            let taken = queue.take().unwrap();
            queue.finish(&taken);
            delivered.push(taken.message.start_ns);
        }
        queue.push(message(next));
        next += 1;
    }
    queue.close(None);
    drop(queue);
    let mut again = Queue::open("test".into(), MemoryLimits::default(), Some(&options), Arc::default());
    delivered.extend(drain(&mut again));
    assert_eq!(delivered, (0..next).collect::<Vec<_>>());
}

/// Does something, and what it logged.
fn logged<T>(does: impl FnOnce() -> T) -> (T, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = tracing_subscriber::fmt().with_writer(log.reopen().unwrap()).finish();
    let done = tracing::subscriber::with_default(lines, does);
    (done, std::fs::read_to_string(log.path()).unwrap())
}

#[test]
fn a_spool_that_is_read_only_at_the_start_leaves_memory_and_is_sent_after_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { folder: folder.path().join("sink"), max_bytes: 1 << 20 };
    let open = || queue(MemoryLimits::default(), Some(options.clone()));
    let mut first = open();
    (0..3).for_each(|number| first.push(message(number)));
    first.close(None);
    drop(first);

    let Some(read_only) = ReadOnly::make(&options.folder) else { return };
    let (mut second, said) = logged(open);
    let sentence = format!(
        "can't open the spool {}/lock: Read-only file system (os error 30); undelivered profiles are kept in memory only",
        options.folder.display()
    );
    assert_eq!(said.matches(&sentence).count(), 1, "{said}");
    let (_, said) = logged(|| (3..5).for_each(|number| second.push(message(number))));
    assert_eq!(said, "", "once is enough");
    let snapshot = second.counters.snapshot();
    assert_eq!((snapshot.spool_errors, snapshot.found.messages, snapshot.in_memory.messages), (1, 0, 2));
    assert_eq!(drain(&mut second), [3, 4]);
    second.close(None);
    drop((second, read_only));

    let mut third = open();
    assert_eq!((third.counters.snapshot().found.messages, third.counters.snapshot().spool_errors), (3, 0));
    assert_eq!(drain(&mut third), [0, 1, 2]);
}

#[test]
fn a_spool_that_becomes_read_only_falls_back_to_memory_in_order_and_back_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { folder: folder.path().join("sink"), max_bytes: 1 << 20 };
    let mut queue = queue(MemoryLimits::default(), Some(options.clone()));
    // Three fit into a segment, and the next wants a new file.
    (0..3).for_each(|number| queue.push(message(number)));
    let Some(read_only) = ReadOnly::make(&options.folder) else { return };
    let (_, said) = logged(|| (3..5).for_each(|number| queue.push(message(number))));
    let sentence = format!(
        "can't write the spool {}: Read-only file system (os error 30); undelivered profiles are kept in memory until it \
         can",
        options.folder.display()
    );
    assert_eq!(said.matches(&sentence).count(), 1, "{said}");
    let snapshot = queue.counters.snapshot();
    assert_eq!((snapshot.spool_errors, snapshot.in_spool.messages, snapshot.in_memory.messages), (2, 3, 2));

    drop(read_only);
    let (_, said) = logged(|| queue.push(message(5)));
    assert!(said.contains("the spool takes profiles again"), "{said}");
    let snapshot = queue.counters.snapshot();
    assert_eq!((snapshot.in_spool.messages, snapshot.in_memory.messages), (6, 0));
    queue.close(None);
    drop(queue);
    let mut again = Queue::open("test".into(), MemoryLimits::default(), Some(&options), Arc::default());
    assert_eq!(drain(&mut again), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn at_the_end_what_is_only_in_memory_is_lost_and_counted() {
    let mut queue = queue(MemoryLimits::default(), None);
    (0..3).for_each(|number| queue.push(message(number)));
    let taken = queue.take().unwrap();
    assert!(!queue.is_durable(&taken));
    assert_eq!(queue.counters.snapshot().in_memory.messages, 3, "the one in hand is counted");
    queue.close(Some(taken));
    let snapshot = queue.counters.snapshot();
    assert_eq!((snapshot.dropped(DropReason::Ended).messages, snapshot.dropped(DropReason::Ended).samples), (3, 7));
    assert_eq!(snapshot.in_memory.messages, 0);
}

#[test]
fn a_spool_that_can_not_be_opened_leaves_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = SpoolOptions { folder: file.path().join("sink"), max_bytes: 1 << 20 };
    let mut queue = queue(MemoryLimits::default(), Some(options));
    queue.push(message(1));
    let snapshot = queue.counters.snapshot();
    assert_eq!((snapshot.spool_errors, snapshot.in_memory.messages), (1, 1));
    assert_eq!(drain(&mut queue), [1]);
}
