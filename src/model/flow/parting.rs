//! Rules for leaving a deployment: its resource is deleted, or its spec names another place.

use super::ahead::{hindered, still};
use super::claim::{Owner, is_written, owner};
use super::live::leave_alone;
use super::pass::{Drifted, Pass, Ready, forget, part_of, set, warned};
use super::repair::{self, repair};
use super::{
    Decision, Desired, Failure, Heir, Memory, Observed, Step, View, WorkspaceView, Write, WriteKind, diff,
};
use crate::api::{DeletionPolicy, FlowDeploymentStatus, PendingWrite, Time};
use crate::model::deployments::Deployment;
use crate::model::heirs;
use crate::model::ids::ObjectName;
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

/// The resource is being deleted.
pub(super) fn delete(
    d: &Desired,
    o: &Observed,
    status: &FlowDeploymentStatus,
    since: Timestamp,
    now: Timestamp,
) -> Decision {
    let p = Pass { d, o, status, now };
    if !d.has_finalizer {
        return p.rest(status.clone());
    }
    if d.deletion_policy == DeletionPolicy::Orphan {
        return p.decision(status.clone(), Step::Release);
    }
    match next(&p) {
        Next::Done => p.decision(status.clone(), Step::Release),
        Next::Announce(next) => p.decision(deleting(&p, *next), Step::Intend),
        Next::Write(writes) => p.decision(deleting(&p, status.clone()), Step::Do(writes)),
        Next::Await => Decision {
            memory: Some(awaiting(&p)),
            ..p.rest_until(deleting(&p, status.clone()), add(now, LOOK))
        },
        // An heir that gets ready does not wake us.
        Next::See => p.rest_until(deleting(&p, status.clone()), add(now, LOOK)),
        Next::Leave => orphaned(&p, ANOTHERS),
        Next::Blocked { cause, until } => blocked(&p, &cause, until, add(since, o.cleanup_deadline)),
    }
}

/// Since when this process has waited for an heir: it has a while from then on, also where an outage took all the time there was.
fn awaiting(p: &Pass) -> Memory {
    let memory = p.memory().cloned().unwrap_or_else(|| Memory::of(p.d, p.o, p.now));
    Memory { waited: memory.waited.or(Some(p.now)), ..memory }
}

/// Waits until the deadline, then lets go: `kubectl delete` must end.
fn blocked(p: &Pass, cause: &str, until: Option<Timestamp>, deadline: Timestamp) -> Decision {
    let name = p.d.place(p.status).deployment;
    if p.now >= deadline {
        return orphaned(p, cause);
    }
    let ready = Ready::wrong(
        "DeletionBlocked",
        format!(
            "Deployment `{name}` cannot be deleted: {cause}. It is left behind at the cleanup deadline; deletionPolicy: Orphan lets go \
             at once"
        ),
    );
    let again = until.map_or(deadline, |until| until.min(deadline));
    p.rest_until(p.with(ready, Drifted::stored(p.status)), again)
}

/// Lets go of what stays.
fn orphaned(p: &Pass, cause: &str) -> Decision {
    let name = p.d.place(p.status).deployment;
    let note = warned("Orphaned", format!("Deployment `{name}` is left in Prefect: {cause}"));
    Decision { notes: vec![note], ..p.decision(p.status.clone(), Step::Release) }
}

