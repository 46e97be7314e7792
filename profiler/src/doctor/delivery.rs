//! Where profiles would go: what each sink answered, whether spool and history can be written, and where people and probes ask.

use super::Check;
use super::platform::Platform;
use crate::export::address::Wire;

/// What came of asking a sink. Nothing is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `GET /info` of a Datadog agent.
    DatadogAgent {
        /// Its version, as it says.
        version: String,
        /// Whether it lists `/profiling/v1/input`.
        takes_profiles: bool,
    },
    /// An HTTP answer with this status to `GET /info` that is none of a Datadog agent.
    Http(u16),
    /// A request without profiles was taken (OTLP, Pyroscope).
    TakesProfiles,
    /// It was not: the server's words.
    Refused(String),
    /// A folder that can be written.
    Folder,
    /// A folder that can't be written: why.
    FolderRefused(String),
    /// Nothing: why.
    Failed(String),
    /// It did not say what it speaks, and nothing there tells.
    UnknownWire,
}

/// One sink.
pub fn sink(address: &str, wire: Option<Wire>, answer: &Answer, platform: &Platform) -> Check {
    const NAME: &str = "sink";
    let ask = match (wire, answer) {
        (_, Answer::Folder | Answer::FolderRefused(_)) => address.to_owned(),
        (Some(Wire::Datadog), _) | (_, Answer::DatadogAgent { .. } | Answer::Http(_)) => {
            format!("{address}, GET /info")
        }
        (Some(_), _) | (_, Answer::TakesProfiles | Answer::Refused(_)) => {
            format!("{address}, a request without profiles")
        }
        _ => format!("{address}, GET"),
    };
    match answer {
        Answer::DatadogAgent { version, takes_profiles: true } => {
            Check::ok(NAME, format!("a Datadog agent {version} that takes profiles"), ask)
        }
        Answer::DatadogAgent { version, takes_profiles: false } => {
            let fix = "enable its APM (DD_APM_ENABLED=true, trace-agent 7.20 or newer)";
            Check::fail(NAME, format!("a Datadog agent {version} that takes no profiles"), ask, fix)
        }
        Answer::Http(status) => {
            let fix = match status {
                401 | 403 => "check --header and --token-file",
                _ => "name the trace agent's port (8126) or its socket (apm.socket)",
            };
            Check::fail(NAME, format!("answers {status}, not like a Datadog agent"), ask, fix)
        }
        Answer::TakesProfiles => Check::ok(NAME, "takes profiles", ask),
        Answer::Refused(why) => {
            let fix = match wire {
                Some(Wire::Pyroscope) => {
                    "check --header and --token-file, and that Pyroscope is there (port 4040, or a gateway's address and path)"
                }
                _ => {
                    "check --header and --token-file; a collector needs --feature-gates=service.profilesSupport and a pipeline of \
                     profiles"
                }
            };
            Check::fail(NAME, why.clone(), ask, fix)
        }
        Answer::Folder => Check::ok(NAME, "the folder can be written", ask),
        Answer::UnknownWire => {
            Check::fail(NAME, "does not answer like a Datadog agent", ask, "say what it speaks, as in otlp+http://")
        }
        Answer::FolderRefused(why) => {
            let fix = "name a folder that it may make or write, on a file system with room (in a pod: on a volume)";
            Check::fail(NAME, why.clone(), ask, fix)
        }
        Answer::Failed(why) => Check::fail(NAME, why.clone(), ask, unreachable(wire, platform)),
    }
}

fn unreachable(wire: Option<Wire>, platform: &Platform) -> String {
    match wire {
        Some(Wire::Datadog) | None if platform.in_pod => {
            "with the Datadog agent on the node: DD_APM_NON_LOCAL_TRAFFIC=true and a host port for 8126, or mount its socket and \
             use datadog+unix:///var/run/datadog/apm.socket"
                .to_owned()
        }
        _ if platform.in_pod => "is the address right, and may the agent's pods reach it (network policies)?".to_owned(),
        _ => "is it running, and is the address right?".to_owned(),
    }
}

