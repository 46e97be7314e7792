//! `docs/fleet.md` as it is written: `deploy/collector.yaml` takes a recorded batch, and `deploy/profiles.sql` reads with DuckDB what
//! the collector wrote, stack by stack what the pprof of the same batch says.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use pprof_proto::Profile;
use profiler::export::otlp::{MAX_MESSAGE_BYTES, OtlpConfig, OtlpEncoder};
use profiler::profile::pprof;

use crate::recorded;
use crate::servers::{free_port, program, wait_for};

/// A Python that has DuckDB; `None`, after saying so.
fn duckdb() -> Option<PathBuf> {
    let found = std::env::var_os("EVERFLAME_DUCKDB_PYTHON").map(PathBuf::from);
    if found.is_none() {
        fixtures::skip(
            "EVERFLAME_DUCKDB_PYTHON is not set; cargo xtask test --real sets it where DuckDB can be installed",
        );
    }
    found
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Ended when it goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Service, stack (outermost first) → samples and their ns.
type Sums = BTreeMap<(String, Vec<String>), (u64, u64)>;

/// Runs the guide's statements below `folder` and adds up the table that they make.
fn asked(python: &Path, folder: &Path) -> Sums {
    const PROGRAM: &str = "\
import duckdb, json, sys
database = duckdb.connect()
database.execute(open(sys.argv[1]).read())
for row in database.execute('SELECT service, stack, count(*), sum(nanoseconds)::UBIGINT FROM samples GROUP BY ALL').fetchall():
    print(json.dumps(row))
";
    let output =
        Command::new(python).args(["-c", PROGRAM]).arg(deploy("profiles.sql")).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = |line: &str| {
        let (service, stack, count, time_ns): (String, Vec<String>, u64, u64) = serde_json::from_str(line).unwrap();
        ((service, stack), (count, time_ns))
    };
    String::from_utf8(output.stdout).unwrap().lines().map(row).collect()
}

/// The same of a pprof, whose samples say their service.
fn of_pprof(profile: &Profile, service: impl Fn(&str) -> String) -> Sums {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let names: BTreeMap<u64, &str> =
        profile.function.iter().map(|function| (function.id, text(function.name))).collect();
    let inlined: BTreeMap<u64, Vec<String>> = profile
        .location
        .iter()
        .map(|location| {
            let lines = location.line.iter().map(|line| names[&line.function_id].to_owned()).collect::<Vec<_>>();
            (location.id, if lines.is_empty() { vec!["[unknown]".to_owned()] } else { lines })
        })
        .collect();
    let mut sums = Sums::new();
    for sample in &profile.sample {
        let mut stack: Vec<String> = sample.location_id.iter().flat_map(|id| inlined[id].clone()).collect();
        stack.reverse();
        let comm = sample.label.iter().find(|label| text(label.key) == "comm").map_or("", |label| text(label.str));
        let sum = sums.entry((service(comm), stack)).or_default();
        *sum = (sum.0 + sample.value[0] as u64, sum.1 + sample.value[1] as u64);
    }
    sums
}

#[test]
#[ignore = "needs the servers of testservers/ and root: cargo xtask test --real"]
fn the_guides_collector_and_sql_give_the_stacks_of_the_pprof() {
    let Some(python) = duckdb() else { return };
    let Some(collector) = program("collector") else { return };
    let Some(batch) = recorded::batch() else { return };
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    let (grpc, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let mut command = Command::new(collector);
    command.arg("--feature-gates=service.profilesSupport").arg("--config").arg(deploy("collector.yaml"));
    command.env("OTLP_GRPC", &grpc).env("OTLP_HTTP", &http).env("PROFILES", &profiles);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    for address in [&grpc, &http] {
        wait_for("the collector to listen", || TcpStream::connect(address).ok());
    }
    let config = OtlpConfig {
        host: "node-1".to_owned(),
        attributes: Vec::new(),
        resource_per_process: false,
        message_bytes: MAX_MESSAGE_BYTES,
    };
    let messages =
        recorded::send(&format!("otlp+grpc://{grpc}"), &mut OtlpEncoder::new(config, Arc::default()), &batch);
    let whole = || {
        let text = std::fs::read_to_string(profiles.join("profiles.json")).ok()?;
        (text.ends_with('\n') && text.lines().count() == messages.len()).then_some(())
    };
    wait_for("the collector's file", whole);
    drop(running);
    // The one process that has an identity is the service web; the other is named by its program.
    let expected = of_pprof(&pprof::encode(&batch, &recorded::info()).unwrap(), |comm| {
        if comm.starts_with("chain") { "web".to_owned() } else { comm.to_owned() }
    });
    let seen = asked(&python, folder.path());
    assert_eq!(seen.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert_eq!(seen, expected);
    assert_eq!(seen.values().map(|(count, _)| count).sum::<u64>(), batch.samples.len() as u64);
}
