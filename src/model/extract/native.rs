//! Refreshes by Tableau's own schedules, while nothing of ours is started: what they contain is credited by the rule that holds for every job
//! (docs/trigger.md 3), so that nothing is done twice and `Fresh` tells the truth. Only where such schedules are known of and something is not
//! contained yet, by the list that all resources of a site share; at rest nothing is asked.

use super::observed::JobList;
use super::recover::{self, Looked};
use super::{Pass, coverage, kinds, others};
use crate::api::{Attempt, ExtractRefreshStatus, Mark, Time};
use crate::model::ids::JobId;
use crate::model::jobs::{JobRow, JobStatus};
use crate::model::time::{add, sub};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// How old the list may be: as old as that of the tasks.
pub const EVERY: Duration = Duration::from_secs(300);

/// Most that is asked for at once.
const AT_ONCE: usize = 20;

/// Whether jobs matter to a resource with this status.
pub fn reads_jobs(s: &ExtractRefreshStatus) -> bool {
    s.owed.is_some() || s.attempt.is_some() || waits(s)
}

/// Whether a run of a schedule may contain something that is not contained yet.
fn waits(s: &ExtractRefreshStatus) -> bool {
    let scheduled =
        !s.foreign_schedules.is_empty() || s.schedules.iter().any(|entry| entry.task_id.is_some());
    scheduled && s.marks.iter().any(uncovered)
}

fn uncovered(mark: &Mark) -> bool {
    let seen = mark.seen.as_ref().map(crate::api::Occasion::place);
    mark.live() && seen.is_some() && mark.covered.as_ref().map(crate::api::Position::place) < seen
}

/// How far back a run of a schedule is looked for that nobody saw: the last of a weekly one. For how long Tableau knows jobs is not documented,
/// and said to be short; what is missed is contained in the next run, and only shown later.
const FARTHEST: Duration = Duration::from_secs(8 * 24 * 3600);

/// From when on a job that starts contains something more.
fn earliest(s: &ExtractRefreshStatus) -> Option<Time> {
    let seen = s.marks.iter().filter(|mark| uncovered(mark)).filter_map(|mark| mark.seen.as_ref()?.fence);
    seen.min().filter(|_| waits(s) && s.attempt.is_none())
}

/// Those that succeeded since, by the title of the target: a row has no LUID.
fn succeeded<'a>(p: &Pass<'a>, s: &ExtractRefreshStatus, stand_in: &Attempt) -> Vec<&'a JobRow> {
    let since = Some(stand_in.fence);
    let ended = recover::rows(p).iter().filter(|row| row.status == JobStatus::Success);
    // An incremental run contains nothing of what needs a full one, however often it comes.
    let wanted = |row: &JobRow| {
        let mut marks = s.marks.iter().filter(|mark| uncovered(mark));
        row.refresh_type.is_some()
            && marks.any(|mark| kinds::suffices(row.refresh_type, kinds::of_mark(p, mark)))
    };
    let refreshes = ended.filter(|row| wanted(row) && recover::is_titled(s, stand_in, row));
    refreshes.filter(|row| coverage::started_after(since, row.started_at)).collect()
}

/// Credits what jobs contain that have succeeded.
pub(super) fn learn(p: &Pass, s: &mut ExtractRefreshStatus) {
    let Some(stand_in) = earliest(s).and_then(|fence| others::nobodys(p, s, fence)) else { return };
    for row in succeeded(p, s, &stand_in) {
        if let Looked::Target(job) = recover::look(p, s, &stand_in, row)
            && job.status == JobStatus::Success
        {
            coverage::observe(p, s, row.refresh_type, job.started_at);
        }
    }
    coverage::settle(p, s);
}

/// What has to be looked at, and else when.
pub(super) struct Look {
    pub(super) jobs: BTreeSet<JobId>,
    pub(super) list: Option<Timestamp>,
    pub(super) again: Option<Timestamp>,
}

pub(super) fn look(p: &Pass, s: &ExtractRefreshStatus) -> Option<Look> {
    let Time(fence) = earliest(s)?;
    let stand_in = others::nobodys(p, s, Time(fence))?;
    let since = fence.max(sub(p.now, FARTHEST));
    let (read, again, listed) = match &p.o.jobs.list {
        // Without the rights of a site administrator nobody knows.
        JobList::NotAllowed => return None,
        JobList::Read { asked, since: rows_since, .. } if *rows_since <= since => {
            let age = p.o.moment.since(*asked);
            (age < EVERY, Some(add(p.now, EVERY.saturating_sub(age))), Some(*asked))
        }
        JobList::Read { .. } | JobList::Unread => (false, None, None),
    };
    // An answer from before its end says nothing of it; one from after this list that does not know of its end either is not asked for again.
    let known = |row: &&JobRow| {
        let answer = p.o.jobs.details.get(&row.id);
        answer.is_some_and(|answer| {
            answer.job.as_ref().is_none_or(|job| job.completed_at.is_some())
                || listed.is_some_and(|listed| answer.asked > listed)
        })
    };
    let jobs = succeeded(p, s, &stand_in).into_iter().filter(|row| !known(row)).take(AT_ONCE);
    let jobs = jobs.map(|row| row.id.clone());
    Some(Look { jobs: jobs.collect(), list: Some(since).filter(|_| !read), again: again.filter(|_| read) })
}
