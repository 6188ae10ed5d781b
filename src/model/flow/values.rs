//! Values that come from Secrets, and what only Prefect Cloud takes. The values themselves are put in by the controller, which reads the Secrets;
//! conditions name Secrets, keys and paths only.

use super::desired::TEMPLATE;
use super::live::{leave_alone, wait};
use super::pass::{Drifted, Pass, Ready};
use super::{Decision, Desired, Unsupported, diff};
use crate::api::{AppliedSecret, FlowDeploymentSpec};
use crate::model::deployments::Fields;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Where a value is put, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueFrom {
    /// The field by the server's name: `job_variables` or `parameters`.
    field: &'static str,
    /// Keys within it, at least one.
    keys: Vec<String>,
    /// Name of the Secret, in the namespace of the resource.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// What became of [`Desired::values_from`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// All of them were put into [`Desired`]: the Secrets, with the resource version they were read at.
    Put(BTreeMap<String, String>),
    /// A Secret has not been read yet.
    Unread,
    /// There is none.
    Missing(NoValue),
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// There is no Secret of that name.
    NotFound(String),
    /// RBAC forbids reading it.
    Denied(String),
    /// It is the credential of a connection, which is written into no deployment: who may write a `FlowDeployment` would read it in Prefect.
    Credential(String),
    /// The Secret lacks the key, or the value is no text.
    KeyMissing {
        /// The Secret.
        secret: String,
        /// The key.
        key: String,
    },
}

impl Values {
    /// As status keeps it.
    pub(super) fn applied(&self) -> Vec<AppliedSecret> {
        let Self::Put(secrets) = self else { return Vec::new() };
        let applied = |(name, version): (&String, &String)| AppliedSecret {
            name: name.clone(),
            resource_version: version.clone(),
        };
        secrets.iter().map(applied).collect()
    }
}

impl Desired {
    /// Puts a value in its place.
    pub fn put(&mut self, at: &ValueFrom, value: &str) {
        let mut place = self.fields.entry(at.field).or_insert_with(|| Value::Object(Map::new()));
        for key in &at.keys {
            // Parsing has refused a path through anything else.
            let Value::Object(map) = place else { return };
            place = map.entry(key.as_str()).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = Value::String(value.to_owned());
    }
}

/// Reads `spec.valuesFrom`; a field that is named there is declared.
pub(super) fn parse(spec: &FlowDeploymentSpec, fields: &mut Fields) -> Result<Vec<ValueFrom>, Unsupported> {
    let refuse = |message: String| Err(Unsupported { message });
    let mut all: Vec<(&str, ValueFrom)> = Vec::new();
    for entry in spec.values_from.iter().flatten() {
        let path = entry.path.as_str();
        let mut names = path.split('.').map(str::to_owned);
        let field = match names.next().as_deref() {
            Some("jobVariables") => "job_variables",
            Some("parameters") => "parameters",
            _ => {
                return refuse(format!(
                    "spec.valuesFrom: `{path}` must begin with jobVariables. or parameters."
                ));
            }
        };
        let keys: Vec<String> = names.collect();
        if keys.is_empty() || keys.iter().any(|key| key.is_empty() || key == TEMPLATE) {
            return refuse(format!(
                "spec.valuesFrom: `{path}` must name a value within, such as jobVariables.env.TOKEN"
            ));
        }
        for (other, _) in &all {
            if *other == path {
                return refuse(format!("spec.valuesFrom has `{path}` twice; keep one of the two"));
            }
            let within = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
            if within(path, other) || within(other, path) {
                return refuse(format!(
                    "spec.valuesFrom: of `{other}` and `{path}` one lies within the other; keep one of the two"
                ));
            }
        }
        let secret = &entry.secret_key_ref;
        let value = ValueFrom { field, keys, secret: secret.name.clone(), key: secret.key.clone() };
        let declared = fields.entry(field).or_insert_with(|| Value::Object(Map::new()));
        if let Some(depth) = blocked(declared, &value.keys) {
            let above: Vec<&str> = path.split('.').take(depth + 1).collect();
            let above = above.join(".");
            return refuse(format!(
                "spec.valuesFrom: spec.{above} is no object, so that `{path}` cannot be put into it; correct one of the two"
            ));
        }
        all.push((path, value));
    }
    Ok(all.into_iter().map(|(_, value)| value).collect())
}

/// How many keys lead to something on the way that is no object; the last key may hold anything.
fn blocked(field: &Value, keys: &[String]) -> Option<usize> {
    let mut place = field;
    for (depth, key) in keys.iter().enumerate() {
        let Value::Object(map) = place else { return Some(depth) };
        place = map.get(key)?;
    }
    None
}

/// The Secrets are not as they were when their values were last set: what differs now is no drift.
pub(super) fn rotated(p: &Pass) -> bool {
    matches!(p.o.values, Values::Put(_)) && p.o.values.applied() != p.status.secrets
}

/// The fields that values from Secrets go into, by the names users know.
pub(super) fn fields(d: &Desired) -> BTreeSet<&'static str> {
    d.values_from.iter().filter_map(|value| diff::known_as(value.field)).collect()
}

