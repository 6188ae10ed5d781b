//! YAML for people: what is printed, and what is read from files. The cluster speaks JSON.
//!
//! The only user of `serde_yaml`, and always by way of JSON: on its own it writes Rust enums as YAML tags and does not read the form
//! Kubernetes uses.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Reads one document.
///
/// # Errors
/// The text is not YAML, or not a `T`.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let value: Value = serde_yaml::from_str(text).map_err(YamlError::Syntax)?;
    serde_json::from_value(value).map_err(YamlError::Shape)
}

/// Reads every document that is not empty.
///
/// # Errors
/// The text is not YAML, or holds what JSON cannot (a map with keys that are no strings).
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(YamlError::Syntax)?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// Writes one document.
///
/// # Errors
/// The value has no form in JSON.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let value = serde_json::to_value(value).map_err(YamlError::Shape)?;
    serde_yaml::to_string(&value).map_err(YamlError::Syntax)
}

/// Writes one document whose every text stays text for readers of YAML 1.1 too: kubectl takes a plain `no` or `off` for false [measured, kubectl 1.36],
/// and `serde_yaml` writes them plain.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.extend([margin.as_str(), &scalar(key), ":"]);
                below(value, indent, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for entry in list {
                let mut inner = String::new();
                block(entry, indent + 2, &mut inner);
                out.extend([margin.as_str(), "- ", inner.trim_start_matches(' ')]);
            }
        }
        Value::String(text) => out.extend([margin.as_str(), &scalar(text), "\n"]),
        other => out.extend([margin.as_str(), &other.to_string(), "\n"]),
    }
}

/// The value behind a key. Entries of a list stand below their key.
fn below(value: &Value, indent: usize, out: &mut String) {
    let deeper = match value {
        Value::Object(map) if !map.is_empty() => indent + 2,
        Value::Array(list) if !list.is_empty() => indent,
        _ => {
            out.push(' ');
            return block(value, 0, out);
        }
    };
    out.push('\n');
    block(value, deeper, out);
}

/// Plain where nobody can take it for something else, else in double quotes.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@-, ".contains(c);
    let colon =
        text.split(':').skip(1).all(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/'));
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && !text.ends_with(' ')
        && text.chars().all(|c| plain(c) || c == ':')
        && colon
        && !WORDS.contains(&text.to_lowercase().as_str());
    if safe {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // YAML 1.1 breaks lines at three that JSON does not escape.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.extend(["\\u".to_owned(), format!("{:04x}", u32::from(c))]);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// Not YAML.
    #[error("not YAML: {0}")]
    Syntax(#[source] serde_yaml::Error),
    /// YAML of another shape than asked for.
    #[error("{0}")]
    Shape(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "camelCase")]
    enum Mode {
        Cron { expression: String },
    }

    #[test]
    fn enums_have_the_form_of_kubernetes() {
        let mode = Mode::Cron { expression: "0 2 * * *".into() };
        let text = to_string(&mode).unwrap();
        assert_eq!(text, "cron:\n  expression: 0 2 * * *\n");
        assert_eq!(from_str::<Mode>(&text).unwrap(), mode);
    }

    #[test]
    fn text_stays_text() {
        let odd = [
            "no",
            "Off",
            "y",
            "~",
            "",
            " ",
            "null",
            "1e3",
            "0123",
            "2026-01-01",
            "- a",
            "a: b",
            "a:",
            "a #b",
            "#a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "a\n---\nb\n",
            "a\tb",
            "\"a\"",
            "\\",
            "a\u{85}b\u{2028}",
            "\u{7}",
            "Ödd",
            "🎺",
            "'a'",
            "a ",
            "https://a.b:80/c",
            "f.py:f",
            "? a",
            "| a",
        ];
        let map: Value = odd
            .iter()
            .map(|text| ((*text).to_owned(), json!([text, {"a": text, "b": [[text], [], {}]}])))
            .collect();
        let value = json!({"texts": map, "list": odd.to_vec(), "others": [null, true, 1, 1.5, -2], "empty": {"a": {}, "b": []}});
        let text = document(&value);
        assert_eq!(from_str::<Value>(&text).unwrap(), value, "{text}");
        for word in ["no", "Off", "y", "1e3", "2026-01-01"] {
            assert!(text.contains(&format!("- \"{word}\"\n")), "{text}");
        }
        assert_eq!(
            document(&json!({"a": [{"b": "c d", "e": ["f.py:f"]}], "g": "0 2 * * *"})),
            "a:\n- b: c d\n  e:\n  - f.py:f\ng: \"0 2 * * *\"\n"
        );
    }

    #[test]
    fn empty_documents_are_none() {
        let read = documents("# only a comment\n---\na: 1\n---\n---\nb: [x]\n").unwrap();
        assert_eq!(read, [json!({ "a": 1 }), json!({ "b": ["x"] })]);
        assert!(documents("a: [").is_err());
    }

    /// Nine levels of nine each: what a hundred bytes would become.
    #[test]
    fn yaml_that_unfolds_without_end_is_refused() {
        let level = |n: usize| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(", "));
        let bomb: String = std::iter::once("l0: &l0 [x]\n".to_owned()).chain((1..10).map(level)).collect();
        assert!(matches!(documents(&bomb), Err(YamlError::Syntax(_))));
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(documents(&deep), Err(YamlError::Syntax(_))));
    }
}
