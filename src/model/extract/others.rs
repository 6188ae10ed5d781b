//! Another job of the target is in the way (409093; 403 may hide one): does it do, or has it to end first (docs/trigger.md 4.4)?

use super::observed::{IntentView, JobList};
use super::recover::{Looked, first_titled, look, rows};
use super::{Pass, attempt, coverage, kinds, report, retry};
use crate::api::{Attempt, AttemptPhase, ExtractRefreshStatus, JobOrigin, RefreshType, Time};
use crate::model::ids::JobId;
use crate::model::jobs::{Job, JobAnswer, JobRow, JobStatus};
use crate::model::time::Moment;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// Adopts a job that contains what is owed; else waits for the end of the one that is running; else leaves it to the wait.
pub(super) fn evaluate(p: &mut Pass, s: &mut ExtractRefreshStatus, mut attempt: Attempt) {
    if !attempt::may_go(p, s, &attempt) {
        s.attempt = None;
        return;
    }
    let sent = refused_at(p);
    if let Some(id) = attempt.waits_for_job.clone() {
        let Some(answer) = p.o.jobs.details.get(&JobId::from(id.as_str())) else { return };
        let kind = rows(p).iter().find(|row| row.id.as_str() == id).and_then(|row| row.refresh_type);
        match &answer.job {
            Some(job) if adopt(p, s, &attempt, answer, job, kind, sent) => return,
            Some(job) if active(job) => return,
            Some(_) | None => {
                attempt.waits_for_job = None;
                attempt.not_before = Some(Time(p.now));
                s.attempt = Some(attempt.clone());
            }
        }
    }
    if !read_since(p, sent, &attempt) {
        return;
    }
    let mut running = None;
    for row in in_question(p, s) {
        let Looked::Target(job) = look(p, s, &attempt, row) else { continue };
        let Some(answer) = p.o.jobs.details.get(&row.id) else { continue };
        if adopt(p, s, &attempt, answer, job, row.refresh_type, sent) {
            return;
        }
        if active(job) {
            running = Some(row.id.clone());
        }
    }
    let forbidden = s.owed.as_ref().is_some_and(|owed| owed.refused.is_some());
    if let Some(job) = running {
        attempt.waits_for_job = Some(job.as_str().to_owned());
        attempt.not_before = None;
        attempt.blocked = 0;
        if let Some(owed) = &mut s.owed {
            owed.refused = None;
        }
        s.attempt = Some(attempt);
    } else if forbidden && unlooked(p, s, &attempt).is_empty() {
        s.attempt = None;
        retry::refused(p, s, super::fold::PERMISSION_DENIED, None);
        p.warn("RefreshRefused", report::refusal(super::fold::PERMISSION_DENIED).unwrap_or_default());
    }
}

/// How long something may be owed before its start is preceded by a look at what others did meanwhile. What is started at once needs none.
const WAITED: Duration = Duration::from_secs(10);
/// How long ago the list may have been answered for that: many that are released at once look at one list, and it takes a while until each has. A
/// refresh of somebody else that starts and ends meanwhile is not seen, and costs one more.
const LATELY: Duration = Duration::from_secs(10);

/// A job that succeeded while something was owed may contain all of it, whoever started it: then nothing is started (docs/trigger.md 3).
pub(super) fn learn_ends(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    let Some(stand_in) = stand_in(p, s) else { return };
    for row in succeeded(p, s) {
        let Looked::Target(job) = look(p, s, &stand_in, row) else { continue };
        let Some(answer) = p.o.jobs.details.get(&row.id) else { continue };
        if adopt(p, s, &stand_in, answer, job, row.refresh_type, p.o.moment) {
            return;
        }
    }
}

/// Jobs that succeeded while something was owed and were not asked for by id yet.
pub(super) fn unlooked_ends(p: &Pass, s: &ExtractRefreshStatus) -> BTreeSet<JobId> {
    let Some(stand_in) = stand_in(p, s) else { return BTreeSet::new() };
    let titled = |row: &&JobRow| super::recover::is_titled(s, &stand_in, row);
    first_titled(p, s, &stand_in, succeeded(p, s).into_iter().filter(titled))
}

/// Since when the list has to be read before what waited is started; `None`: it was read lately, or need not or may not be.
pub(super) fn list_to_read(p: &Pass, s: &ExtractRefreshStatus) -> Option<Timestamp> {
    // A blocked attempt has looked already.
    let owed = s.owed.as_ref().filter(|_| s.attempt.is_none())?;
    let Time(since) = earliest_fence(s)?;
    let waited = p.now.duration_since(owed.formed_at.0) >= SignedDuration::try_from(WAITED).ok()?;
    let read = match &p.o.jobs.list {
        JobList::Unread => false,
        JobList::NotAllowed => true,
        JobList::Read { answered, since: rows_since, .. } => {
            p.o.moment.since(*answered) <= LATELY && *rows_since <= since
        }
    };
    (waited && !read).then_some(since)
}