/// The spec has moved on: leave the old place by the policy, then forget it.
pub(super) fn leave(p: &Pass) -> Decision {
    const MESSAGE: &str = "Leaves the deployment of the former name or workspace";
    if p.d.deletion_policy == DeletionPolicy::Orphan && p.status.pending_write.is_none() {
        return left_behind(p, "spec.deletionPolicy is Orphan");
    }
    match next(p) {
        Next::Done => Decision { memory: None, ..p.decision(forgotten(p), Step::Intend) },
        Next::Announce(next) => p.decision(p.working(*next, MESSAGE), Step::Intend),
        Next::Write(writes) => {
            let goes = writes.iter().any(|write| write.kind() == WriteKind::Delete);
            match hindered(p).filter(|_| goes) {
                Some(status) => leave_alone(p, status),
                None => p.decision(p.working(p.status.clone(), MESSAGE), Step::Do(writes)),
            }
        }
        Next::Leave => left_behind(p, ANOTHERS),
        Next::Await => Decision {
            memory: Some(awaiting(p)),
            ..p.rest_until(p.working(p.status.clone(), MESSAGE), add(p.now, LOOK))
        },
        Next::See => p.rest(still(p).unwrap_or_else(|| p.working(p.status.clone(), MESSAGE))),
        Next::Blocked { cause: _, until } => {
            let refused = p.waits().and_then(|m| p.verdict(m.failure.as_ref()?));
            let status = match refused {
                Some(ready) => p.with(ready, Drifted::stored(p.status)),
                None => p.working(p.status.clone(), MESSAGE),
            };
            Decision { again: until, ..p.rest(status) }
        }
    }
}

/// The old place is forgotten, and what is there stays.
pub(super) fn left_behind(p: &Pass, why: &str) -> Decision {
    let note = warned(
        "Orphaned",
        format!("Deployment `{}` is left in Prefect: {why}", p.d.place(p.status).deployment),
    );
    Decision { notes: vec![note], memory: None, ..p.decision(forgotten(p), Step::Intend) }
}

fn forgotten(p: &Pass) -> FlowDeploymentStatus {
    let mut status = p.status.clone();
    forget(&mut status);
    let working =
        Ready::working("Progressing", "The former deployment is left; turns to the one the spec names");
    set(&mut status, p.d.generation, working, Drifted::NotObserved, p.now);
    status
}

/// How soon to look again for what no reading of Prefect tells.
const LOOK: Duration = Duration::from_secs(5);

/// How long an heir has at least, as of this process: it needs two writes.
const AT_LEAST: Duration = Duration::from_secs(30);

/// What leaving comes to next.
enum Next {
    /// Nothing of ours is there.
    Done,
    /// Status says first what will be written.
    Announce(Box<FlowDeploymentStatus>),
    Write(Vec<Write>),
    /// Only the next reading of Prefect tells.
    See,
    Blocked {
        cause: String,
        until: Option<Timestamp>,
    },
    /// Another that declares it is to become ready for it.
    Await,
    /// It stays for another that declares it.
    Leave,
}

const ANOTHERS: &str =
    "another FlowDeployment declares it and was not ready to take it over; let that one adopt it";

fn next(p: &Pass) -> Next {
    let workspace = p.d.place(p.status).workspace;
    let blocked = |cause: String| Next::Blocked { cause, until: None };
    match &p.o.workspace {
        // Status names what we are about to make before it is made, and forgets it once its deletion is acknowledged: nothing of ours is there,
        // whoever went first. (`kubectl delete` of a whole folder takes the connection along.)
        WorkspaceView::Missing | WorkspaceView::NotReady { .. }
            if p.status.full_name.is_none() && p.status.deployment_id.is_none() =>
        {
            return Next::Done;
        }
        WorkspaceView::Missing => {
            return blocked(format!("{} does not exist", workspace.workspace()));
        }
        // Just started: the connection has not been tried yet.
        WorkspaceView::NotReady { reason } if reason == "Progressing" => return Next::See,
        WorkspaceView::NotReady { reason } => {
            return blocked(format!("{} cannot be used ({reason})", workspace.workspace()));
        }
        WorkspaceView::Ready => {}
    }
    if let Some(memory) = p.waits()
        && let Some((kind, failure)) = &memory.failure
    {
        return Next::Blocked { cause: cause(*kind, failure), until: Some(memory.until) };
    }
    match &p.o.deployment {
        View::Unread | View::Dirty => Next::See,
        View::Absent => Next::Done,
        View::Present(there) => {
            match (owner(p.d, p.status, there), &p.o.heir, p.status.pending_write.as_ref()) {
                (Owner::Us, Heir::Ready(heir), owed) => hand_over(p, there, heir, owed),
                (Owner::Us, heir, _)
                    if p.d.deletion_policy == DeletionPolicy::Delete && !is_awaited(p, heir) =>
                {
                    Next::Write(vec![Write::Delete { id: there.id.clone() }])
                }
                (Owner::Us, Heir::Soon | Heir::Turning, Some(owed)) if !there.paused => {
                    Next::Write(repair::writes(&there.id, owed, p.o.clock))
                }
                (Owner::Us, Heir::Soon | Heir::Turning, _) if p.now < wait(p) => Next::Await,
                // It may be suspended, only observe, or lack a Secret: that is no reason to delete what it declares.
                (Owner::Us, Heir::Soon | Heir::Turning, _) => Next::Leave,
                // Not ours (any more), or left as it is: but what a write of ours cost is made good.
                (_, _, Some(owed)) if is_written(p.d, p.status, there) => {
                    match repair(there, owed, p.o.clock) {
                        Some(Step::Do(writes)) => Next::Write(writes),
                        Some(Step::Rest | Step::Hold | Step::Release | Step::Intend) | None => Next::Done,
                    }
                }
                (_, _, _) => Next::Done,
            }
        }
    }
}

