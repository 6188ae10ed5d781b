//! Rules for a resource that stays: the first that has something to say decides.

use super::ahead;
use super::claim::{Owner, is_written, owner};
use super::diff::{self, Diff};
use super::pass::{Drifted, Pass, Ready, cut, drift, forget, listed, set, told, warned};
use super::repair::{self, repair};
use super::{Claim, Decision, Desired, Observed, Step, View, WorkspaceView, Write, contest, values, way};
use crate::api::{DeletionPolicy, DriftMode, FlowDeploymentStatus};
use crate::guards::{Guard, holds};
use crate::model::connection::Standing;
use crate::model::deployments::Deployment;
use crate::model::time::add;
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// Most steps of a plan, and characters of each.
const MOST_PLAN: (usize, usize) = (64, 256);
/// For how long what was made good before a change needs not be made good again; longer than a reading of Prefect takes.
const PAID: Duration = Duration::from_secs(480);
/// Passes in a row that make good what is owed before the change is made nevertheless: a day takes three.
const MOST_PAID: u32 = 5;
/// No generation: the deployment that is there has not had one as a whole.
const NOTHING: i64 = 0;

pub(super) fn decide(d: &Desired, o: &Observed, status: &FlowDeploymentStatus, now: Timestamp) -> Decision {
    let mut decision = judge(d, o, status, now);
    if !d.observes {
        // A plan is of one who only observes.
        decision.status.plan.clear();
    }
    decision
}

fn judge(d: &Desired, o: &Observed, status: &FlowDeploymentStatus, now: Timestamp) -> Decision {
    const RULES: [fn(&Pass) -> Option<Decision>; 12] = [
        finalizer,
        way::denied,
        way::turned,
        suspended,
        way::awaited,
        way::unreachable,
        values::cloud_only,
        values::secrets,
        observed,
        way::moved,
        contested,
        foreign,
    ];
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
        DeletionPolicy::Delete if p.status.full_name.is_some() && p.o.workspace != WorkspaceView::Missing => {
            hold(p)
        }
        DeletionPolicy::Orphan | DeletionPolicy::Delete => None,
    }
}

/// No change to Prefect while suspended.
pub(super) fn suspended(p: &Pass) -> Option<Decision> {
    let suspended = p.d.suspend.then(|| {
        p.with(
            Ready::good("Suspended", "spec.suspend is true: Prefect is left as it is"),
            Drifted::NotObserved,
        )
    })?;
    Some(leave_alone(p, suspended))
}

/// No change; but what a change of ours made Prefect drop is still made good.
pub(super) fn leave_alone(p: &Pass, status: FlowDeploymentStatus) -> Decision {
    let View::Present(there) = &p.o.deployment else { return p.rest(status) };
    let changed_by_us = is_written(p.d, p.status, there);
    let owed = p.status.pending_write.as_ref();
    let owed = owed.filter(|_| changed_by_us && p.o.workspace == WorkspaceView::Ready);
    match owed.and_then(|owed| repair(there, owed, p.o.clock)) {
        Some(step) => match p.waits() {
            Some(memory) => p.rest_until(status, memory.until),
            None => p.decision(status, step),
        },
        None => p.rest(status),
    }
}

