//! `ExtractRefresh`: what is observed of it, and how it acts on Tableau.

use super::budgets::SiteBudget;
use super::context::{Context, Objects};
use super::extract_observed::observe;
use super::extract_schedules;
use super::index::{Dependent, object_name};
use super::lanes::{Priority, Waker};
use super::ledger::Entry;
use super::publish;
use super::reconcile::{Note, Plan, Planned, Subject};
use super::site::{Hint, SiteSession};
use crate::api::{Attempt, AttemptPhase, BASELINE, ExtractRefresh, ExtractRefreshStatus, JobOrigin, Outcome};
use crate::guards::{Guard, holds};
use crate::model::budget::Grant;
use crate::model::conditions;
use crate::model::extract::{
    self, Answer, BudgetView, Decision, Desired, Observed, ScheduleAck, ScheduleWrite, Step,
};
use crate::model::ids::{JobId, ObjectName};
use crate::model::time::add;
use crate::runtime::metrics::{Kind, Origin, Refreshed, Residue};
use crate::tableau::RefreshError;
use async_trait::async_trait;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The subject.
pub struct Extracts;

/// What was parsed and observed; `None` for a spec that cannot be acted on.
pub type Seen = Option<(Desired, Observed)>;

/// What a pass may do.
pub enum Act {
    /// Copy the baseline from status into the annotation.
    Annotate(Timestamp),
    /// Start a refresh.
    Post(Arc<SiteSession>, Box<Attempt>),
    /// Cancel our job.
    Cancel(Arc<SiteSession>, Box<Attempt>, JobId),
    /// Change schedules in Tableau.
    Schedule(Arc<SiteSession>, ScheduleWrite),
    /// Set our finalizer.
    Hold,
    /// Take it away; whether schedules are left behind against the deletion policy.
    Release {
        /// See above.
        orphaned: bool,
    },
}

/// What was acknowledged, and for which attempt.
pub enum Ack {
    /// Nothing that concerns the machine.
    Nothing,
    /// Tableau's answer.
    Answer(Box<Attempt>, Answer),
    /// Tableau's answer about schedules.
    Schedule(ScheduleWrite, ScheduleAck),
}

/// A refresh POST may take this long; the lease must outlive it (TRIGGER.md 4.3).
pub(super) const POST_DEADLINE: Duration = Duration::from_secs(8);

#[async_trait]
impl Subject for Extracts {
    type Object = ExtractRefresh;
    type Seen = Seen;
    type Act = Act;
    type Ack = Ack;
    const KIND: Kind = Kind::ExtractRefresh;

    fn objects(ctx: &Context) -> &Objects<ExtractRefresh> {
        &ctx.objects.refreshes
    }

