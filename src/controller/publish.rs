//! The only writer to Kubernetes. Every write carries the resource version it was decided on: that alone protects against writing over
//! somebody's change, or onto a namesake [measured: `uid` is not enforced on `/status`].

use super::context::{Context, Objects};
use crate::api::{
    ClusterPrefectWorkspace, ClusterTableauSite, ExtractRefresh, FlowDeployment, PrefectWorkspace,
    TableauSite,
};
use crate::guards::{Guard, holds};
use crate::model::ids::ObjectName;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;

/// Field manager of every write, for ever: server-side apply takes away only what the same manager set.
const MANAGER: &str = "feedwater";

/// What every kind of ours is.
pub trait Ours:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Its objects in this namespace, or of the cluster, where that is empty.
    fn api(client: Client, namespace: &str) -> Api<Self>;
}

macro_rules! ours {
    ($($kind:ty, |$client:ident, $namespace:ident| $api:expr);*) => {$(
        impl Ours for $kind {
            fn api($client: Client, $namespace: &str) -> Api<Self> {
                $api
            }
        }
    )*};
}

ours!(
    PrefectWorkspace, |client, namespace| Api::namespaced(client, namespace);
    TableauSite, |client, namespace| Api::namespaced(client, namespace);
    FlowDeployment, |client, namespace| Api::namespaced(client, namespace);
    ExtractRefresh, |client, namespace| Api::namespaced(client, namespace);
    ClusterPrefectWorkspace, |client, _namespace| Api::all(client);
    ClusterTableauSite, |client, _namespace| Api::all(client)
);

/// Why a write was not made.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody else wrote meanwhile, or the object is gone.
    #[error("the object changed meanwhile")]
    Conflict,
    /// This process does not lead any more: it is the next one's turn.
    #[error("this process does not lead any more")]
    NotLeading,
    /// The API server.
    #[error("Kubernetes: {0}")]
    Kube(#[source] Box<kube::Error>),
}

/// Replaces the status.
///
/// # Errors
/// See [`PublishError`].
pub async fn status<K, S>(
    ctx: &Context,
    objects: &Objects<K>,
    object: &K,
    status: &S,
) -> Result<(), PublishError>
where
    K: Ours,
    S: Serialize,
{
    lead(ctx)?;
    let decided_on = object.resource_version().filter(|_| holds(Guard::ResourceVersion));
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "resourceVersion": decided_on },
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let answer = api::<K>(ctx, object).patch_status(&object.name_any(), &params, &Patch::Apply(&body)).await;
    keep(objects, answer)
}

/// Changes metadata (finalizers, annotations) by a merge patch.
///
/// # Errors
/// See [`PublishError`].
pub async fn metadata<K>(
    ctx: &Context,
    objects: &Objects<K>,
    object: &K,
    mut metadata: serde_json::Value,
) -> Result<(), PublishError>
where
    K: Ours,
{
    lead(ctx)?;
    metadata["resourceVersion"] = json!(object.resource_version());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let body = json!({ "metadata": metadata });
    let answer = api::<K>(ctx, object).patch(&object.name_any(), &params, &Patch::Merge(&body)).await;
    keep(objects, answer)
}

/// Sets a finalizer of ours or takes it away; `false`: not now.
pub async fn finalizer<K>(ctx: &Context, objects: &Objects<K>, object: &K, name: &str, set: bool) -> bool
where
    K: Ours,
{
    let mut finalizers: Vec<String> = object.finalizers().iter().filter(|f| *f != name).cloned().collect();
    if set {
        finalizers.push(name.to_owned());
    }
    match metadata(ctx, objects, object, json!({ "finalizers": finalizers })).await {
        Ok(()) => true,
        Err(PublishError::Kube(error)) => {
            tracing::warn!(object = %object.name_any(), finalizer = name, %error, "the finalizer cannot be written");
            false
        }
        Err(error) => {
            tracing::debug!(object = %object.name_any(), %error, "the finalizer is not written yet");
            false
        }
    }
}

/// Reads the object itself, past every cache. `None`: it is gone.
///
/// # Errors
/// The API server did not answer.
pub async fn read<K>(ctx: &Context, name: &ObjectName) -> Result<Option<K>, Box<kube::Error>>
where
    K: Ours,
{
    K::api(ctx.client.clone(), &name.namespace).get_opt(&name.name).await.map_err(Box::new)
}

/// The resource version keeps a leader of the past from writing over what its successor wrote; this, from writing at all.
fn lead(ctx: &Context) -> Result<(), PublishError> {
    if ctx.acts() { Ok(()) } else { Err(PublishError::NotLeading) }
}

fn api<K>(ctx: &Context, object: &K) -> Api<K>
where
    K: Ours,
{
    K::api(ctx.client.clone(), &object.namespace().unwrap_or_default())
}

fn keep<K>(objects: &Objects<K>, answer: Result<K, kube::Error>) -> Result<(), PublishError>
where
    K: Ours,
{
    match answer {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            objects.cache.wrote(Arc::new(object));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
            Err(PublishError::Conflict)
        }
        Err(error) => Err(PublishError::Kube(Box::new(error))),
    }
}
