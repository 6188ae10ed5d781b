//! Which resources there are.

use serde_json::{Map, Value, json};

/// A resource, as its `CustomResourceDefinition` describes it.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Name in paths.
    pub plural: String,
    /// Name in objects.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has the status subresource; such a kind has generations too.
    pub has_status: bool,
    /// Its structural schema, of which only the defaults count.
    schema: Value,
}

impl Kind {
    /// The kind of a `CustomResourceDefinition` (`apiextensions.k8s.io/v1`), in its first served version. `None`: it is none.
    pub fn of_crd(crd: &Value) -> Option<Self> {
        let spec = &crd["spec"];
        let version = spec["versions"].as_array()?.iter().find(|version| version["served"] == true)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            group: text(&spec["group"])?,
            version: text(&version["name"])?,
            plural: text(&spec["names"]["plural"])?,
            kind: text(&spec["names"]["kind"])?,
            namespaced: spec["scope"] == "Namespaced",
            has_status: version["subresources"]["status"].is_object(),
            schema: version["schema"]["openAPIV3Schema"].clone(),
        })
    }

    /// Kinds that every server has, as far as a controller needs them.
    pub fn built_in() -> Vec<Self> {
        let kind = |group: &str, plural: &str, kind: &str, namespaced| Self {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            namespaced,
            has_status: false,
            schema: Value::Null,
        };
        vec![
            kind("", "namespaces", "Namespace", false),
            kind("", "secrets", "Secret", true),
            kind("", "configmaps", "ConfigMap", true),
            kind("events.k8s.io", "events", "Event", true),
            kind("coordination.k8s.io", "leases", "Lease", true),
        ]
    }

    /// `group/version`, as objects have it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Fills in what the schema has defaults for.
    pub(super) fn default(&self, object: &mut Value) {
        default(&self.schema, object);
    }
}

/// A default is put where its parent is; it is then defaulted itself.
fn default(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object_mut()) {
        for (name, property) in properties {
            if !object.contains_key(name)
                && let Some(given) = property.get("default")
            {
                object.insert(name.clone(), given.clone());
            }
            if let Some(inner) = object.get_mut(name) {
                default(property, inner);
            }
        }
    }
    if let Some(items) = value.as_array_mut() {
        for item in items {
            default(&schema["items"], item);
        }
    }
}

/// What a list of the kind looks like.
pub(super) fn list(kind: &Kind, version: u64, items: &[Value], next: Option<String>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(version.to_string()));
    if let Some(next) = next {
        metadata.insert("continue".into(), json!(next));
    }
    json!({
        "kind": format!("{}List", kind.kind),
        "apiVersion": kind.api_version(),
        "metadata": metadata,
        "items": items,
    })
}
