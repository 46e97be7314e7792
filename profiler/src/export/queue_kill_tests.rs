//! `kill -9` at any moment: a child fills and drains a queue and says what it did; what it leaves behind is compared.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Set for the child: the spool's folder.
const CHILD: &str = "EVERFLAME_KILL_TEST_SPOOL";
const NAME: &str =
    "export::queue::kill_tests::after_kill_9_at_most_the_one_in_memory_is_missing_and_at_most_one_comes_twice";
/// Messages of 8 KiB and segments of 1 MiB: several are begun and removed.
const MOST: u64 = 1_500;
const ROUNDS: u64 = 20;

fn message(number: u64) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let headers = vec![("content-type".to_owned(), "a/b".to_owned())];
    Message { id, start_ns: number, samples: 1, headers, body: vec![number as u8; 8 << 10].into() }
}

fn queue(folder: &Path) -> Queue {
    let spool = SpoolOptions { folder: folder.to_owned(), max_bytes: 16 << 20 };
    Queue::open("test".into(), MemoryLimits { messages: 0, bytes: 0 }, Some(&spool), Arc::default())
}

/// Puts three in for each two that are taken out, until it is killed.
fn child(folder: &Path) {
    let mut queue = queue(folder);
    let mut out = std::io::stdout();
    for number in 0..MOST {
        queue.push(message(number));
        writeln!(out, "kept {number}").unwrap();
        if number % 3 > 0 {
            let taken = queue.take().unwrap();
            writeln!(out, "sent {}", taken.message.start_ns).unwrap();
            queue.finish(&taken);
        }
    }
    writeln!(out, "end").unwrap();
    // Not killed yet; the queue stays as it is.
    loop {
        std::thread::park();
    }
}

#[test]
fn after_kill_9_at_most_the_one_in_memory_is_missing_and_at_most_one_comes_twice() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(Path::new(&folder));
    }
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(CHILD, folder.path()).stdout(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let (mut kept, mut sent) = (BTreeSet::new(), BTreeSet::new());
        let (mut lines, kill_after) = (0, 1 + round * 139);
        for line in BufReader::new(running.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let number = |text: &str| text.parse::<u64>().unwrap();
            match line.split_once(' ') {
                Some(("kept", text)) => assert!(kept.insert(number(text))),
                Some(("sent", text)) => assert!(sent.insert(number(text))),
                _ if line == "end" => running.kill().unwrap(),
                _ => continue,
            }
            lines += 1;
            if lines == kill_after {
                // SIGKILL; what it wrote until then is still read.
                running.kill().unwrap();
            }
        }
        running.wait().unwrap();
        assert!(!kept.is_empty(), "round {round}: the child did nothing");

        let mut queue = queue(folder.path());
        let mut found = Vec::new();
        while let Some(taken) = queue.take() {
            assert_eq!(taken.message, message(taken.message.start_ns), "round {round}");
            found.push(taken.message.start_ns);
            queue.finish(&taken);
        }
        assert!(found.is_sorted(), "round {round}: {found:?}");
        let found: BTreeSet<u64> = found.into_iter().collect();
        let missing: Vec<_> = kept.iter().filter(|number| !sent.contains(number) && !found.contains(number)).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?} of {} are missing", kept.len());
        let unsaid: Vec<_> = found.difference(&kept).collect();
        assert!(unsaid.len() <= 1, "round {round}: written and not yet said: {unsaid:?}");
        let twice: Vec<_> = found.intersection(&sent).collect();
        assert!(twice.len() <= 1, "round {round}: {twice:?} come again");
    }
}
