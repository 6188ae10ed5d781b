//! The part of a site's observer that reads jobs: those that somebody follows or asks for, and the list as far back as somebody needs it.
//!
//! The list is read whole once. A job that has ended does not change any more, so that a later look goes back only to those that had not, and to
//! what may have been listed late: it costs a page, however far back the list reaches.

use super::site::{Looks, News, Refused};
use super::site_observer::{ASK_AGAIN, FOLLOW_FIRST, Interest, Observer, Todo};
use super::site_tasks::is_of_one;
use crate::model::extract::{JOBS_EVERY, JobList};
use crate::model::ids::JobId;
use crate::model::jobs::{JobAnswer, JobRow, JobStatus};
use crate::model::time::{ClockReading, Moment, add, sub};
use crate::tableau::{TableauError, pages};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// A job may have been queued, or have run, for this long (`model::extract` asks for as much): an older one that has not ended is not waited for.
const QUEUED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A row may be listed this long after its job was made.
const LISTED_LATE: Duration = Duration::from_secs(3600);
/// The list is read whole this often all the same: a right that is given, and a list that was wrong, show.
const WHOLE_EVERY: Duration = Duration::from_secs(6 * 3600);

/// When the list was read, by Tableau's clock at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastLook {
    at: Timestamp,
    /// Whole.
    whole: Timestamp,
}

/// From where on the rows have to be read again for the list to hold all since then; `None`: the whole of it.
fn again_from(
    list: &JobList,
    before: Option<LastLook>,
    wanted: Timestamp,
    clock: Option<ClockReading>,
    now: Moment,
) -> Option<Timestamp> {
    let JobList::Read { since, rows, .. } = list else { return None };
    let (before, clock) = (before?, clock?.upper(now));
    // A clock that went back says that this is not what was read before.
    if *since > wanted || clock < before.at || clock >= add(before.whole, WHOLE_EVERY) {
        return None;
    }
    let longest = sub(before.at, QUEUED_FOR);
    let open = rows.iter().filter(|row| is_open(row)).filter_map(|row| row.created_at);
    let oldest = open.filter(|created| *created >= longest).min();
    let lately = sub(before.at, LISTED_LATE);
    Some(oldest.map_or(lately, |oldest| oldest.min(lately)).max(*since))
}

/// What was listed from there on, and what was known before.
fn joined(list: &JobList, from: Timestamp, new: Vec<JobRow>) -> Vec<JobRow> {
    let JobList::Read { rows, .. } = list else { return new };
    let listed: BTreeSet<&JobId> = new.iter().map(|row| &row.id).collect();
    let stays = |row: &&JobRow| {
        let before = row.created_at.is_some_and(|created| created < from);
        before && !is_open(row) && !listed.contains(&row.id)
    };
    let kept: Vec<JobRow> = rows.iter().filter(stays).cloned().collect();
    kept.into_iter().chain(new).collect()
}

fn is_open(row: &JobRow) -> bool {
    matches!(row.status, JobStatus::Pending | JobStatus::InProgress)
}

pub(super) fn is_refresh(row: &JobRow) -> bool {
    row.refresh_type.is_some()
}

impl Observer {
    /// Those that resources follow, and what was asked for besides. What was read is taken from `todo`.
    pub(super) async fn read_jobs(
        &mut self,
        interest: &Interest,
        todo: &mut Todo,
        news: &mut News,
    ) -> Result<(), TableauError> {
        self.questions = 0;
        let asked: BTreeSet<JobId> = todo.looks.jobs.union(&todo.ends.jobs).cloned().collect();
        let wanted: BTreeSet<JobId> = interest.jobs.union(&asked).cloned().collect();
        let since = [interest.list, todo.looks.list, todo.ends.list].into_iter().flatten().min();
        let now = self.setup.clock.moment();
        if self.setup.budget.pace(1, now).is_none() {
            // Used up: what is known stays as it is, and what was asked for is asked for when questions are to be had again.
            return Ok(());
        }
        // First, so that nothing that fails keeps them from being followed.
        for job in &interest.jobs {
            news.jobs |= self.read_job(job, true).await?;
        }
        let looks = Looks {
            jobs: todo.looks.jobs.difference(&interest.jobs).cloned().collect(),
            list: [interest.list, todo.looks.list].into_iter().flatten().min(),
        };
        self.read_looks(&looks, news).await?;
        todo.looks = Looks::default();
        if now >= self.ends_at {
            let read = |job: &&JobId| interest.jobs.contains(*job) || looks.jobs.contains(*job);
            let ends = Looks {
                jobs: todo.ends.jobs.iter().filter(|job| !read(job)).cloned().collect(),
                list: todo.ends.list.filter(|since| !self.has_listed(sub(*since, QUEUED_FOR), now)),
            };
            match self.read_looks(&ends, news).await {
                Ok(()) => todo.ends = Looks::default(),
                Err(error) if is_of_one(&error) => {
                    tracing::debug!(%error, "what others have refreshed could not be read; it is tried again later");
                    self.ends_at = self.setup.clock.moment().plus(JOBS_EVERY);
                }
                Err(error) => return Err(error),
            }
        }
        let listed: BTreeSet<&JobId> = match &self.list {
            JobList::Read { rows, .. } => rows.iter().map(|row| &row.id).collect(),
            JobList::Unread | JobList::NotAllowed => BTreeSet::new(),
        };
        self.details.retain(|job, _| wanted.contains(job) || listed.contains(job));
        self.denied.retain(|job, _| wanted.contains(job) || listed.contains(job));
        // Answers about jobs nobody follows any more are of no use; with nothing active none is kept, and no list longer than those need it who
        // look at it now and then: the next of their looks is to find it.
        let lately = matches!(&self.list, JobList::Read { asked, .. } if now.since(*asked) <= JOBS_EVERY * 2);
        if since.is_none() && wanted.is_empty() && !(interest.active && lately) {
            self.forget_jobs();
        }
        Ok(())
    }

