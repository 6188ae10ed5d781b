//! The one attempt: from its intent over its job to its end (docs/trigger.md 4).

use super::learnt::{self, Learnt};
use super::observed::{Claim, IntentView, SiteView};
use super::target::{Standing, standing};
use super::{Pass, coverage, holds, kinds, marks, others, recover, retry};
use crate::api::{
    Attempt, AttemptPhase, DemandKind, ExtractRefreshStatus, HistoryEntry, JobOrigin, ManagementPolicy,
    Outcome, Time,
};
use crate::model::ids::JobId;
use crate::model::jobs::{Job, JobStatus};
use crate::model::tenancy::Access;
use crate::model::time::{add, sub};
use crate::model::windows::{self, Gate};
use jiff::Timestamp;
use std::time::Duration;

/// Most entries of the history, and most runs named in one.
const HISTORY: usize = 10;
const RUNS: usize = 5;
/// How long an intent takes in what is seen before it is sent.
const YOUNG: Duration = Duration::from_secs(10);

impl Attempt {
    /// Tableau refused it because of another job of the target: nothing of ours is on its way.
    pub fn is_blocked(&self) -> bool {
        self.phase == AttemptPhase::Intended && (self.not_before.is_some() || self.waits_for_job.is_some())
    }
    /// Whether its job was started by us, as far as can be told.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self.origin, Some(JobOrigin::Adopted))
    }
    pub(super) fn job(&self) -> Option<JobId> {
        self.job_id.as_deref().map(JobId::from)
    }
}

/// Moves the attempt by what was read about jobs.
pub(super) fn advance(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    let Some(attempt) = s.attempt.clone() else { return };
    let in_ledger = p.o.intent == IntentView::InLedger;
    let learnt = attempt.learnt(&p.d.site);
    if learnt != Learnt::Here
        && attempt.phase == AttemptPhase::Intended
        && (attempt.is_blocked() || in_ledger)
    {
        // Nothing of it is on its way, and it goes out through no other connection than its own.
        s.attempt = None;
        return;
    }
    if matches!(&p.o.site, SiteView::Ready { luid } if luid.as_str() != attempt.site_luid) {
        // Its job lies on a site this resource no longer speaks with.
        let sent = attempt.phase != AttemptPhase::Intended || !(attempt.is_blocked() || in_ledger);
        if sent {
            end(p, s, &attempt, Outcome::Superseded, None, None);
        } else {
            s.attempt = None;
        }
        return;
    }
    match (&learnt, learnt::view(p.d, p.o, &learnt)) {
        (Learnt::Here, _) => {}
        // It may be anybody's server, which says for ever that the job waits, or runs.
        (_, SiteView::Ready { .. }) if p.now >= add(given_up(p, &attempt), p.o.cleanup_deadline) => {
            return lost(
                p,
                s,
                &attempt,
                "A refresh that was started through another connection than that of the spec did not end in time, nor by being cancelled: whether it succeeded is unknown",
            );
        }
        (_, SiteView::Ready { .. }) => {}
        // Just started: the connection has not been tried yet.
        (_, SiteView::NotReady { reason }) if *reason == "Progressing" || p.now < given_up(p, &attempt) => {
            return;
        }
        (_, SiteView::NotReady { .. } | SiteView::Missing) => {
            return lost(
                p,
                s,
                &attempt,
                "The connection through which a refresh was started is not the one of the spec and cannot be used any more: whether it succeeded is unknown",
            );
        }
    }
    match attempt.phase {
        AttemptPhase::Intended if attempt.is_blocked() => others::evaluate(p, s, attempt),
        AttemptPhase::Intended => match p.o.intent {
            IntentView::InLedger => prepare(p, s, attempt),
            IntentView::MaybeSent { since } => recover::advance(p, s, attempt, since),
            IntentView::None => {}
        },
        AttemptPhase::Submitted | AttemptPhase::Cancelling => follow(p, s, attempt),
    }
}

/// Whether an attempt that is known not to be on its way may still go.
pub(super) fn may_go(p: &Pass, s: &ExtractRefreshStatus, attempt: &Attempt) -> bool {
    let wanted = s.owed.as_ref().is_some_and(|owed| owed.stopped.is_none());
    wanted
        && !p.d.suspend
        && !matches!(p.o.access, Access::Denied(_))
        && p.d.schedules.management == ManagementPolicy::Manage
        && windows::gate(&p.d.windows, p.now) == Gate::Open
        && holds::debounce(p, s).is_none()
        && holds::running(p, s).is_none()
        && !matches!(p.o.claim, Claim::Taken { .. } | Claim::Busy { .. })
        && standing(p, s, attempt) != Standing::Changed
        && kinds::suffices(Some(attempt.refresh_type), kinds::needed(p, s))
}

