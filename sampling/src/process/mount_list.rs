//! A list of mounts (`mountinfo`): which of them the kernel serves by itself.
//!
//! An overlay is as local as its layers. Their paths are as whoever mounted it saw them: they are looked up in the list of
//! process 1, whose namespace container run times use. Where a layer is not found there (a relative path, another namespace), the
//! overlay counts as one that may hang: its files are opened a little later, and aside.

use hashbrown::HashMap;
use std::path::{Path, PathBuf};

use crate::mountinfo::unescaped;

/// File systems whose files the kernel serves by itself.
const LOCAL: [&str; 26] = [
    "bcachefs",
    "btrfs",
    "cramfs",
    "devtmpfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hfsplus",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "msdos",
    "nilfs2",
    "ntfs3",
    "ramfs",
    "romfs",
    "rootfs",
    "squashfs",
    "tmpfs",
    "udf",
    "vfat",
    "xfs",
    "zfs",
];
/// Major and minor number.
pub(super) type Device = (u32, u32);

/// Whether what is mounted at a mount point is local; of several mounts at one the last.
pub(super) type Places = HashMap<PathBuf, bool>;

/// One line of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    device: Device,
    point: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Local,
    /// Layers' paths.
    Overlay(Vec<String>),
    Other,
}

/// The mounts of a `mountinfo` list (proc(5), "/proc/pid/mountinfo").
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let (major, minor) = fields.next()?.split_once(':')?;
        let point = fields.nth(1)?;
        let mut source = source.split(' ');
        let kind = match source.next()? {
            "overlay" => Kind::Overlay(layers(source.nth(1).unwrap_or_default())),
            kind if LOCAL.contains(&kind) => Kind::Local,
            _ => Kind::Other,
        };
        Some(Mount { device: (major.parse().ok()?, minor.parse().ok()?), point: unescaped(point), kind })
    };
    String::from_utf8_lossy(text).lines().filter_map(mount).collect()
}

/// Paths in an overlay's options; one that is empty stands for what can't be told.
fn layers(options: &str) -> Vec<String> {
    let mut found = Vec::new();
    for option in options.split(',') {
        match option.split_once('=') {
            // A colon or backslash in a path has a backslash before it, itself written as \134: such paths are not found.
            Some(("lowerdir" | "lowerdir+" | "datadir+", paths)) => found.extend(paths.split(':').map(unescaped)),
            Some(("upperdir", path)) => found.push(unescaped(path)),
            _ => {}
        }
    }
    found
}

/// Whether a mount is local, where its layers are those at `below`.
fn is_local(mount: &Mount, below: &Places) -> bool {
    match &mount.kind {
        Kind::Local => true,
        Kind::Overlay(layers) => !layers.is_empty() && layers.iter().all(|layer| is_local_at(below, Path::new(layer))),
        Kind::Other => false,
    }
}

/// Of each mount point whether it is local, where layers are those at `below`.
pub(super) fn places(mounts: &[Mount], below: &Places) -> Places {
    mounts.iter().map(|mount| (PathBuf::from(&mount.point), is_local(mount, below))).collect()
}

/// The places of process 1, among which are the layers of its own overlays: these may be overlays themselves, two deep at most
/// (`FILESYSTEM_MAX_STACK_DEPTH`).
pub(super) fn places_of_first(mounts: &[Mount]) -> Places {
    (0..=2).fold(Places::new(), |below, _| places(mounts, &below))
}

/// Whether the mount that `path` lies on is local.
pub(super) fn is_local_at(places: &Places, path: &Path) -> bool {
    path.is_absolute() && path.ancestors().find_map(|above| places.get(above)).is_some_and(|local| *local)
}

/// Of each device whether it is local however it is mounted.
pub(super) fn by_device(mounts: &[Mount], below: &Places) -> HashMap<Device, bool> {
    let mut found = HashMap::new();
    for mount in mounts {
        let local = is_local(mount, below);
        found.entry(mount.device).and_modify(|all: &mut bool| *all &= local).or_insert(local);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 27 0:25 / /mnt/a\\040b ro shared:3 master:1 - fuse.sshfs host:/ rw\n\
        31 27 0:26 / /nfs rw - nfs4 server:/x rw,vers=4.2\n\
        32 27 0:27 /sub /over rw - overlay overlay rw,lowerdir=/l:/nfs2/l,upperdir=/u,workdir=/nfs/w\n\
        33 27 0:28 / /new rw - neverheard x rw\n\
        34 27 8:1 / /one rw - ext4 /dev/sda1 rw\n\
        35 27 8:1 / /two rw - fuseblk /dev/sda1 rw\n\
        36 27 0:29 / /over-nfs rw - overlay overlay rw,lowerdir=/l:/nfs/l,upperdir=/u,workdir=/w\n\
        37 27 0:30 / /over-fuse ro - overlay overlay ro,lowerdir+=/l,lowerdir+=/mnt/a\\040b/l\n\
        38 27 0:31 / /over-relative rw - overlay overlay rw,lowerdir=l/A:l/B,upperdir=/u,workdir=/w\n\
        39 27 0:32 / /over-over rw - overlay overlay rw,lowerdir=/over/x,upperdir=/u,workdir=/w\n\
        40 27 0:33 / /over-nothing rw - overlay overlay rw\n\
        damaged - tmpfs\n";

    #[test]
    fn only_file_systems_that_the_kernel_serves_are_local_and_overlays_of_such() {
        let mounts = parse(LIST);
        let mut found: Vec<_> = by_device(&mounts, &places_of_first(&mounts)).into_iter().collect();
        found.sort_unstable();
        let expected = [
            ((0, 25), false),
            ((0, 26), false),
            ((0, 27), true),
            ((0, 28), false),
            ((0, 29), false),
            ((0, 30), false),
            ((0, 31), false),
            ((0, 32), true),
            ((0, 33), false),
            ((8, 1), false),
            ((254, 0), true),
        ];
        assert_eq!(found, expected);
        // In a namespace of which nothing else is known, no layer is found.
        let alone = by_device(&mounts, &Places::new());
        assert_eq!((alone[&(0, 27)], alone[&(254, 0)]), (false, true));
    }
}