    fn plan(ctx: &Context, object: &Arc<ExtractRefresh>, now: Timestamp) -> Planned<Self> {
        let empty = ExtractRefreshStatus::default();
        let stored = object.status.as_ref().unwrap_or(&empty);
        let rest = |status| Planned { status, plan: Plan::Rest, again: None, notes: Vec::new(), seen: None };
        if object.metadata.deletion_timestamp.is_some() {
            // Running jobs are not cancelled, and nothing new is started.
            return extract_schedules::part(ctx, object, stored, now);
        }
        let desired = match Desired::parse(object) {
            Ok(desired) => desired,
            Err(why) => {
                let generation = object.metadata.generation.unwrap_or_default();
                return rest(extract::unsupported(stored, &why, generation, now));
            }
        };
        let at = ObjectName { namespace: desired.name.namespace.clone(), name: desired.site.as_str().into() };
        let session = ctx.sites.get(&at).map(|link| link.session);
        let mut observed = observe(ctx, &desired, stored, &at, session.as_ref());
        let decide = |observed: &Observed| {
            extract::decide(&desired, observed, stored, now, || uuid::Uuid::new_v4().to_string())
        };
        let mut decision = decide(&observed);
        if let Some(session) = &session {
            observed.budget = budgeted(ctx, &session.budget, &desired, &decision, now);
            if observed.budget != BudgetView::Free {
                decision = decide(&observed);
            }
        }
        let attempt = stored.attempt.clone().map(Box::new);
        let plan = match (decision.step, session, attempt) {
            (Step::Intend { id }, session, _) => match (session, decision.status.attempt.clone()) {
                (Some(session), Some(attempt)) if !holds(Guard::IntentBeforePost) => {
                    ctx.ledger.wrote(&id);
                    let lane = Some(session.lane.clone());
                    let act = Act::Post(session, Box::new(attempt));
                    Plan::Do { act, lane, priority: Priority::Triggered }
                }
                (_, _) => Plan::Intend(id),
            },
            (Step::Post { .. }, Some(session), Some(attempt)) => {
                let lane = Some(session.lane.clone());
                Plan::Do { act: Act::Post(session, attempt), lane, priority: Priority::Triggered }
            }
            (Step::Cancel { job }, Some(session), Some(attempt)) => {
                let lane = Some(session.lane.clone());
                Plan::Do { act: Act::Cancel(session, attempt, job), lane, priority: Priority::Changed }
            }
            (Step::Look { jobs, list }, Some(session), _) => {
                if let Some(since) = list {
                    session.hint(Hint::JobList(since));
                }
                if !jobs.is_empty() {
                    session.hint(Hint::Jobs(jobs));
                }
                Plan::Rest
            }
            (Step::Schedule(write), Some(session), _) => {
                let lane = Some(session.lane.clone());
                let changed = stored.observed_generation != desired.generation;
                let priority = if changed { Priority::Changed } else { Priority::Rest };
                Plan::Do { act: Act::Schedule(session, write), lane, priority }
            }
            (Step::LookAtTasks, Some(session), _) => {
                session.hint(Hint::Tasks);
                Plan::Rest
            }
            (Step::Hold, _, _) => Plan::Do { act: Act::Hold, lane: None, priority: Priority::Changed },
            (Step::Rest, _, _) => annotate(object, stored, &decision.status),
            // The session went away between observing and now: it is looked at again when there is one.
            (
                Step::Post { .. }
                | Step::Cancel { .. }
                | Step::Look { .. }
                | Step::Schedule(_)
                | Step::LookAtTasks,
                _,
                _,
            ) => Plan::Rest,
        };
        Planned {
            status: decision.status,
            plan,
            again: decision.again,
            notes: notes(decision.notes),
            seen: Some((desired, observed)),
        }
    }

    fn intended(ctx: &Context, id: &str) {
        ctx.ledger.wrote(id);
    }

    async fn act(ctx: &Context, object: &Arc<ExtractRefresh>, _: &Seen, act: Act) -> Option<Ack> {
        match act {
            Act::Annotate(baseline) => {
                let metadata = json!({ "annotations": { BASELINE: baseline.to_string() } });
                match publish::metadata(ctx, &ctx.objects.refreshes, &**object, metadata).await {
                    Ok(()) => Some(Ack::Nothing),
                    Err(error) => {
                        tracing::debug!(object = %object.name_any(), %error, "the baseline is not written yet");
                        None
                    }
                }
            }
            Act::Post(session, attempt) => {
                // Signed in before the fence is looked at, so that between the fence and the socket there is nothing but the POST.
                // A failure here is the POST's to report.
                let _ = session.client.site().await;
                if !ctx.may_send(POST_DEADLINE) {
                    return None;
                }
                if !ctx.ledger.spend(&attempt.id, ctx.clock.moment()) {
                    tracing::error!(object = %object.name_any(), "an intent that may have been sent was about to be sent again");
                    return None;
                }
                if let Some(name) = object_name(&**object) {
                    session.budget.started(&name, ctx.clock.moment());
                }
                let result = session
                    .client
                    .refresh(attempt.kind, &attempt.luid.as_str().into(), attempt.refresh_type, POST_DEADLINE)
                    .await;
                let answer = answer(result);
                if !ctx.lease.now().outlives(Duration::ZERO) {
                    // The lease ended under the POST: this process stood still between its look at the lease and the socket.
                    ctx.metrics.may_be_double(Residue::R2);
                }
                ctx.ledger.ended(&attempt.id, ctx.clock.moment());
                match &answer {
                    Answer::Job(job) => {
                        ctx.ledger.forget(&attempt.id);
                        session.hint(Hint::Jobs([job.clone()].into()));
                    }
                    Answer::NotFound | Answer::NoExtract => session.hint(Hint::Contents),
                    Answer::AlreadyQueued | Answer::Forbidden | Answer::Ambiguous => {
                        session.hint(Hint::JobList(attempt.fence.0));
                    }
                    Answer::SignInRefused
                    | Answer::Throttled(_)
                    | Answer::Rejected { .. }
                    | Answer::NotSent
                    | Answer::CancelSent(_) => {}
                }
                Some(Ack::Answer(attempt, answer))
            }
            Act::Schedule(session, write) => {
                if !ctx.may_send(POST_DEADLINE) {
                    return None;
                }
                let ack = extract_schedules::send(ctx, &session, &write).await?;
                Some(Ack::Schedule(write, ack))
            }
            Act::Hold => {
                publish::finalizer(ctx, &ctx.objects.refreshes, &**object, true).await.then_some(Ack::Nothing)
            }
            Act::Release { orphaned } => {
                if !publish::finalizer(ctx, &ctx.objects.refreshes, &**object, false).await {
                    return None;
                }
                if orphaned {
                    tracing::warn!(object = %object.name_any(), "schedules are left behind in Tableau");
                    ctx.metrics.orphaned(Kind::ExtractRefresh);
                }
                Some(Ack::Nothing)
            }
            Act::Cancel(session, attempt, job) => {
                if !ctx.may_send(POST_DEADLINE) {
                    return None;
                }
                let result = session.client.cancel(&job).await.map_err(|error| {
                    tracing::warn!(object = %object.name_any(), %job, %error, "the job could not be cancelled");
                });
                session.hint(Hint::Jobs([job].into()));
                Some(Ack::Answer(attempt, Answer::CancelSent(result)))
            }
        }
    }