/// Says what would be done, and does nothing.
fn observed(p: &Pass) -> Option<Decision> {
    if !p.d.observes {
        return None;
    }
    let (name, was) = (&p.d.deployment, p.d.place(p.status));
    let plan = match &p.o.deployment {
        _ if was != p.d.wanted_place() => vec![
            format!("leave deployment `{}` in workspace `{}`", was.deployment, was.workspace),
            format!("create deployment `{name}`, or adopt what is there"),
        ],
        View::Unread | View::Dirty => return Some(wait(p)),
        _ if p.o.claim == Claim::Unresolved => return Some(wait(p)),
        _ if let Claim::Taken { by } | Claim::TakenByLeaving { by } = &p.o.claim => {
            vec![format!("nothing: FlowDeployment {by} keeps deployment `{name}`")]
        }
        View::Absent => vec![format!("create deployment `{name}`")],
        View::Present(there) => match owner(p.d, p.status, there) {
            Owner::Us => changes(p, there).collect(),
            Owner::Nobody | Owner::Gone(_) if p.d.adopts => {
                [format!("adopt deployment `{name}`")].into_iter().chain(changes(p, there)).collect()
            }
            Owner::Nobody | Owner::Gone(_) | Owner::OtherInstance(_) => {
                vec![format!("nothing: deployment `{name}` is there and not Feedwater's")]
            }
        },
    };
    let mut status = p.status.clone();
    let message = if plan.is_empty() {
        "managementPolicy is Observe; Prefect has the deployment as declared"
    } else {
        "managementPolicy is Observe: status.plan says what would be written"
    };
    status.plan = plan.iter().take(MOST_PLAN.0).map(|step| cut(step, MOST_PLAN.1)).collect();
    set(&mut status, p.d.generation, Ready::good("Observing", message), Drifted::NotObserved, p.now);
    Some(p.rest(status))
}

fn changes(p: &Pass, there: &Deployment) -> impl Iterator<Item = String> {
    let names = Diff::between(p.d, there, &p.status.applied_fields).names;
    names.into_iter().filter(|field| field != "mark").map(|field| format!("change {field}"))
}

fn contested(p: &Pass) -> Option<Decision> {
    if matches!(p.o.deployment, View::Unread | View::Dirty) {
        return Some(wait(p));
    }
    let ready = match &p.o.claim {
        Claim::Ours => return None,
        Claim::Unresolved => return Some(wait(p)),
        Claim::Taken { by } => ahead::taken(p, by),
        Claim::TakenByLeaving { by } => ahead::yielding(p, by),
    };
    // The holder may hand it over at any moment: be prepared, so that it is never ours unnoticed.
    if let Some(hold) = hold(p) {
        return Some(hold);
    }
    let mut status = p.status.clone();
    status.full_name = Some(p.d.deployment.to_string());
    status.workspace = Some(p.d.workspace.to_string());
    set(&mut status, p.d.generation, ready, Drifted::NotObserved, p.now);
    Some(leave_alone(p, status))
}

/// Nothing is touched that does not carry our mark.
fn foreign(p: &Pass) -> Option<Decision> {
    let View::Present(there) = &p.o.deployment else { return None };
    let ready = match owner(p.d, p.status, there) {
        // Our mark, and status knows of no write: we took it over once and let it go again, or status is lost.
        Owner::Us if p.d.adopts && p.status.full_name.is_none() => return adopt(p, there),
        Owner::Nobody | Owner::Gone(_) if p.d.adopts => return adopt(p, there),
        whose => ahead::not_ours(p, &whose)?,
    };
    Some(leave_alone(p, p.with(ready, Drifted::NotObserved)))
}

/// It becomes ours: written down before its mark is set, so that its deletion policy is known from then on.
fn adopt(p: &Pass, there: &Deployment) -> Option<Decision> {
    // The very one that we have, whose mark somebody took off, gets it again.
    let is_ours = !another(p, there);
    if is_ours || (p.status.adopted == Some(true) && p.status.deployment_id.is_none()) {
        return None;
    }
    let mut next = p.status.clone();
    // What was set, changed and owed there was in another deployment of that name: nothing of it speaks of this one.
    forget(&mut next);
    (next.full_name, next.workspace) = (p.status.full_name.clone(), p.status.workspace.clone());
    next.adopted = Some(true);
    next.in_sync_generation = Some(NOTHING);
    let note =
        told("Adopted", format!("Deployment `{}` that Prefect has already is taken over", p.d.deployment));
    Some(Decision {
        notes: vec![note],
        ..p.decision(p.working(next, "Takes the deployment over"), Step::Intend)
    })
}

pub(super) fn wait(p: &Pass) -> Decision {
    p.rest(p.waiting(p.status.clone()))
}

