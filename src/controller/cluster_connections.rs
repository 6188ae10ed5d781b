//! `ClusterPrefectWorkspace` and `ClusterTableauSite`: connected and kept as those of a namespace are.

use super::context::{Context, Objects};
use super::in_use::{self, Act};
use super::index::{Key, object_name};
use super::lanes::Waker;
use super::reconcile::{Note, Planned, Subject};
use super::{sites, workspaces};
use crate::api::{ClusterPrefectWorkspace, ClusterTableauSite, PrefectWorkspaceStatus, TableauSiteStatus};
use crate::model::connection::BadConnection;
use crate::model::ids::ObjectName;
use crate::model::tenancy;
use crate::runtime::metrics::Kind;
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;

/// The subject.
pub struct ClusterWorkspaces;

#[async_trait]
impl Subject for ClusterWorkspaces {
    type Object = ClusterPrefectWorkspace;
    type Seen = ();
    type Act = Act;
    type Ack = ();
    const KIND: Kind = Kind::ClusterPrefectWorkspace;

    fn objects(ctx: &Context) -> &Objects<ClusterPrefectWorkspace> {
        &ctx.objects.cluster_workspaces
    }

    fn plan(ctx: &Context, object: &Arc<ClusterPrefectWorkspace>, now: Timestamp) -> Planned<Self> {
        let rules = tenancy::check_prefect(object.spec.allow.as_deref()).map_err(BadConnection);
        workspaces::planned(ctx, &object.connection(), rules, now)
    }

    async fn act(ctx: &Context, object: &Arc<ClusterPrefectWorkspace>, (): &(), act: Act) -> Option<()> {
        let key = Key::Workspace(object_name(&**object)?);
        in_use::act(ctx, &ctx.objects.cluster_workspaces, &**object, &key, act).await
    }

    fn fold(
        _: &Context,
        object: &ClusterPrefectWorkspace,
        (): &(),
        (): &(),
        _: Timestamp,
    ) -> (PrefectWorkspaceStatus, Vec<Note>) {
        (object.status.clone().unwrap_or_default(), Vec::new())
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, name) = (ctx.wakes.clone(), name.clone());
        Arc::new(move || wakes.workspace(&name))
    }
}

/// The subject.
pub struct ClusterSites;

#[async_trait]
impl Subject for ClusterSites {
    type Object = ClusterTableauSite;
    type Seen = ();
    type Act = Act;
    type Ack = ();
    const KIND: Kind = Kind::ClusterTableauSite;

    fn objects(ctx: &Context) -> &Objects<ClusterTableauSite> {
        &ctx.objects.cluster_sites
    }

    fn plan(ctx: &Context, object: &Arc<ClusterTableauSite>, now: Timestamp) -> Planned<Self> {
        let rules = tenancy::check_tableau(object.spec.allow.as_deref()).map_err(BadConnection);
        sites::planned(ctx, &object.connection(), rules, now)
    }

    async fn act(ctx: &Context, object: &Arc<ClusterTableauSite>, (): &(), act: Act) -> Option<()> {
        let key = Key::Site(object_name(&**object)?);
        in_use::act(ctx, &ctx.objects.cluster_sites, &**object, &key, act).await
    }

    fn fold(
        _: &Context,
        object: &ClusterTableauSite,
        (): &(),
        (): &(),
        _: Timestamp,
    ) -> (TableauSiteStatus, Vec<Note>) {
        (object.status.clone().unwrap_or_default(), Vec::new())
    }

    fn wrote(ctx: &Context, object: &ClusterTableauSite, after: &TableauSiteStatus) {
        sites::told(ctx, object_name(object), object.status.as_ref(), after);
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, name) = (ctx.wakes.clone(), name.clone());
        Arc::new(move || wakes.site(&name))
    }
}