    fn fold(
        ctx: &Context,
        object: &ExtractRefresh,
        seen: &Seen,
        ack: &Ack,
        now: Timestamp,
    ) -> (ExtractRefreshStatus, Vec<Note>) {
        let mut stored = object.status.clone().unwrap_or_default();
        match (seen, ack) {
            (Some((desired, observed)), Ack::Answer(attempt, answer)) => {
                if !holds(Guard::IntentBeforePost) {
                    stored.attempt = stored.attempt.or_else(|| Some(attempt.as_ref().clone()));
                }
                let folded = extract::fold(desired, observed, &stored, attempt, answer.clone(), now);
                (folded.status, notes(folded.notes))
            }
            (Some(_), Ack::Schedule(write, ack)) if object.metadata.deletion_timestamp.is_some() => {
                (extract::parted(&stored, write, ack), Vec::new())
            }
            (Some((desired, observed)), Ack::Schedule(write, ack)) => {
                let (folded, memory) = extract::fold_schedule(desired, observed, &stored, write, ack, now);
                extract_schedules::remember(ctx, &desired.name, memory);
                (folded.status, notes(folded.notes))
            }
            (None, _) | (_, Ack::Nothing) => (stored, Vec::new()),
        }
    }

    fn wrote(ctx: &Context, object: &ExtractRefresh, after: &ExtractRefreshStatus) {
        let before = object.status.as_ref();
        // Counted before, and status knows nothing of it: it was lost.
        let restored =
            object.annotations().contains_key(BASELINE) && before.is_none_or(|s| s.baseline.is_none());
        if restored && after.baseline.is_some() {
            ctx.metrics.may_be_double(Residue::R5);
        }
        if let Some(newest) = after.history.first()
            && before.and_then(|s| s.history.first()) != Some(newest)
        {
            ctx.metrics.refreshed(outcome(newest.outcome), origin(newest.origin));
            if newest.outcome == Outcome::JobVanished {
                ctx.metrics.may_be_double(Residue::R4);
            }
        }
        if let Some(case) = before.and_then(|before| possible_double(ctx, before, after)) {
            ctx.metrics.may_be_double(case);
        }
        if let Some(ended) = before.and_then(|s| s.schedule_intent.as_ref())
            && after.schedule_intent.as_ref().map(|intent| &intent.id) != Some(&ended.id)
        {
            ctx.ledger.forget(&ended.id);
        }
        if let Some(ended) = before.and_then(|s| s.attempt.as_ref())
            && after.attempt.as_ref().map(|a| &a.id) != Some(&ended.id)
        {
            ctx.ledger.forget(&ended.id);
        }
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, who) = (ctx.wakes.clone(), Dependent::Refresh(name.clone()));
        Arc::new(move || wakes.dependent(&who))
    }
}

