//! Which CPUs are online: the kernel's list format (`0-3,8`), `Documentation/admin-guide/cputopology.rst`.

use super::SamplerError;

/// Largest CPU number that is believed; the kernel's own limit is 8,192 (CONFIG_NR_CPUS).
pub const MAX_CPUS: u32 = 8192;

/// Where the list is.
pub const ONLINE: &str = "/sys/devices/system/cpu/online";

/// CPU numbers in a list such as `0-3,8`; `None` if it is no such list.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last < first || last >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The CPUs that are online now.
pub fn online() -> Result<Vec<u32>, SamplerError> {
    let text = std::fs::read_to_string(ONLINE).map_err(|source| SamplerError::Read { path: ONLINE.into(), source })?;
    parse_list(&text).ok_or(SamplerError::Format { path: ONLINE.into(), why: "not a list of CPUs" })
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        for (text, wanted) in [
            ("0\n", Some(vec![0])),
            ("0-3\n", Some(vec![0, 1, 2, 3])),
            ("0-1,4,6-7\n", Some(vec![0, 1, 4, 6, 7])),
            ("\n", Some(vec![])),
            ("3-1", None),
            ("0-99999", None),
            ("x", None),
        ] {
            assert_eq!(parse_list(text), wanted, "{text:?}");
        }
    }
}
