//! Kubernetes label selectors as text (`kubectl get -l`): `app=web,tier!=db,env in (prod,qa),!canary`.
//!
//! Grammar and meaning: Kubernetes documentation, "Labels and Selectors"; `!=` and `notin` also match what has no such label.

use std::str::FromStr;
use std::sync::Arc;

/// Longest selector, bytes.
const MAX_SELECTOR: usize = 4096;
/// Longest key, bytes: a prefix of 253, a slash, a name of 63.
const MAX_KEY: usize = 317;

/// All requirements must hold; none is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// One requirement that is none.
    #[error("label selector {0:?}: want key=value, key!=value, key in (a,b), key notin (a,b), key or !key")]
    Requirement(String),
    /// Too long.
    #[error("label selector of {0} bytes: at most {MAX_SELECTOR}")]
    TooLong(usize),
}

impl LabelSelector {
    /// Whether labels satisfy all requirements.
    pub fn matches(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        self.requirements.iter().all(|Requirement { key, test }| {
            let value = labels.iter().find(|(known, _)| **known == **key).map(|(_, value)| &**value);
            match test {
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::In(wanted) => value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value)),
                Test::NotIn(unwanted) => value.is_none_or(|value| unwanted.iter().all(|unwanted| unwanted != value)),
            }
        })
    }

    /// The labels that it looks at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|requirement| requirement.key.as_str())
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl FromStr for LabelSelector {
    type Err = LabelSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_SELECTOR {
            return Err(LabelSelectorError::TooLong(text.len()));
        }
        if text.trim().is_empty() {
            return Ok(LabelSelector::default());
        }
        let requirements = at_top_commas(text).into_iter().map(requirement).collect::<Result<_, _>>()?;
        Ok(LabelSelector { requirements })
    }
}

/// Splits at the commas that are in no parentheses.
fn at_top_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, LabelSelectorError> {
    let broken = || LabelSelectorError::Requirement(text.trim().to_owned());
    let made = |key: &str, test: Test| {
        let key = key.trim();
        if is_name(key) { Ok(Requirement { key: key.to_owned(), test }) } else { Err(broken()) }
    };
    let one = |value: &str| {
        let value = value.trim();
        if value.is_empty() || is_name(value) { Ok(vec![value.to_owned()]) } else { Err(broken()) }
    };
    if let Some((key, value)) = text.split_once("!=") {
        return made(key, Test::NotIn(one(value)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(key, Test::In(one(value)?));
    }
    if let Some((head, list)) = text.split_once('(') {
        let list = list.trim_end().strip_suffix(')').ok_or_else(broken)?;
        let values: Vec<String> = list.split(',').map(one).collect::<Result<Vec<_>, _>>()?.concat();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or_else(broken)?;
        return match operator {
            "in" => made(key, Test::In(values)),
            "notin" => made(key, Test::NotIn(values)),
            _ => Err(broken()),
        };
    }
    match text.trim().strip_prefix('!') {
        Some(key) => made(key, Test::Missing),
        None => made(text, Test::Exists),
    }
}

/// Whether a text can be a label's key.
pub fn is_key(text: &str) -> bool {
    is_name(text) && text.len() <= MAX_KEY
}

/// Keys and values: letters, digits, `-`, `_`, `.`, and `/` after a key's prefix.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_kubectl_does() {
        let labels: Vec<(Arc<str>, Arc<str>)> =
            [("app", "web"), ("tier", "front"), ("app.kubernetes.io/name", "shop"), ("empty", "")]
                .map(|(key, value)| (key.into(), value.into()))
                .into();
        for (selector, wanted) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            (" app = web , tier != back ", true),
            ("app=web,tier=back", false),
            ("absent!=x", true),
            ("absent=x", false),
            ("app", true),
            ("absent", false),
            ("!absent", true),
            ("! app", false),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db,cache),tier in (front)", true),
            ("app notin (web)", false),
            ("absent notin (a)", true),
            ("app.kubernetes.io/name=shop", true),
            ("empty=", true),
            ("app=", false),
        ] {
            assert_eq!(selector.parse::<LabelSelector>().unwrap().matches(&labels), wanted, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_text() {
        for text in [
            ",",
            "app=web,",
            "=x",
            "app in db",
            "app in (db",
            "app of (db)",
            "in (a)",
            "a b",
            "app=we b",
            "!",
            "a>3",
            "a=b=c",
        ] {
            let error = text.parse::<LabelSelector>().unwrap_err();
            assert!(matches!(error, LabelSelectorError::Requirement(_)), "{text}");
        }
        assert_eq!("a".repeat(5000).parse::<LabelSelector>(), Err(LabelSelectorError::TooLong(5000)));
    }
}