/// The fields that a Secret which is not as it was goes into, by the names users know.
pub(super) fn rotated_fields(p: &Pass) -> BTreeSet<&'static str> {
    let Values::Put(read) = &p.o.values else { return BTreeSet::new() };
    let set = |secret: &AppliedSecret| (secret.name.clone(), secret.resource_version.clone());
    let set: BTreeMap<String, String> = p.status.secrets.iter().map(set).collect();
    let rotated = p.d.values_from.iter().filter(|value| set.get(&value.secret) != read.get(&value.secret));
    rotated.filter_map(|value| diff::known_as(value.field)).collect()
}

/// What a self-hosted server would drop without a word.
pub(super) fn cloud_only(p: &Pass) -> Option<Decision> {
    let refused = p.d.fields.contains_key("version_info") && !p.o.cloud;
    refused.then(|| {
        let ready = Ready::stalled(
            "UnsupportedSpec",
            "spec.versionInfo is for Prefect Cloud only, and a self-hosted server drops it; take it out (spec.version is kept by both)",
        );
        leave_alone(p, p.with(ready, Drifted::stored(p.status)))
    })
}

/// Without its values the deployment is not known: the last good state stays.
pub(super) fn secrets(p: &Pass) -> Option<Decision> {
    let missing = match &p.o.values {
        Values::Put(_) => return None,
        Values::Unread => return Some(wait(p)),
        Values::Missing(missing) => missing,
    };
    let namespace = &p.d.name.namespace;
    let (reason, message) = match missing {
        NoValue::NotFound(secret) => (
            "SecretNotFound",
            format!(
                "Secret `{secret}` of spec.valuesFrom does not exist; create it in namespace `{namespace}` or correct the name"
            ),
        ),
        NoValue::KeyMissing { secret, key } => (
            "SecretKeyMissing",
            format!(
                "Secret `{secret}` of spec.valuesFrom lacks the key `{key}`, or its value is no text; set it or correct the key"
            ),
        ),
        NoValue::Denied(secret) => (
            "SecretAccessDenied",
            format!(
                "The operator may not read Secret `{secret}` of spec.valuesFrom; name it in the Role of manifests/tenant in namespace \
                 `{namespace}`"
            ),
        ),
        NoValue::Credential(secret) => (
            "SecretAccessDenied",
            format!(
                "Secret `{secret}` of spec.valuesFrom holds the credentials of a connection, which Feedwater shows nobody; put the value into a \
                 Secret of its own"
            ),
        ),
    };
    Some(leave_alone(p, p.with(Ready::wrong(reason, message), Drifted::stored(p.status))))
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
