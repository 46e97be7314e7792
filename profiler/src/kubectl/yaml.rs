//! A manifest as people write it: block YAML 1.2 with sorted keys. Only what JSON can say; what is no plain word is in quotes, as JSON.

use serde_json::Value;

/// The document, with a line break at its end.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            // Whether a map keeps its order depends on who else is built in.
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            for (number, key) in keys.into_iter().enumerate() {
                if number > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&scalar(&Value::String(key.clone())));
                text.push(':');
                entry(&map[key], indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str("- ");
                write(item, indent + 2, text);
            }
        }
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

/// What follows a key.
fn entry(value: &Value, indent: usize, text: &mut String) {
    let is_nested =
        value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty());
    if is_nested {
        text.push('\n');
        text.push_str(&" ".repeat(indent + 2));
        write(value, indent + 2, text);
    } else {
        text.push(' ');
        write(value, indent, text);
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(word) if is_plain(word) => word.clone(),
        // JSON's strings, numbers, `{}` and `[]` are YAML.
        other => other.to_string(),
    }
}

/// Whether every reader takes a word for the text that it is: not for a number, a truth or a time.
fn is_plain(word: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte);
    let truths = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    word.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && word.bytes().all(fine)
        && !truths.contains(&&*word.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let value = json!({
            "plain": "batch/v1", "number": 30, "truth": true, "nothing": null, "empty": {}, "none": [], "": "",
            "texts": ["true", "No", "1", "1e3", "0x1f", "-", "- a", "a: b", "a #b", "é\n\"", "--word=off", "~", "2026-01-01", " a "],
            "nested": [{"a": [[1, 2], []], "b": {"c": {"d": "e"}}}, "x"],
            "app.kubernetes.io/name": "a:b",
        });
        let text = document(&value);
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn lists_and_maps_are_indented_as_people_do() {
        let value = json!({"b": [{"x": 1, "z": ["w"]}], "a": {"k": "v"}});
        assert_eq!(document(&value), "a:\n  k: v\nb:\n  - x: 1\n    z:\n      - w\n");
    }
}
