//! [`Wanted`]: which pods and containers the words name. Text in, typed question out.

use crate::identity::cgroup_path::is_pod_uid;
use crate::identity::{LabelSelector, LabelSelectorError};

/// Longest name of a pod or namespace, bytes (RFC 1123 subdomain, as Kubernetes demands it).
const MAX_NAME: usize = 253;
/// Fewest digits of a container id that stand for the whole one: what `docker ps` and `crictl ps` show.
const MIN_ID_DIGITS: usize = 12;

/// Which pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Those with these uids, or, of static pods, these hashes; at least one.
    Uids(Vec<String>),
    /// The one of this name.
    Named {
        /// Its namespace, if it was given.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// All with these labels.
    Selected {
        /// Their namespace, if it was given.
        namespace: Option<String>,
        /// What their labels satisfy.
        labels: LabelSelector,
        /// The same as it was written.
        text: String,
    },
}

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which pods.
    pub who: Who,
    /// Names or ids of containers; all if there is none.
    pub containers: Vec<String>,
}

/// Why words name nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// No name of Kubernetes'.
    #[error("{0:?} is no name of a pod or namespace: small letters, digits, - and ., at most {MAX_NAME}")]
    Name(String),
    /// Two namespaces.
    #[error("{pod} names a namespace, and -n another one: {namespace}")]
    Namespaces {
        /// The first words.
        pod: String,
        /// The second.
        namespace: String,
    },
    /// Neither pod nor selector.
    #[error("name a pod, or give a selector with -l")]
    Nothing,
    /// Several words, of which one is no uid.
    #[error("{0:?} is no pod's uid: several pods are given by their uids, or by a selector with -l")]
    NoUid(String),
    /// Not a selector.
    #[error(transparent)]
    Selector(#[from] LabelSelectorError),
}

impl Wanted {
    /// Reads several uids.
    ///
    /// # Errors
    /// [`WordsError::NoUid`].
    pub fn of_uids(words: &[String], containers: &[String]) -> Result<Wanted, WordsError> {
        let uid = |word: &String| {
            let lower = word.to_ascii_lowercase();
            if is_pod_uid(&lower) { Ok(lower) } else { Err(WordsError::NoUid(word.chars().take(MAX_NAME).collect())) }
        };
        let who = Who::Uids(words.iter().map(uid).collect::<Result<_, _>>()?);
        Ok(Wanted { who, containers: containers.to_vec() })
    }

