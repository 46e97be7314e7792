//! `everflame pod` on real cgroups with paths as a kubelet makes them: nothing of other pods, a container that is restarted, an end
//! by Ctrl-C, a pod that ends, one that is not there.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fixtures::{Flavour, build_or_skip, skip};
use live::{Running, until};
use profiler::kubectl::parcel::{Line, Parcel};
use profiler::output;
use profiler::sampler::hierarchy::CgroupHierarchy;

/// Uids of two pods, of this run alone: what another one left behind harms nobody.
fn pods() -> [String; 2] {
    [1, 2].map(|number| format!("0e5ef1a3-0000-4000-8000-{:08x}00a{number}", std::process::id()))
}

/// Pods' cgroups, removed when this goes.
struct Kubepods {
    root: PathBuf,
}

impl Kubepods {
    /// In the hierarchy that is asked first; `None` where none can be made.
    fn make() -> Option<Kubepods> {
        let hierarchy = CgroupHierarchy::mounted(Path::new("/proc")).into_iter().next()?;
        let root = hierarchy.mount.join(format!("everflame-test-{}/kubepods", std::process::id()));
        std::fs::create_dir_all(&root).ok()?;
        Some(Kubepods { root })
    }

    /// The cgroup of a container: 64 digits that begin with `digit`.
    fn container(&self, pod: &str, digit: char) -> PathBuf {
        let folder = self.pod(pod).join(id(digit));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn pod(&self, pod: &str) -> PathBuf {
        self.root.join(format!("burstable/pod{pod}"))
    }

    /// Removes a pod whose processes have ended.
    fn remove(&self, pod: &str) {
        until("the pod's cgroups to be removed", || {
            remove_below(&self.pod(pod));
            !self.pod(pod).exists()
        });
    }
}

impl Drop for Kubepods {
    fn drop(&mut self) {
        let top = self.root.parent().unwrap().to_owned();
        let began = Instant::now();
        // A process that has ended leaves a moment later.
        while top.exists() && began.elapsed() < Duration::from_secs(5) {
            remove_below(&top);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// cgroups are removed one by one, the lowest first; their files can't be.
fn remove_below(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_below(&entry.path());
    }
    let _ = std::fs::remove_dir(folder);
}

fn id(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

/// A fixture that works in this cgroup.
fn working_in(file: &Path, cgroup: &Path) -> Running {
    let running = Running::fixture(file, &[]);
    std::fs::write(cgroup.join("cgroup.procs"), running.pid().to_string()).unwrap();
    running
}

/// `everflame pod`, with nobody who knows names.
fn pod(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everflame"));
    command.args(["pod", "--kubernetes", "off", "--cri", "off", "-F", "999"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A label's values in a profile.
fn values(file: &Path, key: &str) -> BTreeSet<String> {
    let profile = output::read(file).unwrap();
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let labels = profile.sample.iter().flat_map(|sample| &sample.label).filter(|label| text(label.key) == key);
    labels.map(|label| if label.str == 0 { label.num.to_string() } else { text(label.str).to_owned() }).collect()
}

fn of(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Whether recordings can be made here; says why not.
fn skipped() -> bool {
    if live::engine(live::options(&[std::process::id()])).is_none() {
        return true;
    }
    let has_cgroups = Kubepods::make().is_some();
    if !has_cgroups {
        skip("no cgroup can be made");
    }
    !has_cgroups
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_pod_is_profiled_by_its_uid_and_nothing_of_the_others() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    if skipped() {
        return;
    }
    let kubepods = Kubepods::make().unwrap();
    let [mine, other] = &pods();
    let programs: Vec<Running> = [(mine, 'a'), (mine, 'b'), (other, 'c')]
        .into_iter()
        .map(|(pod, digit)| working_in(&file, &kubepods.container(pod, digit)))
        .collect();
    let pids: Vec<String> = programs.iter().map(|running| running.pid().to_string()).collect();
    let folder = tempfile::tempdir().unwrap();
    let name = |name: &str| folder.path().join(name);

    let (cpu, picture) = (name("cpu.pb.gz"), name("cpu.svg"));
    let words = [mine, "-d", "2s", "-o", cpu.to_str().unwrap(), "-o", picture.to_str().unwrap()];
    let output = pod(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains(&format!("profiling pod {mine} (2 containers)")), "{}", said(&output));
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.contains("(pprof) and ") && line.contains("ledger: "), "{line}");
    assert_eq!(values(&cpu, "pid"), of(&[&pids[0], &pids[1]]));
    assert_eq!(values(&cpu, "container_id"), of(&[&id('a'), &id('b')]));
    assert!(std::fs::read_to_string(&picture).unwrap().contains(mine), "the picture says which pod it shows");

    // One container of it, by its id.
    let output = pod(&[mine, "-c", &id('b')[..12], "-d", "2s", "-o", cpu.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(values(&cpu, "pid"), of(&[&pids[1]]));

    // Apart.
    let output = pod(&[mine, "--split", "pod", "-d", "1s", "-o", cpu.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(values(&name(&format!("cpu-{mine}.pb.gz")), "pid"), of(&[&pids[0], &pids[1]]));
    drop(programs);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn several_pods_are_handed_over_in_parts_that_make_the_profile() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    if skipped() {
        return;
    }
    let kubepods = Kubepods::make().unwrap();
    let [mine, other] = &pods();
    let programs = [(mine, 'a'), (other, 'c')].map(|(pod, digit)| working_in(&file, &kubepods.container(pod, digit)));
    let gone = mine.replace("a1", "a9");
    let output = pod(&[mine, other, &gone, "--hand-over", "-d", "2s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("everflame: of 3 pods 2 run on this node"), "{}", said(&output));
    let mut parcel = Parcel::default();
    let lines: Vec<Line> = output.stdout.split(|byte| *byte == b'\n').map(|line| parcel.take(line)).collect();
    assert!(lines.iter().any(|line| matches!(line, Line::Progress { of, .. } if of.as_secs() == 2)), "{lines:?}");
    assert!(lines.iter().any(|line| matches!(line, Line::Summary(text) if text.contains("ledger: "))), "{lines:?}");
    let folder = tempfile::tempdir().unwrap();
    let cpu = folder.path().join("cpu.pb.gz");
    std::fs::write(&cpu, parcel.open().unwrap()).unwrap();
    assert_eq!(values(&cpu, "container_id"), of(&[&id('a'), &id('c')]));
    drop(programs);
}

/// A recording that a signal or the pod's end ends before its time.
struct Endless {
    child: Child,
    words: BufReader<ChildStderr>,
}

impl Endless {
    /// Starts one and waits until it samples.
    fn start(pod_uid: &str, cpu: &Path) -> Endless {
        let mut child = pod(&[pod_uid, "-d", "3m", "-o", cpu.to_str().unwrap()]).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("profiling pod") {
            line.clear();
            assert_ne!(words.read_line(&mut line).unwrap(), 0, "it ended before it sampled");
        }
        Endless { child, words }
    }

    /// Its exit code and what it said, once it has ended.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.words.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a program has worked for half a second.
fn has_worked(running: &Running) {
    live::until_worked(running, 50);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_restarted_container_is_followed_and_ctrl_c_writes_what_there_is() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    if skipped() {
        return;
    }
    let kubepods = Kubepods::make().unwrap();
    let [mine, other] = &pods();
    let first = working_in(&file, &kubepods.container(mine, 'a'));
    let stranger = working_in(&file, &kubepods.container(other, 'c'));
    let folder = tempfile::tempdir().unwrap();
    let cpu = folder.path().join("cpu.pb.gz");
    let mut recording = Endless::start(mine, &cpu);
    has_worked(&first);
    let ended = first.pid();
    drop(first);
    let second = working_in(&file, &kubepods.container(mine, 'b'));
    has_worked(&second);
    // The other pod gets a new container as well, which is nobody's business.
    let third = working_in(&file, &kubepods.container(other, 'd'));
    has_worked(&third);
    // SAFETY: a signal to our own child, which was not waited for.
    unsafe { libc::kill(recording.child.id() as i32, libc::SIGINT) };
    let (code, words) = recording.end();
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(values(&cpu, "pid"), of(&[&ended.to_string(), &second.pid().to_string()]));
    assert_eq!(values(&cpu, "container_id"), of(&[&id('a'), &id('b')]));
    drop((stranger, second, third));
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn the_end_of_a_pod_is_the_end_of_its_recording() {
    let _alone = live::alone();
    let Some(file) = build_or_skip("chain", Flavour::OmitFp) else { return };
    if skipped() {
        return;
    }
    let kubepods = Kubepods::make().unwrap();
    let [mine, other] = &pods();
    let stranger = working_in(&file, &kubepods.container(other, 'c'));
    let running = working_in(&file, &kubepods.container(mine, 'a'));
    let pid = running.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let cpu = folder.path().join("cpu.pb.gz");
    let mut recording = Endless::start(mine, &cpu);
    has_worked(&running);
    drop(running);
    kubepods.remove(mine);
    let (code, words) = recording.end();
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains(&format!("pod {mine} has ended; so does the recording")), "{words}");
    assert_eq!(values(&cpu, "pid"), of(&[&pid]));

    // Once more: it is not there now, and one that is there is named instead.
    let output = pod(&[mine, "-o", cpu.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("everflame: no pod with the uid {mine} runs on this node");
    assert!(said(&output).starts_with(&expected) && said(&output).contains(other), "{}", said(&output));
    let output = pod(&["shop/web-1", "-o", cpu.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).starts_with("everflame: nobody here knows pods by their names"), "{}", said(&output));
    drop(stranger);
}
