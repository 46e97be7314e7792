//! Names of hosts that are not known until they are: a mount namespace with a hosts file of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// The hosts file that a thread sees, and those that it starts from then on; all others keep theirs. No server of names is asked.
pub(super) struct Names(tempfile::TempDir);

impl Names {
    /// For the calling thread, for good.
    pub(super) fn of_this_thread() -> Names {
        // SAFETY: a system call without pointers; it takes this thread, and no other, out of the others' mounts.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        let folder = tempfile::tempdir().unwrap();
        // A child is in the namespace of the thread that starts it.
        mount(&["--make-rprivate".as_ref(), "/".as_ref()]);
        for (file, text) in [("hosts", "127.0.0.1 localhost\n"), ("nsswitch.conf", "hosts: files\n")] {
            let own = folder.path().join(file);
            std::fs::write(&own, text).unwrap();
            mount(&["--bind".as_ref(), &own, &Path::new("/etc").join(file)]);
        }
        Names(folder)
    }

    /// From now on this is a name of loopback.
    pub(super) fn add(&self, name: &str) {
        let mut hosts = std::fs::File::options().append(true).open(self.0.path().join("hosts")).unwrap();
        writeln!(hosts, "127.0.0.1 {name}").unwrap();
    }
}

fn mount(words: &[&Path]) {
    let output = Command::new("mount").args(words).output().unwrap();
    assert!(output.status.success(), "mount {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
