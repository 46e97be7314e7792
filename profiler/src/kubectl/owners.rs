//! Whose samples are, put on by who knows it: the node knows containers by their ids, the pods' objects have the names.

use std::collections::{BTreeMap, HashMap};

use pprof_proto::{Label, Profile, Sample};

use super::target::Target;
use crate::pod::PartNames;
use crate::profile::pprof::part;

/// Keys of the labels, as `everflame pod` writes them.
const NAMESPACE: &str = "namespace";
const POD: &str = "pod";
const CONTAINER: &str = "container";
const CONTAINER_ID: &str = "container_id";

/// Gives each sample namespace, pod and container, as far as its container's id tells and it does not say so already. Where there is
/// one pod, all samples are its.
pub fn label(profile: &mut Profile, pods: &[Target]) {
    let by_id: HashMap<&str, (&Target, &str)> = pods
        .iter()
        .flat_map(|pod| pod.containers.iter().map(move |(name, id)| (id.as_str(), (pod, name.as_str()))))
        .collect();
    let only = match pods {
        [one] => Some(one),
        _ => None,
    };
    let mut texts = Texts::of(profile);
    for sample in &mut profile.sample {
        let id = value(sample, &texts, CONTAINER_ID);
        let owner = id.and_then(|id| by_id.get(id.as_str())).copied();
        let pod = owner.map(|(pod, _)| pod).or(only);
        let container = owner.map_or("", |(_, container)| container);
        let (namespace, name) = pod.map_or(("", ""), |pod| (&*pod.namespace, &*pod.name));
        for (key, text) in [(NAMESPACE, namespace), (POD, name), (CONTAINER, container)] {
            if !text.is_empty() && value(sample, &texts, key).is_none() {
                let (key, str) = (texts.index(key), texts.index(text));
                sample.label.push(Label { key, str, num: 0, num_unit: 0 });
            }
        }
    }
    profile.string_table = texts.all;
}

/// A pod's part of a profile.
#[derive(Clone, Debug)]
pub struct PodPart {
    /// What it is called in a file's name.
    pub name: String,
    /// As people write it.
    pub title: String,
    /// Its samples, with what they refer to.
    pub profile: Profile,
}

/// A profile taken apart by pod; what no pod is known of is left out.
pub fn split(profile: &Profile) -> Vec<PodPart> {
    let texts = Texts::of(profile);
    let mut by_pod: BTreeMap<(String, String), Vec<Sample>> = BTreeMap::new();
    for sample in &profile.sample {
        if let Some(pod) = value(sample, &texts, POD) {
            let namespace = value(sample, &texts, NAMESPACE).unwrap_or_default();
            by_pod.entry((namespace, pod)).or_default().push(sample.clone());
        }
    }
    let (mut parts, mut names): (Vec<PodPart>, _) = (Vec::new(), PartNames::default());
    for ((namespace, pod), samples) in by_pod {
        let name = names.of(&format!("{namespace}-{pod}"));
        parts.push(PodPart { name, title: format!("pod {namespace}/{pod}"), profile: part(profile, &samples) });
    }
    parts
}

/// A text label of a sample.
fn value(sample: &Sample, texts: &Texts, key: &str) -> Option<String> {
    let found = sample.label.iter().find(|label| label.str != 0 && texts.text(label.key) == key)?;
    Some(texts.text(found.str).to_owned())
}

/// A profile's texts, to which others may be added.
struct Texts {
    all: Vec<String>,
    added: HashMap<String, i64>,
}

impl Texts {
    fn of(profile: &Profile) -> Texts {
        let mut all = profile.string_table.clone();
        // The first one is always the empty one; a hollow profile has none.
        if all.is_empty() {
            all.push(String::new());
        }
        Texts { all, added: HashMap::new() }
    }

    fn text(&self, index: i64) -> &str {
        usize::try_from(index).ok().and_then(|index| self.all.get(index)).map_or("", String::as_str)
    }

    fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.added.get(text) {
            return *index;
        }
        let index = self.all.len() as i64;
        self.all.push(text.to_owned());
        self.added.insert(text.to_owned(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, containers: &[(&str, &str)]) -> Target {
        let (namespace, name) = name.split_once('/').unwrap();
        Target {
            namespace: namespace.into(),
            name: name.into(),
            cgroup_uid: String::new(),
            containers: containers.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect(),
        }
    }

    /// A sample for each list of labels.
    fn profile(samples: &[&[(&str, &str)]]) -> Profile {
        let mut texts = Texts { all: vec![String::new()], added: HashMap::new() };
        let mut label =
            |(key, text): &(&str, &str)| Label { key: texts.index(key), str: texts.index(text), ..Label::default() };
        let sample = samples
            .iter()
            .map(|labels| Sample { label: labels.iter().map(&mut label).collect(), ..Sample::default() })
            .collect();
        Profile { sample, string_table: texts.all, ..Profile::default() }
    }

    fn labels(profile: &Profile) -> Vec<String> {
        let texts = Texts::of(profile);
        let pair = |label: &Label| format!("{}={}", texts.text(label.key), texts.text(label.str));
        let of = |sample: &Sample| sample.label.iter().map(pair).collect::<Vec<_>>().join(" ");
        profile.sample.iter().map(of).collect()
    }

    #[test]
    fn samples_get_the_names_that_their_container_s_id_leads_to() {
        let pods = [pod("shop/web-1", &[("app", "aa"), ("mesh", "bb")]), pod("shop/db-0", &[("db", "cc")])];
        let samples: &[&[(&str, &str)]] =
            &[&[("container_id", "bb")], &[("container_id", "cc"), ("pod", "known")], &[("container_id", "zz")], &[]];
        let mut found = profile(samples);
        label(&mut found, &pods);
        assert_eq!(
            labels(&found),
            [
                "container_id=bb namespace=shop pod=web-1 container=mesh",
                "container_id=cc pod=known namespace=shop container=db",
                "container_id=zz",
                "",
            ]
        );
        let mut of_one = profile(&samples[2..]);
        label(&mut of_one, &pods[..1]);
        assert_eq!(labels(&of_one), ["container_id=zz namespace=shop pod=web-1", "namespace=shop pod=web-1"]);
        // A pod of which only the uid is known adds nothing.
        let mut unknown = profile(&samples[..1]);
        label(&mut unknown, &[pod("/", &[])]);
        assert_eq!(labels(&unknown), ["container_id=bb"]);
    }

    #[test]
    fn each_pod_has_a_part_with_a_name_of_its_own() {
        let of = |namespace, pod| [("namespace", namespace), ("pod", pod)];
        let samples = [of("a", "b-c"), of("a-b", "c"), of("a", "b-c"), of("../x", "y\n"), of("a", "b-c-3")];
        let found = profile(&[&samples[0], &samples[1], &samples[2], &samples[3], &samples[4], &[]]);
        let parts: Vec<_> = split(&found).into_iter().map(|part| (part.name, part.profile.sample.len())).collect();
        let named = |name: &str, samples| (name.to_owned(), samples);
        assert_eq!(parts, [named(".._x-y_", 1), named("a-b-c", 2), named("a-b-c-3", 1), named("a-b-c-4", 1)]);
    }
}