    /// Whether the list was read after this and reaches back so far.
    fn has_listed(&self, wanted: Timestamp, after: Moment) -> bool {
        matches!(&self.list, JobList::Read { asked, since, .. } if *asked >= after && *since <= wanted)
    }

    async fn read_looks(&mut self, looks: &Looks, news: &mut News) -> Result<(), TableauError> {
        if let Some(since) = looks.list {
            news.jobs |= self.read_list(sub(since, QUEUED_FOR)).await?;
        }
        for job in &looks.jobs {
            news.jobs |= self.read_job(job, false).await?;
        }
        Ok(())
    }

    /// Nothing is known of any job.
    pub(super) fn forget_jobs(&mut self) {
        self.details.clear();
        self.denied.clear();
        self.list = JobList::Unread;
    }

    pub(super) fn is_denied(&self, job: &JobId, now: Moment) -> bool {
        self.denied.get(job).is_some_and(|refused| now < refused.until)
    }

    /// `false`: there is nothing new. Whoever asks for what may not be read must not be woken by that, or he would ask again at once.
    async fn read_job(&mut self, job: &JobId, followed: bool) -> Result<bool, TableauError> {
        let asked = self.setup.clock.moment();
        if self.is_denied(job, asked) {
            return Ok(false);
        }
        if !self.details.contains_key(job) {
            self.follow = FOLLOW_FIRST;
        }
        self.queried(1, asked);
        match self.client.job(job).await {
            Ok(answer) => {
                self.details.insert(job.clone(), answer);
                Ok(true)
            }
            Err(TableauError::Forbidden(code) | TableauError::Rejected(code)) => {
                tracing::debug!(%job, code, "a job may not be read");
                let again =
                    self.denied.insert(job.clone(), Refused { until: asked.plus(ASK_AGAIN) }).is_some();
                // Who starts a job may read it: one that may not be read is none of ours, and whose it is stays unknown. One that is followed
                // is given up only when it is refused again after a while: unknown then, and never success.
                let given_up = !followed || again;
                if given_up {
                    self.details.insert(job.clone(), JobAnswer { asked, job: None });
                }
                Ok(given_up)
            }
            Err(error) => Err(error),
        }
    }

    /// All since then. `false`: there is nothing new.
    async fn read_list(&mut self, wanted: Timestamp) -> Result<bool, TableauError> {
        let asked = self.setup.clock.moment();
        if self.list_refused.is_some_and(|refused| asked < refused.until) {
            let told = self.list == JobList::NotAllowed;
            self.list = JobList::NotAllowed;
            return Ok(!told);
        }
        let clock = self.client.clock();
        let from = again_from(&self.list, self.last_look, wanted, clock, asked);
        match self.client.jobs(from.unwrap_or(wanted)).await {
            Ok(rows) => {
                self.queried(pages(rows.len()), asked);
                self.list_refused = None;
                let at = clock.map(|clock| clock.lower(asked));
                let whole = if from.is_some() { self.last_look.map(|last| last.whole) } else { at };
                self.last_look = at.zip(whole).map(|(at, whole)| LastLook { at, whole });
                let new = rows.into_iter().filter(is_refresh).collect();
                let rows = match from {
                    Some(from) => joined(&self.list, from, new),
                    None => new,
                };
                let since = match &self.list {
                    JobList::Read { since, .. } if from.is_some() => *since,
                    JobList::Read { .. } | JobList::Unread | JobList::NotAllowed => wanted,
                };
                let answered = self.setup.clock.moment();
                self.list = JobList::Read { asked, answered, since, rows: rows.into() };
            }
            // Without the rights of a site administrator everything else still works.
            Err(TableauError::Forbidden(_)) => {
                self.queried(1, asked);
                self.list_refused = Some(Refused { until: asked.plus(ASK_AGAIN) });
                self.list = JobList::NotAllowed;
            }
            Err(error) => {
                self.queried(1, asked);
                return Err(error);
            }
        }
        Ok(true)
    }

    fn queried(&mut self, questions: u32, at: Moment) {
        self.questions += questions;
        self.setup.budget.queried(questions, at);
    }
}
