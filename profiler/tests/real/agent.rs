//! `everflame agent` as a process: started with words, asked for its metrics, ended as Kubernetes or a crash ends it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::servers::{free_port, wait_for};

/// The agent's own deadline for its end: on a busy machine more than the 25 s by default, since all must arrive.
const SHUTDOWN_TIMEOUT: &str = "240s";

/// An answer that takes longer is asked for again.
const ANSWER: Duration = Duration::from_secs(60);

/// A running agent; killed when this goes.
pub(crate) struct Agent {
    child: Child,
    listens: String,
    log: PathBuf,
}

impl Agent {
    /// Starts it and waits until every CPU is sampled. Its log is appended to `log`. All samples are wanted, unless `words` have
    /// another `--cpu-limit`.
    pub(crate) fn start(log: &Path, words: &[&str]) -> Agent {
        let limit: &[&str] = if words.contains(&"--cpu-limit") { &[] } else { &["--cpu-limit", "50"] };
        let words = [&["--kubernetes", "off", "--node-name", "node-1"], limit, words].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
        command.env_remove("KUBECONFIG");
        let listens = format!("127.0.0.1:{}", free_port());
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command.args(["agent", "--cri", "off"]);
        command.args(["--interval", "10s", "--shutdown-timeout", SHUTDOWN_TIMEOUT, "--listen", &listens]).args(words);
        command.env_remove("EVERFLAME_TESTSERVERS").env_remove("EVERFLAME_LONG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut agent = Agent { child: command.spawn().unwrap(), listens, log: log.to_owned() };
        wait_for("the agent to be ready", || {
            if let Some(status) = agent.child.try_wait().unwrap() {
                panic!("the agent ended with {status}:\n{}", agent.log());
            }
            agent.get("/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        agent
    }

    /// The whole answer to a GET; `None` if nobody listens yet.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.listens).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Name with labels → value.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        Agent::metrics_in(&self.get("/metrics").unwrap())
    }

    /// Those of an answer to `/metrics`.
    pub(crate) fn metrics_in(answer: &str) -> BTreeMap<String, f64> {
        let lines = answer.lines().filter(|line| line.starts_with("everflame_"));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    /// The sum of a metric, over those of its series that have all these words in their labels.
    pub(crate) fn sum(metrics: &BTreeMap<String, f64>, name: &str, words: &[&str]) -> f64 {
        let is_meant = |key: &str| {
            key.strip_prefix(name).is_some_and(|labels| {
                (labels.is_empty() || labels.starts_with('{')) && words.iter().all(|word| labels.contains(word))
            })
        };
        metrics.iter().filter(|(key, _)| is_meant(key)).map(|(_, value)| value).sum()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As the kernel's out-of-memory killer does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As the kubelet does it; waits for its end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        // SAFETY: the pid is of a child that nobody has waited for.
        let result = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        assert_eq!(result, 0);
        wait_for("the agent to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

/// All `.pb.gz` files of a folder, by name: by time.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("everflame-"))
    };
    let mut files: Vec<PathBuf> = entries.filter(ours).collect();
    files.sort();
    files
}
