//! The front against a made-up `/proc` and cgroup tree.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::identity::pods::{Container, Pod, PodReport};
use crate::ledger::Ledger;
use crate::profile::{BatchBuilder, Sample};

const ID: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const OTHER: &str = "9d5b23edb1ba181e8910389a99906598d69ac9a0ead109ee55730cc416d95f7f";
const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789ab";
const SECOND_NS: u64 = 1_000_000_000;

/// A machine in a directory.
struct Machine {
    root: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
}

impl Machine {
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("cgroup")).unwrap();
        std::fs::write(root.path().join("cgroup/cgroup.controllers"), "").unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Machine { root, tokio }
    }

    /// A cgroup; its id.
    fn cgroup(&self, path: &str) -> u64 {
        let directory = self.root.path().join("cgroup").join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&directory).unwrap();
        directory.metadata().unwrap().ino()
    }

    /// A process that started `second` seconds after boot.
    fn process(&self, pid: u32, second: u64, cgroup: &str, environ: &[u8]) {
        let directory = self.root.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 {} 1 2\n", second * 100);
        std::fs::write(directory.join("stat"), stat).unwrap();
        std::fs::write(directory.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        std::fs::write(directory.join("environ"), environ).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            proc_root: self.root.path().join("proc"),
            cgroup_root: self.root.path().join("cgroup"),
            node: Some("n1".into()),
            api: ApiServer::Off,
            runtime: RuntimeSocket::Off,
            ..Options::default()
        }
    }

    fn identities(&self, options: Options) -> Identities {
        let identities = Identities::start(options, self.tokio.handle()).unwrap();
        until(|| identities.counters().cgroup_walks > 0);
        identities
    }
}

fn until(mut met: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !met() {
        assert!(Instant::now() < patience, "not in a minute");
        std::thread::yield_now();
    }
}

/// One sample of each process: pid, second of its start, cgroup id, executable.
fn batch(processes: &[(u32, u64, u64, &str)]) -> Batch {
    let mut builder = BatchBuilder::new();
    let stack = builder.stack(Vec::new()).unwrap();
    for (pid, second, cgroup_id, executable) in processes {
        let process = Process {
            pid: *pid,
            start_time_ns: second * SECOND_NS,
            comm: builder.text("comm"),
            executable: builder.text(executable),
            cgroup_id: *cgroup_id,
            cgroup: builder.text(""),
            identity: None,
        };
        let process = builder.process(process);
        let thread_name = builder.text("comm");
        builder.push(Sample {
            time_ns: 1,
            weight_ns: 1,
            process,
            tid: *pid,
            thread_name,
            cpu: 0,
            stack,
            end: unwind::end::End::Complete,
            provenance: 0,
        });
    }
    builder.finish(1, Ledger::default())
}

fn identity(batch: &Batch, pid: u32) -> &Identity {
    let process = batch.processes.iter().find(|process| process.pid == pid).unwrap();
    &batch.identities[process.identity.unwrap().0 as usize]
}

fn report(container: &str, name: &str) -> PodReport {
    let pod = Pod {
        uid: UID.into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        workload_kind: "Deployment".into(),
        workload: "web".into(),
        ..Pod::default()
    };
    let known = Container { name: name.into(), image: "reg/app".into(), ..Container::default() };
    PodReport { pod, containers: vec![(container.into(), known)] }
}

