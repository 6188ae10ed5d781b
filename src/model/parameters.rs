//! Parameters of runs, by digest: enough to compare them, and nothing of their values stays in memory.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names of parameters, and a digest of the value of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameters(Arc<BTreeMap<Box<str>, u64>>);

impl Parameters {
    /// The digests of these.
    pub fn of(values: &Map<String, Value>) -> Self {
        Self(Arc::new(values.iter().map(|(name, value)| (name.as_str().into(), digest(value))).collect()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are among them, with the same values.
    pub fn include(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(name, value)| self.0.get(name) == Some(value))
    }

    /// Short text that tells them from others.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &*self.0 {
            part(&mut hash, b'p', name.as_bytes());
            hash.update(value.to_be_bytes());
        }
        format!("{:016x}", short(hash))
    }
}

/// Equal for equal values. Numbers are compared by value: Kubernetes does not keep `1.0` apart from `1`.
fn digest(value: &Value) -> u64 {
    let mut hash = Sha256::new();
    take(&mut hash, value);
    short(hash)
}

fn take(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => part(hash, b'n', b""),
        Value::Bool(is) => part(hash, b'b', &[u8::from(*is)]),
        Value::String(text) => part(hash, b's', text.as_bytes()),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.fract() == 0.0 => part(hash, b'd', format!("{float:.0}").as_bytes()),
            Some(float) => part(hash, b'd', format!("{float:?}").as_bytes()),
            None => part(hash, b'd', number.to_string().as_bytes()),
        },
        Value::Array(all) => {
            part(hash, b'a', &all.len().to_be_bytes());
            for value in all {
                take(hash, value);
            }
        }
        Value::Object(all) => {
            part(hash, b'o', &all.len().to_be_bytes());
            let sorted: BTreeMap<&String, &Value> = all.iter().collect();
            for (name, value) in sorted {
                part(hash, b'k', name.as_bytes());
                take(hash, value);
            }
        }
    }
}

fn part(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update(bytes.len().to_be_bytes());
    hash.update(bytes);
}

fn short(hash: Sha256) -> u64 {
    hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: Value) -> Parameters {
        Parameters::of(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_run_may_have_more_and_numbers_go_by_value() {
        let run = of(json!({"region": "eu", "n": 1, "deep": {"b": [1.5, null], "a": true}, "s": "1"}));
        for (wanted, is) in [
            (json!({}), true),
            (json!({"region": "eu"}), true),
            (json!({"n": 1.0}), true),
            (json!({"deep": {"a": true, "b": [1.5, null]}}), true),
            (json!({"deep": {"a": true}}), false),
            (json!({"deep": {"b": [null, 1.5], "a": true}}), false),
            (json!({"region": "us"}), false),
            (json!({"s": 1}), false),
            (json!({"n": "1"}), false),
            (json!({"other": null}), false),
        ] {
            assert_eq!(run.include(&of(wanted.clone())), is, "{wanted}");
        }
    }

    #[test]
    fn a_fingerprint_tells_apart_and_does_not_go_by_order() {
        let one = of(json!({"a": 1, "b": 2}));
        assert_eq!(one.fingerprint(), of(json!({"b": 2.0, "a": 1})).fingerprint());
        assert_ne!(one.fingerprint(), of(json!({"a": 2, "b": 1})).fingerprint());
        assert_ne!(one.fingerprint(), of(json!({})).fingerprint());
    }
}