/// Whether somebody else may take it over. Of two that swap names, each would wait for the other.
fn is_awaited(p: &Pass, heir: &Heir) -> bool {
    match heir {
        Heir::None => false,
        Heir::Turning => p.d.deleting.is_some(),
        Heir::Soon | Heir::Ready(_) => true,
    }
}

/// Until when an heir is waited for. Who only moves has no deadline, and its new place waits meanwhile.
fn wait(p: &Pass) -> Timestamp {
    let awaited = p.memory().and_then(|memory| memory.waited).unwrap_or(p.now);
    let least = add(awaited, AT_LEAST);
    p.d.deleting.map_or(least, |since| heirs::waits_until(since, p.o.cleanup_deadline).max(least))
}

/// Renaming a resource in Git must not delete its deployment: another resource that declares it gets the mark.
fn hand_over(p: &Pass, there: &Deployment, heir: &ObjectName, owed: Option<&PendingWrite>) -> Next {
    match (owed, p.o.clock) {
        (Some(owed), _) => {
            let fields = diff::remarked(there, &p.d.mark_of(heir));
            let patch = Write::Patch { id: there.id.clone(), fields };
            let repair = (!there.paused).then(|| repair::writes(&there.id, owed, p.o.clock));
            Next::Write([patch].into_iter().chain(repair.into_iter().flatten()).collect())
        }
        (None, Some(since)) => {
            let mut next = p.status.clone();
            next.deployment_id = Some(there.id.to_string());
            next.pending_write = Some(PendingWrite { since: Time(since), late: None });
            Next::Announce(Box::new(next))
        }
        (None, None) => Next::See,
    }
}

fn deleting(p: &Pass, mut status: FlowDeploymentStatus) -> FlowDeploymentStatus {
    let drifted = Drifted::stored(&status);
    let ready = Ready::wrong("Deleting", "The deployment in Prefect is deleted or handed over");
    set(&mut status, p.d.generation, ready, drifted, p.now);
    status
}

fn cause(kind: WriteKind, failure: &Failure) -> String {
    match failure {
        Failure::Forbidden(part) => {
            return format!("the credentials of the workspace may not {}", part_of(kind, *part));
        }
        Failure::Unauthorized => "Prefect refuses the credentials",
        Failure::Throttled(_) | Failure::Unavailable => "Prefect is busy",
        Failure::Unreachable | Failure::Ambiguous | Failure::TimedOut => "Prefect does not answer",
        Failure::WorkPoolNotFound
        | Failure::ParametersRejected { .. }
        | Failure::Invalid { .. }
        | Failure::NotFound
        | Failure::Conflict
        | Failure::Rejected(_) => "Prefect refuses",
    }
    .to_owned()
}
