//! `ExtractRefresh`: what is observed of it, and how it acts on Tableau.

use super::context::{Context, Objects};
use super::extract_metrics::{origin, outcome, possible_double};
use super::extract_observed::observe;
use super::index::{Dependent, Key, object_name};
use super::lanes::{Priority, Waker};
use super::publish;
use super::reconcile::{Note, Plan, Planned, Subject};
use super::reports;
use super::site::{Hint, Looks, SiteSession};
use super::{extract_attempts, extract_schedules, extract_warnings};
use crate::api::{Attempt, BASELINE, ExtractRefresh, ExtractRefreshStatus, FINALIZER, Outcome};
use crate::guards::{Guard, holds};
use crate::model::budget::Grant;
use crate::model::extract::{
    self, Answer, BudgetView, Decision, Desired, Learnt, Observed, ScheduleAck, ScheduleWrite, Step,
    Unsupported, WarningAck, WarningWrite,
};
use crate::model::ids::{ConnectionName, JobId, ObjectName};
use crate::model::time::add;
use crate::runtime::metrics::{Kind, Residue};
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
    /// Change the data quality warning in Tableau.
    Warn(Arc<SiteSession>, WarningWrite),
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
    /// Tableau's answer about a data quality warning.
    Warn(WarningWrite, WarningAck),
}

