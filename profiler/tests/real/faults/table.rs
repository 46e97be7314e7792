//! The table of all faults: printed, and the one in the guide for operators.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::WIRES;
use super::bear::Expected;

/// Set to rewrite the guide's table with what was measured, instead of checking it.
const UPDATE: &str = "EVERFLAME_UPDATE_README";
const BEGIN: &str = "<!-- table: made by profiler/tests/real/faults.rs -->\n";
const END: &str = "<!-- end of table -->";

/// Fault, what the agent does, counter; and for each wire how long all took once the fault was gone.
struct Row {
    words: [String; 3],
    recoveries: [Option<Duration>; WIRES.len()],
}

#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    pub(super) fn add(&mut self, wire: &str, fault: &str, expected: Expected, recovery: Duration) {
        let column = WIRES.iter().position(|known| *known == wire).unwrap();
        let words = [fault.to_owned(), expected.outcome().to_owned(), expected.counter()];
        println!("{wire:<16} {fault:<46} {expected:?}, all delivered {:>5} ms after", recovery.as_millis());
        let number = self.0.iter().position(|row| row.words == words).unwrap_or_else(|| {
            self.0.push(Row { words, recoveries: [None; WIRES.len()] });
            self.0.len() - 1
        });
        let before = self.0[number].recoveries[column].replace(recovery);
        assert_eq!(before, None, "{wire}: {fault} twice");
    }

    /// Prints it; what the guide says, save the times, must be the same.
    pub(super) fn finish(self) {
        let mut table = format!("| fault | what the agent does | counted in | {} |\n", WIRES.join(" | "));
        table += &"|---".repeat(3 + WIRES.len());
        table += "|\n";
        for Row { words, recoveries } in &self.0 {
            let recoveries = recoveries.map(|recovery| {
                recovery.map_or("–".to_owned(), |recovery| format!("{:.2} s", recovery.as_secs_f64()))
            });
            let _ = writeln!(table, "| {} | {} |", words.join(" | "), recoveries.join(" | "));
        }
        println!("{table}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let guide = std::fs::read_to_string(&path).unwrap();
        let start = guide.find(BEGIN).unwrap() + BEGIN.len();
        let end = start + guide[start..].find(END).unwrap();
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, format!("{}{table}{}", &guide[..start], &guide[end..])).unwrap();
        } else {
            assert_eq!(
                without_times(&guide[start..end]),
                without_times(&table),
                "run this test with {UPDATE}=1 and commit docs/configuration.md"
            );
        }
    }
}

/// Each row's words, and which of its cells have a time.
fn without_times(table: &str) -> Vec<Vec<&str>> {
    let cells = table.lines().map(|line| line.split(" | "));
    cells.map(|cells| cells.map(|cell| if is_time(cell) { "a time" } else { cell }).collect()).collect()
}

fn is_time(cell: &str) -> bool {
    cell.trim_end_matches(" |").strip_suffix(" s").is_some_and(|number| number.parse::<f64>().is_ok())
}