/// Asks the site's budget for a place when a refresh is about to be started; gives the place back when nothing is wanted any more.
fn budgeted(
    ctx: &Context,
    budget: &SiteBudget,
    desired: &Desired,
    decision: &Decision,
    now: Timestamp,
) -> BudgetView {
    let moment = ctx.clock.moment();
    match (decision.starts, &decision.status.attempt) {
        (true, _) => match budget.ask(&desired.name, desired.priority, moment) {
            Grant::Granted => BudgetView::Free,
            Grant::Held { by, wait } => BudgetView::Held { by, until: wait.map(|wait| add(now, wait)) },
        },
        (false, None) => {
            budget.leave(&desired.name, moment);
            BudgetView::Free
        }
        (false, Some(attempt)) => {
            if attempt.job_id.is_some() {
                budget.occupy(&desired.name);
            }
            BudgetView::Free
        }
    }
}

/// After the status write, never before, the baseline is copied to the annotation (TRIGGER.md 7).
fn annotate(
    object: &ExtractRefresh,
    stored: &ExtractRefreshStatus,
    next: &ExtractRefreshStatus,
) -> Plan<Act> {
    match stored.baseline {
        Some(baseline) if stored == next && !object.annotations().contains_key(BASELINE) => {
            Plan::Do { act: Act::Annotate(baseline.0), lane: None, priority: Priority::Rest }
        }
        Some(_) | None => Plan::Rest,
    }
}

fn answer(result: Result<JobId, RefreshError>) -> Answer {
    match result {
        Ok(job) => Answer::Job(job),
        Err(RefreshError::AlreadyQueued) => Answer::AlreadyQueued,
        Err(RefreshError::Forbidden(_)) => Answer::Forbidden,
        Err(RefreshError::NoExtract) => Answer::NoExtract,
        Err(RefreshError::NotFound(_)) => Answer::NotFound,
        Err(RefreshError::SignInRefused) => Answer::SignInRefused,
        Err(RefreshError::Throttled { retry_after }) => Answer::Throttled(retry_after),
        Err(RefreshError::Rejected(code)) => Answer::Rejected { code },
        Err(RefreshError::NotSent(_)) => Answer::NotSent,
        Err(RefreshError::Ambiguous) => Answer::Ambiguous,
    }
}

/// An intent that may have been sent is given up because no job of it was found: what is sent next may be one too many, and that is counted
/// by its cause.
fn possible_double(
    ctx: &Context,
    before: &ExtractRefreshStatus,
    after: &ExtractRefreshStatus,
) -> Option<Residue> {
    let lost = before.attempt.as_ref().filter(|a| a.phase == AttemptPhase::Intended && a.job_id.is_none())?;
    let owed = after.owed.as_ref()?;
    let given_up = after.attempt.as_ref().is_none_or(|next| next.id != lost.id)
        && owed.refused.is_none()
        && owed.tries == before.owed.as_ref().map_or(0, |owed| owed.tries)
        && matches!(ctx.ledger.look(&lost.id, ctx.clock.moment()), Entry::Spent { .. });
    given_up.then(|| match conditions::reason_of(before, "Refreshing") {
        Some("JobListUnavailable") => Residue::R1,
        Some(_) | None => Residue::R3,
    })
}

fn outcome(outcome: Outcome) -> Refreshed {
    match outcome {
        Outcome::Succeeded => Refreshed::Succeeded,
        Outcome::Failed => Refreshed::Failed,
        Outcome::Cancelled => Refreshed::Cancelled,
        Outcome::TimedOut => Refreshed::TimedOut,
        Outcome::JobVanished => Refreshed::JobVanished,
        Outcome::Superseded => Refreshed::Superseded,
    }
}

fn origin(origin: Option<JobOrigin>) -> Origin {
    match origin {
        Some(JobOrigin::Ours) | None => Origin::Ours,
        Some(JobOrigin::Recovered) => Origin::Recovered,
        Some(JobOrigin::Adopted) => Origin::Adopted,
    }
}

pub(super) fn notes(notes: Vec<extract::Note>) -> Vec<Note> {
    notes.into_iter().map(|n| Note { warning: n.warning, reason: n.reason, message: n.message }).collect()
}

/// Gives up the place of a resource that is gone.
pub fn forget(ctx: &Context, refresh: &ExtractRefresh) {
    if let Some(name) = object_name(refresh) {
        extract_schedules::remember(ctx, &name, None);
        for (_, link) in ctx.sites.all() {
            link.session.budget.leave(&name, ctx.clock.moment());
        }
    }
}
