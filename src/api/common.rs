//! Shapes that several kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time as Gateway API writes it: `26h`, `90m`, `1h30m`, `500ms`. Parsed by `model`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct Duration(pub String);

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 24, "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$" })
    }
}

/// A moment in RFC 3339, kept to the microsecond (Kubernetes' own `Time` keeps whole seconds, Prefect's states do not).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(transparent)]
pub struct Time(pub jiff::Timestamp);

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "maxLength": 40 })
    }
}

/// Names a Secret in the same namespace; its keys are fixed by the field that holds this reference.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of this resource.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names the certificates of a private authority, PEM, in the namespace of this resource.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaBundleRef {
    /// Where they are: `ConfigMap` or `Secret`.
    pub kind: CaBundleKind,
    /// Name of that `ConfigMap` or Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its key, for example `ca.crt`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What may hold certificates.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaBundleKind {
    /// A `ConfigMap`.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// The kinds a workspace reference may name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceKind {
    /// One of the namespace.
    PrefectWorkspace,
    /// One for several namespaces, which has to allow it.
    ClusterPrefectWorkspace,
}

/// Names the Prefect workspace to work in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRef {
    /// Kind of the connection: `PrefectWorkspace`, of the namespace of this resource, or `ClusterPrefectWorkspace`, which has to allow what is asked of
    /// it. Unset: `PrefectWorkspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkspaceKind")]
    pub kind: Option<WorkspaceKind>,
    /// Name of the connection, of the kind above.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds a site reference may name.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// One of the namespace.
    TableauSite,
    /// One for several namespaces, which has to allow it.
    ClusterTableauSite,
}

/// Names the Tableau site that holds the extract.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SiteRef {
    /// Kind of the connection: `TableauSite`, of the namespace of this resource, or `ClusterTableauSite`, which has to allow what is asked of it.
    /// Unset: `TableauSite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SiteKind")]
    pub kind: Option<SiteKind>,
    /// Name of the connection, of the kind above.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What happens to the object in Prefect when its resource is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Deleted with the resource.
    Delete,
    /// Left as it is.
    Orphan,
}

/// The default of `status.observedGeneration`: not seen yet, so that kstatus does not call a new object current.
pub(super) fn unseen() -> i64 {
    -1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(super) fn is_unseen(generation: &i64) -> bool {
    *generation == unseen()
}

/// A status that carries the standard fields.
pub trait HasStatus {
    /// The status type of the kind.
    type Status: Conditioned + Clone + Default + PartialEq + Serialize + Send + Sync + std::fmt::Debug;
    /// The status, if one was written.
    fn status(&self) -> Option<&Self::Status>;
}

/// Standard fields of every status.
pub trait Conditioned {
    /// The conditions, one per type.
    fn conditions(&self) -> &[Condition];
    /// The conditions, to be replaced.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// Sets the generation that this status speaks about.
    fn set_observed_generation(&mut self, generation: i64);
    /// The generation that this status speaks about; -1 = none.
    fn observed_generation(&self) -> i64;
}

macro_rules! standard_status_of {
    ($kind:ty, $status:ty) => {
        impl crate::api::HasStatus for $kind {
            type Status = $status;
            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }
        }
    };
}
pub(super) use standard_status_of;

macro_rules! standard_status {
    ($kind:ty, $status:ty) => {
        crate::api::common::standard_status_of!($kind, $status);
        impl crate::api::Conditioned for $status {
            fn conditions(&self) -> &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
                &self.conditions
            }
            fn conditions_mut(
                &mut self,
            ) -> &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
                &mut self.conditions
            }
            fn set_observed_generation(&mut self, generation: i64) {
                self.observed_generation = generation;
            }
            fn observed_generation(&self) -> i64 {
                self.observed_generation
            }
        }
    };
}
pub(super) use standard_status;

/// Schema of a free-form JSON object. Atomic: merged key by key, a server-side apply of `{}` over a map with keys leaves null, which is refused.
pub(super) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "x-kubernetes-map-type": "atomic", "x-kubernetes-preserve-unknown-fields": true
    })
}

/// Schema of an atomic list of free-form JSON objects.
pub(super) fn free_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 32, "x-kubernetes-list-type": "atomic",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
    })
}
