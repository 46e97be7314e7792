//! etcd and an API server, from the one program in `testservers/kubernetes`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::network::{NODE_ADDRESS, Network, SERVICE_ADDRESS};
use crate::servers::{free_port, program, wait_for};

/// What the one program is here.
const PROGRAMS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];
/// Where pods look for it.
const SERVICE_PORT: u16 = 443;
/// The administrator of the test's cluster.
const TOKEN: &str = "administrator-of-the-test";

/// etcd and an API server on loopback; ended when this goes.
pub(crate) struct ControlPlane {
    /// In the order of their start.
    children: Vec<Child>,
    folder: tempfile::TempDir,
    server: String,
    /// `nsenter`'s word, if it is in one.
    network: Option<OsString>,
}

impl ControlPlane {
    /// On loopback.
    pub(crate) fn start() -> Option<ControlPlane> {
        ControlPlane::start_in(None)
    }

    /// In a network of its own it answers at the node's and the service's address as well.
    pub(crate) fn start_in(network: Option<&Network>) -> Option<ControlPlane> {
        let all_in_one = program("kubernetes")?;
        let folder = tempfile::tempdir().unwrap();
        let mut plane = ControlPlane { children: Vec::new(), folder, server: String::new(), network: None };
        for name in PROGRAMS {
            std::os::unix::fs::symlink(&all_in_one, plane.file(name)).unwrap();
        }
        let url = || format!("http://127.0.0.1:{}", free_port());
        let (clients, peers) = (url(), url());
        // Loopback is not taken as the advertised address.
        let (port, listens) = network.map_or_else(|| (free_port(), "127.0.0.1"), |_| (SERVICE_PORT, "0.0.0.0"));
        let command = |plane: &ControlPlane, name: &str| {
            let program = plane.file(name);
            network.map_or_else(|| Command::new(&program), |network| network.command(&program))
        };
        let etcd = [
            format!("--data-dir={}", plane.file("etcd-data").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            "--unsafe-no-fsync".to_owned(),
        ];
        plane.spawn_program("etcd", &command(&plane, "etcd"), &etcd);
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
            format!("--bind-address={listens}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            format!("--advertise-address={NODE_ADDRESS}"),
            // For logs and exec: the node's name is in no name server.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--allow-privileged".to_owned(),
        ];
        plane.spawn_program("kube-apiserver", &command(&plane, "kube-apiserver"), &words);
        plane.server = format!("https://127.0.0.1:{port}");
        plane.network = network.map(|network| network.command(Path::new("")).get_args().next().unwrap().to_owned());
        plane.write_kubeconfig();
        wait_for("the API server to be ready", || {
            plane.kubectl(&["get", "--raw", "/readyz"]).status.success().then_some(())
        });
        Some(plane)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The administrator's.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    fn write_kubeconfig(&self) {
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.server, "certificate-authority": self.file("ca.pem")}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).unwrap();
    }

    /// Its messages go to `NAME.log`; ended with the rest, and with the thread that calls this: none outlives a test that was killed.
    pub(crate) fn spawn_program(&mut self, name: &str, program: &Command, words: &[String]) {
        let log = std::fs::File::create(self.file(&format!("{name}.log"))).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program.get_program()).args(program.get_args());
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Its cache and its settings are not this user's.
        command.env("HOME", self.folder.path()).env_remove("KUBECONFIG");
        self.children.push(command.spawn().unwrap());
    }

    /// Ends all, the last first.
    pub(crate) fn end(&mut self) {
        for mut child in self.children.drain(..).rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The server's certificate with its authority, the key of service accounts, the administrator's token.
    fn write_keys(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (key, accounts) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let names = ["127.0.0.1", "kubernetes.default.svc", NODE_ADDRESS, SERVICE_ADDRESS].map(str::to_owned);
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
        let kubectl = self.file("kubectl");
        let mut command = match &self.network {
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(network).arg(kubectl);
                command
            }
            None => Command::new(kubectl),
        };
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
        self.end();
    }
}
