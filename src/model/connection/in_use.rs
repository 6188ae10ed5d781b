//! Who still needs a connection to clean up, and whether it is kept for them: the finalizer `feedwater.dev/in-use` (API.md 3). In a
//! namespace that is deleted as a whole nothing keeps an order, so the connection itself waits for those who need it.

use crate::api::{
    DataQualityWarning, DeletionPolicy, ExtractRefresh, FINALIZER, FlowDeployment, IN_USE, ManagementPolicy,
};
use crate::model::conditions::{Truth, Verdict};
use crate::model::extract::Learnt;
use crate::model::flow;
use crate::model::ids::ConnectionName;
use kube::ResourceExt;

/// How a resource stands to a connection it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It can be deleted without it.
    Never,
    /// It has made nothing through it yet, and is about to.
    Later,
    /// It has made something through it that goes when it is deleted.
    Now,
}

/// How a connection stands to those who name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does not wait for its users yet: nothing may be made through it that has to be deleted again.
    Unheld,
    /// It waits for its users when it is deleted.
    Held,
    /// It is being deleted: what was made through it can be deleted, and nothing new is made.
    Leaving,
}

/// What is done about the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is as it should be.
    Rest,
    /// Set it.
    Hold,
    /// Take it away.
    Release,
    /// It stays on a connection that is being deleted.
    Stay,
}

/// A resource that needs the connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// It is being deleted itself.
    pub leaving: bool,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// What a `FlowDeployment` needs this connection to Prefect for.
pub fn flow_need(r: &FlowDeployment, workspace: &ConnectionName) -> Need {
    if flow::deletion_policy(r) == DeletionPolicy::Orphan {
        return Need::Never;
    }
    let status = r.status.as_ref();
    let made = status.is_some_and(|s| s.full_name.is_some() || s.deployment_id.is_some());
    let wanted = ConnectionName::from(&r.spec.workspace_ref);
    let at = status.and_then(|s| s.workspace.as_deref()).map(ConnectionName::parse);
    let here = at.as_ref().unwrap_or(&wanted) == workspace;
    need(r, made && here, wanted == *workspace)
}

/// What an `ExtractRefresh` needs this connection to Tableau for: only tasks and warnings are ever deleted in Tableau.
pub fn extract_need(r: &ExtractRefresh, site: &ConnectionName) -> Need {
    let leaves = r.spec.deletion_policy == Some(DeletionPolicy::Orphan)
        || r.spec.management_policy == Some(ManagementPolicy::Observe);
    let status = r.status.as_ref();
    let named = ConnectionName::from(&r.spec.site_ref) == *site;
    let warned = status.and_then(|s| s.data_quality_warning.as_ref());
    let warned = warned.is_some_and(|w| w.may_be_there() && ConnectionName::parse(&w.site) == *site);
    let of_spec = ConnectionName::from(&r.spec.site_ref);
    let here = |learnt: &Learnt| learnt.connection(&of_spec) == Some(site);
    let scheduled = status.is_some_and(|s| {
        let mut made = s.schedules.iter().filter(|entry| entry.task_id.is_some());
        s.schedule_intent.as_ref().is_some_and(|intent| here(&intent.learnt(&of_spec)))
            || made.any(|entry| here(&entry.learnt(&of_spec)))
    });
    let made = warned || scheduled;
    if leaves || (!named && !made) {
        return Need::Never;
    }
    if !named {
        // It has moved, and what it made here is still to be taken away.
        return need(r, true, false);
    }
    // The site may say it for all that are silent.
    let warns = status.and_then(|s| s.effective.as_ref()?.data_quality_warning);
    let wants = r.spec.schedules.as_ref().is_some_and(|all| !all.is_empty())
        || warns == Some(DataQualityWarning::WhenStale);
    need(r, made, wants)
}

fn need(r: &impl ResourceExt, made: bool, wants: bool) -> Need {
    if made && r.finalizers().iter().any(|f| f == FINALIZER) {
        Need::Now
    } else if wants && r.meta().deletion_timestamp.is_none() {
        Need::Later
    } else {
        Need::Never
    }
}

/// How a connection stands to its users.
pub fn standing(r: &impl ResourceExt) -> Standing {
    match r.meta().deletion_timestamp {
        Some(_) => Standing::Leaving,
        None if holds(r) => Standing::Held,
        None => Standing::Unheld,
    }
}

/// Whether a connection has the finalizer.
pub fn holds(r: &impl ResourceExt) -> bool {
    r.finalizers().iter().any(|f| f == IN_USE)
}

/// Decides about the finalizer by the most that anybody needs the connection for.
pub fn keep(holds: bool, leaving: bool, need: Need) -> Keep {
    match (leaving, holds, need) {
        (false, false, Need::Later | Need::Now) => Keep::Hold,
        // Who has made nothing yet does not get to.
        (false, true, Need::Never) | (true, true, Need::Never | Need::Later) => Keep::Release,
        (true, true, Need::Now) => Keep::Stay,
        // A finalizer cannot be added to what is being deleted.
        (false, false, Need::Never) | (false, true, Need::Later | Need::Now) | (true, false, _) => Keep::Rest,
    }
}

/// Most users that are named.
const NAMED: usize = 3;

const LIVE: &str = "delete them, have them name another connection, or set their deletionPolicy to Orphan";

/// So many that are not named. Of many only the size, so that the message does not change with each of them.
fn others(count: usize) -> String {
    match count {
        1 => "1 other".to_owned(),
        0..10 => format!("{count} others"),
        _ => format!("{} or more others", 10_usize.pow(count.ilog10())),
    }
}

/// `Ready` of a connection that is being deleted and still needed. `service`: where its users clean up; `trouble`: the reason why they
/// cannot, if they cannot.
pub fn in_use(service: &str, users: &[User], trouble: Option<&str>) -> Verdict {
    // Those that are not being deleted come first: only they need somebody.
    let mut users: Vec<&User> = users.iter().collect();
    users.sort();
    let mut names: Vec<String> =
        users.iter().take(NAMED).map(|user| format!("{} `{}`", user.kind, user.name)).collect();
    if users.len() > NAMED {
        names.push(others(users.len() - NAMED));
    }
    let who = match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "nobody".to_owned(),
    };
    let remedy = match (users.iter().any(|user| !user.leaving), trouble) {
        (true, None) => LIVE.to_owned(),
        (true, Some(reason)) => format!("{LIVE}; it cannot be used now ({reason})"),
        (false, None) => "they are being deleted, and it goes with the last of them".to_owned(),
        (false, Some(reason)) => format!(
            "they are being deleted, and as long as it cannot be used ({reason}) they wait for the cleanup deadline"
        ),
    };
    let message = format!("Deleted, and kept until these have cleaned up in {service}: {who}; {remedy}");
    Verdict::new("Ready", Truth::False, "InUse", message)
}

#[cfg(test)]
#[path = "in_use_tests.rs"]
mod tests;
