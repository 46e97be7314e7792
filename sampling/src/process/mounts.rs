//! Which devices can be asked at once: those of file systems that the kernel itself serves from local memory or disks.
//!
//! Opening a file of a dead FUSE or NFS server waits for ever, and so does `statfs`; the list of mounts tells without touching
//! the file. A device number is reused as soon as its last mount goes, so a list is believed only as long as the kernel says
//! that it has not changed (`poll` on `mountinfo`, proc(5)): what it shows is then still mounted, and the number still its own.
//! A device that the process's own namespace does not show counts as one that may hang.

use hashbrown::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mount_list::{Device, Places, by_device, is_local_at, parse, places, places_of_first};

/// Most namespaces whose lists are held; each is a descriptor and, while it is held, keeps the namespace's mounts.
const MAX_NAMESPACES: usize = 1024;
/// Largest list that is read; a node with 5,000 mounts has 1 MiB.
const MAX_BYTES: u64 = 16 << 20;

struct Namespace {
    /// Its `mountinfo`, through the process that it was first met with.
    list: File,
    witness: u32,
    local: HashMap<Device, bool>,
    places: Places,
}

/// The mount namespaces of the processes seen lately.
pub(super) struct Mounts {
    proc_root: PathBuf,
    namespaces: HashMap<u64, Namespace>,
    /// The list of process 1, once it was needed.
    first: Option<(File, Places)>,
    /// Files of memory (`memfd_create`) lie on a device that no list shows.
    memory: Option<Device>,
}

impl Mounts {
    pub(super) fn new(proc_root: &Path) -> Mounts {
        Mounts { proc_root: proc_root.to_owned(), namespaces: HashMap::new(), first: None, memory: memory_device() }
    }

    /// Whether a file of `device` that process `pid` has mapped can be opened without waiting for anybody.
    pub(super) fn is_local(&mut self, pid: u32, device: Device) -> bool {
        if self.memory == Some(device) {
            return true;
        }
        self.namespace(pid).is_some_and(|namespace| namespace.local.get(&device).copied().unwrap_or(false))
    }

    /// Whether the root of process `pid` can be opened without waiting for anybody: NFS asks its server even for `O_PATH`.
    pub(super) fn has_local_root(&mut self, pid: u32) -> bool {
        // A path in the process's namespace; the kernel knows it without asking the file system.
        let Ok(root) = std::fs::read_link(self.proc_root.join(format!("{pid}/root"))) else { return false };
        self.namespace(pid).is_some_and(|namespace| is_local_at(&namespace.places, &root))
    }

    /// What is known of the namespace of `pid`, read again if it has changed.
    fn namespace(&mut self, pid: u32) -> Option<&Namespace> {
        let number = namespace_of(&self.proc_root, pid)?;
        let layers_changed = self.refresh_first();
        if layers_changed || self.namespaces.len() >= MAX_NAMESPACES && !self.namespaces.contains_key(&number) {
            self.namespaces.clear();
        }
        let namespace = match self.namespaces.entry(number) {
            hashbrown::hash_map::Entry::Occupied(known) => known.into_mut(),
            hashbrown::hash_map::Entry::Vacant(new) => {
                let list = File::open(self.proc_root.join(format!("{pid}/mountinfo"))).ok()?;
                new.insert(Namespace { list, witness: pid, local: HashMap::new(), places: Places::new() })
            }
        };
        let unread = namespace.local.is_empty();
        if unread || has_changed(&namespace.list) {
            let mounts = read(&namespace.list).map(|text| parse(&text)).unwrap_or_default();
            let nowhere = Places::new();
            let layers = self.first.as_ref().map_or(&nowhere, |(_, places)| places);
            namespace.places = places(&mounts, layers);
            namespace.local = by_device(&mounts, layers);
            if namespace.local.is_empty() {
                self.namespaces.remove(&number);
                return None;
            }
        }
        self.namespaces.get(&number)
    }

    /// Reads the list of process 1 if it was not read yet or has changed; whether it has.
    fn refresh_first(&mut self) -> bool {
        if self.first.as_ref().is_some_and(|(list, _)| !has_changed(list)) {
            return false;
        }
        let had = self.first.take().is_some();
        let Ok(list) = File::open(self.proc_root.join("1/mountinfo")) else { return had };
        // What comes between the two is seen by the next look.
        has_changed(&list);
        let mounts = read(&list).map(|text| parse(&text)).unwrap_or_default();
        self.first = Some((list, places_of_first(&mounts)));
        had
    }

    /// Lets go of namespaces whose witness has left them: held on to, their mounts could not go.
    pub(super) fn forget_ended(&mut self) {
        let proc_root = &self.proc_root;
        self.namespaces.retain(|number, namespace| namespace_of(proc_root, namespace.witness) == Some(*number));
    }
}

