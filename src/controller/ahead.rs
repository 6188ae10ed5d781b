//! What is known of the place that the spec of a `FlowDeployment` names, while another one is still kept.

use super::context::Context;
use super::flow_claims::claimants;
use super::flows::workspace_view;
use super::workspace::{DeploymentView, WorkspaceSession};
use crate::model::connection::{DesiredWorkspace, Standing, is_cloud, standing};
use crate::model::deployments::Deployment;
use crate::model::flow::{self, Ahead, Claim, Desired, Place, View};
use crate::model::ids::DeploymentName;

/// None: it is the one that is kept. Who is deleted goes to no other.
pub fn ahead(ctx: &Context, desired: &Desired, place: &Place) -> Option<Ahead> {
    if *place == desired.wanted_place() || desired.deleting.is_some() {
        return None;
    }
    let at = desired.workspace.seen_from(&desired.name.namespace);
    let session = ctx.workspaces.get(&at).map(|link| link.session);
    let deployment = view(session.as_deref(), &desired.deployment);
    let others = claimants(ctx, desired, &at, &desired.deployment, &deployment);
    let claim = flow::claim(desired, &deployment, &others.all);
    let given = match &claim {
        Claim::TakenByLeaving { by } => {
            ctx.objects.flows.get(by).is_some_and(|holder| holder.metadata.deletion_timestamp.is_some())
        }
        Claim::Unresolved | Claim::Ours | Claim::Taken { .. } => false,
    };
    Some(Ahead {
        workspace: workspace_view(ctx, &at),
        standing: ctx.objects.workspace(&at).map_or(Standing::Unheld, |object| standing(&*object)),
        deployment,
        claim,
        given,
    })
}

/// Whether the connection that the spec names is one to Prefect Cloud; also where nobody knows yet.
pub fn leads_to_cloud(ctx: &Context, desired: &Desired) -> bool {
    let named = ctx.objects.workspace(&desired.workspace.seen_from(&desired.name.namespace));
    let spec = named.and_then(|object| DesiredWorkspace::parse(&object).ok());
    spec.is_none_or(|spec| is_cloud(&spec.api_url))
}

/// What a session knows of a deployment.
pub fn view(session: Option<&WorkspaceSession>, name: &DeploymentName) -> View<Deployment> {
    match session.map(|session| session.deployment(name)) {
        None | Some(DeploymentView::Unread) => View::Unread,
        Some(DeploymentView::Dirty) => View::Dirty,
        Some(DeploymentView::Absent) => View::Absent,
        Some(DeploymentView::Present(there)) => View::Present(Deployment::clone(&there)),
    }
}
