//! Images of one static program each, made without a registry or a builder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{Flavour, build_or_skip};
use sha2::{Digest as _, Sha256};

use crate::node::Node;

/// The static program that the agent's image is made of.
const AGENT_VARIABLE: &str = "EVERFLAME_STATIC";

/// What the images of pods are made of.
pub(crate) struct Programs {
    pub(crate) c: PathBuf,
    go: PathBuf,
    agent: PathBuf,
}

impl Programs {
    /// `None`, after saying why, where one is missing.
    pub(crate) fn find() -> Option<Programs> {
        let Some(agent) = std::env::var_os(AGENT_VARIABLE).map(PathBuf::from) else {
            println!("SKIPPED: {AGENT_VARIABLE} is not set; cargo xtask test --real builds it");
            assert!(std::env::var_os("CI").is_none(), "these tests can't be skipped in CI");
            return None;
        };
        let (c, go) = (build_or_skip("chain", Flavour::Static)?, build_or_skip("goroutines", Flavour::Static)?);
        Some(Programs { c, go, agent })
    }

    /// As `c-load:1`, `go-load:1` and the name that the manifests in `deploy/` have.
    pub(crate) fn import(&self, node: &Node) {
        node.import("docker.io/library/c-load:1", &self.c, &[]);
        node.import("docker.io/library/go-load:1", &self.go, &[]);
        node.import(concat!("docker.io/library/everflame:", env!("CARGO_PKG_VERSION")), &self.agent, &["agent"]);
    }
}

/// A tar file that `ctr images import` takes: `program` as `/NAME`, which is the entry point, in an otherwise empty image.
pub(crate) fn image(folder: &Path, tag: &str, program: &Path, words: &[&str]) -> PathBuf {
    let name = program.file_name().unwrap().to_str().unwrap();
    let work = tempfile::tempdir_in(folder).unwrap();
    let root = work.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(program, root.join(name)).unwrap();
    std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    let layer = work.path().join("layer.tar");
    tar(&layer, &root, &["--owner=0", "--group=0", name]);
    let digest: String =
        Sha256::digest(std::fs::read(&layer).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": [format!("/{name}")], "Cmd": words},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
    std::fs::write(work.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(work.path().join("manifest.json"), manifest.to_string()).unwrap();
    let image = folder.join(format!("{name}.tar"));
    tar(&image, work.path(), &["manifest.json", "config.json", "layer.tar"]);
    image
}

fn tar(to: &Path, of: &Path, words: &[&str]) {
    let status = Command::new("tar").arg("-cf").arg(to).arg("-C").arg(of).args(words).status().unwrap();
    assert!(status.success(), "tar -cf {}", to.display());
}

/// A program that only waits, for the sandboxes of pods.
pub(crate) fn pause(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    std::fs::write(&source, "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n").unwrap();
    let status = Command::new("cc").args(["-static", "-o"]).args([&program, &source]).status().unwrap();
    assert!(status.success(), "cc -static");
    program
}
