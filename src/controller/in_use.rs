//! A connection is kept for those who need it to clean up: the finalizer `feedwater.dev/in-use`, set and taken away by the connection's own
//! reconcile, which is woken when somebody's need changes.

use super::context::{Context, Objects};
use super::index::{Dependent, Key};
use super::lanes::Priority;
use super::publish::{self, Ours};
use super::reconcile::Plan;
use super::watches;
use crate::api::{ExtractRefresh, IN_USE};
use crate::model::connection::{self, Keep, Need, User, extract_need, flow_need};
use crate::model::ids::{ConnectionName, ObjectName};
use kube::ResourceExt;
use std::time::Duration;

/// What a pass over a connection may do.
pub enum Act {
    /// Set the finalizer.
    Hold,
    /// Take it away.
    Release,
}

/// Whether a connection is kept, and for whom if it is being deleted.
pub struct Kept {
    /// What is to be done.
    pub keep: Keep,
    /// Who needs it now; empty unless that is why it stays.
    pub users: Vec<User>,
    /// Nobody tells when that changes: it is looked at again after this.
    pub again: Option<Duration>,
}

/// How often one looks whether those that name another connection by now still need this one.
const LOOK: Duration = Duration::from_secs(5);

/// The object is deleted, and only the watch does not know it yet.
pub fn gone(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some() && object.finalizers().is_empty()
}

/// Looks at everybody who names the connection.
pub fn look(ctx: &Context, key: &Key, object: &impl ResourceExt) -> Kept {
    let (holds, leaving) = (connection::holds(object), object.meta().deletion_timestamp.is_some());
    let keep = connection::keep(holds, leaving, ctx.index.need(key));
    if matches!(keep, Keep::Rest | Keep::Hold) {
        return Kept { keep, users: Vec::new(), again: None };
    }
    // The index knows what the watch has delivered. Before the connection goes, what we wrote ourselves counts too.
    let mut all: Vec<(Need, User)> =
        ctx.index.dependents(key).iter().filter_map(|who| user(ctx, key, who)).collect();
    let mut moved = moved(ctx, key);
    let again = (leaving && !moved.is_empty()).then_some(LOOK);
    moved
        .retain(|(_, user)| !all.iter().any(|(_, known)| known.name == user.name && known.kind == user.kind));
    all.extend(moved);
    let most = all.iter().map(|(need, _)| *need).max().unwrap_or(Need::Never);
    let users = all.into_iter().filter(|(need, _)| *need == Need::Now).map(|(_, user)| user).collect();
    Kept { keep: connection::keep(holds, leaving, most), users, again }
}

/// Extracts that name another site by now, and have something in Tableau that only this one can take away. The index knows them by the other.
fn moved(ctx: &Context, key: &Key) -> Vec<(Need, User)> {
    let Key::Site(site) = key else { return Vec::new() };
    let me = ConnectionName::of(site);
    let here = |refresh: &ExtractRefresh| {
        let reaches = site.is_cluster() || refresh.namespace().as_deref() == Some(&*site.namespace);
        reaches && ConnectionName::from(&refresh.spec.site_ref) != me
    };
    let all = ctx.objects.refreshes.store.state().into_iter().filter(|refresh| here(refresh));
    let newest =
        all.map(|refresh| ctx.objects.refreshes.cache.newest(refresh)).filter(|refresh| here(refresh));
    let need = newest.map(|refresh| (extract_need(&refresh, &me), named("ExtractRefresh", site, &*refresh)));
    need.filter(|(need, _)| *need != Need::Never).collect()
}

fn named(kind: &'static str, connection: &ObjectName, object: &impl ResourceExt) -> User {
    // Users of a connection of the cluster are in several namespaces.
    let place = object.namespace().filter(|_| connection.is_cluster()).map(|namespace| namespace + "/");
    let name = place.unwrap_or_default() + &object.name_any();
    User { leaving: object.meta().deletion_timestamp.is_some(), kind, name }
}

fn user(ctx: &Context, key: &Key, who: &Dependent) -> Option<(Need, User)> {
    match (key, who) {
        (Key::Workspace(workspace), Dependent::Flow(name)) => {
            let flow = ctx.objects.flows.get(name)?;
            let need = flow_need(&flow, &ConnectionName::of(workspace));
            Some((need, named("FlowDeployment", workspace, &*flow)))
        }
        (Key::Site(site), Dependent::Refresh(name)) => {
            let refresh = ctx.objects.refreshes.get(name)?;
            let need = extract_need(&refresh, &ConnectionName::of(site));
            Some((need, named("ExtractRefresh", site, &*refresh)))
        }
        (_, _) => None,
    }
}

/// The pass of a connection whose status is as it should be (`told`), or is to be published first.
pub fn plan(keep: Keep, told: bool) -> Plan<Act> {
    let act = |act| Plan::Do { act, lane: None, priority: Priority::Changed };
    match keep {
        // What is wrong with the connection is told even where the finalizer cannot be set.
        Keep::Hold if told => act(Act::Hold),
        Keep::Release => act(Act::Release),
        Keep::Hold | Keep::Stay | Keep::Rest => Plan::Rest,
    }
}

/// Sets the finalizer or takes it away; `None`: not now.
pub async fn act<K>(ctx: &Context, objects: &Objects<K>, object: &K, key: &Key, act: Act) -> Option<()>
where
    K: Ours,
{
    let hold = matches!(act, Act::Hold);
    if !publish::finalizer(ctx, objects, object, IN_USE, hold).await {
        return None;
    }
    if hold {
        // Who waited for it to be kept may begin.
        watches::wake_all(ctx, key);
    }
    Some(())
}