/// No `--to`, and nothing in the environment.
pub fn no_sink() -> Check {
    // No fault of the machine, and of nothing but an agent without a page.
    Check::warn(
        "sink",
        "none: an agent that delivers needs one; record, top and the page do not",
        "--to, EVERFLAME_TO, OTEL_PROFILING_AGENT_COLLECTION_AGENT, DD_TRACE_AGENT_URL, OTEL_EXPORTER_OTLP_ENDPOINT",
        "give --to ADDRESS, such as --to datadog+http://127.0.0.1:8126",
    )
}

/// Words about sinks that are not understood.
pub fn bad_sinks(why: &str) -> Check {
    Check::fail("sink", why, "--to and the environment", "")
}

/// What came of trying a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// A file was made and removed; so many bytes are free for this user.
    Writable {
        /// Bytes.
        free: u64,
    },
    /// Not there yet, but its parent can be written.
    ToBeMade {
        /// Bytes.
        free: u64,
    },
    /// Neither: the system's words.
    Refused(String),
}

/// The spool. `None`: no `--spool`.
pub fn spool(folder: Option<(&str, &FolderState)>, wanted_bytes: u64) -> Check {
    const NAME: &str = "spool";
    let Some((path, state)) = folder else {
        let fix = "give --spool DIRECTORY, and in a pod a volume there";
        return Check::warn(NAME, "none: what can't be sent waits in memory and ends with the agent", "--spool", fix);
    };
    place(NAME, "--spool-size", path, state, wanted_bytes)
}

/// The history behind the page, where a folder is given for it.
pub fn history(path: &str, state: &FolderState, wanted_bytes: u64) -> Check {
    place("history", "--store-size", path, state, wanted_bytes)
}

/// A folder that is to hold so much, whose size is limited by `setting`.
fn place(name: &'static str, setting: &str, path: &str, state: &FolderState, wanted_bytes: u64) -> Check {
    let (free, found) = match state {
        FolderState::Writable { free } => (*free, "can be written"),
        FolderState::ToBeMade { free } => (*free, "is not there yet and can be made"),
        FolderState::Refused(why) => {
            return Check::fail(name, why.clone(), path, "mount a volume there that this user may write");
        }
    };
    let found = format!("{found}, {} MiB free", free >> 20);
    if free < wanted_bytes {
        let unit = if setting == "--store-size" { "MiB" } else { "" };
        let fix = format!("free space, or say {setting} {}{unit}", (free >> 20).max(1));
        return Check::warn(name, format!("{found} of {} MiB wanted", wanted_bytes >> 20), path, fix);
    }
    Check::ok(name, found, path)
}

/// Why an address can't be listened on, in the system's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotListening {
    /// Somebody listens there.
    Taken(String),
    /// Nobody could: a name that is none, an address of another machine, a port that this user may not have.
    Impossible(String),
}