fn create(p: &Pass) -> Decision {
    if p.o.standing == Standing::Leaving {
        return way::shut(p);
    }
    if p.status.deployment_id.is_some() || p.status.adopted == Some(true) {
        return vanished(p);
    }
    if let Some(waiting) = backing_off(p, &BTreeSet::from(["deployment".to_owned()])) {
        return waiting;
    }
    if let Some(not_yet) = hold(p).or_else(|| enter(p)) {
        return not_yet;
    }
    let mut next = announced(p, &BTreeSet::new());
    next.in_sync_generation = Some(NOTHING);
    let create = Write::Create { flow: p.d.deployment.flow.to_string(), new: diff::new_deployment(p.d) };
    announce_or(p, next, "Creates the deployment in Prefect", vec![create])
}

/// The deployment we had is gone: somebody deleted it in Prefect, or the connection leads to another server now. The next pass creates it anew, and
/// that one is ours from the beginning.
fn vanished(p: &Pass) -> Decision {
    let mut next = p.status.clone();
    (next.deployment_id, next.pending_write, next.adopted) = (None, None, None);
    next.in_sync_generation = Some(NOTHING);
    next.last_drift = Some(drift(p.now, ["deployment".to_owned()]));
    let working = Ready::working("Progressing", "The deployment is gone from Prefect and is created again");
    set(&mut next, p.d.generation, working, Drifted::NotObserved, p.now);
    let note = warned(
        "DriftDetected",
        "The deployment is no longer in Prefect: it was deleted there, or the connection leads to another server now; Feedwater creates it again",
    );
    Decision { notes: vec![note], ..p.decision(next, Step::Intend) }
}

/// The deployment is there and ours: make it as declared, make good what that cost, and rest.
fn keep(p: &Pass, there: &Deployment) -> Decision {
    let d = &*declared(p);
    let mut diff = Diff::between(d, there, &p.status.applied_fields);
    let (left, until) = contest::left(p, &diff.names).unzip();
    let left = left.unwrap_or_default();
    if let Some(until) = until {
        diff = Diff::but_for(&left, d, there, &p.status.applied_fields);
        if diff.is_empty() && (p.status.pending_write.is_none() || there.paused) {
            return contest::leave(p, &left, until);
        }
    }
    let owed = p.status.pending_write.as_ref();
    let others = others(p, there, &diff);
    if !others.is_empty() {
        let ours = Diff::but_for(&others, d, there, &p.status.applied_fields);
        if ours.is_empty() && (owed.is_none() || there.paused) {
            return tolerated(p, &diff);
        }
        diff = ours;
    }
    let busy = p
        .waits()
        .and_then(|m| m.failure.as_ref())
        .is_some_and(|(kind, failure)| kind.repairs() || failure.is_passing());
    let due = owed.is_some() || !diff.is_empty();
    let held_back = backing_off(p, &diff.names).filter(|_| busy && due);
    let held_back = held_back.or_else(|| backing_off(p, &diff.names).filter(|_| !diff.is_empty()));
    match (owed, held_back) {
        // What a write of ours made Prefect drop does not wait until a refused one is tried again.
        (Some(owed), Some(blocked)) if !busy => match repair(there, owed, p.o.clock) {
            Some(step) => Decision { step, ..blocked },
            None => blocked,
        },
        (_, Some(blocked)) => blocked,
        (Some(owed), None) if diff.is_empty() => match repair(there, owed, p.o.clock) {
            Some(step) => {
                p.decision(p.working(p.status.clone(), "Has Prefect schedule its runs again"), step)
            }
            None => in_sync(p, there),
        },
        (None, None) if diff.is_empty() => in_sync(p, there),
        (_, None) => correct(p, there, &diff, &left),
    }
}

/// What the spec declares. What is set at creation and then left to others is set by then also where it takes writes of its own, as schedules do.
fn declared<'a>(p: &Pass<'a>) -> Cow<'a, Desired> {
    // What was taken over, handed over or found again by its mark was there before.
    if p.status.in_sync_generation != Some(NOTHING) || p.status.adopted == Some(true) {
        return Cow::Borrowed(p.d);
    }
    let mut d = p.d.clone();
    d.ignored.retain(|name| !name.starts_with(diff::SCHEDULES));
    Cow::Owned(d)
}