#[test]
fn processes_alive_and_gone_get_their_container_and_the_host_s_get_none() {
    let machine = Machine::new();
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    let id = machine.cgroup(&path);
    let late = machine.cgroup("/late");
    machine.process(10, 5, &path, b"DD_SERVICE=own\0");
    machine.process(11, 6, "/system.slice/sshd.service", b"");
    let mut identities = machine.identities(machine.options());
    identities.known.api().report(report(ID, "app"), Instant::now());
    identities.note(10, 5 * SECOND_NS);
    identities.note(11, 6 * SECOND_NS);
    identities.note(12, 7 * SECOND_NS);
    until(|| identities.counters().processes_read + identities.counters().processes_missed == 3);
    // 12 is gone; its cgroup is still known from the walk, that of 13 from perf's record.
    let gone = format!("/system.slice/docker-{OTHER}.scope");
    identities.cgroups_made(&[(late + 1_000_000, gone.clone().into_bytes())]);
    let mut batch = batch(&[
        (10, 5, id, "/app"),
        (11, 6, 1, "/usr/sbin/sshd"),
        (12, 7, id, "/bin/sh"),
        (13, 8, late + 1_000_000, "/x/y"),
    ]);
    identities.identify(&mut batch, Instant::now());
    let short = |pid| {
        let identity = identity(&batch, pid);
        [&*identity.container, &*identity.pod, &*identity.workload, &*identity.service, &*identity.node]
            .map(str::to_owned)
    };
    assert_eq!(short(10), ["app", "web-1", "web", "own", "n1"]);
    assert_eq!(short(11), ["", "", "", "sshd", "n1"]);
    assert_eq!(short(12), ["app", "web-1", "web", "web", "n1"]);
    assert_eq!(short(13), ["", "", "", "y", "n1"]);
    assert_eq!(&*identity(&batch, 13).container_id, OTHER);
    assert_eq!((&*identity(&batch, 10).container_id, &*identity(&batch, 10).pod_uid), (ID, UID));
    let cgroups: Vec<&str> = batch.processes.iter().map(|process| batch.strings.get(process.cgroup)).collect();
    assert_eq!(cgroups, [&*path, "/system.slice/sshd.service", &*path, &*gone]);
    let counters = identities.counters();
    assert_eq!((counters.tagged, counters.host, counters.container_unknown, counters.pod_only), (2, 1, 1, 0));
    assert_eq!((counters.processes_read, counters.processes_missed), (2, 1));
}

#[test]
fn a_reused_pid_never_inherits() {
    let machine = Machine::new();
    machine.process(10, 5, &format!("/kubepods/pod{UID}/{ID}"), b"DD_SERVICE=first\0");
    let mut identities = machine.identities(machine.options());
    identities.note(10, 5 * SECOND_NS);
    until(|| identities.counters().processes_read == 1);
    machine.process(10, 900, "/user.slice", b"DD_SERVICE=second\0");
    // Asked for the second before anybody read it, for the first after it is gone.
    let mut both = batch(&[(10, 900, 0, "/bin/b"), (10, 5, 0, "/bin/a")]);
    identities.identify(&mut both, Instant::now());
    let services: Vec<&str> = both.identities.iter().map(|identity| &*identity.service).collect();
    assert_eq!(services, ["b", "first"]);
    identities.note(10, 5 * SECOND_NS);
    identities.note(10, 900 * SECOND_NS);
    until(|| identities.counters().processes_read == 2 && identities.counters().processes_missed == 1);
    let mut both = batch(&[(10, 900, 0, "/bin/b"), (10, 5, 0, "/bin/a")]);
    identities.identify(&mut both, Instant::now());
    let services: Vec<&str> = both.identities.iter().map(|identity| &*identity.service).collect();
    assert_eq!(services, ["second", "first"]);
    assert_eq!((&*both.identities[0].container_id, &*both.identities[1].container_id), ("", ID));
}

#[test]
fn a_batch_is_held_back_for_a_bounded_time_and_goes_out_with_what_is_known() {
    let machine = Machine::new();
    let path = format!("/kubepods/pod{UID}/{ID}");
    machine.process(10, 5, &path, b"");
    // A server that is away: nobody will tell of the container.
    let mut options = machine.options();
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let _inside = machine.tokio.enter();
    options.api = ApiServer::Client(watch::client_of(config).unwrap());
    let mut identities = machine.identities(options);
    let mut held = batch(&[(10, 5, 0, "/app")]);
    let start = Instant::now();
    assert!(identities.pending(&held, start), "the process was not read yet");
    until(|| identities.counters().processes_read == 1);
    assert!(identities.pending(&held, start), "nobody knows the container");
    assert!(identities.pending(&held, start + Duration::from_millis(4999)));
    assert!(!identities.pending(&held, start + Duration::from_secs(5)));
    identities.identify(&mut held, start);
    let found = identity(&held, 10);
    assert_eq!((&*found.container_id, &*found.pod_uid, &*found.service), (ID, UID, "app"));
    let counters = identities.counters();
    assert_eq!((counters.container_unknown, counters.waited_in_vain), (1, 1));
    // The next batch of the same container does not wait again; once it is known it is told.
    assert!(!identities.pending(&held, start + Duration::from_secs(60)));
    identities.known.api().report(report(ID, "app"), Instant::now());
    identities.identify(&mut held, start + Duration::from_secs(60));
    assert_eq!(&*identity(&held, 10).container, "app");
    assert_eq!((identities.counters().tagged, identities.counters().waited_in_vain), (1, 1));
}

