//! Which container a cgroup path names, found **by token, not by layout**: the last part of the path that ends in something only a
//! container runtime writes. Runtimes, drivers and nesting change the folders around it; the token stays.
//!
//! Takes text of any origin (a process chooses the names of cgroups that it makes), borrows, never allocates more than the path.

use std::borrow::Cow;

/// Longest path that is looked at, bytes: PATH_MAX, beyond which the kernel shows none (`kernel/cgroup/cgroup.c`,
/// `proc_cgroup_show`). What is longer is cut at its beginning, since the container's token is at the end.
pub const MAX_PATH: usize = 4096;
/// Most bytes of `/proc/PID/cgroup` that are worth reading: the kernel has at most 16 hierarchies.
pub const MAX_TEXT: usize = 16 * (MAX_PATH + 128);
/// Digits of a container id: a SHA-256 in hex, in every runtime but those named in [`Token`].
const ID_DIGITS: usize = 64;
/// Characters of a BuildKit id.
const BUILDKIT_DIGITS: usize = 25;

/// Quality of service class of a pod, from the pod's parent cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Requests equal limits: the pod's cgroup lies directly under `kubepods`.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

/// What a path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerPath<'a> {
    /// Container id without the runtime's prefix; a name for LXC, systemd's machines and containerd's `default` namespace.
    pub container_id: Option<Cow<'a, str>>,
    /// Pod uid with dashes; for a static pod the 32 hex digits of its config's hash, as they are.
    pub pod_uid: Option<Cow<'a, str>>,
    /// The pod's class, if there is a pod.
    pub qos: Option<QosClass>,
}

/// Parses one path as `/proc/PID/cgroup`, perf's cgroup record or a walk of the hierarchy shows it. `/..` at its beginning (the
/// reader's cgroup namespace is not the root) and ` (deleted)` at its end make no difference.
pub fn parse(path: &str) -> ContainerPath<'_> {
    let path = last_bytes(path.strip_suffix(" (deleted)").unwrap_or(path), MAX_PATH);
    let mut end = path.len();
    // Without a container the pod's cgroup itself still tells the pod.
    let mut container_id = None;
    for (at, component) in components_from_the_end(path) {
        let before = path[..at].trim_end_matches('/');
        match token(component, before) {
            Token::Container(id) => {
                (container_id, end) = (Some(id), at + component.len());
                break;
            }
            // A pod further up belongs to what lies below it; the pod's own cgroup holds no container.
            Token::Pod => {
                end = at + component.len();
                break;
            }
            Token::None => {}
        }
    }
    let (pod_uid, qos) = pod_above(&path[..end]).unzip();
    ContainerPath { container_id, pod_uid, qos }
}

/// The line of a `/proc/PID/cgroup` that tells most, as (path, what it says): one with pod and container before one with a
/// container before one with a pod; of equal ones a controller's hierarchy before `name=` and the unified one. Lines of one
/// process differ (a hierarchy in which the runtime made no cgroup, a path relative to somebody's own cgroup).
pub fn parse_text(text: &str) -> Option<(&str, ContainerPath<'_>)> {
    let mut best: Option<(u8, &str, ContainerPath<'_>)> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) || !path.starts_with('/') {
            continue;
        }
        let found = parse(path);
        let told = 4 * u8::from(found.container_id.is_some()) + 2 * u8::from(found.pod_uid.is_some());
        // Nothing is told apart from `/`: the unified hierarchy's path is the one that systemd names units in.
        let by_controller = !controllers.is_empty() && !controllers.starts_with("name=");
        let prefer = u8::from(if told == 0 { controllers.is_empty() && path != "/" } else { by_controller });
        let rank = told + prefer;
        if best.as_ref().is_none_or(|(known, ..)| rank > *known) {
            best = Some((rank, path, found));
        }
    }
    best.map(|(_, path, found)| (path.strip_suffix(" (deleted)").unwrap_or(path), found))
}

/// What one component of a path is.
enum Token<'a> {
    Container(Cow<'a, str>),
    Pod,
    None,
}

