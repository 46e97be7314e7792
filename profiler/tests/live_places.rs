//! The same program, started from where its file is hard to find: deleted, replaced by another, in memory only, under another
//! root, in another mount namespace; and with the host's `/proc` elsewhere. Its stacks must be as whole and as named as ever.

#![expect(clippy::unwrap_used, reason = "helpers of tests; clippy spares only the test functions themselves")]

mod live;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use fixtures::{Flavour, build_or_skip, expected};
use live::{Recorded, Running, Seen, Shares};
use profiler::engine::Options;
use profiler::naming::{Namer, unhurried};
use unwind::end::End;

/// Records the program, and asks for 99 % right ones: these are hundreds of samples, not thousands.
fn check(what: &str, running: &Running) {
    if let Some(recorded) = live::record(&[running.pid()], live::seconds(2, 10)) {
        judge(what, &recorded, running.pid());
    }
}

fn judge(what: &str, recorded: &Recorded, pid: u32) {
    let samples = recorded.samples(pid);
    let verdict = recorded.judge(pid, &expected::chain());
    let shares = Shares::of(&samples, verdict.right);
    println!("{}{}", shares.row(what), live::ends(&samples));
    assert!(shares.samples > 50, "{what}: too few samples: {}", shares.samples);
    let judged = shares.samples - without_copy(&samples);
    assert!(shares.right * 100 >= judged * 99, "{what}: {}", verdict.text(5));
    assert!(judged * 100 >= shares.samples * 90, "{what}: too many samples that nobody could finish");
}

/// Samples that the kernel could not finish and that got no copy: a round came too late on a busy machine. They say nothing
/// about the place.
fn without_copy(samples: &[Seen]) -> u64 {
    let unfinished = |seen: &&Seen| matches!(seen.end, End::NoProcess | End::NoTable) && !seen.is_from_copy();
    samples.iter().filter(unfinished).count() as u64
}

fn chain(flavour: Flavour) -> Option<std::path::PathBuf> {
    build_or_skip("chain", flavour)
}

