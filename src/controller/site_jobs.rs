//! The part of a site's observer that reads jobs: those that somebody follows or asks for, and the list as far back as somebody needs it
//! (`model::job_looks`).

use super::site::{Looks, News, Refused};
use super::site_observer::{ASK_AGAIN, FOLLOW_FIRST, Interest, Observer, Todo};
use super::site_tasks::is_of_one;
use crate::model::extract::{JOBS_EVERY, JobList};
use crate::model::ids::JobId;
use crate::model::job_looks::{Look, QUEUED_FOR};
use crate::model::jobs::{JobAnswer, JobRow};
use crate::model::time::{Moment, sub};
use crate::tableau::{Questions, TableauError};
use jiff::Timestamp;
use std::collections::BTreeSet;

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
        let all = since.map(|since| sub(since, QUEUED_FOR));
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
        let wide = all.filter(|_| now >= self.ends_at);
        if let Err(error) = self.read_looks(&looks, wide, now, news).await {
            // Perhaps only since others want so much of the list: they rest, so that those who wait get theirs at the next try.
            if wide.is_some() {
                self.ends_at = self.setup.clock.moment().plus(JOBS_EVERY);
            }
            return Err(error);
        }
        todo.looks = Looks::default();
        if now >= self.ends_at {
            let read = |job: &&JobId| interest.jobs.contains(*job) || looks.jobs.contains(*job);
            let ends = Looks {
                jobs: todo.ends.jobs.iter().filter(|job| !read(job)).cloned().collect(),
                list: todo.ends.list.filter(|since| !self.has_listed(sub(*since, QUEUED_FOR), now)),
            };
            match self.read_looks(&ends, all, now, news).await {
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

    /// `all`: how far back anybody wants the list, where nobody waits for it. `begun`: this cycle.
    async fn read_looks(
        &mut self,
        looks: &Looks,
        all: Option<Timestamp>,
        begun: Moment,
        news: &mut News,
    ) -> Result<(), TableauError> {
        if let Some(since) = looks.list {
            news.jobs |= self.read_list(sub(since, QUEUED_FOR), all, begun).await?;
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
        self.last_look = None;
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
                self.denied.remove(job);
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
    async fn read_list(
        &mut self,
        wanted: Timestamp,
        all: Option<Timestamp>,
        begun: Moment,
    ) -> Result<bool, TableauError> {
        let asked = self.setup.clock.moment();
        if self.list_refused.is_some_and(|refused| asked < refused.until) {
            let told = self.list == JobList::NotAllowed;
            self.list = JobList::NotAllowed;
            return Ok(!told);
        }
        let mut look =
            Look::new(&self.list, self.last_look.as_ref(), wanted, all, self.client.clock(), asked);
        self.read_old(&mut look, begun).await?;
        let questions = Questions::default();
        let listed = self.client.jobs(look.from(), &questions).await;
        self.queried(questions.asked(), asked);
        match listed {
            Ok(rows) => {
                self.list_refused = None;
                let rows = rows.into_iter().filter(is_refresh).collect();
                let answered = self.setup.clock.moment();
                (self.list, self.last_look) = look.joined(rows, asked, answered);
            }
            // Without the rights of a site administrator everything else still works.
            Err(TableauError::Forbidden(_)) => {
                self.list_refused = Some(Refused { until: asked.plus(ASK_AGAIN) });
                self.list = JobList::NotAllowed;
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Jobs that have not ended and are too old for the list to be read back to them.
    async fn read_old(&mut self, look: &mut Look, begun: Moment) -> Result<(), TableauError> {
        for id in look.by_id() {
            let asked = self.setup.clock.moment();
            // One that somebody follows has been read: he is not to lose it by a second answer.
            let is_read = self.details.get(&id).is_some_and(|answer| answer.asked >= begun);
            if !is_read {
                match self.read_job(&id, false).await {
                    Err(error) if !is_of_one(&error) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
            match self.details.get(&id).filter(|answer| answer.asked >= begun) {
                Some(answer) if !self.is_denied(&id, asked) => look.answered(&id, answer.job.as_ref()),
                Some(_) | None => look.unanswered(&id),
            }
        }
        Ok(())
    }

    fn queried(&mut self, questions: u32, at: Moment) {
        self.questions += questions;
        self.setup.budget.queried(questions, at);
    }
}