/// An address to listen on; `name` says what for.
pub fn listen(name: &'static str, setting: &str, address: &str, tried: &Result<(), NotListening>) -> Check {
    let source = format!("{setting} {address}");
    match tried {
        Ok(()) => Check::ok(name, "the address is free", source),
        Err(NotListening::Taken(why)) => {
            let fix =
                format!("an agent that runs already has it, or another program: then choose another with {setting}");
            Check::warn(name, why.clone(), source, fix)
        }
        Err(NotListening::Impossible(why)) => {
            let fix = format!(
                "write {setting} HOST:PORT with an address of this machine that this user may listen on, or {setting} off"
            );
            Check::fail(name, why.clone(), source, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn each_answer_of_a_sink_has_its_verdict() {
        let agent = |takes_profiles| Answer::DatadogAgent { version: "7.60.0".into(), takes_profiles };
        let pod = Platform::of("", true);
        for (wire, answer, verdict, text) in [
            (Some(Wire::Datadog), agent(true), Verdict::Ok, ""),
            (Some(Wire::Datadog), agent(false), Verdict::Fail, "DD_APM_ENABLED"),
            (Some(Wire::Datadog), Answer::Http(404), Verdict::Fail, "8126"),
            (Some(Wire::Datadog), Answer::Failed("refused".into()), Verdict::Fail, "DD_APM_NON_LOCAL_TRAFFIC"),
            (Some(Wire::Datadog), Answer::Http(401), Verdict::Fail, "--token-file"),
            (Some(Wire::Pyroscope), Answer::TakesProfiles, Verdict::Ok, ""),
            (Some(Wire::Pyroscope), Answer::Refused("answered 404".into()), Verdict::Fail, "4040"),
            (Some(Wire::Pyroscope), Answer::Refused("answered 401".into()), Verdict::Fail, "--token-file"),
            (Some(Wire::Pyroscope), Answer::Failed("answered 503".into()), Verdict::Fail, "network policies"),
            (Some(Wire::OtlpHttp), Answer::Refused("answered 404".into()), Verdict::Fail, "profilesSupport"),
            (Some(Wire::OtlpGrpc), Answer::TakesProfiles, Verdict::Ok, ""),
            (None, Answer::TakesProfiles, Verdict::Ok, ""),
            (Some(Wire::OtlpGrpc), Answer::Failed("no route".into()), Verdict::Fail, "network policies"),
            (None, Answer::UnknownWire, Verdict::Fail, "otlp+http"),
            (None, Answer::Folder, Verdict::Ok, ""),
            (None, Answer::FolderRefused("read-only".into()), Verdict::Fail, "on a volume"),
        ] {
            let check = sink("there", wire, &answer, &pod);
            assert_eq!(check.verdict, verdict, "{check:?}");
            assert!(check.fix.contains(text), "{check:?}");
            let is_folder = matches!(answer, Answer::Folder | Answer::FolderRefused(_));
            assert_eq!(check.source == "there", is_folder, "of a server it says what it was asked: {check:?}");
        }
    }

    #[test]
    fn a_spool_needs_a_place_and_space() {
        let mib = |count: u64| count << 20;
        for (state, verdict) in [
            (None, Verdict::Warn),
            (Some(FolderState::Writable { free: mib(600) }), Verdict::Ok),
            (Some(FolderState::Writable { free: mib(100) }), Verdict::Warn),
            (Some(FolderState::ToBeMade { free: mib(600) }), Verdict::Ok),
            (Some(FolderState::Refused("read-only".into())), Verdict::Fail),
        ] {
            let folder = state.as_ref().map(|state| ("/var/spool/everflame", state));
            assert_eq!(spool(folder, mib(512)).verdict, verdict, "{state:?}");
        }
        assert!(
            spool(Some(("/s", &FolderState::Writable { free: mib(100) })), mib(512)).fix.contains("--spool-size 100")
        );
    }

    #[test]
    fn a_history_that_has_no_room_is_told_how_to_fit() {
        let check = history("/h", &FolderState::Writable { free: 100 << 20 }, 1 << 30);
        assert_eq!((check.name, check.verdict), ("history", Verdict::Warn));
        assert!(check.fix.contains("--store-size 100MiB"), "{check:?}");
    }

    #[test]
    fn an_address_that_is_taken_is_a_warning_and_one_that_nobody_could_have_a_failure() {
        for (tried, verdict, fix) in [
            (Ok(()), Verdict::Ok, ""),
            (Err(NotListening::Taken("in use".into())), Verdict::Warn, "choose another with --page"),
            (
                Err(NotListening::Impossible("cannot assign".into())),
                Verdict::Fail,
                "write --page HOST:PORT with an address of this machine that this user may listen on, or --page off",
            ),
        ] {
            let check = listen("page", "--page", "127.0.0.1:1", &tried);
            assert!(check.verdict == verdict && check.fix.contains(fix), "{check:?}");
        }
    }
}
