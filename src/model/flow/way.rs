//! Rules for the connection: whether it can be used, and what becomes of the deployment when the spec names another one.

use super::live::{leave_alone, suspended, wait};
use super::pass::{Drifted, Pass, Ready, unavailable};
use super::{Decision, Step, Turn, View, WorkspaceView, parting};
use crate::api::DeletionPolicy;
use crate::model::connection::Standing;
use crate::model::ids::ConnectionName;
use crate::model::tenancy::Access;
use crate::model::time::add;
use std::time::Duration;

/// How long a missing reference is waited for before it counts as wrong.
const GRACE: Duration = Duration::from_secs(300);

/// What the connection does not allow is not done through it; what is in Prefect already stays as it is.
pub(super) fn denied(p: &Pass) -> Option<Decision> {
    match &p.o.access {
        Access::Allowed => None,
        // The rules below say so, and none of them writes without it.
        Access::Unknown if misses(p) => None,
        Access::Unknown => Some(suspended(p).unwrap_or_else(|| wait(p))),
        Access::Denied(why) => Some(suspended(p).unwrap_or_else(|| {
            leave_alone(p, p.with(Ready::stalled("AccessDenied", why), Drifted::NotObserved))
        })),
    }
}

/// The connection that the spec names is not there.
fn misses(p: &Pass) -> bool {
    let waits = p.d.place(p.status).workspace != p.d.workspace;
    if waits { p.o.turn == Turn::Missing } else { p.o.workspace == WorkspaceView::Missing }
}

/// The connection that the spec names now leads to the same API as the one that status names: the deployment stays, and goes on through the new one.
pub(super) fn turned(p: &Pass) -> Option<Decision> {
    let Turn::Same(standing) = p.o.turn else { return None };
    let kept = match standing {
        Standing::Held => true,
        // It has to wait for us first, as the former one did.
        Standing::Unheld => p.d.deletion_policy == DeletionPolicy::Orphan,
        Standing::Leaving => false,
    };
    let mut next = p.status.clone();
    next.workspace = Some(p.d.workspace.to_string());
    if p.d.workspace.is_cluster() {
        // It has the rights of others, and the id is the word of whoever answered before: there only our mark says what is ours.
        next.deployment_id = None;
    }
    kept.then(|| {
        p.decision(p.working(next, "Goes on through the connection that the spec names now"), Step::Intend)
    })
}

/// As long as nobody knows where the connection leads that the spec names, nothing is left for it.
pub(super) fn awaited(p: &Pass) -> Option<Decision> {
    let waiting = match p.o.turn {
        Turn::Missing => missing(p, &p.d.workspace),
        Turn::Unusable => p.rest(p.with(unavailable(&p.d.workspace), Drifted::stored(p.status))),
        Turn::Refused => {
            let why = "the connection that the spec names now does not allow its flow";
            return Some(owing(p).unwrap_or_else(|| parting::left_behind(p, why)));
        }
        Turn::None | Turn::Same(_) | Turn::Elsewhere => return None,
    };
    // What a change of ours made Prefect drop is made good through the former one.
    let repair = leave_alone(p, waiting.status);
    let again = [waiting.again, repair.again].into_iter().flatten().min();
    Some(Decision { again, ..repair })
}

/// What a change of ours made Prefect drop is made good through the former connection before the deployment is left: afterwards nobody knows of it.
/// Not for ever: one that fails is not tried again.
fn owing(p: &Pass) -> Option<Decision> {
    p.status.pending_write.as_ref().filter(|_| p.o.workspace == WorkspaceView::Ready)?;
    match &p.o.deployment {
        View::Unread | View::Dirty => Some(wait(p)),
        View::Absent => None,
        View::Present(_) => Some(leave_alone(p, p.status.clone())).filter(|next| next.step != Step::Rest),
    }
}

/// Without the connection nothing can be seen. An outage shows only where something is due.
pub(super) fn unreachable(p: &Pass) -> Option<Decision> {
    let place = p.d.place(p.status);
    match &p.o.workspace {
        WorkspaceView::Ready => None,
        WorkspaceView::Missing => Some(missing(p, &place.workspace)),
        WorkspaceView::NotReady { reason: _ } => {
            let told = p.ready().is_some_and(|r| {
                r.reason == "InSync" || matches!(r.reason.as_str(), "TargetConflict" | "AdoptionRequired")
            });
            let due = !told || p.status.pending_write.is_some();
            let status = if due {
                p.with(unavailable(&place.workspace), Drifted::stored(p.status))
            } else {
                p.status.clone()
            };
            Some(p.rest(status))
        }
    }
}

fn missing(p: &Pass, workspace: &ConnectionName) -> Decision {
    let waiting = Ready::working(
        "DependencyNotFound",
        format!(
            "{} does not exist{}; create it or correct spec.workspaceRef",
            workspace.workspace(),
            workspace.place()
        ),
    );
    let since = p.ready().filter(|r| r.reason == "DependencyNotFound").map(|r| r.last_transition_time.0);
    let overdue = p.ready().is_some_and(|r| r.reason == "DependencyNotFound" && r.status == "False");
    let end = add(since.unwrap_or(p.now), GRACE);
    if !overdue && p.now < end {
        return p.rest_until(p.with(waiting, Drifted::stored(p.status)), end);
    }
    if *workspace != p.d.workspace {
        // The spec has moved on and the old workspace is gone for good: what was there cannot be reached any more.
        return parting::left_behind(p, "its workspace no longer exists");
    }
    p.rest(p.with(waiting.overdue(), Drifted::stored(p.status)))
}

/// The spec names another place than the one we have: leave that first.
pub(super) fn moved(p: &Pass) -> Option<Decision> {
    if p.d.place(p.status) == p.d.wanted_place() {
        return None;
    }
    Some(match p.o.turn {
        Turn::None | Turn::Elsewhere => parting::leave(p),
        Turn::Same(Standing::Leaving) => shut(p),
        Turn::Same(Standing::Held | Standing::Unheld) | Turn::Missing | Turn::Unusable | Turn::Refused => {
            wait(p)
        }
    })
}

/// Nothing new is made through a connection that is being deleted.
pub(super) fn shut(p: &Pass) -> Decision {
    p.rest(p.with(closing(p), Drifted::stored(p.status)))
}

/// See [`shut`].
pub(super) fn closing(p: &Pass) -> Ready {
    let message = format!(
        "{} is being deleted, so nothing new is made through it; create it anew once it is gone, or correct spec.workspaceRef",
        p.d.workspace.workspace()
    );
    Ready::working("ConnectionUnavailable", message)
}
