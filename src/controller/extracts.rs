//! `ExtractRefresh`: what is observed of it, and how it acts on Tableau.

use super::context::{Context, Objects};
use super::extract_claims::claim;
use super::index::{Dependent, declared};
use super::lanes::{Priority, Waker};
use super::ledger::Entry;
use super::publish;
use super::reconcile::{Note, Plan, Planned, Subject};
use super::site::{Health, Hint, SiteSession};
use super::workspace::{DeploymentView, Health as PrefectHealth};
use crate::api::{
    Attempt, AttemptPhase, BASELINE, ExtractRefresh, ExtractRefreshStatus, JobOrigin, Outcome, TableauSite,
};
use crate::http::Unreachable;
use crate::model::conditions;
use crate::model::extract::{
    self, Answer, Bounds, Claim, Desired, IntentView, JobList, JobsView, Observed, SiteView, Source, Step,
    TargetView, UpstreamView,
};
use crate::model::ids::{DeploymentName, JobId, ObjectName};
use crate::model::time::{ClockReading, Moment};
use crate::runtime::metrics::{Kind, Origin, Refreshed, Residue};
use crate::tableau::{RefreshError, TableauError};
use async_trait::async_trait;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;
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
}

/// What was acknowledged, and for which attempt.
pub enum Ack {
    /// Nothing that concerns the machine.
    Nothing,
    /// Tableau's answer.
    Answer(Box<Attempt>, Answer),
}