/// Of what differs, what somebody has changed in Prefect and the mode leaves so: all but the fields that a rotated Secret goes into. A
/// deployment that was made anew in its place never was as declared.
fn others(p: &Pass, there: &Deployment, diff: &Diff) -> BTreeSet<String> {
    let known = p.status.deployment_id.is_some();
    if p.d.drift == DriftMode::Enabled || !p.applied() || (known && another(p, there)) {
        return BTreeSet::new();
    }
    let due = values::rotated(p) || p.status.pending_write.is_some();
    let ours = if due { values::fields(p.d) } else { BTreeSet::new() };
    diff.names.iter().filter(|name| !ours.contains(name.as_str())).cloned().collect()
}

/// Whether it is another deployment than status speaks of.
fn another(p: &Pass, there: &Deployment) -> bool {
    p.status.deployment_id.as_deref() != Some(there.id.as_str())
}

/// Somebody has changed it in Prefect, and the spec leaves it so.
fn tolerated(p: &Pass, diff: &Diff) -> Decision {
    let drifted = match p.d.drift {
        DriftMode::Warn => Drifted::Detected(format!(
            "Prefect differs in {}; left so, since driftDetection.mode is Warn",
            listed(&diff.names)
        )),
        DriftMode::Enabled | DriftMode::Disabled => Drifted::No,
    };
    let ready = Ready::good("InSync", format!("Prefect has had deployment `{}` as declared", p.d.deployment));
    let mut status = p.with(ready, drifted);
    status.secrets = p.o.values.applied();
    status.in_sync_generation = Some(p.d.generation);
    // What a paused deployment would have had due is not asked for.
    status.pending_write = None;
    p.rest(status)
}

fn in_sync(p: &Pass, there: &Deployment) -> Decision {
    if let Some(hold) = hold(p) {
        return hold;
    }
    let (labels, removed) = diff::labels(p.d, there, &p.status.applied_fields);
    let shared = diff::limit_is_shared(p.d, there);
    let mut status = announced(p, &removed);
    status.deployment_id = Some(there.id.to_string());
    status.secrets = p.o.values.applied();
    status.in_sync_generation = Some(p.d.generation);
    // What a paused deployment would have had due is not asked for.
    status.pending_write = None;
    contest::agree(&mut status);
    let ready = Ready::good("InSync", format!("Prefect has deployment `{}` as declared", p.d.deployment));
    let labels = (!labels.is_empty() && !p.d.ignored.contains("labels")).then(|| {
        let names = listed(&labels);
        format!(
            "Labels differ ({names}): Prefect takes them only when a deployment is created; delete it in Prefect to have it made anew with them"
        )
    });
    let shared = shared.then(|| {
        "The deployment has a global concurrency limit that others may share, so spec.concurrencyLimit.limit is not applied: leave \
         concurrencyLimit out, or take that limit off the deployment in Prefect"
            .to_owned()
    });
    let differs: Vec<String> = labels.into_iter().chain(shared).collect();
    let drifted = if differs.is_empty() || p.d.drift == DriftMode::Disabled {
        Drifted::No
    } else {
        Drifted::Detected(differs.join(". "))
    };
    set(&mut status, p.d.generation, ready, drifted, p.now);
    Decision { memory: None, ..p.rest(status) }
}

