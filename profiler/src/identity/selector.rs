//! [`Selector`]: which samples are wanted, by whose they are. A pure predicate; it may be replaced while running.

use super::label_selector::LabelSelector;
use crate::profile::Identity;

/// What to take and what to leave out; an empty list takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorOptions {
    /// Only pods of these namespaces.
    pub namespaces: Vec<String>,
    /// Only pods with these labels; the keys must be among [`super::Options::label_keys`].
    pub pods: LabelSelector,
    /// Only containers of these names.
    pub containers: Vec<String>,
    /// No pods of these namespaces.
    pub exclude_namespaces: Vec<String>,
    /// No pods with these labels.
    pub exclude_pods: LabelSelector,
    /// No containers of these names.
    pub exclude_containers: Vec<String>,
}

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    options: SelectorOptions,
}

impl Selector {
    /// A selector.
    pub fn new(options: SelectorOptions) -> Selector {
        Selector { options }
    }

    /// Whether samples of this identity are wanted. What is excluded is excluded whatever else selects it; a process outside
    /// Kubernetes has no namespace, no labels and, unless a runtime named it, no container.
    pub fn wants(&self, identity: &Identity) -> bool {
        let named = |list: &[String], name: &str| list.iter().any(|wanted| wanted == name);
        let chosen = |list: &[String], name: &str| list.is_empty() || named(list, name);
        let options = &self.options;
        let in_pod = !identity.pod.is_empty();
        let excluded = named(&options.exclude_namespaces, &identity.namespace)
            || named(&options.exclude_containers, &identity.container)
            || (in_pod && !options.exclude_pods.is_empty() && options.exclude_pods.matches(&identity.labels));
        !excluded
            && chosen(&options.namespaces, &identity.namespace)
            && chosen(&options.containers, &identity.container)
            && (options.pods.is_empty() || (in_pod && options.pods.matches(&identity.labels)))
    }

    /// Whether it takes everything.
    pub fn takes_everything(&self) -> bool {
        self.options == SelectorOptions::default()
    }

    /// The pod labels that it looks at.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.options.pods.keys().chain(self.options.exclude_pods.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(namespace: &str, pod: &str, container: &str, app: &str) -> Identity {
        let labels = if app.is_empty() { vec![] } else { vec![("app".into(), app.into())] };
        Identity {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
            labels,
            ..Identity::default()
        }
    }

    #[test]
    fn selection_is_by_namespace_label_and_container_and_exclusion_wins() {
        let web = identity("shop", "web-1", "app", "web");
        let mesh = identity("shop", "web-1", "mesh", "web");
        let db = identity("data", "db-0", "db", "");
        let host = identity("", "", "", "");
        let all = [&web, &mesh, &db, &host];
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let labels = |text: &str| text.parse::<LabelSelector>().unwrap();
        let none = SelectorOptions::default;
        for (options, wanted) in [
            (none(), [true, true, true, true]),
            (SelectorOptions { namespaces: list(&["shop"]), ..none() }, [true, true, false, false]),
            (SelectorOptions { namespaces: list(&["shop", "data"]), ..none() }, [true, true, true, false]),
            (SelectorOptions { containers: list(&["app"]), ..none() }, [true, false, false, false]),
            (SelectorOptions { pods: labels("app=web"), ..none() }, [true, true, false, false]),
            (SelectorOptions { pods: labels("app!=web"), ..none() }, [false, false, true, false]),
            (SelectorOptions { exclude_namespaces: list(&["shop"]), ..none() }, [false, false, true, true]),
            (SelectorOptions { exclude_containers: list(&["mesh"]), ..none() }, [true, false, true, true]),
            (SelectorOptions { exclude_pods: labels("app"), ..none() }, [false, false, true, true]),
            (SelectorOptions { exclude_pods: labels("!app"), ..none() }, [true, true, false, true]),
            (
                SelectorOptions { namespaces: list(&["shop"]), exclude_containers: list(&["app"]), ..none() },
                [false, true, false, false],
            ),
        ] {
            let selector = Selector::new(options.clone());
            assert_eq!(all.map(|identity| selector.wants(identity)), wanted, "{options:?}");
        }
        assert!(Selector::default().takes_everything());
        let selector = Selector::new(SelectorOptions { pods: labels("a=b"), exclude_pods: labels("!c"), ..none() });
        assert_eq!(selector.label_keys().collect::<Vec<_>>(), ["a", "c"]);
    }
}
