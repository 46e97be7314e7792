//! `/proc/PID/cgroup` and single paths: a process chooses the names of the cgroups that it makes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use profiler::identity::cgroup_path::{ContainerPath, parse, parse_text};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    judge(&text, &parse(&text));
    if let Some((path, found)) = parse_text(&text) {
        judge(path, &found);
    }
});

fn judge(path: &str, found: &ContainerPath<'_>) {
    if let Some(id) = &found.container_id {
        assert!(!id.is_empty() && !id.contains('/'));
        assert!(path.contains(&**id) || path.contains("\\x2d"), "an id is a part of its path");
    }
    if let Some(uid) = &found.pod_uid {
        assert!(uid.len() == 36 || uid.len() == 32);
    }
    assert_eq!(found.pod_uid.is_some(), found.qos.is_some());
}
