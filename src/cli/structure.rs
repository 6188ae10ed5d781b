//! Holds a value against a structural schema, as the API server does: unknown fields, types, bounds, patterns. Not CEL.

use regex::Regex;
use serde_json::Value;
use std::fmt;

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    path: String,
    what: String,
}

impl Fault {
    pub(super) fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.what),
            path => write!(f, "{path}: {}", self.what),
        }
    }
}

/// Everything in `value` that the schema does not admit.
pub(super) fn faults(schema: &Value, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    visit(schema, value, "", &mut faults);
    faults
}

fn visit(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let is = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let mut fault = |what: String| faults.push(Fault::new(path, what));
    if value.is_null() {
        // The API server prunes a null that is not nullable; so it is "unset" [measured].
        return;
    }
    if is("x-kubernetes-int-or-string") {
        if !(value.is_i64() || value.is_string()) {
            fault("must be an integer or a string".to_owned());
        }
        return;
    }
    match (schema.get("type").and_then(Value::as_str), value) {
        (Some("object"), Value::Object(fields)) => object(schema, fields, path, faults),
        (Some("array"), Value::Array(items)) => {
            let most = number(schema, "maxItems");
            if most.is_some_and(|most| as_number(items.len()) > most) {
                fault(format!("has more than {} entries", most.unwrap_or_default()));
            }
            let none = Value::Null;
            for (index, item) in items.iter().enumerate() {
                visit(schema.get("items").unwrap_or(&none), item, &format!("{path}[{index}]"), faults);
            }
        }
        (Some("string"), Value::String(text)) => string(schema, text, path, faults),
        (Some("integer"), Value::Number(n)) if n.is_i64() || n.is_u64() => range(schema, value, path, faults),
        (Some("number"), Value::Number(_)) => range(schema, value, path, faults),
        (Some("boolean"), Value::Bool(_)) | (None, _) => {}
        (Some(kind @ ("object" | "array" | "integer")), _) => fault(format!("must be an {kind}")),
        (Some(kind), _) => fault(format!("must be a {kind}")),
    }
}

fn object(schema: &Value, fields: &serde_json::Map<String, Value>, path: &str, faults: &mut Vec<Fault>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let properties = schema.get("properties").and_then(Value::as_object);
    let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some()
        || properties.is_none()
        || path == "metadata";
    for (name, value) in fields {
        let known = properties.and_then(|properties| properties.get(name));
        match known.or_else(|| schema.get("additionalProperties")) {
            Some(schema) => visit(schema, value, &below(name), faults),
            None if open || (path.is_empty() && TOP.contains(&name.as_str())) => {}
            None => faults.push(Fault::new(below(name), "is not a field")),
        }
    }
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = required.as_str()
            && fields.get(name).is_none_or(Value::is_null)
        {
            faults.push(Fault::new(below(name), "is required"));
        }
    }
}

/// Fields every object has, which a CRD need not repeat.
const TOP: [&str; 3] = ["apiVersion", "kind", "metadata"];

fn string(schema: &Value, text: &str, path: &str, faults: &mut Vec<Fault>) {
    let mut fault = |what: String| faults.push(Fault::new(path, what));
    let length = as_number(text.chars().count());
    if let Some(least) = number(schema, "minLength").filter(|least| length < *least) {
        fault(format!("is shorter than {least}"));
    }
    if let Some(most) = number(schema, "maxLength").filter(|most| length > *most) {
        fault(format!("is longer than {most}"));
    }
    if let Some(members) = schema.get("enum").and_then(Value::as_array)
        && !members.iter().any(|member| member.as_str() == Some(text))
    {
        let members: Vec<_> = members.iter().filter_map(Value::as_str).collect();
        fault(format!("must be one of {}", members.join(", ")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        && length > 0.0
    {
        fault(format!("does not match {pattern}"));
    }
}

fn range(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let value = value.as_f64().unwrap_or_default();
    if let Some(least) = number(schema, "minimum").filter(|least| value < *least) {
        faults.push(Fault::new(path, format!("is less than {least}")));
    }
    if let Some(most) = number(schema, "maximum").filter(|most| value > *most) {
        faults.push(Fault::new(path, format!("is more than {most}")));
    }
}

fn number(schema: &Value, key: &str) -> Option<f64> {
    schema.get(key).and_then(Value::as_f64)
}

/// Lengths within a manifest are far from where a float is no longer exact.
#[allow(clippy::cast_precision_loss)]
fn as_number(length: usize) -> f64 {
    length as f64
}
