//! The rim: files and system calls of this machine, read once for the checks. Nothing is judged here.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::delivery::FolderState;
use super::kernel::{Attempt, BtfState, Kallsyms, MemoryLock};
use super::node::Cgroups;
use super::platform::Platform;
use super::rights::{Capabilities, Look};
use crate::sampler::SamplerError;
use crate::sampler::btf::Btf;
use crate::sampler::features::VMLINUX_BTF;
use crate::sampler::perf_event::PerfEvent;

/// Largest text that is read of any file here; `maps` of a big process has more, of which the beginning is enough.
const MAX_TEXT: u64 = 1 << 20;
/// Lines of kallsyms that are looked at: per-CPU symbols at its beginning are small numbers, of which the first is 0.
const KALLSYMS_LINES: usize = 256;
/// Processes that are tried until one can be looked into.
const MAX_TRIED: usize = 64;

fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(MAX_TEXT).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn number(path: impl AsRef<Path>) -> Option<i64> {
    text(path)?.trim().parse().ok()
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// System and place: `os-release` of the host (process 1's root), else our own.
pub fn platform(proc_root: &Path) -> Platform {
    let of_host =
        ["etc/os-release", "usr/lib/os-release"].iter().find_map(|name| text(proc_root.join("1/root").join(name)));
    let os_release = of_host.or_else(|| text("/etc/os-release")).unwrap_or_default();
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    Platform::of(&os_release, in_pod)
}

/// Release and machine, as `uname(2)` has them.
pub fn kernel() -> (String, String) {
    // SAFETY: a zeroed utsname is valid, and the call fills it in with texts that end in NUL.
    let names = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        names
    };
    let of = |field: &[libc::c_char]| field.iter().take_while(|c| **c != 0).map(|c| char::from(*c as u8)).collect();
    (of(&names.release), of(&names.machine))
}

/// `CapEff`, and whether a seccomp filter is installed.
pub fn own_rights() -> (Option<Capabilities>, bool) {
    let status = text("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let effective = field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Capabilities);
    (effective, field("Seccomp:") == Some("2"))
}

/// Inode of our own pid namespace.
pub fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// The kernel's types.
pub fn btf() -> BtfState {
    match fs::read(VMLINUX_BTF) {
        Ok(data) if Btf::parse(&data).is_some_and(|btf| btf.member_offset("task_struct", "stack").is_some()) => {
            BtfState::Usable
        }
        Ok(_) => BtfState::Unknown,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BtfState::Missing,
        Err(error) => BtfState::Refused(errno(&error)),
    }
}

/// `/sys/kernel/security/lockdown`, ours or the host's.
pub fn lockdown(proc_root: &Path) -> Option<String> {
    const LOCKDOWN: &str = "sys/kernel/security/lockdown";
    text(Path::new("/").join(LOCKDOWN)).or_else(|| text(proc_root.join("1/root").join(LOCKDOWN)))
}

/// Loads `r0 = 0; exit` as a program for perf events, and lets it go.
pub fn try_bpf() -> Attempt {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_PERF_EVENT: u64 = 7;
    let program: [u64; 2] = [0xb7, 0x95];
    let mut attributes = [0u64; 16];
    attributes[0] = BPF_PROG_TYPE_PERF_EVENT | (program.len() as u64) << 32;
    attributes[1] = program.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    // SAFETY: the attribute block is as long as said, and its pointers outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, attributes.as_ptr(), size_of_val(&attributes)) };
    if result < 0 {
        return Err(errno(&std::io::Error::last_os_error()));
    }
    // SAFETY: a file descriptor that the call above returned to us.
    unsafe { libc::close(result as i32) };
    Ok(())
}

/// Opens a timer of one hit a second on the first online CPU, and closes it.
pub fn try_perf_event() -> Attempt {
    let cpu = crate::sampler::cpus::online().ok().and_then(|online| online.first().copied()).unwrap_or(0);
    match PerfEvent::sampling(cpu, 1_000_000_000, 0) {
        Err(SamplerError::PerfEventOpen { source, .. }) => Err(errno(&source)),
        _ => Ok(()),
    }
}

/// `kernel.perf_event_paranoid` and `kernel.kptr_restrict`.
pub fn sysctls() -> (Option<i64>, Option<i64>) {
    (number("/proc/sys/kernel/perf_event_paranoid"), number("/proc/sys/kernel/kptr_restrict"))
}

/// Whether kallsyms shows addresses.
pub fn kallsyms() -> Kallsyms {
    let text = text("/proc/kallsyms").unwrap_or_default();
    let mut addresses =
        text.lines().take(KALLSYMS_LINES).filter_map(|line| line.split_ascii_whitespace().next()).peekable();
    if addresses.peek().is_none() {
        return Kallsyms::Missing;
    }
    if addresses.any(|address| address.bytes().any(|digit| digit != b'0')) { Kallsyms::Shown } else { Kallsyms::Hidden }
}

/// Soft and hard limit of what `get` asks for; a resource's type is another with each C library.
fn limit(get: impl FnOnce(&mut libc::rlimit) -> libc::c_int) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    get(&mut limit);
    (limit.rlim_cur, limit.rlim_max)
}

/// What bounds locked memory.
pub fn memory_lock(paranoid: Option<i64>) -> MemoryLock {
    // SAFETY: a valid rlimit, which the call fills in.
    let (soft, hard) = limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit) });
    let free_kb = number("/proc/sys/kernel/perf_event_mlock_kb").unwrap_or(516).unsigned_abs();
    let cpus = crate::sampler::cpus::online().map_or(1, |online| online.len() as u64);
    MemoryLock { soft, hard, free_kb, cpus, paranoid }
}

