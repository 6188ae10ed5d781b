//! Rules for a resource that stays: the first that has something to say decides.

use super::claim::{Owner, owner};
use super::diff::{self, Diff};
use super::pass::{Drifted, Pass, Ready, drift, repair_since, set, told, unavailable, warned};
use super::{Claim, Decision, Desired, Observed, Step, View, WorkspaceView, Write, WriteKind, parting};
use crate::api::{DeletionPolicy, DriftMode, FlowDeploymentStatus, PendingWrite, Time};
use crate::guards::{Guard, holds};
use crate::model::deployments::Deployment;
use crate::model::time::add;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a missing reference is waited for before it counts as wrong.
const GRACE: Duration = Duration::from_secs(300);

pub(super) fn decide(d: &Desired, o: &Observed, status: &FlowDeploymentStatus, now: Timestamp) -> Decision {
    const RULES: [fn(&Pass) -> Option<Decision>; 7] =
        [finalizer, suspended, unreachable, observed, moved, contested, foreign];
    let pass = Pass { d, o, status, now };
    RULES.iter().find_map(|rule| rule(&pass)).unwrap_or_else(|| match &o.deployment {
        View::Present(there) => keep(&pass, there),
        View::Absent => create(&pass),
        View::Unread | View::Dirty => wait(&pass),
    })
}

/// The finalizer stands exactly while there may be something to delete.
fn finalizer(p: &Pass) -> Option<Decision> {
    match p.d.deletion_policy {
        DeletionPolicy::Orphan if p.d.has_finalizer => Some(p.decision(p.status.clone(), Step::Release)),
        DeletionPolicy::Delete if p.status.full_name.is_some() => hold(p),
        DeletionPolicy::Orphan | DeletionPolicy::Delete => None,
    }
}

/// No change to Prefect while suspended.
fn suspended(p: &Pass) -> Option<Decision> {
    let suspended = p.d.suspend.then(|| {
        p.with(
            Ready::good("Suspended", "spec.suspend is true: Prefect is left as it is"),
            Drifted::NotObserved,
        )
    })?;
    Some(leave_alone(p, suspended))
}

/// No change; but what a change of ours made Prefect drop is still made good.
fn leave_alone(p: &Pass, status: FlowDeploymentStatus) -> Decision {
    let View::Present(there) = &p.o.deployment else { return p.rest(status) };
    let changed_by_us = p.status.deployment_id.as_deref() == Some(there.id.as_str());
    match repair_since(p.status).filter(|_| changed_by_us && p.o.workspace == WorkspaceView::Ready) {
        Some(since) => match p.waits() {
            Some(memory) => p.rest_until(status, memory.until),
            None => p.decision(status, repair(there, since)),
        },
        None => p.rest(status),
    }
}

