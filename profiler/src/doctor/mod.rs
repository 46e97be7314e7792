//! `everflame doctor`: every check that start-up makes, each with what was found, where it was read, and the way out.
//!
//! The checks are pure functions over what [`facts`] and [`network`] read at the rim, so that each finding is a line of a table in
//! a test. Nothing is changed on the machine: programs are loaded and let go again, a file is made in the spool and removed.

pub mod delivery;
pub mod facts;
pub mod incomplete;
pub mod kernel;
pub mod network;
pub mod node;
pub mod platform;
pub mod rights;

use std::fmt::Write as _;

use serde::Serialize;

use crate::report::shown;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Profiling works, with something missing.
    Warn,
    /// Profiling, or delivery, does not work.
    Fail,
}

impl Verdict {
    /// The first word of a line.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, one word for scripts.
    pub name: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// Where: a file, a system call, a setting.
    pub source: String,
    /// What to do about it on this platform; empty if there is nothing to do.
    pub fix: String,
}

impl Check {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>, source: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, found: found.into(), source: source.into(), fix: String::new() }
    }

    pub(crate) fn warn(
        name: &'static str,
        found: impl Into<String>,
        source: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check { name, verdict: Verdict::Warn, found: found.into(), source: source.into(), fix: fix.into() }
    }

    pub(crate) fn fail(
        name: &'static str,
        found: impl Into<String>,
        source: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check { name, verdict: Verdict::Fail, found: found.into(), source: source.into(), fix: fix.into() }
    }
}

/// The worst verdict; `Ok` of nothing.
pub fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
}

/// One line for each check: `ok|warn|fail name: what was found (source) — fix`.
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let (verdict, name) = (check.verdict.name(), check.name);
        // A server's or a file's words must not move the reader's cursor.
        let _ = write!(text, "{verdict:<4} {name}: {} ({})", shown(&check.found), shown(&check.source));
        if !check.fix.is_empty() {
            let _ = write!(text, " — {}", shown(&check.fix));
        }
        text.push('\n');
    }
    text
}

/// The same as JSON: `{"verdict": …, "checks": [{"name", "verdict", "found", "source", "fix"}, …]}`.
///
/// # Errors
/// Never in practice: texts can always be written.
pub fn json(checks: &[Check]) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Report<'a> {
        verdict: Verdict,
        checks: &'a [Check],
    }
    serde_json::to_string_pretty(&Report { verdict: worst(checks), checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<Check> {
        vec![
            Check::ok("btf", "there", "/sys/kernel/btf/vmlinux"),
            Check::warn("spool", "none", "--spool", "give one"),
            Check::fail("sink", "bad\n\u{1b}[31mwords", "http://a", ""),
        ]
    }

    #[test]
    fn lines_have_one_form_and_no_control_characters() {
        let wanted = "ok   btf: there (/sys/kernel/btf/vmlinux)\nwarn spool: none (--spool) — give one\n\
            fail sink: bad??[31mwords (http://a)\n";
        assert_eq!(text(&three()), wanted);
    }

    #[test]
    fn the_worst_counts() {
        assert_eq!(worst(&[]), Verdict::Ok);
        assert_eq!(worst(&three()[..2]), Verdict::Warn);
        assert_eq!(worst(&three()), Verdict::Fail);
    }

    #[test]
    fn json_has_the_same_fields() {
        let value: serde_json::Value = serde_json::from_str(&json(&three()).unwrap()).unwrap();
        assert_eq!(value["verdict"], "fail");
        assert_eq!(value["checks"][1]["fix"], "give one");
        assert_eq!(value["checks"][0]["verdict"], "ok");
    }
}