    /// Reads `[NAMESPACE/]POD` or a uid, or a selector.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn parse(
        pod: Option<&str>,
        namespace: Option<&str>,
        selector: Option<&str>,
        containers: &[String],
    ) -> Result<Wanted, WordsError> {
        let namespace = namespace.map(name).transpose()?;
        let who = match (pod, selector) {
            (Some(pod), _) => of_pod(pod, namespace)?,
            (None, Some(text)) => {
                let labels: LabelSelector = text.parse()?;
                // Nothing would be left out, by mistake rather than by wish.
                if labels.is_empty() {
                    return Err(WordsError::Nothing);
                }
                Who::Selected { namespace, labels, text: text.to_owned() }
            }
            (None, None) => return Err(WordsError::Nothing),
        };
        Ok(Wanted { who, containers: containers.to_vec() })
    }

    /// The pod labels that it looks at.
    pub fn label_keys(&self) -> Vec<String> {
        match &self.who {
            Who::Selected { labels, .. } => labels.keys().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a container is wanted, as far as its name and id tell.
    pub fn wants_container(&self, name: &str, id: &str) -> bool {
        let is_id = |wanted: &str| {
            wanted.len() >= MIN_ID_DIGITS
                && wanted.bytes().all(|byte| byte.is_ascii_hexdigit())
                && id.starts_with(&wanted.to_ascii_lowercase())
        };
        self.containers.is_empty() || self.containers.iter().any(|wanted| wanted == name || is_id(wanted))
    }
}

fn of_pod(pod: &str, namespace: Option<String>) -> Result<Who, WordsError> {
    // As kubectl has it.
    let pod = pod.strip_prefix("pod/").unwrap_or(pod);
    if let Some((own, pod_name)) = pod.split_once('/') {
        if let Some(namespace) = namespace.filter(|namespace| namespace != own) {
            return Err(WordsError::Namespaces { pod: pod.to_owned(), namespace });
        }
        return Ok(Who::Named { namespace: Some(name(own)?), name: name(pod_name)? });
    }
    let lower = pod.to_ascii_lowercase();
    if is_pod_uid(&lower) {
        return Ok(Who::Uids(vec![lower]));
    }
    Ok(Who::Named { namespace, name: name(pod)? })
}

fn name(text: &str) -> Result<String, WordsError> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(fine) {
        return Err(WordsError::Name(text.chars().take(MAX_NAME).collect()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "f2e1d3c4-1234-4abc-8def-0123456789ab";
    const HASH: &str = "34dc0b5e626f2c5c4c5170e34b10e765";

    fn named(namespace: Option<&str>, name: &str) -> Who {
        Who::Named { namespace: namespace.map(str::to_owned), name: name.into() }
    }

    #[test]
    fn words_name_pods_by_name_uid_or_labels() {
        for (pod, namespace, expected) in [
            ("web-1", None, named(None, "web-1")),
            ("web-1", Some("shop"), named(Some("shop"), "web-1")),
            ("shop/web-1", None, named(Some("shop"), "web-1")),
            ("shop/web-1", Some("shop"), named(Some("shop"), "web-1")),
            ("pod/web-1", None, named(None, "web-1")),
            (UID, None, Who::Uids(vec![UID.into()])),
            (UID, Some("shop"), Who::Uids(vec![UID.into()])),
            (&UID.to_uppercase(), None, Who::Uids(vec![UID.into()])),
            (HASH, None, Who::Uids(vec![HASH.into()])),
            // In a namespace it can only be a name.
            (&format!("shop/{UID}"), None, named(Some("shop"), UID)),
        ] {
            assert_eq!(Wanted::parse(Some(pod), namespace, None, &[]).map(|wanted| wanted.who), Ok(expected), "{pod}");
        }
        let selected = Wanted::parse(None, Some("shop"), Some("app=web,!canary"), &[]).unwrap();
        assert_eq!(selected.label_keys(), ["app", "canary"]);
    }

    #[test]
    fn several_words_are_uids() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let wanted = Wanted::of_uids(&words(&[&UID.to_uppercase(), HASH]), &[]);
        assert_eq!(wanted.map(|wanted| wanted.who), Ok(Who::Uids(words(&[UID, HASH]))));
        let refused = Wanted::of_uids(&words(&[UID, "shop/web-1"]), &[]);
        assert_eq!(refused, Err(WordsError::NoUid("shop/web-1".into())));
    }

    #[test]
    fn words_that_name_nothing_are_refused_in_a_sentence() {
        for (pod, namespace, selector, expected) in [
            (Some("Web"), None, None, "no name of a pod"),
            (Some(""), None, None, "no name of a pod"),
            (Some("a/b/c"), None, None, "no name of a pod"),
            (Some("shop/"), None, None, "no name of a pod"),
            (Some("web"), Some("Sh op"), None, "no name of a pod or namespace"),
            (Some("shop/web"), Some("data"), None, "shop/web names a namespace, and -n another one: data"),
            (None, None, None, "name a pod"),
            (None, None, Some(" "), "name a pod"),
            (None, None, Some("a=b=c,("), "label selector"),
        ] {
            let error = Wanted::parse(pod, namespace, selector, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{pod:?} {namespace:?} {selector:?}: {error}");
        }
    }

    #[test]
    fn a_container_is_wanted_by_name_or_by_the_beginning_of_its_id() {
        let id = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
        for (containers, name, expected) in [
            (&[][..], "app", true),
            (&["app"], "app", true),
            (&["mesh"], "app", false),
            (&["mesh", "app"], "app", true),
            (&["7be92808767a"], "app", true),
            (&["7BE92808767A667F"], "", true),
            (&["7be92808767"], "app", false),
            (&["8be92808767a"], "app", false),
        ] {
            let containers: Vec<String> = containers.iter().map(|name| (*name).to_owned()).collect();
            let wanted = Wanted { who: Who::Uids(vec![UID.into()]), containers };
            assert_eq!(wanted.wants_container(name, id), expected, "{:?} {name}", wanted.containers);
        }
    }
}