/// The hard limit of open files.
pub fn open_files() -> u64 {
    // SAFETY: a valid rlimit, which the call fills in.
    limit(|limit| unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit) }).1
}

/// Looks into another process: its `maps`, and through `map_files` at a file that it has mapped. With the paths that were tried.
pub fn other_processes(proc_root: &Path) -> ((Look, String), (Look, String)) {
    let own = std::process::id();
    let mut pids: Vec<u32> = fs::read_dir(proc_root)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    pids.retain(|pid| *pid != own);
    pids.sort_unstable();
    let folder = |pid: u32, name: &str| proc_root.join(pid.to_string()).join(name);
    let mut processes = (Look::Nobody, proc_root.join("PID/maps").display().to_string());
    for pid in pids.into_iter().take(MAX_TRIED) {
        let maps = folder(pid, "maps");
        match fs::read_to_string(&maps) {
            Ok(found) => {
                // A thread of the kernel's has none.
                let Some(range) = found.lines().find(|line| line.contains('/')).and_then(|line| line.split(' ').next())
                else {
                    continue;
                };
                // The kernel writes both ends without leading zeros there.
                let range: Vec<&str> = range.split('-').map(|end| end.trim_start_matches('0')).collect();
                let file = folder(pid, "map_files").join(range.join("-"));
                let look = match fs::File::open(&file) {
                    Ok(_) => Look::Seen,
                    Err(error) => Look::Refused(errno(&error)),
                };
                processes = (Look::Seen, maps.display().to_string());
                return (processes, (look, file.display().to_string()));
            }
            Err(error) if matches!(processes.0, Look::Nobody) => {
                processes = (Look::Refused(errno(&error)), maps.display().to_string());
            }
            Err(_) => {}
        }
    }
    (processes, (Look::Nobody, proc_root.join("PID/map_files").display().to_string()))
}

/// The hierarchy at `--cgroup-root`.
pub fn cgroups(root: &Path) -> Cgroups {
    let Some(hierarchy) = crate::identity::Hierarchy::find(root) else { return Cgroups::Missing };
    let directory = hierarchy.directory;
    let version_2 = directory.join("cgroup.controllers").exists();
    Cgroups::Found {
        version_2,
        hybrid: version_2 && directory != root,
        whole: !version_2 || !directory.join("cgroup.type").exists(),
        directory: directory.display().to_string(),
    }
}

/// Tries a folder by a file that is removed again; one that is not there by a folder in its nearest parent. Rights alone do not tell:
/// root has them in `/proc`, where nobody makes anything.
pub fn folder(path: &Path) -> FolderState {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(existing) = path.ancestors().find(|ancestor| ancestor.exists()) else {
        return FolderState::Refused("no such folder".to_owned());
    };
    let Ok(name) = std::ffi::CString::new(existing.as_os_str().as_bytes()) else {
        return FolderState::Refused("no path".to_owned());
    };
    // SAFETY: a zeroed statvfs is valid, and the path ends with a NUL.
    let free = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(name.as_ptr(), &mut found) == 0 { found.f_bavail.saturating_mul(found.f_frsize) } else { 0 }
    };
    if existing == path {
        return match tempfile::tempfile_in(path) {
            Ok(_) => FolderState::Writable { free },
            Err(error) => FolderState::Refused(error.to_string()),
        };
    }
    let shown = existing.display();
    let tried = existing.join(unique_name());
    if let Err(error) = fs::create_dir(&tried) {
        return FolderState::Refused(format!("can't be made in {shown}: {error}"));
    }
    match fs::remove_dir(&tried) {
        Ok(()) => FolderState::ToBeMade { free },
        Err(error) => FolderState::Refused(format!("what is made in {shown} can't be removed: {error}")),
    }
}

/// One that neither another container's process of our number nor a killed one's has left behind. tempfile's own errors hide the
/// system's behind a path that means nothing to people.
fn unique_name() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!(".everflame-doctor-{}-{}", std::process::id(), since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_nothing_is_left_behind() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(folder(root.path()), FolderState::Writable { free } if free > 0));
        assert!(matches!(folder(&root.path().join("a/b")), FolderState::ToBeMade { .. }));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        // Also for root, who has every right there.
        let refused = folder(Path::new("/proc/nowhere/at/all"));
        assert!(
            matches!(&refused, FolderState::Refused(why) if why == "can't be made in /proc: No such file or directory (os error 2)"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_cgroup_tree_is_known_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups(root.path()), Cgroups::Missing);
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let directory = root.path().display().to_string();
        let found = |whole| Cgroups::Found { directory: directory.clone(), version_2: true, hybrid: false, whole };
        assert_eq!(cgroups(root.path()), found(true));
        fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        assert_eq!(cgroups(root.path()), found(false));
    }

    #[test]
    fn this_process_knows_itself() {
        let (release, machine) = kernel();
        assert!(super::super::kernel::version(&release).is_some(), "{release}");
        assert_eq!(machine, std::env::consts::ARCH);
        assert!(own_rights().0.is_some());
        assert!(pid_namespace().is_some_and(|inode| inode > 0));
    }

    #[test]
    fn our_own_maps_lead_to_a_mapped_file() {
        // A /proc with one process that is not this one: a link to this one's under another number.
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc/self", root.path().join("4000000")).unwrap();
        let ((processes, _), (files, source)) = other_processes(root.path());
        assert_eq!(processes, Look::Seen);
        // Without the capability the kernel refuses; without its file it would say "not found".
        assert!(matches!(files, Look::Seen | Look::Refused(libc::EPERM)), "{files:?} {source}");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(other_processes(empty.path()).0.0, Look::Nobody);
    }
}
