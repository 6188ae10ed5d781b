//! An intent that may have been sent, and no answer to it: is there a job (docs/trigger.md 4.5)?

use super::Pass;
use super::observed::{JobList, JobsView};
use super::{attempt, kinds, retry};
use crate::api::{Attempt, AttemptPhase, ExtractRefreshStatus, JobOrigin, TargetStatus};
use crate::model::ids::JobId;
use crate::model::jobs::{Job, JobRow, JobStatus};
use crate::model::time::Moment;
use std::collections::BTreeSet;

/// Most jobs asked for in one pass.
const AT_ONCE: usize = 20;

/// Follows the job that is found. "There is none" is believed only from a complete, permitted read that began after the settle time and of
/// which every row in question was looked at; or after the settle time alone where the list may not be read. Then the attempt is
/// dropped, and the next is intended anew: under a new fence no late job of this one can be taken for it.
pub(super) fn advance(p: &mut Pass, s: &mut ExtractRefreshStatus, mut attempt: Attempt, since: Moment) {
    let settled = since.plus(p.o.settle);
    match found(p, s, &attempt) {
        Some((job, _)) => {
            attempt.phase = AttemptPhase::Submitted;
            attempt.job_id = Some(job.id.as_str().to_owned());
            attempt.origin = Some(JobOrigin::Recovered);
            p.tell("RefreshRecovered", "A refresh whose answer was lost was found and is followed");
            retry::under_way(s);
            s.attempt = Some(attempt.clone());
            attempt::follow(p, s, attempt);
        }
        None if none(p, s, &attempt, settled) => {
            s.attempt = None;
            retry::unanswered(p, s);
        }
        None => {}
    }
}

fn none(p: &Pass, s: &ExtractRefreshStatus, attempt: &Attempt, settled: Moment) -> bool {
    match &p.jobs(attempt).list {
        JobList::Unread => false,
        JobList::NotAllowed => p.o.moment >= settled,
        JobList::Read { asked, since, .. } => {
            *asked >= settled && *since <= attempt.fence.0 && unlooked(p, s, attempt).is_empty()
        }
    }
}

/// The best job there is: one that succeeded, else the oldest.
fn found<'a>(p: &'a Pass, s: &ExtractRefreshStatus, attempt: &Attempt) -> Option<(&'a Job, &'a JobRow)> {
    let confirmed = candidates(p, attempt).filter_map(|row| match look(p, s, attempt, row) {
        Looked::Target(job) if started_after_intent(attempt, row, job) => Some((job, row)),
        Looked::Target(_) | Looked::NotYet | Looked::Other => None,
    });
    // One of another kind is ours only on an older server: after those of this kind.
    let other = |row: &JobRow| row.refresh_type != Some(attempt.refresh_type);
    confirmed.min_by_key(|(job, row)| (job.status != JobStatus::Success, other(row), row.created_at))
}

/// It contains all that the intent names: it was made after it.
fn started_after_intent(attempt: &Attempt, row: &JobRow, job: &Job) -> bool {
    match job.started_at {
        Some(started) => started >= attempt.fence.0,
        None => job.status == JobStatus::Pending || row.created_at.is_some(),
    }
}

/// Rows of this kind since the fence. An older server takes an incremental refresh for a full one, and lists it as that; which suffices.
fn candidates<'a>(p: &Pass<'a>, attempt: &Attempt) -> impl Iterator<Item = &'a JobRow> + use<'a> {
    let (kind, fence) = (attempt.refresh_type, attempt.fence.0);
    listed(p.jobs(attempt)).iter().filter(move |row| {
        row.refresh_type.is_some_and(|of| kinds::suffices(Some(of), kind))
            && row.created_at.is_none_or(|created| created >= fence)
    })
}

/// Candidates that were not asked for by id yet; those with the title of the target first, and alone while there are any.
pub(super) fn unlooked(p: &Pass, s: &ExtractRefreshStatus, attempt: &Attempt) -> BTreeSet<JobId> {
    first_titled(p, s, attempt, candidates(p, attempt))
}

/// Of the site that the spec names.
pub(super) fn rows<'a>(p: &Pass<'a>) -> &'a [JobRow] {
    listed(&p.o.jobs)
}

fn listed(jobs: &JobsView) -> &[JobRow] {
    match &jobs.list {
        JobList::Read { rows, .. } => rows,
        JobList::Unread | JobList::NotAllowed => &[],
    }
}

pub(super) fn first_titled<'a>(
    p: &Pass,
    s: &ExtractRefreshStatus,
    attempt: &Attempt,
    rows: impl Iterator<Item = &'a JobRow>,
) -> BTreeSet<JobId> {
    let unlooked = rows.filter(|row| matches!(look(p, s, attempt, row), Looked::NotYet));
    let (titled, others): (Vec<_>, Vec<_>) = unlooked.partition(|row| is_titled(s, attempt, row));
    let first = if titled.is_empty() { others } else { titled };
    first.into_iter().take(AT_ONCE).map(|row| row.id.clone()).collect()
}

pub(super) fn is_titled(s: &ExtractRefreshStatus, attempt: &Attempt, row: &JobRow) -> bool {
    let of_target = |target: &&TargetStatus| target.luid == attempt.luid;
    row.title.is_some()
        && row.title == s.target.as_ref().filter(of_target).and_then(|target| target.name.clone())
}

/// What a row turned out to be.
pub(super) enum Looked<'a> {
    /// Not asked for by id yet.
    NotYet,
    /// Another content's, or unknown by now.
    Other,
    /// A job of the target.
    Target(&'a Job),
}

/// A row has no LUID: only the job itself tells whose it is. One that does not tell is believed by its title.
pub(super) fn look<'a>(
    p: &Pass<'a>,
    s: &ExtractRefreshStatus,
    attempt: &Attempt,
    row: &JobRow,
) -> Looked<'a> {
    match p.jobs(attempt).details.get(&row.id).map(|answer| answer.job.as_ref()) {
        None => Looked::NotYet,
        Some(None) => Looked::Other,
        Some(Some(job)) => match &job.content {
            Some(luid) if luid.as_str() == attempt.luid => Looked::Target(job),
            None if is_titled(s, attempt, row) => Looked::Target(job),
            Some(_) | None => Looked::Other,
        },
    }
}
