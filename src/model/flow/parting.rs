//! Rules for leaving a deployment: its resource is deleted, or its spec names another place.

use super::claim::{Owner, owner};
use super::live::repair;
use super::pass::{Drifted, Pass, Ready, forget, repair_since, set, warned};
use super::{Decision, Desired, Observed, Step, View, WorkspaceView, Write, diff};
use crate::api::{DeletionPolicy, FlowDeploymentStatus, PendingWrite, Time};
use crate::model::deployments::Deployment;
use crate::model::ids::ObjectName;
use crate::model::time::add;
use jiff::Timestamp;

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
    let next = next(&p);
    let Next::Wait(wait) = next else {
        return match next {
            Next::Done | Next::Wait(_) => p.decision(status.clone(), Step::Release),
            Next::Announce(next) => p.decision(deleting(&p, next), Step::Intend),
            Next::Write(writes) => p.decision(deleting(&p, status.clone()), Step::Do(writes)),
        };
    };
    let deadline = add(since, o.cleanup_deadline);
    let Some(cause) = wait.blocked else {
        return p.rest(deleting(&p, status.clone()));
    };
    if now >= deadline {
        let note = warned(
            "Orphaned",
            format!("Deployment `{}` is left in Prefect: {cause}.", d.place(status).deployment),
        );
        return Decision { notes: vec![note], ..p.decision(status.clone(), Step::Release) };
    }
    let ready = Ready::wrong(
        "DeletionBlocked",
        format!(
            "Deployment `{}` cannot be deleted: {cause}. It is left behind at the cleanup deadline; deletionPolicy: Orphan lets go at once.",
            d.place(status).deployment
        ),
    );
    let again = wait.until.map_or(deadline, |until| until.min(deadline));
    p.rest_until(p.with(ready, Drifted::stored(status)), again)
}

/// The spec has moved on: leave the old place by the policy, then forget it.
pub(super) fn leave(p: &Pass) -> Decision {
    const MESSAGE: &str = "Leaves the deployment of the former name or workspace.";
    if p.d.deletion_policy == DeletionPolicy::Orphan && repair_since(p.status).is_none() {
        return left_behind(p, "spec.deletionPolicy is Orphan");
    }
    match next(p) {
        Next::Done => p.decision(forgotten(p), Step::Intend),
        Next::Announce(next) => p.decision(p.working(next, MESSAGE), Step::Intend),
        Next::Write(writes) => p.decision(p.working(p.status.clone(), MESSAGE), Step::Do(writes)),
        Next::Wait(wait) => {
            let refused = wait.until.and_then(|_| p.verdict(p.memory()?.failure.as_ref()?));
            let status = match refused {
                Some(ready) => p.with(ready, Drifted::stored(p.status)),
                None => p.working(p.status.clone(), MESSAGE),
            };
            Decision { again: wait.until, ..p.rest(status) }
        }
    }
}

/// The old place is forgotten, and what is there stays.
pub(super) fn left_behind(p: &Pass, why: &str) -> Decision {
    let note = warned(
        "Orphaned",
        format!("Deployment `{}` is left in Prefect: {why}.", p.d.place(p.status).deployment),
    );
    Decision { notes: vec![note], ..p.decision(forgotten(p), Step::Intend) }
}

fn forgotten(p: &Pass) -> FlowDeploymentStatus {
    let mut status = p.status.clone();
    forget(&mut status);
    let working =
        Ready::working("Progressing", "The former deployment is left; turns to the one the spec names.");
    set(&mut status, p.d.generation, working, Drifted::NotObserved, p.now);
    status
}

/// What leaving comes to next.
enum Next {
    /// Nothing of ours is there.
    Done,
    /// Status says first what will be written.
    Announce(FlowDeploymentStatus),
    Write(Vec<Write>),
    Wait(Wait),
}

struct Wait {
    /// What stands in the way; none: only the next reading of Prefect.
    blocked: Option<String>,
    until: Option<Timestamp>,
}

fn next(p: &Pass) -> Next {
    let workspace = p.d.place(p.status).workspace;
    let blocked = |cause: String, until| Next::Wait(Wait { blocked: Some(cause), until });
    let unseen = || Next::Wait(Wait { blocked: None, until: None });
    match &p.o.workspace {
        WorkspaceView::Missing => {
            return blocked(format!("PrefectWorkspace `{workspace}` does not exist"), None);
        }
        // Just started: the connection has not been tried yet.
        WorkspaceView::NotReady { reason } if reason == "Progressing" => return unseen(),
        WorkspaceView::NotReady { reason } => {
            return blocked(format!("PrefectWorkspace `{workspace}` cannot be used ({reason})"), None);
        }
        WorkspaceView::Ready => {}
    }
    if let Some(memory) = p.waits() {
        return blocked("Prefect did not do it".into(), Some(memory.until));
    }
    match &p.o.deployment {
        View::Unread | View::Dirty => unseen(),
        View::Absent => Next::Done,
        View::Present(there) => match (owner(p.d, p.status, there), &p.o.heir, repair_since(p.status)) {
            (Owner::Us, Some(heir), owed) => hand_over(p, there, heir, owed),
            (Owner::Us, None, _) if p.d.deletion_policy == DeletionPolicy::Delete => {
                Next::Write(vec![Write::Delete { id: there.id.clone() }])
            }
            // Not ours (any more), or left as it is: but what a write of ours cost is made good.
            (_, _, Some(since)) if p.status.deployment_id.as_deref() == Some(there.id.as_str()) => {
                match repair(there, since) {
                    Step::Do(writes) => Next::Write(writes),
                    Step::Rest | Step::Hold | Step::Release | Step::Intend => Next::Done,
                }
            }
            (_, _, _) => Next::Done,
        },
    }
}

/// Renaming a resource in Git must not delete its deployment: another resource that declares it gets the mark.
fn hand_over(p: &Pass, there: &Deployment, heir: &ObjectName, owed: Option<Timestamp>) -> Next {
    match (owed, p.o.clock) {
        (Some(since), _) => {
            let fields = diff::remarked(there, &p.d.mark_of(heir));
            let patch = Write::Patch { id: there.id.clone(), fields };
            Next::Write(vec![patch, Write::ScheduleRuns { id: there.id.clone(), since }])
        }
        (None, Some(since)) => {
            let mut next = p.status.clone();
            next.deployment_id = Some(there.id.to_string());
            next.pending_write = Some(PendingWrite { since: Time(since) });
            Next::Announce(next)
        }
        (None, None) => Next::Wait(Wait { blocked: None, until: None }),
    }
}

fn deleting(p: &Pass, mut status: FlowDeploymentStatus) -> FlowDeploymentStatus {
    let drifted = Drifted::stored(&status);
    let ready = Ready::wrong("Deleting", "The deployment in Prefect is deleted or handed over.");
    set(&mut status, p.d.generation, ready, drifted, p.now);
    status
}