fn token<'a>(component: &'a str, before: &str) -> Token<'a> {
    let parent = before.rsplit('/').next().unwrap_or("");
    if component.contains("conmon-") {
        // conmon watches a container from outside; it is not in it.
        return Token::None;
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let last = name.rsplit([':', '-']).next().unwrap_or(name);
    if is_lower_hex(last, ID_DIGITS) {
        return Token::Container(last.into());
    }
    if is_fargate(name) || (parent == "garden" && is_garden(name)) {
        return Token::Container(name.into());
    }
    let is_alphanumeric = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    if parent == "buildkit" && name.len() == BUILDKIT_DIGITS && name.bytes().all(is_alphanumeric) {
        return Token::Container(name.into());
    }
    let lxc = component.strip_prefix("lxc.payload.").or((parent == "lxc").then_some(component));
    if let Some(name) = lxc.filter(|name| !name.is_empty()) {
        return Token::Container(name.into());
    }
    if let Some(name) = machine(component, parent) {
        return Token::Container(name);
    }
    // containerd's own default namespace, used without Kubernetes (`ctr run`): `/default/NAME` and nothing above.
    if before == "/default" && !component.is_empty() {
        return Token::Container(component.into());
    }
    if pod_uid(component).is_some() { Token::Pod } else { Token::None }
}

/// A machine that systemd-machined runs: `machine-NAME.scope` (`-` in the name is written `\x2d`), `systemd-nspawn@NAME.service`.
fn machine<'a>(component: &'a str, parent: &str) -> Option<Cow<'a, str>> {
    if parent != "machine.slice" {
        return None;
    }
    let scope = component.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
    let service = component.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    let name = scope.or(service).filter(|name| !name.is_empty())?;
    Some(if name.contains("\\x2d") { name.replace("\\x2d", "-").into() } else { name.into() })
}

/// The nearest pod above the end of `path`: uid and class.
fn pod_above(path: &str) -> Option<(Cow<'_, str>, QosClass)> {
    components_from_the_end(path).find_map(|(at, component)| {
        let uid = pod_uid(component)?;
        let parent = path[..at].trim_end_matches('/').rsplit('/').next().unwrap_or("");
        let says =
            |class: &str| parent == class || component.split("-pod").next().is_some_and(|head| head.ends_with(class));
        let qos = if says("burstable") {
            QosClass::Burstable
        } else if says("besteffort") {
            QosClass::BestEffort
        } else {
            QosClass::Guaranteed
        };
        Some((uid, qos))
    })
}

/// The uid in `podUID`, `…-podUID.slice` or `…-podUID.slice:cri-containerd:ID`; systemd's driver writes `_` for `-`.
fn pod_uid(component: &str) -> Option<Cow<'_, str>> {
    let name = component.split(':').next().unwrap_or(component);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rfind("-pod") {
        Some(at) => &name[at + 4..],
        None => name.strip_prefix("pod")?,
    };
    if is_pod_uid(uid) {
        Some(uid.into())
    } else if is_uuid(uid, b'_') {
        Some(uid.replace('_', "-").into())
    } else {
        None
    }
}

/// Whether a text is a pod's uid as cgroups have it: RFC 4122's form, or the 32 hex digits of a static pod's hash.
pub fn is_pod_uid(text: &str) -> bool {
    is_uuid(text, b'-') || is_lower_hex(text, 32)
}

/// The components of a path with their offsets, last first; empty ones and `..` left out.
fn components_from_the_end(path: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let at = text.rfind('/').map_or(0, |slash| slash + 1);
            rest = at.checked_sub(1).map(|slash| &text[..slash]);
            let component = &text[at..];
            if !component.is_empty() && component != ".." {
                return Some((at, component));
            }
        }
    })
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// RFC 4122's text form with the given separator.
fn is_uuid(text: &str, separator: u8) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == separator,
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Fargate since 1.4: 32 hex digits, a dash, digits.
fn is_fargate(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        is_lower_hex(task, 32) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Cloud Foundry's Garden: a uuid, or 8-4-4-4-4 hex digits.
fn is_garden(text: &str) -> bool {
    let short = text.len() == 28 && text.split('-').map(str::len).eq([8, 4, 4, 4, 4]);
    is_uuid(text, b'-') || (short && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')))
}

/// At most the last `most` bytes, on a character boundary.
fn last_bytes(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
#[path = "cgroup_path_tests.rs"]
mod tests;