#[test]
fn where_nobody_could_tell_nothing_is_waited_for() {
    let machine = Machine::new();
    machine.process(10, 5, &format!("/kubepods/pod{UID}/{ID}"), b"");
    let mut identities = machine.identities(machine.options());
    identities.note(10, 5 * SECOND_NS);
    until(|| identities.counters().processes_read == 1);
    assert!(!identities.pending(&batch(&[(10, 5, 0, "/app")]), Instant::now()));
}

#[test]
fn a_process_that_moves_into_its_container_after_it_was_read_is_found_by_its_samples() {
    let machine = Machine::new();
    let path = format!("/kubepods.slice/kubepods-pod{}.slice/cri-containerd-{ID}.scope", UID.replace('-', "_"));
    let id = machine.cgroup(&path);
    machine.process(10, 5, "/system.slice/containerd.service", b"");
    let mut identities = machine.identities(machine.options());
    identities.known.api().report(report(ID, "app"), Instant::now());
    identities.note(10, 5 * SECOND_NS);
    until(|| identities.counters().processes_read == 1);
    let mut batch = batch(&[(10, 5, id, "/app")]);
    identities.identify(&mut batch, Instant::now());
    assert_eq!(&*identity(&batch, 10).container, "app");
}

#[test]
fn a_container_in_a_container_still_belongs_to_its_pod() {
    let machine = Machine::new();
    machine.process(10, 5, &format!("/kubepods/pod{UID}/{ID}/docker/{OTHER}"), b"");
    let mut identities = machine.identities(machine.options());
    identities.known.api().report(report(ID, "app"), Instant::now());
    identities.note(10, 5 * SECOND_NS);
    until(|| identities.counters().processes_read == 1);
    let mut batch = batch(&[(10, 5, 0, "/app")]);
    identities.identify(&mut batch, Instant::now());
    let found = identity(&batch, 10);
    assert_eq!((&*found.container_id, &*found.pod, &*found.container), (OTHER, "web-1", ""));
    assert_eq!(identities.counters().pod_only, 1);
}

#[test]
fn a_container_in_the_path_of_another_pod_goes_whole_to_its_own_and_is_counted() {
    const OTHER_UID: &str = "0e1f2a3b-1234-4abc-8def-0123456789ab";
    let machine = Machine::new();
    machine.process(10, 5, &format!("/kubepods/pod{OTHER_UID}/{ID}"), b"");
    machine.process(11, 5, &format!("/kubepods/pod{OTHER_UID}/{OTHER}"), b"");
    let mut identities = machine.identities(machine.options());
    identities.known.api().report(report(ID, "app"), Instant::now());
    let mut other = report(OTHER, "db");
    (other.pod.uid, other.pod.name) = (OTHER_UID.into(), "db-0".into());
    identities.known.api().report(other, Instant::now());
    identities.note(10, 5 * SECOND_NS);
    identities.note(11, 5 * SECOND_NS);
    until(|| identities.counters().processes_read == 2);
    let mut batch = batch(&[(10, 5, 0, "/app"), (11, 5, 0, "/db")]);
    identities.identify(&mut batch, Instant::now());
    let texts = |pid| {
        let found = identity(&batch, pid);
        [&*found.pod, &*found.pod_uid, &*found.container, &*found.container_id].map(str::to_owned)
    };
    assert_eq!(texts(10), ["web-1", UID, "app", ID]);
    assert_eq!(texts(11), ["db-0", OTHER_UID, "db", OTHER]);
    assert_eq!((identities.counters().contradictions, identities.counters().tagged), (1, 2));
}

