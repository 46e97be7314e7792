//! A network namespace for a node: its address, the service address of its API server, and nothing outside.
//!
//! Programs enter it by `nsenter`, not `ip netns exec`: that mounts another /sys, and the cgroups are gone.

use std::path::Path;
use std::process::Command;

/// The node's address and the pods' network: documentation's own (RFC 5737).
pub(crate) const NODE_ADDRESS: &str = "192.0.2.1";
const PODS: &str = "198.51.100.0/24";
/// The first address of the services' network, which is the API server's.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";

/// Deleted when this goes.
pub(crate) struct Network {
    name: String,
}

impl Network {
    pub(crate) fn new() -> Network {
        let network = Network { name: format!("everflame-{}", std::process::id()) };
        ip(&["netns", "add", &network.name]);
        for words in [
            ["link", "set", "lo", "up", "", "", ""],
            ["addr", "add", SERVICE_ADDRESS, "dev", "lo", "", ""],
            // A bridge of nothing: it only has an address.
            ["link", "add", "node0", "type", "bridge", "", ""],
            ["addr", "add", &format!("{NODE_ADDRESS}/24"), "dev", "node0", "", ""],
            ["link", "set", "node0", "up", "", "", ""],
        ] {
            let words = words.iter().filter(|word| !word.is_empty()).copied();
            ip(&["-n", &network.name].into_iter().chain(words).collect::<Vec<_>>());
        }
        network
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The program inside; the process that is started becomes it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its node may have taken it away already.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// How pods get their addresses, as the plugins of CNI read it; they keep theirs in `folder`.
pub(crate) fn of_pods(folder: &Path) -> String {
    let bridge = serde_json::json!({
        "type": "bridge", "bridge": "pods0", "isGateway": true,
        "ipam": {
            "type": "host-local", "dataDir": folder.join("addresses"),
            "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
    });
    serde_json::json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}).to_string()
}
