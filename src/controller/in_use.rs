//! A connection is kept for those who need it to clean up: the finalizer `feedwater.dev/in-use`, set and taken away by the connection's own
//! reconcile, which is woken when somebody's need changes.

use super::context::{Context, Objects};
use super::index::{Dependent, Key};
use super::lanes::Priority;
use super::publish::{self, Ours};
use super::reconcile::Plan;
use super::watches;
use crate::api::IN_USE;
use crate::model::connection::{self, Keep, Need, User, extract_need, flow_need};
use kube::ResourceExt;

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
}

/// The object is deleted, and only the watch does not know it yet.
pub fn gone(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some() && object.finalizers().is_empty()
}

/// Looks at everybody who names the connection.
pub fn look(ctx: &Context, key: &Key, object: &impl ResourceExt) -> Kept {
    let (holds, leaving) = (connection::holds(object), object.meta().deletion_timestamp.is_some());
    let keep = connection::keep(holds, leaving, ctx.index.need(key));
    if matches!(keep, Keep::Rest | Keep::Hold) {
        return Kept { keep, users: Vec::new() };
    }
    // The index knows what the watch has delivered. Before the connection goes, what we wrote ourselves counts too.
    let all: Vec<(Need, User)> =
        ctx.index.dependents(key).iter().filter_map(|who| user(ctx, key, who)).collect();
    let most = all.iter().map(|(need, _)| *need).max().unwrap_or(Need::Never);
    let users = all.into_iter().filter(|(need, _)| *need == Need::Now).map(|(_, user)| user).collect();
    Kept { keep: connection::keep(holds, leaving, most), users }
}

fn user(ctx: &Context, key: &Key, who: &Dependent) -> Option<(Need, User)> {
    fn user(kind: &'static str, object: &impl ResourceExt) -> User {
        User { leaving: object.meta().deletion_timestamp.is_some(), kind, name: object.name_any() }
    }
    match (key, who) {
        (Key::Workspace(workspace), Dependent::Flow(name)) => {
            let flow = ctx.objects.flows.get(name)?;
            Some((flow_need(&flow, &workspace.name), user("FlowDeployment", &*flow)))
        }
        (Key::Site(site), Dependent::Refresh(name)) => {
            let refresh = ctx.objects.refreshes.get(name)?;
            Some((extract_need(&refresh, &site.name), user("ExtractRefresh", &*refresh)))
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