fn succeeded<'a>(p: &Pass<'a>, s: &ExtractRefreshStatus) -> Vec<&'a JobRow> {
    in_question(p, s).into_iter().filter(|row| row.status == JobStatus::Success).collect()
}

/// What an attempt would be, if a job of somebody else were taken for it. `None`: there is one, or nothing to take it for.
fn stand_in(p: &Pass, s: &ExtractRefreshStatus) -> Option<Attempt> {
    s.owed.as_ref()?;
    nobodys(p, s, earliest_fence(s)?)
}

/// The same, of what has been there since this.
pub(super) fn nobodys(p: &Pass, s: &ExtractRefreshStatus, fence: Time) -> Option<Attempt> {
    let target = s.target.as_ref().filter(|_| s.attempt.is_none())?;
    Some(Attempt {
        id: String::new(),
        phase: AttemptPhase::Intended,
        intended_at: Time(p.now),
        fence,
        site: Some(p.d.site.to_string()),
        site_luid: target.site_luid.clone(),
        kind: target.kind,
        luid: target.luid.clone(),
        refresh_type: kinds::needed(p, s),
        seen: Vec::new(),
        demands: Vec::new(),
        job_id: None,
        origin: None,
        started_at: None,
        blocked: 0,
        not_before: None,
        waits_for_job: None,
    })
}

/// When Tableau's clock had certainly passed the first sight of the first of what is owed.
fn earliest_fence(s: &ExtractRefreshStatus) -> Option<Time> {
    let owed = s.owed.as_ref();
    let occasions = owed.into_iter().flat_map(|owed| &owed.occasions).map(|o| o.occasion.fence);
    let demands = owed.into_iter().flat_map(|owed| &owed.demands).map(|demand| demand.fence);
    occasions.chain(demands).flatten().min()
}

/// When our POST was refused, at the latest.
pub(super) fn refused_at(p: &Pass) -> Moment {
    match p.o.intent {
        IntentView::MaybeSent { since } => since,
        IntentView::InLedger | IntentView::None => p.o.moment,
    }
}

/// Whether the list was read after the refusal, as far back as needed (or may not be read at all).
pub(super) fn read_since(p: &Pass, sent: Moment, attempt: &Attempt) -> bool {
    match &p.o.jobs.list {
        JobList::Unread => false,
        JobList::NotAllowed => true,
        JobList::Read { asked, since, .. } => *asked >= sent && *since <= attempt::list_since(attempt),
    }
}

/// Refreshes that have not ended, and such as succeeded after something owed was first seen.
fn in_question<'a>(p: &Pass<'a>, s: &ExtractRefreshStatus) -> Vec<&'a JobRow> {
    let earliest = earliest_fence(s);
    rows(p)
        .iter()
        .filter(|row| row.refresh_type.is_some())
        .filter(|row| match row.status {
            JobStatus::Pending | JobStatus::InProgress => true,
            JobStatus::Success => coverage::started_after(earliest, row.started_at),
            JobStatus::Failed | JobStatus::Cancelled => false,
        })
        .collect()
}

/// Rows that have to be asked for by id.
pub(super) fn unlooked(p: &Pass, s: &ExtractRefreshStatus, attempt: &Attempt) -> BTreeSet<JobId> {
    first_titled(p, s, attempt, in_question(p, s).into_iter())
}

fn active(job: &Job) -> bool {
    matches!(job.status, JobStatus::Pending | JobStatus::InProgress)
}

fn adopt(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    attempt: &Attempt,
    answer: &JobAnswer,
    job: &Job,
    kind: Option<RefreshType>,
    sent: Moment,
) -> bool {
    let ended_badly = matches!(job.status, JobStatus::Failed | JobStatus::Cancelled);
    if ended_badly || !kinds::suffices(kind, kinds::needed(p, s)) {
        return false;
    }
    let Some(proof) = coverage::contains_all(p, s, attempt, answer, job, sent) else { return false };
    let adopted = Attempt {
        phase: AttemptPhase::Submitted,
        // What it contains later on, too, it contains as what it is, not as what we would have started.
        refresh_type: kind
            .filter(|_| attempt.refresh_type == RefreshType::Full)
            .unwrap_or(RefreshType::Incremental),
        job_id: Some(job.id.as_str().to_owned()),
        origin: Some(JobOrigin::Adopted),
        seen: proof.seen,
        demands: proof.demands,
        blocked: 0,
        not_before: None,
        waits_for_job: None,
        ..attempt.clone()
    };
    retry::under_way(s);
    p.tell(
        "RefreshAdopted",
        "Another refresh of the extract contains the new data and is followed instead of starting one",
    );
    s.attempt = Some(adopted.clone());
    attempt::follow(p, s, adopted);
    true
}