/// Never sent: dropped when it is no longer wanted, else it names what was seen meanwhile, under a new fence (a job found later is taken for
/// ours by its fence, and then for containing all that is named). Only while it is young, or a busy upstream would hold it for ever.
fn prepare(p: &Pass, s: &mut ExtractRefreshStatus, mut attempt: Attempt) {
    if !may_go(p, s, &attempt) {
        s.attempt = None;
        return;
    }
    let demands = s.owed.as_ref().map(|owed| owed.demands.clone()).unwrap_or_default();
    let more = coverage::extend(&mut attempt.seen, marks::newest(s)) || attempt.demands != demands;
    if let (Some(fence), true) = (p.fence(), more && add(attempt.intended_at.0, YOUNG) > p.now) {
        (attempt.demands, attempt.fence) = (demands, fence);
        s.attempt = Some(attempt);
    }
}

/// Follows the job to its end.
pub(super) fn follow(p: &mut Pass, s: &mut ExtractRefreshStatus, mut attempt: Attempt) {
    let Some(answer) = attempt.job().and_then(|job| p.jobs(&attempt).details.get(&job)) else { return };
    let Some(job) = answer.job.as_ref() else {
        return lost(
            p,
            s,
            &attempt,
            "Tableau no longer knows the refresh job: whether it succeeded is unknown",
        );
    };
    if job.content.as_ref().is_some_and(|luid| luid.as_str() != attempt.luid) {
        // Of another content: whatever called it ours, it is neither followed nor cancelled.
        return superseded(p, s, &attempt, Some(job));
    }
    match job.status {
        JobStatus::Pending => {
            coverage::extend(&mut attempt.seen, coverage::known_before(p.o, s, answer.asked));
            s.attempt = Some(attempt);
        }
        JobStatus::InProgress => {
            attempt.started_at = attempt.started_at.or(job.started_at.map(Time));
            if attempt.phase == AttemptPhase::Submitted && attempt.is_ours() && overdue(p, &attempt) {
                (attempt.phase, attempt.blocked) = (AttemptPhase::Cancelling, 0);
                p.warn("RefreshTimedOut", "The refresh runs longer than spec.timeout and is cancelled");
            }
            s.attempt = Some(attempt);
        }
        JobStatus::Success | JobStatus::Failed | JobStatus::Cancelled => ended(p, s, &attempt, job),
    }
}

/// When the job has run for `timeout`, in Tableau's time.
pub(super) fn deadline(p: &Pass, attempt: &Attempt) -> Option<Timestamp> {
    attempt.started_at.map(|Time(started)| add(started, p.d.timeout))
}

/// Until when a job may wait in the queue before that is said to be long, in Tableau's time; for one that has not started.
pub(super) fn queued_until(p: &Pass, attempt: &Attempt) -> Option<Timestamp> {
    attempt.started_at.is_none().then(|| add(attempt.fence.0, p.d.timeout))
}

fn overdue(p: &Pass, attempt: &Attempt) -> bool {
    let clock = p.clock(attempt);
    matches!((deadline(p, attempt), clock), (Some(deadline), Some(clock)) if clock.lower >= deadline)
}

fn ended(p: &mut Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt, job: &Job) {
    let recorded = job.content.as_ref().is_none_or(|luid| luid.as_str() == attempt.luid);
    let changed = match standing(p, s, attempt) {
        Standing::Unknown => return,
        Standing::Changed => true,
        Standing::Same => !recorded,
    };
    // A repeat of an Event is counted on the first one: so only a failure, of which each is to be looked at, names its job.
    match job.status {
        _ if changed => superseded(p, s, attempt, Some(job)),
        JobStatus::Success => {
            let runs = coverage::credit(p, s, attempt, job.started_at);
            p.tell("RefreshSucceeded", "The extract is refreshed");
            end(p, s, attempt, Outcome::Succeeded, Some(job), Some(runs));
        }
        JobStatus::Cancelled if attempt.phase == AttemptPhase::Cancelling => {
            end(p, s, attempt, Outcome::TimedOut, Some(job), None);
            retry::failed(p, s, attempt, None);
        }
        JobStatus::Cancelled => {
            p.warn("RefreshCancelled", "The refresh was cancelled in Tableau");
            end(p, s, attempt, Outcome::Cancelled, Some(job), None);
            retry::cancelled(p, s, attempt);
        }
        JobStatus::Failed if job.wants_full && attempt.is_ours() && kinds::may_fall_back(p, attempt) => {
            end(p, s, attempt, Outcome::Failed, Some(job), None);
            kinds::fall_back(s);
            p.warn(
                "FellBackToFull",
                format!("The incremental refresh (job `{}`) failed and asks for a full one, which is started instead", job.id),
            );
        }
        JobStatus::Failed => {
            p.warn(
                "RefreshFailed",
                format!(
                    "The refresh failed: look up job `{}` on Tableau's page of jobs, and mend what it says",
                    job.id
                ),
            );
            end(p, s, attempt, Outcome::Failed, Some(job), None);
            retry::failed(p, s, attempt, job.failure);
        }
        JobStatus::Pending | JobStatus::InProgress => {}
    }
}