/// A refresh POST may take this long; the lease must outlive it (docs/trigger.md 4.3).
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
        if let Some(name) = object_name(&**object) {
            reports::hand_over(ctx, &name, stored, now);
        }
        let rest = |status| Planned { status, plan: Plan::Rest, again: None, notes: Vec::new(), seen: None };
        if object.metadata.deletion_timestamp.is_some() {
            // Running jobs are not cancelled, and nothing new is started. Nor are they followed: a finalizer of somebody's keeps no place.
            leave(ctx, object);
            return extract_schedules::part(ctx, object, stored, now);
        }
        let desired = match parse(ctx, object) {
            Ok(desired) => desired,
            Err(why) => {
                // Until it can be understood again nothing is followed.
                leave(ctx, object);
                let generation = object.metadata.generation.unwrap_or_default();
                return rest(extract::unsupported(stored, &why, generation, now));
            }
        };
        let at = desired.site.seen_from(&desired.name.namespace);
        let session = ctx.sites.get(&at).map(|link| link.session);
        if stored.observed_generation != desired.generation {
            leave_others(ctx, &desired.name, session.as_ref());
        }
        let mut observed = observe(ctx, &desired, stored, &at, session.as_ref());
        let decide = |observed: &Observed| {
            extract::decide(&desired, observed, stored, now, || uuid::Uuid::new_v4().to_string())
        };
        let mut decision = decide(&observed);
        if let Some(session) = &session {
            observed.budget = budgeted(ctx, session, &at, &desired, &decision, now);
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
            (Step::Post { .. }, Some(session), Some(attempt))
                if attempt.learnt(&desired.site) == Learnt::Here =>
            {
                let lane = Some(session.lane.clone());
                Plan::Do { act: Act::Post(session, attempt), lane, priority: Priority::Triggered }
            }
            (Step::Cancel { job }, _, Some(attempt)) => {
                extract_attempts::cancels(ctx, &desired, attempt, job)
            }
            (Step::Look { jobs, list, waited_for, tasks, warnings }, _, _) => {
                if tasks {
                    extract_schedules::look(ctx, &desired.name, &desired.site, stored);
                }
                if let Some(datasource) = warnings {
                    extract_warnings::look(ctx, &desired.name, stored, &datasource);
                }
                extract_attempts::look(ctx, &desired, stored, Looks { jobs, list }, waited_for);
                Plan::Rest
            }
            (Step::Schedule(write), _, _) => {
                let changed = stored.observed_generation != desired.generation;
                let priority = if changed { Priority::Changed } else { Priority::Rest };
                extract_schedules::plan(ctx, &desired.name, &desired.site, write, priority)
            }
            (Step::LookAtTasks, _, _) => {
                extract_schedules::look(ctx, &desired.name, &desired.site, stored);
                Plan::Rest
            }
            (Step::LookAtWarnings(datasource), _, _) => {
                extract_warnings::look(ctx, &desired.name, stored, &datasource);
                Plan::Rest
            }
            (Step::Warn(write), _, _) => extract_warnings::plan(ctx, &desired.name, write, Priority::Report),
            (Step::Hold, _, _) => Plan::Do { act: Act::Hold, lane: None, priority: Priority::Changed },
            (Step::Rest, _, _) => annotate(object, stored, &decision.status),
            // The session went away between observing and now: it is looked at again when there is one.
            (Step::Post { .. } | Step::Cancel { .. }, _, _) => Plan::Rest,
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
                if !may_send(ctx, &site_of(object), &session) {
                    return None;
                }
                if !ctx.ledger.spend(&attempt.id, ctx.clock.moment()) {
                    tracing::error!(object = %object.name_any(), "an intent that may have been sent was about to be sent again");
                    return None;
                }
                let started = ctx.clock.moment();
                if let Some(name) = object_name(&**object) {
                    session.budget.started(&name, started);
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
                if refused(&answer) {
                    session.budget.refused(started);
                }
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
                let ack = extract_schedules::send(ctx, object, &session, &write).await?;
                Some(Ack::Schedule(write, ack))
            }
            Act::Warn(session, write) => {
                let namespace = object.namespace().unwrap_or_default().into();
                let at = ConnectionName::parse(write.site()).seen_from(&namespace);
                let ack = extract_warnings::send(ctx, &at, &session, &write).await?;
                Some(Ack::Warn(write, ack))
            }
            Act::Hold => publish::finalizer(ctx, &ctx.objects.refreshes, &**object, FINALIZER, true)
                .await
                .then_some(Ack::Nothing),
            Act::Release { orphaned } => {
                if !publish::finalizer(ctx, &ctx.objects.refreshes, &**object, FINALIZER, false).await {
                    return None;
                }
                if orphaned {
                    tracing::warn!(object = %object.name_any(), "schedules or a warning are left behind in Tableau");
                    ctx.metrics.orphaned(Kind::ExtractRefresh);
                }
                Some(Ack::Nothing)
            }
            Act::Cancel(session, attempt, job) => {
                let answer = extract_attempts::cancel(ctx, object, &session, &attempt, job).await?;
                Some(Ack::Answer(attempt, answer))
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
            (Some((desired, observed)), Ack::Schedule(write, ack))
                if object.metadata.deletion_timestamp.is_some() =>
            {
                let (status, memory) = extract::parted(desired, observed, &stored, write, ack, now);
                extract_schedules::remember(ctx, &desired.name, Some(memory));
                (status, Vec::new())
            }
            (Some((desired, observed)), Ack::Schedule(write, ack)) => {
                let (folded, memory) = extract::fold_schedule(desired, observed, &stored, write, ack, now);
                extract_schedules::remember(ctx, &desired.name, Some(memory));
                (folded.status, notes(folded.notes))
            }
            (Some((desired, observed)), Ack::Warn(write, ack))
                if object.metadata.deletion_timestamp.is_some() =>
            {
                (extract::parted_warning(desired, observed, &stored, write, ack, now), Vec::new())
            }
            (Some((desired, observed)), Ack::Warn(write, ack)) => {
                let folded = extract::fold_warning(desired, observed, &stored, write, ack, now);
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
            tracing::info!(
                object = %object.name_any(),
                namespace = object.namespace().unwrap_or_default(),
                job = newest.job_id.as_deref().unwrap_or_default(),
                outcome = ?newest.outcome,
                cause = newest.cause,
                runs = newest.runs.join(" "),
                "a refresh ended"
            );
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
        if let Some(name) = object_name(object) {
            let warning = before.and_then(|s| s.data_quality_warning.as_ref());
            extract_warnings::wrote(ctx, &name, warning, after.data_quality_warning.as_ref());
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

/// Whether a call may go out now. Suspended, turned elsewhere or under another credential meanwhile: not one more in this session.
pub(super) fn may_send(ctx: &Context, at: &ObjectName, session: &Arc<SiteSession>) -> bool {
    ctx.may_send(POST_DEADLINE) && ctx.sites.uses(at, session)
}

/// The connection that the resource names.
pub(super) fn site_of(object: &ExtractRefresh) -> ObjectName {
    let namespace = object.namespace().unwrap_or_default().into();
    ConnectionName::from(&object.spec.site_ref).seen_from(&namespace)
}

/// The spec, with what its site says where it is silent.
fn parse(ctx: &Context, object: &ExtractRefresh) -> Result<Desired, Unsupported> {
    let site = ctx.objects.site(&site_of(object));
    Desired::parse(object, site.as_ref().and_then(|site| site.spec.refresh_defaults.as_ref()))
}

/// Asks the site's budget for a place when a refresh is about to be started; gives the place back when nothing is wanted any more.
fn budgeted(
    ctx: &Context,
    session: &Arc<SiteSession>,
    at: &ObjectName,
    desired: &Desired,
    decision: &Decision,
    now: Timestamp,
) -> BudgetView {
    let (budget, moment) = (&session.budget, ctx.clock.moment());
    let counts = |origin: &str| ctx.let_in.counts(&Key::Site(at.clone()), origin);
    let let_in = ctx.sites.get(at).is_some_and(|link| counts(&link.key.origin));
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
            if attempt.learnt(&desired.site) != Learnt::Here || !let_in {
                // It is followed elsewhere: what another server calls a job takes no place here. Neither does what nobody here is asked about.
                budget.leave(&desired.name, moment);
            } else if attempt.job_id.is_some() {
                budget.occupy(&desired.name);
            } else if attempt.is_blocked() {
                // Somebody else's job runs, not ours.
                budget.leave(&desired.name, moment);
            }
            BudgetView::Free
        }
    }
}

/// After the status write, never before, the baseline is copied to the annotation (docs/trigger.md 7).
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

/// Whether Tableau has certainly started nothing for it.
fn refused(answer: &Answer) -> bool {
    match answer {
        Answer::AlreadyQueued
        | Answer::NoExtract
        | Answer::NotFound
        | Answer::SignInRefused
        | Answer::Throttled(_)
        | Answer::Rejected { .. }
        | Answer::NotSent => true,
        // 403 can hide a queued job.
        Answer::Job(_) | Answer::Forbidden | Answer::Ambiguous | Answer::CancelSent(_) => false,
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

pub(super) fn notes(notes: Vec<extract::Note>) -> Vec<Note> {
    notes
        .into_iter()
        .map(|n| Note { warning: n.warning, reason: n.reason.into(), message: n.message })
        .collect()
}

/// A resource is gone.
pub fn forget(ctx: &Context, refresh: &ExtractRefresh) {
    if let Some(name) = object_name(refresh) {
        extract_schedules::remember(ctx, &name, None);
        reports::forget(ctx, &name);
    }
    leave(ctx, refresh);
}

/// Gives up its places on every site.
fn leave(ctx: &Context, refresh: &ExtractRefresh) {
    if let Some(name) = object_name(refresh) {
        leave_others(ctx, &name, None);
    }
}

/// Gives up its places on every site but this.
fn leave_others(ctx: &Context, name: &ObjectName, session: Option<&Arc<SiteSession>>) {
    for (_, link) in ctx.sites.all() {
        if session.is_none_or(|session| !Arc::ptr_eq(&session.budget, &link.session.budget)) {
            link.session.budget.leave(name, ctx.clock.moment());
        }
    }
}