/// Without the connection nothing can be seen. An outage shows only where something is due.
fn unreachable(p: &Pass) -> Option<Decision> {
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

fn missing(p: &Pass, workspace: &str) -> Decision {
    let waiting = Ready::working(
        "DependencyNotFound",
        format!(
            "PrefectWorkspace `{workspace}` does not exist in this namespace; create it or correct spec.workspaceRef.name"
        ),
    );
    let since = p.ready().filter(|r| r.reason == "DependencyNotFound").map(|r| r.last_transition_time.0);
    let overdue = p.ready().is_some_and(|r| r.reason == "DependencyNotFound" && r.status == "False");
    let end = add(since.unwrap_or(p.now), GRACE);
    if !overdue && p.now < end {
        return p.rest_until(p.with(waiting, Drifted::stored(p.status)), end);
    }
    if workspace != p.d.workspace {
        // The spec has moved on and the old workspace is gone for good: what was there cannot be reached any more.
        return parting::left_behind(p, "its workspace no longer exists");
    }
    p.rest(p.with(waiting.overdue(), Drifted::stored(p.status)))
}

/// Says what would be done, and does nothing.
fn observed(p: &Pass) -> Option<Decision> {
    if !p.d.observes {
        return None;
    }
    let name = &p.d.deployment;
    let plan: Vec<String> = match &p.o.deployment {
        View::Unread | View::Dirty => return Some(wait(p)),
        View::Absent => vec![format!("create deployment `{name}`")],
        View::Present(there) => match owner(p.d, p.status, there) {
            Owner::Us => Vec::new(),
            Owner::Nobody if p.d.adopts => vec![format!("adopt deployment `{name}`")],
            Owner::Nobody | Owner::Gone(_) | Owner::OtherInstance(_) => {
                vec![format!("nothing: deployment `{name}` is there and not Feedwater's")]
            }
        }
        .into_iter()
        .chain(
            Diff::between(p.d, there, &p.status.applied_fields)
                .names
                .iter()
                .map(|field| format!("change {field}")),
        )
        .filter(|step| step != "change mark")
        .collect(),
    };
    let mut status = p.status.clone();
    let message = if plan.is_empty() {
        "managementPolicy is Observe; Prefect has the deployment as declared"
    } else {
        "managementPolicy is Observe: status.plan says what would be written"
    };
    status.plan = plan;
    set(&mut status, p.d.generation, Ready::good("Observing", message), Drifted::NotObserved, p.now);
    Some(p.rest(status))
}

/// The spec names another workspace, flow or deployment than the one we have: leave that first.
fn moved(p: &Pass) -> Option<Decision> {
    (p.d.place(p.status) != p.d.wanted_place()).then(|| parting::leave(p))
}

fn contested(p: &Pass) -> Option<Decision> {
    if matches!(p.o.deployment, View::Unread | View::Dirty) {
        return Some(wait(p));
    }
    let deployment = &p.d.deployment;
    let ready = match &p.o.claim {
        Claim::Ours => return None,
        Claim::Taken { by } => Ready::stalled(
            "TargetConflict",
            format!(
                "FlowDeployment {by} already keeps deployment `{deployment}`; delete one of the two or name another deployment"
            ),
        ),
        Claim::TakenByTerminating { by } => Ready::working(
            "Progressing",
            format!(
                "Waits for FlowDeployment {by}, which is being deleted, to let go of deployment `{deployment}`"
            ),
        ),
    };
    // The holder may hand it over at any moment: be prepared, so that it is never ours unnoticed.
    if let Some(hold) = hold(p) {
        return Some(hold);
    }
    let mut status = p.status.clone();
    status.full_name = Some(deployment.to_string());
    status.workspace = Some(p.d.workspace.clone());
    set(&mut status, p.d.generation, ready, Drifted::NotObserved, p.now);
    Some(leave_alone(p, status))
}

/// Nothing is touched that does not carry our mark.
fn foreign(p: &Pass) -> Option<Decision> {
    let View::Present(there) = &p.o.deployment else { return None };
    let (name, mark) = (&p.d.deployment, &p.d.mark);
    let ready = match owner(p.d, p.status, there) {
        Owner::Us => return None,
        Owner::Nobody if p.d.adopts => return adopt(p),
        Owner::Nobody => Ready::stalled(
            "AdoptionRequired",
            format!(
                "Deployment `{name}` exists and was not made by Feedwater; take it over with adoptionPolicy: Adopt, or delete it in Prefect"
            ),
        ),
        Owner::Gone(whose) => Ready::stalled(
            "AdoptionRequired",
            format!(
                "Deployment `{name}` carries `{whose}`, of a resource that does not declare it; replace that tag by `{mark}` in Prefect to \
                 hand it over"
            ),
        ),
        Owner::OtherInstance(whose) => Ready::stalled(
            "TargetConflict",
            format!(
                "Deployment `{name}` carries `{whose}`, of another Feedwater; name another deployment, or remove that tag in Prefect if \
                 that one is gone"
            ),
        ),
    };
    Some(leave_alone(p, p.with(ready, Drifted::NotObserved)))
}

/// It becomes ours: written down before its mark is set, so that its deletion policy is known from then on.
fn adopt(p: &Pass) -> Option<Decision> {
    if p.status.adopted == Some(true) {
        return None;
    }
    let mut next = p.status.clone();
    next.adopted = Some(true);
    let note =
        told("Adopted", format!("Deployment `{}` that Prefect has already is taken over", p.d.deployment));
    Some(Decision {
        notes: vec![note],
        ..p.decision(p.working(next, "Takes the deployment over"), Step::Intend)
    })
}

fn wait(p: &Pass) -> Decision {
    p.rest(p.waiting(p.status.clone()))
}

fn create(p: &Pass) -> Decision {
    if p.status.deployment_id.is_some() {
        return vanished(p);
    }
    if let Some(waiting) = backing_off(p, &BTreeSet::from(["deployment".to_owned()])) {
        return waiting;
    }
    if let Some(hold) = hold(p) {
        return hold;
    }
    let next = announced(p, &BTreeSet::new());
    let create = Write::Create { flow: p.d.deployment.flow.to_string(), new: diff::new_deployment(p.d) };
    announce_or(p, next, "Creates the deployment in Prefect", vec![create])
}

/// The deployment we had is gone: somebody deleted it in Prefect. The next pass creates it anew.
fn vanished(p: &Pass) -> Decision {
    let mut next = p.status.clone();
    (next.deployment_id, next.pending_write) = (None, None);
    next.last_drift = Some(drift(p.now, ["deployment".to_owned()]));
    let working = Ready::working("Progressing", "The deployment is gone from Prefect and is created again");
    set(&mut next, p.d.generation, working, Drifted::NotObserved, p.now);
    let note = warned("DriftDetected", "The deployment was deleted in Prefect; Feedwater creates it again");
    Decision { notes: vec![note], ..p.decision(next, Step::Intend) }
}

/// The deployment is there and ours: make it as declared, make good what that cost, and rest.
fn keep(p: &Pass, there: &Deployment) -> Decision {
    let diff = Diff::between(p.d, there, &p.status.applied_fields);
    let owed = repair_since(p.status);
    let busy = p
        .waits()
        .and_then(|m| m.failure.as_ref())
        .is_some_and(|(kind, failure)| *kind == WriteKind::ScheduleRuns || failure.is_passing());
    let due = owed.is_some() || !diff.is_empty();
    let held_back = backing_off(p, &diff.names).filter(|_| busy && due);
    let held_back = held_back.or_else(|| backing_off(p, &diff.names).filter(|_| !diff.is_empty()));
    match (owed, held_back) {
        // What a write of ours made Prefect drop does not wait until a refused one is tried again.
        (Some(since), Some(blocked)) if !busy => Decision { step: repair(there, since), ..blocked },
        (_, Some(blocked)) => blocked,
        (Some(since), None) if diff.is_empty() => p.decision(
            p.working(p.status.clone(), "Has Prefect schedule its runs again"),
            repair(there, since),
        ),
        (None, None) if diff.is_empty() => in_sync(p, there),
        (owed, None) => correct(p, there, &diff, owed),
    }
}

/// Somebody has changed it in Prefect, and the spec leaves it so.
fn tolerated(p: &Pass, diff: &Diff) -> Option<Decision> {
    let names = || diff.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let drifted = match p.d.drift {
        DriftMode::Enabled => return None,
        DriftMode::Warn => Drifted::Detected(format!(
            "Prefect differs in {}; left so, since driftDetection.mode is Warn",
            names()
        )),
        DriftMode::Disabled => Drifted::No,
    };
    let ready = Ready::good("InSync", format!("Prefect has had deployment `{}` as declared", p.d.deployment));
    Some(p.rest(p.with(ready, drifted)))
}

fn in_sync(p: &Pass, there: &Deployment) -> Decision {
    if let Some(hold) = hold(p) {
        return hold;
    }
    let mut status = announced(p, &BTreeSet::new());
    status.deployment_id = Some(there.id.to_string());
    status.applied_fields = diff::declared(p.d).into_iter().collect();
    let ready = Ready::good("InSync", format!("Prefect has deployment `{}` as declared", p.d.deployment));
    let labels = diff::missing_labels(p.d, there);
    let drifted = if labels.is_empty() {
        Drifted::No
    } else {
        let names = labels.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Drifted::Detected(format!(
            "Labels differ ({names}): Prefect takes them only when a deployment is created; delete it in Prefect to have it made anew with them"
        ))
    };
    set(&mut status, p.d.generation, ready, drifted, p.now);
    Decision { memory: None, ..p.rest(status) }
}

fn correct(p: &Pass, there: &Deployment, diff: &Diff, owed: Option<Timestamp>) -> Decision {
    if let Some(hold) = hold(p) {
        return hold;
    }
    // Reverted already and not declared: no longer ours to remember.
    let still_there: BTreeSet<String> =
        p.status.applied_fields.iter().filter(|f| diff.names.contains(*f)).cloned().collect();
    let mut next = announced(p, &still_there);
    next.deployment_id = Some(there.id.to_string());
    let drifted = p.steady() && owed.is_none() && p.memory().is_none_or(|m| m.failure.is_none());
    if drifted && let Some(tolerated) = tolerated(p, diff) {
        return tolerated;
    }
    let mut notes = Vec::new();
    if drifted {
        next.last_drift = Some(drift(p.now, diff.names.iter().cloned()));
        let names = diff.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        notes.push(told("DriftDetected", format!("Prefect differed in {names}; Feedwater puts it right")));
    }
    if owed.is_none() && (drifted || diff.drops_runs()) && holds(Guard::PendingWrite) {
        let Some(since) = p.o.clock else { return wait(p) };
        next.pending_write = Some(PendingWrite { since: Time(since) });
    }
    let writes = diff.writes(there, repair_since(&next));
    Decision { notes, ..announce_or(p, next, "Changes the deployment in Prefect as declared", writes) }
}

/// What is about to be set goes into status before it is set: a crash in between leaks nothing.
fn announced(p: &Pass, still_there: &BTreeSet<String>) -> FlowDeploymentStatus {
    let place = p.d.wanted_place();
    let mut status = p.status.clone();
    status.full_name = Some(place.deployment.to_string());
    status.workspace = Some(place.workspace);
    status.applied_fields = diff::declared(p.d).union(still_there).cloned().collect();
    status.plan = Vec::new();
    status
}

/// Publishes what is announced if it is not in status yet, else writes.
fn announce_or(p: &Pass, next: FlowDeploymentStatus, message: &str, writes: Vec<Write>) -> Decision {
    let step = if next == *p.status { Step::Do(writes) } else { Step::Intend };
    p.decision(p.working(next, message), step)
}

/// The finalizer precedes the first write.
fn hold(p: &Pass) -> Option<Decision> {
    let needed = p.d.deletion_policy == DeletionPolicy::Delete && !p.d.has_finalizer;
    needed.then(|| p.decision(p.status.clone(), Step::Hold))
}

/// A failed try waits for its time; a new generation does not.
fn backing_off(p: &Pass, names: &BTreeSet<String>) -> Option<Decision> {
    let memory = p.waits()?;
    let ready = match &memory.failure {
        Some(failure) => p.verdict(failure),
        None => Some(Ready::wrong(
            "RemoteRejected",
            format!(
                "Prefect accepts the declared values and then shows others in: {}",
                names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        )),
    };
    let status = match ready {
        Some(ready) => p.with(ready, Drifted::stored(p.status)),
        None => p.working(p.status.clone(), "Prefect is busy; tries again soon"),
    };
    Some(p.rest_until(status, memory.until))
}

/// Asks for the runs that a write of ours made Prefect drop.
pub(super) fn repair(there: &Deployment, since: Timestamp) -> Step {
    Step::Do(vec![Write::ScheduleRuns { id: there.id.clone(), since }])
}