fn correct(p: &Pass, there: &Deployment, diff: &Diff, left: &BTreeSet<String>) -> Decision {
    if let Some(not_yet) = hold(p).or_else(|| enter(p)) {
        return not_yet;
    }
    // Reverted already and not declared: no longer ours to remember.
    let (_, labels) = diff::labels(p.d, there, &p.status.applied_fields);
    let still_there =
        p.status.applied_fields.iter().filter(|f| diff.names.contains(*f)).cloned().chain(labels).collect();
    let mut next = announced(p, &still_there);
    if another(p, there) {
        next.deployment_id = Some(there.id.to_string());
        let known = p.status.deployment_id.is_some() || p.status.in_sync_generation == Some(NOTHING);
        next.in_sync_generation = known.then_some(NOTHING);
    }
    let rotated = values::rotated(p);
    contest::start_anew(&mut next, &values::rotated_fields(p));
    let owed = p.status.pending_write.is_some();
    let refused = p.memory().is_some_and(|m| m.failure.is_some())
        || Drifted::stored(p.status) == Drifted::CorrectionFailed;
    let drifted = p.applied() && !rotated && !owed && !refused;
    let mut notes = Vec::new();
    if drifted {
        next.last_drift = Some(drift(p.now, diff.names.iter().cloned()));
        contest::correct(p, &mut next, &diff.names, left);
        let names = listed(&diff.names);
        notes.push(told("DriftDetected", format!("Prefect differed in {names}; Feedwater puts it right")));
    }
    if !owed && holds(Guard::PendingWrite) {
        let taken_over = !there.tags.contains(&p.d.mark);
        let Some(owed) = repair::announced(p, there, diff, drifted || taken_over) else { return wait(p) };
        next.pending_write = Some(owed);
    }
    let owed = next.pending_write.as_ref();
    let paid = p.memory().and_then(|memory| memory.paid);
    // What is paid is paid, unless the next reading of Prefect came so late that there is a past again of which the new rules must not speak. Where
    // each comes late, the change is made in the end.
    let is_paid = |clock: &Timestamp| {
        let paid = paid.filter(|paid| owed.is_some_and(|owed| owed.since.0 == paid.until));
        paid.is_some_and(|paid| *clock <= add(paid.until, PAID) || paid.passes >= MOST_PAID)
    };
    let clock = p.o.clock.filter(|clock| !is_paid(clock));
    let writes = diff.writes(there, owed, clock);
    let decision = announce_or(p, next, "Changes the deployment in Prefect as declared", writes);
    Decision { notes, ..decision }
}

/// What is about to be set goes into status before it is set: a crash in between leaks nothing.
fn announced(p: &Pass, still_there: &BTreeSet<String>) -> FlowDeploymentStatus {
    let place = p.d.wanted_place();
    let mut status = p.status.clone();
    status.full_name = Some(place.deployment.to_string());
    status.workspace = Some(place.workspace.to_string());
    status.applied_fields = diff::declared(p.d).union(still_there).cloned().collect();
    status.plan = Vec::new();
    status
}

/// Publishes what is announced if it is not in status yet, else writes.
fn announce_or(p: &Pass, next: FlowDeploymentStatus, message: &str, writes: Vec<Write>) -> Decision {
    let step = if next == *p.status { Step::Do(writes) } else { Step::Intend };
    p.decision(p.working(next, message), step)
}

/// The finalizer precedes the first write, and the connection waits for us before we have it.
fn hold(p: &Pass) -> Option<Decision> {
    let needed = p.d.deletion_policy == DeletionPolicy::Delete && !p.d.has_finalizer;
    needed.then(|| match p.o.standing {
        Standing::Held => p.decision(p.status.clone(), Step::Hold),
        Standing::Unheld => wait(p),
        Standing::Leaving => way::shut(p),
    })
}

/// What stands in the way of the first write to a place.
fn enter(p: &Pass) -> Option<Decision> {
    match p.o.standing {
        _ if p.status.deployment_id.is_some() => None,
        Standing::Unheld if p.d.deletion_policy == DeletionPolicy::Delete => Some(wait(p)),
        Standing::Leaving => Some(way::shut(p)),
        Standing::Held | Standing::Unheld => None,
    }
}

/// A failed try waits for its time; a new generation does not.
fn backing_off(p: &Pass, names: &BTreeSet<String>) -> Option<Decision> {
    let memory = p.waits()?;
    let ready = match &memory.failure {
        Some(failure) => p.verdict(failure),
        None => Some(Ready::wrong(
            "RemoteRejected",
            format!("Prefect accepts the declared values and then shows others in: {}", listed(names)),
        )),
    };
    let status = match ready {
        Some(ready) => p.with(ready, Drifted::stored(p.status)),
        None => p.working(p.status.clone(), "Prefect is busy; tries again soon"),
    };
    Some(p.rest_until(status, memory.until))
}