fn copied(program: &Path, folder: &tempfile::TempDir) -> std::path::PathBuf {
    let copy = folder.path().join("copied");
    std::fs::copy(program, &copy).unwrap();
    copy
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_deleted_executable_is_unwound_and_named() {
    let _alone = live::alone();
    let Some(program) = chain(Flavour::OmitFp) else { return };
    let folder = tempfile::tempdir().unwrap();
    let copy = copied(&program, &folder);
    let running = Running::fixture(&copy, &[]);
    std::fs::remove_file(&copy).unwrap();
    check("deleted", &running);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_replaced_executable_is_unwound_and_named_by_the_one_that_runs() {
    let _alone = live::alone();
    let (Some(program), Some(other)) = (chain(Flavour::OmitFp), build_or_skip("recursion", Flavour::OmitFp)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = copied(&program, &folder);
    let running = Running::fixture(&copy, &[]);
    let new = folder.path().join("new");
    std::fs::copy(other, &new).unwrap();
    std::fs::rename(new, &copy).unwrap();
    check("replaced", &running);
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn an_executable_in_memory_only_is_unwound_and_named() {
    let _alone = live::alone();
    let Some(program) = chain(Flavour::OmitFp) else { return };
    // SAFETY: the name is a C string; the descriptor is ours.
    let memory = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"in-memory".as_ptr(), 0)) };
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    std::fs::write(&path, std::fs::read(program).unwrap()).unwrap();
    check("memfd", &Running::start(&mut Command::new(&path)));
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn an_executable_under_another_root_is_unwound_and_named() {
    let _alone = live::alone();
    let Some(program) = chain(Flavour::Static) else { return };
    let folder = tempfile::tempdir().unwrap();
    copied(&program, &folder);
    let root = CString::new(folder.path().to_str().unwrap()).unwrap();
    let mut command = Command::new("/copied");
    // SAFETY: chroot and chdir are system calls without any allocation.
    unsafe {
        command.pre_exec(move || {
            if libc::chroot(root.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    check("chroot", &Running::start(&mut command));
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn an_executable_in_another_mount_namespace_is_unwound_and_named() {
    let _alone = live::alone();
    let Some(program) = chain(Flavour::OmitFp) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs none "$1" && cp "$2" "$1/copied" && exec "$1/copied""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(folder.path()).arg(&program);
    check("mount namespace", &Running::start(&mut command));
}

fn mount(source: &CStr, target: &Path, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes()).unwrap();
    // SAFETY: strings that end with NUL and live as long as the call, and no data.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For the calling thread and those that it starts: the host's processes are at `place`, and `/proc` tells of nobody but who reads it.
fn move_proc(place: &Path) -> io::Result<()> {
    // SAFETY: no pointers; what is unshared is this thread's alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let proc = Path::new("/proc");
    mount(c"none", Path::new("/"), c"none", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(c"/proc", place, c"none", libc::MS_BIND | libc::MS_REC)?;
    mount(c"none", proc, c"tmpfs", 0)?;
    for own in ["self", "thread-self", "sys"] {
        std::os::unix::fs::symlink(place.join(own), proc.join(own))?;
    }
    Ok(())
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn with_the_host_s_proc_elsewhere_a_program_is_unwound_and_named() {
    let _alone = live::alone();
    let Some(program) = chain(Flavour::OmitFp) else { return };
    let running = Running::fixture(&program, &[]);
    let (pid, folder) = (running.pid(), tempfile::tempdir().unwrap());
    let record = || {
        if let Err(error) = move_proc(folder.path()) {
            return fixtures::skip(format_args!("a private mount: {error}"));
        }
        assert!(!Path::new("/proc").join(pid.to_string()).exists() && folder.path().join(pid.to_string()).exists());
        let options = Options { proc_root: folder.path().to_owned(), ..live::options(&[pid]) };
        let Some(mut engine) = live::engine(options) else { return };
        live::record_while(&mut engine, live::seconds(2, 10), |_| true);
        let mut namer = Namer::new(unhurried(), folder.path()).unwrap();
        let recorded = Recorded::named_by(&mut namer, engine.finish().unwrap());
        assert_eq!(recorded.pids(), BTreeMap::from([(pid, comm(&program))]));
        judge("proc elsewhere", &recorded, pid);
    };
    // A thread of its own: its namespace goes with it.
    std::thread::scope(|scope| scope.spawn(record).join()).unwrap();
}

/// The name that the kernel gives to a process of this program.
fn comm(program: &Path) -> String {
    let name = program.file_name().unwrap().to_str().unwrap();
    name.chars().take(15).collect()
}

/// The child of vfork runs on its parent's stack, in its parent's memory, with a pid of its own.
#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn a_vfork_child_is_seen_with_its_parents_frames() {
    let _alone = live::alone();
    let Some(program) = build_or_skip("vfork", Flavour::OmitFp) else { return };
    let running = Running::fixture(&program, &[]);
    let mut options = Options { frequency_hz: 999, ..Options::default() };
    options.target.follow(running.pid());
    let Some(mut engine) = live::engine(options) else { return };
    live::record_while(&mut engine, live::seconds(2, 10), |_| true);
    let recorded = Recorded::new(engine);
    let children = recorded.pids().into_keys().filter(|pid| *pid != running.pid());
    let burning: Vec<Seen> = children
        .flat_map(|pid| recorded.samples(pid))
        .filter(|seen| seen.user.last().is_some_and(|leaf| leaf == "burn"))
        .collect();
    let right = burning.iter().filter(|seen| {
        let main = seen.user.iter().position(|name| name == "main").unwrap_or(0);
        main > 0 && seen.user[main..] == ["main", "spawn_once", "child_work", "burn"] && seen.end == End::Complete
    });
    let shares = Shares::of(&burning, right.count() as u64);
    println!("{}{}", shares.row("vfork children"), live::ends(&burning));
    assert!(shares.samples > 50, "too few samples of the children: {}", shares.samples);
    let judged = shares.samples - without_copy(&burning);
    assert!(shares.right * 100 >= judged * 99, "{}", live::folded(&burning));
    assert!(judged * 100 >= shares.samples * 80, "too many samples that nobody could finish");
}
