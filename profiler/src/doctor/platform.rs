//! Which system this is, from `os-release(5)`, and how such a system is told something: fixes differ, findings do not.

/// Systems that are told things in their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Bottlerocket: settings by its API.
    Bottlerocket,
    /// Talos: the machine configuration.
    Talos,
    /// Red Hat CoreOS: OpenShift's operators.
    CoreOs,
    /// Everything that has sysctl and a boot loader.
    Other,
}

/// Where the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Which system.
    pub system: System,
    /// How it calls itself; empty if it does not say.
    pub name: String,
    /// Whether this is a pod.
    pub in_pod: bool,
}

impl Platform {
    /// From the host's `os-release`.
    pub fn of(os_release: &str, in_pod: bool) -> Platform {
        let value = |key: &str| {
            let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches('"').to_owned()
        };
        let system = match (value("ID").as_str(), value("VARIANT_ID").as_str()) {
            ("bottlerocket", _) => System::Bottlerocket,
            ("talos", _) => System::Talos,
            ("rhcos", _) | (_, "coreos") => System::CoreOs,
            _ => System::Other,
        };
        Platform { system, name: value("PRETTY_NAME"), in_pod }
    }

    /// How to set a sysctl.
    pub fn sysctl(&self, key: &str, value: &str) -> String {
        match self.system {
            System::Bottlerocket => format!("set settings.kernel.sysctl.\"{key}\" = \"{value}\""),
            System::Talos => format!("set machine.sysctls {key}: \"{value}\" in the machine configuration"),
            System::CoreOs => format!("set {key}={value} by a Tuned object of the Node Tuning Operator"),
            System::Other => format!("on the node: sysctl -w {key}={value}"),
        }
    }

    /// How to get capabilities.
    pub fn capabilities(&self, missing: &[&str]) -> String {
        let names = |prefix: &str, separator: &str| {
            missing.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join(separator)
        };
        if self.in_pod {
            return format!(
                "add {} under securityContext.capabilities.add, as deploy/hardened-ds.yaml does",
                names("", ", ")
            );
        }
        format!("run as root, or in a container with {}", names("--cap-add=", " "))
    }

    /// How to get a system call past seccomp.
    pub fn seccomp(&self) -> &'static str {
        if self.in_pod {
            "a seccomp profile forbids it: RuntimeDefault allows it since containerd 1.6.9; else use deploy/seccomp.json as a \
             Localhost profile, or Unconfined"
        } else {
            "a seccomp profile forbids it: use deploy/seccomp.json, or seccomp=unconfined"
        }
    }

    /// How to leave lockdown's confidentiality mode.
    pub fn lockdown(&self) -> &'static str {
        match self.system {
            System::Bottlerocket => "set settings.kernel.lockdown = \"integrity\" and reboot",
            System::Talos => {
                "use Talos 1.14 or newer, whose Secure Boot images boot with lockdown=integrity, or an image without it"
            }
            System::CoreOs | System::Other => "boot with lockdown=integrity, or without Secure Boot",
        }
    }

    /// How to share the host's pid namespace.
    pub fn host_pid(&self) -> &'static str {
        if self.in_pod { "set hostPID: true in the pod's spec" } else { "run with --pid=host, or outside a container" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_known_by_their_own_words() {
        let cases = [
            ("ID=bottlerocket\nPRETTY_NAME=\"Bottlerocket OS 1.20\"\n", System::Bottlerocket, "Bottlerocket OS 1.20"),
            ("NAME=\"Talos\"\nID=talos\nPRETTY_NAME=\"Talos (v1.8)\"\n", System::Talos, "Talos (v1.8)"),
            ("ID=\"rhcos\"\n", System::CoreOs, ""),
            ("ID=rhel\nVARIANT_ID=coreos\n", System::CoreOs, ""),
            ("ID=ubuntu\nPRETTY_NAME=\"Ubuntu 24.04\"\n", System::Other, "Ubuntu 24.04"),
            ("", System::Other, ""),
        ];
        for (text, system, name) in cases {
            let platform = Platform::of(text, false);
            assert_eq!((platform.system, platform.name.as_str()), (system, name), "{text}");
        }
    }

    #[test]
    fn each_system_is_told_in_its_own_way() {
        let of = |id: &str, in_pod| Platform::of(&format!("ID={id}\n"), in_pod);
        assert!(of("talos", true).sysctl("kernel.kptr_restrict", "1").contains("machine.sysctls"));
        assert!(of("bottlerocket", true).lockdown().contains("settings.kernel.lockdown"));
        assert!(of("debian", false).sysctl("a.b", "1").contains("sysctl -w a.b=1"));
        assert!(of("debian", true).capabilities(&["BPF", "SYSLOG"]).contains("add BPF, SYSLOG under"));
        assert!(of("debian", false).capabilities(&["BPF", "SYSLOG"]).contains("--cap-add=BPF --cap-add=SYSLOG"));
        assert!(of("debian", true).host_pid().contains("hostPID"));
    }
}
