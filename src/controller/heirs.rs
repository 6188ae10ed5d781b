//! Who gets a deployment when its holder leaves it: one of those whom `flows` knows to declare it, or one that is only expected.

use super::context::Context;
use super::index::{created_at, declared, object_name};
use super::tenants;
use crate::api::FlowDeployment;
use crate::model::connection::DesiredWorkspace;
use crate::model::flow::{self, Claimant, Desired, Heir, Place};
use crate::model::ids::{ConnectionName, ObjectName};
use crate::model::tenancy::Access;

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