#[test]
fn ten_thousand_pods_of_one_container_each_keep_their_names() {
    const PODS: u64 = 10_000;
    /// Beyond the inode numbers of the machine's own cgroups.
    const FIRST_CGROUP: u64 = 1 << 40;
    let machine = Machine::new();
    let mut identities = machine.identities(machine.options());
    let uid = |number: u64| format!("{number:08x}-1234-4abc-8def-0123456789ab");
    let mut cgroups = Vec::new();
    for number in 0..PODS {
        let mut one = report(&format!("{number:064x}"), &format!("container-{number}"));
        (one.pod.uid, one.pod.name) = (uid(number).into(), format!("pod-{number}").into());
        identities.known.api().report(one, Instant::now());
        cgroups.push((FIRST_CGROUP + number, format!("/kubepods/pod{}/{number:064x}", uid(number))));
    }
    identities.cgroups_found(cgroups.iter().map(|(id, path)| (*id, path.as_str())));
    let processes: Vec<_> = (0..PODS).map(|number| (number as u32 + 1, 5, FIRST_CGROUP + number, "/app")).collect();
    let mut batch = batch(&processes);
    identities.identify(&mut batch, Instant::now());

    assert_eq!(batch.processes.len() as u64, PODS);
    for process in &batch.processes {
        let (number, found) = (process.pid - 1, &batch.identities[process.identity.unwrap().0 as usize]);
        assert_eq!([&*found.pod, &*found.container], [format!("pod-{number}"), format!("container-{number}")]);
    }
    let counters = identities.counters();
    assert_eq!((counters.tagged, counters.container_unknown, counters.contradictions), (PODS, 0, 0));
    let refused = (identities.known.api().take_refused(), identities.known.cgroups().take_refused());
    assert_eq!(refused, (0, 0));
    assert_eq!((identities.sizes().pods, identities.sizes().containers), (PODS, PODS));
}

#[test]
fn without_an_api_server_the_runtime_is_asked_and_its_silence_is_remembered() {
    use crate::identity::cri::tests::{Runtime, container, sandbox};

    let machine = Machine::new();
    machine.process(10, 5, &format!("/kubepods/pod{UID}/{ID}"), b"");
    machine.process(11, 5, &format!("/system.slice/docker-{OTHER}.scope"), b"");
    let socket = machine.root.path().join("cri.sock");
    let pods = vec![sandbox("s1", UID, "web-7d4b9c-x2k4q", &[("pod-template-hash", "7d4b9c")])];
    let serve = Runtime(Some((pods, vec![container(ID, "s1", "app")])));
    let _inside = machine.tokio.enter();
    serve.serve(socket.clone());
    let mut identities = machine.identities(Options { runtime: RuntimeSocket::At(socket), ..machine.options() });
    let mut held = batch(&[(10, 5, 0, "/app"), (11, 5, 0, "/other")]);
    let start = Instant::now();
    assert!(identities.pending(&held, start));
    until(|| identities.counters().processes_read == 2);
    assert!(identities.pending(&held, start));
    let known = identities.known.clone();
    machine.tokio.block_on(async {
        while known.runtime().container(ID).is_none() {
            tokio::task::yield_now().await;
        }
    });
    // The other one is nobody's: waited for, once, and not asked for again at once.
    for seconds in 0..30 {
        assert_eq!(identities.pending(&held, start + Duration::from_secs(seconds)), seconds < 5);
    }
    machine.tokio.block_on(tokio::task::yield_now());
    identities.identify(&mut held, start);
    let found = identity(&held, 10);
    assert_eq!([&*found.pod, &*found.container, &*found.workload], ["web-7d4b9c-x2k4q", "app", "web"]);
    assert_eq!((&*identity(&held, 11).container_id, &*identity(&held, 11).pod), (OTHER, ""));
    let counters = identities.counters();
    assert_eq!((counters.tagged, counters.container_unknown, counters.waited_in_vain), (1, 1, 1));
    assert_eq!((counters.runtime_requests, counters.runtime_errors), (1, 0), "one list answered both");
}