/// A whole list, up to [`MAX_BYTES`].
fn read(mut list: &File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    list.rewind()?;
    list.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// The number of a process's mount namespace.
fn namespace_of(proc_root: &Path, pid: u32) -> Option<u64> {
    std::fs::metadata(proc_root.join(format!("{pid}/ns/mnt"))).ok().map(|meta| meta.ino())
}

/// Whether something was mounted or unmounted since the last call.
fn has_changed(list: &File) -> bool {
    let mut poll = libc::pollfd { fd: list.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: one pollfd, which lives as long as the call.
    let ready = unsafe { libc::poll(&mut poll, 1, 0) };
    ready < 0 || poll.revents & (libc::POLLPRI | libc::POLLERR) != 0
}

fn memory_device() -> Option<Device> {
    // SAFETY: a NUL-terminated name and a known flag.
    let descriptor = unsafe { libc::memfd_create(c"everflame-device".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return None;
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let file = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(descriptor) };
    let device = file.metadata().ok()?.dev();
    Some((libc::major(device), libc::minor(device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 27 0:25 / /mnt/a\\040b ro shared:3 master:1 - fuse.sshfs host:/ rw\n\
        31 27 0:26 / /nfs rw - nfs4 server:/x rw,vers=4.2\n";

    /// A `/proc` with process 1 in one mount namespace, and 5 to 8 in another with these roots.
    fn proc_root(roots: &[(u32, &str)], list: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let process = |pid: u32, namespace: &str, root: &str, list: &[u8]| {
            let own = directory.path().join(pid.to_string());
            std::fs::create_dir_all(own.join("ns")).unwrap();
            let namespace = directory.path().join(namespace);
            std::fs::write(&namespace, "").unwrap();
            std::os::unix::fs::symlink(namespace, own.join("ns/mnt")).unwrap();
            std::os::unix::fs::symlink(root, own.join("root")).unwrap();
            std::fs::write(own.join("mountinfo"), list).unwrap();
        };
        process(1, "first", "/", FIRST);
        for (pid, root) in roots {
            process(*pid, "container", root, list.as_bytes());
        }
        directory
    }

    #[test]
    fn a_containers_overlay_is_as_local_as_its_layers_are_for_process_1() {
        let line =
            |lower: &str| format!("50 49 0:50 / / rw - overlay overlay rw,lowerdir={lower},upperdir=/u,workdir=/w\n");
        for (lower, local) in [("/l:/m", true), ("/l:/nfs/m", false), ("l/A", false), ("/mnt/a\\040b/x", false)] {
            let directory = proc_root(&[(5, "/")], &line(lower));
            let mut mounts = Mounts::new(directory.path());
            assert_eq!(mounts.is_local(5, (0, 50)), local, "{lower}");
            assert_eq!(mounts.has_local_root(5), local, "{lower}");
            assert!(!mounts.is_local(9, (0, 50)) && !mounts.has_local_root(9), "no such process");
        }
    }

    #[test]
    fn a_root_is_local_if_the_mount_that_it_lies_on_is() {
        let list = "50 49 8:2 / / rw - xfs /dev/sdb2 rw\n51 50 0:60 / /data rw - nfs4 server:/x rw\n\
            52 51 0:61 / /data/fast rw - tmpfs tmpfs rw\n53 50 0:62 / /gone rw - tmpfs tmpfs rw\n\
            54 53 0:63 / /gone rw - fuse.x x rw\n";
        let roots = [(5, "/"), (6, "/data/chroot"), (7, "/data/fast/chroot"), (8, "/gone/x"), (9, "/database")];
        let directory = proc_root(&roots, list);
        let mut mounts = Mounts::new(directory.path());
        let local = roots.map(|(pid, _)| mounts.has_local_root(pid));
        assert_eq!(local, [true, false, true, false, true]);
    }

    #[test]
    fn our_own_files_are_where_our_own_list_says() {
        let mut mounts = Mounts::new(Path::new("/proc"));
        let own = std::process::id();
        let device = |path: &str| {
            let device = std::fs::metadata(path).unwrap().dev();
            (libc::major(device), libc::minor(device))
        };
        assert!(!mounts.is_local(own, device("/proc/self/stat")), "proc is no place for executables");
        assert!(mounts.is_local(own, memory_device().unwrap()));
        assert!(!mounts.is_local(own, (0, 0)));
        assert!(!mounts.is_local(u32::MAX, (254, 0)), "no such process");
        assert_eq!(mounts.namespaces.len(), 1);
        mounts.forget_ended();
        assert_eq!(mounts.namespaces.len(), 1);
    }
}
