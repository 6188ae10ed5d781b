//! Who else declares a deployment, and who gets it when its holder leaves it: one of those, or one that is only expected.

use super::context::Context;
use super::flows::access;
use super::index::{Dependent, Key, created_at, declared, object_name};
use super::{let_in, tenants};
use crate::api::FlowDeployment;
use crate::model::connection::DesiredWorkspace;
use crate::model::deployments::Deployment;
use crate::model::feeds::Feed;
use crate::model::flow::{self, Claimant, Desired, Heir, Place, View};
use crate::model::ids::{ConnectionName, DeploymentName, ObjectName};
use crate::model::tenancy::Access;
use std::collections::BTreeSet;

/// Others that stand for a deployment.
#[derive(Default)]
pub struct Others {
    /// All.
    pub all: Vec<Claimant>,
    /// Those whose connection has a session: what is left can be given to one of these only, and to no other namespace's that is merely expected.
    pub present: Vec<Claimant>,
}

/// Other `FlowDeployment`s that declare the same deployment, or leave it, in any workspace object that leads to the same API and is let in there; and
/// the one whose mark it carries (`there`), unless that one is refused: while its connection is suspended, or lacks its Secret, what it made stays its own.
pub fn claimants(
    ctx: &Context,
    d: &Desired,
    at: &ObjectName,
    deployment: &DeploymentName,
    there: &View<Deployment>,
) -> Others {
    let Some(api) = let_in::api_of(ctx, at) else { return Others::default() };
    let tags: &[String] = match there {
        View::Present(there) => &there.tags,
        View::Unread | View::Dirty | View::Absent => &[],
    };
    let stands = |workspace: &ObjectName, name: &ObjectName| {
        workspace == at
            || let_in::counts(ctx, workspace, &api)
            || (tags.contains(&d.mark_of(name)) && !let_in::is_refused(ctx, workspace, &api))
    };
    let same = let_in::leading_to(ctx, &api);
    let mut names = BTreeSet::new();
    for workspace in &same {
        for who in ctx.index.dependents(&Key::Feed(workspace.clone(), Feed::Deployment(deployment.clone()))) {
            match who {
                Dependent::Flow(name) if name != d.name && stands(workspace, &name) => {
                    names.insert(name);
                }
                Dependent::Flow(_) | Dependent::Refresh(_) => {}
            }
        }
    }
    let mut others = Others::default();
    for name in names {
        let Some(object) = ctx.objects.flows.get(&name) else { continue };
        let Ok(other) = Desired::parse(&object, &ctx.instance) else { continue };
        let workspace = other.workspace.seen_from(&name.namespace);
        // The index also knows the place somebody is leaving.
        let wants = other.deployment == *deployment && same.contains(&workspace) && stands(&workspace, &name);
        let status = object.status.clone().unwrap_or_default();
        let Some(claimant) = Claimant::of(&other, &status, &access(ctx, &other), wants) else { continue };
        // Whoever is not let in stands in the way at a start at most, and is given nothing.
        let prepared = claimant.prepared && let_in::is_proven(ctx, &workspace, &api);
        let claimant = Claimant { prepared, ..claimant };
        if ctx.workspaces.get(&workspace).is_some() {
            others.present.push(claimant.clone());
        }
        others.all.push(claimant);
    }
    others
}

/// Who gets the deployment at this place when `d` leaves it. `at`: its connection; `claimants`: all who stand for it.
pub fn heir(ctx: &Context, d: &Desired, place: &Place, at: &ObjectName, claimants: &[Claimant]) -> Heir {
    if d.deleting.is_none() && *place == d.wanted_place() {
        return flow::heir(claimants);
    }
    let known = |name: &ObjectName| *name == d.name || claimants.iter().any(|one| one.name == *name);
    let mut all = claimants.to_vec();
    // The origin is known wherever anything can be done.
    if let Some(link) = ctx.workspaces.get(at) {
        let (flow, namespace) = (&*place.deployment.flow, Some(&*d.name.namespace));
        for object in ctx.objects.flows.store.state() {
            // Of the namespace only: elsewhere anybody could keep so what others delete.
            let near = object.spec.flow_name == flow && object.metadata.namespace.as_deref() == namespace;
            if near && declared(&object) == place.deployment {
                let name = object_name(&*object).filter(|name| !known(name));
                all.extend(name.and_then(|name| expected(ctx, &object, name, &link.key.origin)));
            }
        }
    }
    flow::heir(&all)
}

/// A resource that declares the deployment and cannot act: its spec is none that can be used, or its connection has no session, since it is suspended,
/// lacks its Secret or is yet to come. A file that was renamed together with its connection is such a one, and what it declares is not deleted under
/// it. It is waited for, and is given nothing.
fn expected(ctx: &Context, object: &FlowDeployment, name: ObjectName, url: &str) -> Option<Claimant> {
    let connection = ConnectionName::from(&object.spec.workspace_ref).seen_from(&name.namespace);
    let spec = ctx.objects.workspace(&connection).and_then(|object| DesiredWorkspace::parse(&object).ok());
    // Where it leads is not known yet: perhaps here.
    if spec.is_some_and(|spec| spec.api_url != url) {
        return None;
    }
    let access = tenants::declared_flow(ctx, object);
    let one = match Desired::parse(object, &ctx.instance) {
        Ok(other) => {
            let status = object.status.clone().unwrap_or_default();
            Claimant::of(&other, &status, &access, true)?
        }
        Err(_) if matches!(access, Access::Denied(_)) => return None,
        Err(_) => Claimant {
            name,
            created_at: created_at(object),
            leaving: false,
            allowed: false,
            prepared: false,
            turning: false,
        },
    };
    Some(Claimant { allowed: false, prepared: false, ..one })
}
