//! What the agent takes where no flag, `EVERFLAME_…` variable or file says it: sinks and tags by other programs' variables, the node's
//! name, the limit of its memory. For `everflame config`, as lines of TOML with their sources.

use std::collections::HashMap;

use super::agent_args::Agent;
use super::sink_words;
use crate::export::address::Address;
use crate::export::settings::SinkSettings;
use crate::identity::watch::{self, NameSource};

/// The lines of each flag that is not said.
pub(super) fn unsaid(
    words: &Agent,
    variable: impl Fn(&str) -> Option<String>,
    host: &str,
    memory_limit: Option<u64>,
) -> anyhow::Result<HashMap<&'static str, String>> {
    let mut lines = HashMap::new();
    let (sinks, variables) = sink_words::named(words, &variable)?;
    if !variables.is_empty() {
        lines.insert("to", of_sinks(&sinks, &variables));
    }
    if let (tags, Some(variable)) = sink_words::tags(words, &variable)? {
        let tags: Vec<String> = tags.iter().map(|(key, value)| quoted(&format!("{key}:{value}"))).collect();
        lines.insert("tag", format!("tag = [{}]  # environment {variable}\n", tags.join(", ")));
    }
    let (node, source) = watch::sourced_node_name(words.node_name.as_deref(), variable, host);
    let source = match source {
        NameSource::Given => None,
        NameSource::Variable(name) => Some(format!("environment {name}")),
        NameSource::Host => Some("the host's name".to_owned()),
    };
    if let Some(source) = source {
        lines.insert("node-name", format!("node-name = {}  # {source}\n", quoted(&node)));
    }
    if words.memory_limit.is_none() {
        let line = match memory_limit {
            Some(bytes) => format!("memory-limit = \"{}\"  # cgroup ({bytes} bytes)\n", bytes >> 20),
            None => "# memory-limit is not set, and the cgroup has none\n".to_owned(),
        };
        lines.insert("memory-limit", line);
    }
    Ok(lines)
}

fn of_sinks(sinks: &[SinkSettings], variables: &[&str]) -> String {
    if let ([sink], [variable]) = (sinks, variables) {
        return format!("to = [{}]  # environment {variable}\n", quoted(&shown(&sink.address)));
    }
    let mut lines = String::from("to = [\n");
    for (sink, variable) in sinks.iter().zip(variables) {
        lines += &format!("    {},  # environment {variable}\n", quoted(&shown(&sink.address)));
    }
    lines + "]\n"
}

/// An address that says where its password is, and not which.
fn shown(address: &Address) -> String {
    let text = address.to_string();
    match address {
        Address::Server(server) if server.credentials.is_some() => text.replacen("://", "://********@", 1),
        _ => text,
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::sink_words::tests::agent;
    use super::*;

    fn lines(words: &[&str], environment: &[(&str, &str)], memory: Option<u64>) -> HashMap<&'static str, String> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        unsaid(&agent(words), variable, "Host-1", memory).unwrap()
    }

    #[test]
    fn other_programs_variables_are_shown_with_their_names_and_without_passwords() {
        let environment = [
            ("OTEL_PROFILING_AGENT_COLLECTION_AGENT", "http://me:hidden@dd:9126"),
            ("OTEL_PROFILING_AGENT_TAGS", "service:n1;team:x"),
            ("NODE_NAME", "n1"),
        ];
        let found = lines(&[], &environment, Some(1 << 30));
        assert_eq!(
            found["to"],
            "to = [\"datadog+http://********@dd:9126\"]  # environment OTEL_PROFILING_AGENT_COLLECTION_AGENT\n"
        );
        assert_eq!(found["tag"], "tag = [\"service:n1\", \"team:x\"]  # environment OTEL_PROFILING_AGENT_TAGS\n");
        assert_eq!(found["node-name"], "node-name = \"n1\"  # environment NODE_NAME\n");
        assert_eq!(found["memory-limit"], "memory-limit = \"1024\"  # cgroup (1073741824 bytes)\n");
    }

    #[test]
    fn of_several_sinks_each_has_its_variable_and_the_lines_are_toml() {
        let environment =
            [("DD_AGENT_HOST", "dd"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("DD_TAGS", "env:a,b:c")];
        let found = lines(&[], &environment, None);
        assert_eq!(
            found["to"],
            "to = [\n    \"datadog+http://dd:8126\",  # environment DD_AGENT_HOST\n    \
             \"otlp+http://c:4318\",  # environment OTEL_EXPORTER_OTLP_ENDPOINT\n]\n"
        );
        assert_eq!(found["node-name"], "node-name = \"host-1\"  # the host's name\n");
        assert_eq!(found["memory-limit"], "# memory-limit is not set, and the cgroup has none\n");
        let all: String = found.values().map(String::as_str).collect();
        let table: toml::Table = all.parse().unwrap();
        assert_eq!(table["to"].as_array().unwrap().len(), 2);
        assert_eq!(table["tag"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_words_say_is_left_to_them() {
        let words = ["--to=file:///x", "--tag=a:b", "--node-name=n", "--memory-limit=128"];
        let environment = [("DD_AGENT_HOST", "dd"), ("DD_TAGS", "env:a"), ("NODE_NAME", "other")];
        assert_eq!(lines(&words, &environment, Some(1)), HashMap::new());
        assert!(unsaid(&agent(&["--to=gopher://x"]), |_| None, "h", None).is_err());
    }
}