/// A refresh POST may take this long; the lease must outlive it (TRIGGER.md 4.3).
const POST_DEADLINE: Duration = Duration::from_secs(8);

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
            // It owns nothing outside: running jobs are not cancelled, and nothing new is started.
            return rest(stored.clone());
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
        let observed = observe(ctx, &desired, stored, &at, session.as_ref());
        let decision = extract::decide(&desired, &observed, stored, now, || uuid::Uuid::new_v4().to_string());
        let attempt = stored.attempt.clone().map(Box::new);
        let plan = match (decision.step, session, attempt) {
            (Step::Intend { id }, _, _) => Plan::Intend(id),
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
            (Step::Rest, _, _) => annotate(object, stored, &decision.status),
            // The session went away between observing and now: it is looked at again when there is one.
            (Step::Post { .. } | Step::Cancel { .. } | Step::Look { .. }, _, _) => Plan::Rest,
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
                if !ctx.lease.now().outlives(POST_DEADLINE) {
                    return None;
                }
                if !ctx.ledger.spend(&attempt.id, ctx.clock.moment()) {
                    tracing::error!(object = %object.name_any(), "an intent that may have been sent was about to be sent again");
                    return None;
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
            Act::Cancel(session, attempt, job) => {
                if !ctx.lease.now().outlives(POST_DEADLINE) {
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
        _: &Context,
        object: &ExtractRefresh,
        seen: &Seen,
        ack: &Ack,
        now: Timestamp,
    ) -> (ExtractRefreshStatus, Vec<Note>) {
        let stored = object.status.clone().unwrap_or_default();
        match (seen, ack) {
            (Some((desired, observed)), Ack::Answer(attempt, answer)) => {
                let folded = extract::fold(desired, observed, &stored, attempt, answer.clone(), now);
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

fn observe(
    ctx: &Context,
    desired: &Desired,
    stored: &ExtractRefreshStatus,
    at: &ObjectName,
    session: Option<&Arc<SiteSession>>,
) -> Observed {
    let moment = ctx.clock.moment();
    let snapshot = session.map(|session| session.snapshot());
    let site = snapshot.as_ref().and_then(|snapshot| snapshot.health.site());
    let target = match (&snapshot, site) {
        (Some(snapshot), Some(site)) => snapshot.contents.resolve(site, &desired.target),
        (None, _) | (_, None) => TargetView::Unread,
    };
    let claim = match &target {
        TargetView::Found(found) | TargetView::NoExtract(found) => claim(ctx, desired, at, found),
        TargetView::Unread | TargetView::NotFound | TargetView::Ambiguous => Claim::Unresolved,
    };
    let upstreams: BTreeMap<String, UpstreamView> = desired
        .upstreams
        .iter()
        .map(|upstream| (upstream.name.clone(), upstream_view(ctx, &desired.name, &upstream.source, moment)))
        .collect();
    // Jobs matter only to those with something under way; the others need not carry the list around.
    let busy = stored.owed.is_some() || stored.attempt.is_some();
    let jobs = match (&snapshot, busy) {
        (Some(snapshot), true) => {
            JobsView { list: snapshot.list.clone(), details: snapshot.details.as_ref().clone() }
        }
        (None, _) | (_, false) => JobsView { list: JobList::Unread, details: BTreeMap::new() },
    };
    Observed {
        site: site_view(ctx, at, snapshot.as_ref().map(|snapshot| &snapshot.health)),
        credential: ctx.sites.get(at).map(|link| link.key.fingerprint(&format!("{}/{at}", ctx.instance))),
        target,
        claim,
        upstreams,
        baseline: baseline(ctx, desired, moment),
        tableau_clock: session.and_then(|s| s.client.clock()).map(|reading| bounds(&reading, moment)),
        jobs,
        intent: intent(ctx, stored, moment),
        moment,
        settle: ctx.settle,
    }
}

fn site_view(ctx: &Context, at: &ObjectName, health: Option<&Health>) -> SiteView {
    let Some(object) = ctx.objects.sites.get(at) else { return SiteView::Missing };
    match health {
        Some(Health::Connected(site))
            if object
                .status
                .as_ref()
                .and_then(|s| s.site_luid.as_deref())
                .is_none_or(|luid| luid == site.luid.as_str()) =>
        {
            SiteView::Ready { luid: site.luid.clone() }
        }
        Some(Health::Connected(_)) => SiteView::NotReady { reason: "SiteChanged" },
        Some(Health::Failed(error, _)) => SiteView::NotReady { reason: reason(&object, error) },
        None | Some(Health::Connecting) => SiteView::NotReady { reason: "Progressing" },
    }
}

/// Why the site fails: what its own condition says, or will say.
fn reason(site: &TableauSite, error: &TableauError) -> &'static str {
    match error {
        TableauError::SignInRefused => {
            // Which of the two is for the site to tell: it knows whether this credential ever worked.
            let told = site.status.as_ref().and_then(|status| conditions::reason_of(status, "Ready"));
            if told == Some("PatRevoked") { "PatRevoked" } else { "CredentialsInvalid" }
        }
        TableauError::SessionContested => "SessionContested",
        TableauError::Forbidden(_) => "PermissionDenied",
        TableauError::Throttled { .. } => "RateLimited",
        TableauError::WrongServer | TableauError::NotFound(_) => "WrongServer",
        TableauError::UnsupportedVersion(_) => "UnsupportedVersion",
        TableauError::Unreachable(Unreachable::Dns) => "DnsFailed",
        TableauError::Unreachable(Unreachable::Tls) => "TlsFailed",
        TableauError::Unreachable(Unreachable::HostNotAllowed(_)) => "HostNotAllowed",
        TableauError::Unreachable(Unreachable::Connect)
        | TableauError::Ambiguous
        | TableauError::Rejected(_) => "Unreachable",
    }
}

fn upstream_view(ctx: &Context, me: &ObjectName, source: &Source, moment: Moment) -> UpstreamView {
    let here = |name: &str| ObjectName { namespace: me.namespace.clone(), name: name.into() };
    let missing = |message: String, reference| UpstreamView::Missing { message, reference };
    let (workspace, name) = match source {
        Source::Prefect { workspace, deployment } => (here(workspace), deployment.clone()),
        Source::FlowDeployment(flow) => match ctx.objects.flows.get(&here(flow)) {
            None => return missing(format!("FlowDeployment {flow} does not exist"), true),
            Some(object) => (here(&object.spec.workspace_ref.name), declared(&object)),
        },
    };
    if ctx.objects.workspaces.get(&workspace).is_none() {
        return missing(format!("PrefectWorkspace {} does not exist", workspace.name), true);
    }
    let key = extract::key(&workspace.name, &name);
    let Some(link) = ctx.workspaces.get(&workspace) else { return UpstreamView::Unread { key: Some(key) } };
    let snapshot = link.session.snapshot();
    let clock = link.session.client.clock();
    let paused = match link.session.deployment(&name) {
        DeploymentView::Absent => {
            return missing(format!("the deployment {name} does not exist in Prefect"), false);
        }
        DeploymentView::Present(deployment) => deployment.paused,
        DeploymentView::Unread | DeploymentView::Dirty => false,
    };
    match (snapshot.runs.get(&name), clock) {
        (Some(runs), Some(clock)) => UpstreamView::Read {
            key,
            occasions: runs.occasions.clone(),
            newest_ended: runs.newest_ended.as_ref().map(|(_, state, run)| (*state, run.clone())),
            paused,
            clock: bounds(&clock, moment),
        },
        (None, _) | (_, None) => UpstreamView::Unread { key: Some(key) },
    }
}

/// `creationTimestamp` on Prefect's clock, erring early: one refresh too many rather than one too few (TRIGGER.md 7).
fn baseline(ctx: &Context, desired: &Desired, moment: Moment) -> Option<Timestamp> {
    let api = ctx.api_clock.reading()?.upper(moment);
    let workspaces = desired.upstreams.iter().filter_map(|upstream| {
        let here = |name: &str| ObjectName { namespace: desired.name.namespace.clone(), name: name.into() };
        match &upstream.source {
            Source::Prefect { workspace, .. } => Some(here(workspace)),
            Source::FlowDeployment(flow) => {
                ctx.objects.flows.get(&here(flow)).map(|flow| here(&flow.spec.workspace_ref.name))
            }
        }
    });
    let prefect = workspaces
        .filter_map(|workspace| {
            let link = ctx.workspaces.get(&workspace)?;
            matches!(link.session.snapshot().health, PrefectHealth::Connected(_)).then_some(())?;
            Some(link.session.client.clock()?.lower(moment))
        })
        .min()?;
    // How far Prefect's clock is behind the API server's, at most; negative: ahead.
    let behind = api.duration_since(prefect);
    let at = desired.created_at.checked_sub(behind).ok()?;
    Timestamp::from_second(at.as_second()).ok()
}

fn intent(ctx: &Context, stored: &ExtractRefreshStatus, moment: Moment) -> IntentView {
    match &stored.attempt {
        Some(attempt) if attempt.phase == AttemptPhase::Intended && attempt.job_id.is_none() => {
            match ctx.ledger.look(&attempt.id, moment) {
                Entry::Unspent => IntentView::InLedger,
                Entry::Spent { since } => IntentView::MaybeSent { since },
            }
        }
        Some(_) | None => IntentView::None,
    }
}

fn bounds(reading: &ClockReading, now: Moment) -> Bounds {
    Bounds { lower: reading.lower(now), upper: reading.upper(now) }
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

fn notes(notes: Vec<extract::Note>) -> Vec<Note> {
    notes.into_iter().map(|n| Note { warning: n.warning, reason: n.reason, message: n.message }).collect()
}

/// The deployments that feed a resource, for hints: where its completions come from.
pub fn deployments(ctx: &Context, refresh: &ExtractRefresh) -> Vec<(ObjectName, DeploymentName)> {
    let Ok(desired) = Desired::parse(refresh) else { return Vec::new() };
    let here = |name: &str| ObjectName { namespace: desired.name.namespace.clone(), name: name.into() };
    desired
        .upstreams
        .iter()
        .filter_map(|upstream| match &upstream.source {
            Source::Prefect { workspace, deployment } => Some((here(workspace), deployment.clone())),
            Source::FlowDeployment(flow) => {
                let flow = ctx.objects.flows.get(&here(flow))?;
                Some((here(&flow.spec.workspace_ref.name), declared(&flow)))
            }
        })
        .collect()
}
