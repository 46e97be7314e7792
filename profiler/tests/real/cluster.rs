//! etcd and an API server, from the one program in `testservers/kubernetes`.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::servers::{free_port, program, wait_for};

/// What the one program is here.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];
/// The administrator of the test's cluster.
const TOKEN: &str = "administrator-of-the-test";

/// etcd and an API server on loopback; ended when this goes.
pub(crate) struct ControlPlane {
    children: Vec<Child>,
    folder: tempfile::TempDir,
    server: String,
}

impl ControlPlane {
    pub(crate) fn start() -> Option<ControlPlane> {
        let all_in_one = program("kubernetes")?;
        let folder = tempfile::tempdir().unwrap();
        let mut plane = ControlPlane { children: Vec::new(), folder, server: String::new() };
        for name in PROGRAMS {
            std::os::unix::fs::symlink(&all_in_one, plane.file(name)).unwrap();
        }
        let url = || format!("http://127.0.0.1:{}", free_port());
        let (clients, peers, port) = (url(), url(), free_port());
        let etcd = [
            format!("--data-dir={}", plane.file("etcd-data").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        plane.spawn("etcd", &etcd);
        plane.write_keys();
        let file = |name: &str| plane.file(name).display().to_string();
        let words = [
            format!("--etcd-servers={clients}"),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--bind-address=127.0.0.1".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            // Documentation's own network (RFC 5737): loopback is not taken.
            "--advertise-address=192.0.2.1".to_owned(),
            "--allow-privileged".to_owned(),
        ];
        plane.spawn("kube-apiserver", &words);
        plane.server = format!("https://127.0.0.1:{port}");
        wait_for("the API server to be ready", || {
            plane.kubectl(&["get", "--raw", "/readyz"]).status.success().then_some(())
        });
        Some(plane)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One of [`PROGRAMS`]; its messages go to `NAME.log`.
    fn spawn(&mut self, name: &str, words: &[String]) {
        let log = std::fs::File::create(self.file(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(self.file(name));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    /// The server's certificate with its authority, the key of service accounts, the administrator's token.
    fn write_keys(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (key, accounts) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let names = ["127.0.0.1", "kubernetes.default.svc"].map(str::to_owned);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens.csv", format!("{TOKEN},administrator,1,system:masters\n")),
        ] {
            std::fs::write(self.file(name), text).unwrap();
        }
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(self.file("kubectl"));
        command.args(["--server", &self.server, "--token", TOKEN, "--certificate-authority"]).arg(self.file("ca.pem"));
        // Its cache and its settings are not this user's.
        command.args(words).env("HOME", self.folder.path()).env_remove("KUBECONFIG").output().unwrap()
    }

    /// What it prints; it must succeed.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let output = self.kubectl(words);
        assert!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
