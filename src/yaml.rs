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
    fn empty_documents_are_none() {
        let read = documents("# only a comment\n---\na: 1\n---\n---\nb: [x]\n").unwrap();
        assert_eq!(read, [json!({ "a": 1 }), json!({ "b": ["x"] })]);
        assert!(documents("a: [").is_err());
    }
}