/// Until when a connection is waited for that the spec does not name any more: its job would have been cancelled by then.
pub(super) fn given_up(p: &Pass, attempt: &Attempt) -> Timestamp {
    let intended = attempt.intended_at.0;
    // What is not yet is the word of a server that says what it likes.
    let started = attempt.started_at.as_ref().map(|at| at.0).filter(|at| *at <= p.now);
    add(started.map_or(intended, |at| at.max(intended)), p.d.timeout)
}

/// Nobody knows the job any more: whether it succeeded is unknown, so it counts as not.
fn lost(p: &mut Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt, why: &str) {
    match standing(p, s, attempt) {
        Standing::Unknown => {}
        Standing::Changed => superseded(p, s, attempt, None),
        Standing::Same => {
            p.warn("JobVanished", why);
            end(p, s, attempt, Outcome::JobVanished, None, None);
            retry::failed(p, s, attempt, None);
        }
    }
}

fn superseded(p: &mut Pass, s: &mut ExtractRefreshStatus, attempt: &Attempt, job: Option<&Job>) {
    p.tell(
        "RefreshSuperseded",
        "A refresh ended whose target or type is no longer the one in the spec; it does not count",
    );
    end(p, s, attempt, Outcome::Superseded, job, None);
}

/// What made an attempt, as the history calls it.
pub fn cause(attempt: &Attempt) -> &'static str {
    match attempt.demands.first().map(|demand| demand.kind) {
        None => "Upstreams",
        Some(DemandKind::Requested) => "Requested",
        Some(DemandKind::Republished) => "Republished",
        Some(DemandKind::Created) => "Created",
    }
}

/// Moves the attempt into the history. `runs`: what it newly covered; else what it would have.
fn end(
    p: &Pass,
    s: &mut ExtractRefreshStatus,
    attempt: &Attempt,
    outcome: Outcome,
    job: Option<&Job>,
    runs: Option<Vec<String>>,
) {
    let covered = |key: &str| {
        s.marks
            .iter()
            .find(|m| m.key == key)
            .and_then(|m| m.covered.as_ref())
            .map(crate::api::Position::place)
    };
    let mut runs = runs.unwrap_or_else(|| {
        let new = attempt.seen.iter().filter(|c| covered(&c.key) < Some(c.position.place()));
        new.map(|c| c.run_id.clone()).collect()
    });
    let run_count = i32::try_from(runs.len()).unwrap_or(64);
    let failure = job.filter(|_| outcome == Outcome::Failed).and_then(|job| job.failure);
    runs.truncate(RUNS);
    s.attempt = None;
    s.history.insert(
        0,
        HistoryEntry {
            cause: cause(attempt).to_owned(),
            runs,
            run_count,
            job_id: attempt.job_id.clone(),
            origin: attempt.origin,
            site: attempt.site.clone(),
            luid: attempt.luid.clone(),
            refresh_type: attempt.refresh_type,
            started_at: job.and_then(|job| job.started_at).map(Time).or(attempt.started_at),
            ended_at: Some(Time(job.and_then(|job| job.completed_at).unwrap_or(p.now))),
            outcome,
            failure: failure.map(|why| why.reason().to_owned()),
        },
    );
    s.history.truncate(HISTORY);
}

/// The earliest row of the job list that can matter to an attempt: another job may have been queued long before.
pub(super) fn list_since(attempt: &Attempt) -> Timestamp {
    const LONGEST_JOB: Duration = Duration::from_secs(24 * 3600);
    if attempt.is_blocked() { sub(attempt.fence.0, LONGEST_JOB) } else { attempt.fence.0 }
}
