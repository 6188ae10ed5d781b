//! How the process reads jobs: those that are followed or asked for, and the list.

use super::Sim;
use super::operator::{InFlight, moment};
use super::world::{TrueJob, floor};
use feedwater::model::extract::{JOBS_EVERY, JobList, interest, reads_jobs};
use feedwater::model::ids::JobId;
use feedwater::model::job_looks::{Look, QUEUED_FOR};
use feedwater::model::jobs::JobAnswer;
use feedwater::model::time::{ClockReading, Moment, sub};
use jiff::Timestamp;
use std::time::Duration;

/// What may not be read is not asked for again before this.
pub const ASK_AGAIN_MS: u64 = 600_000;

impl Sim {
    /// Reads the jobs that are followed or hinted at, and the list where it is wanted: whole once, and then what is needed of it.
    pub fn poll_tableau(&mut self, slow: bool) {
        self.process.target_read |= !self.tableau.down;
        if self.tableau.down {
            return;
        }
        let status = &self.cluster.status;
        let attempt = status.attempt.as_ref().filter(|attempt| attempt.job_id.is_none());
        let since = attempt.map(|attempt| attempt.fence.0).into_iter().chain(self.process.wanted_list).min();
        let all = [since, self.other_reads].into_iter().flatten().min();
        let active = reads_jobs(status) || self.other_reads.is_some();
        let mut followed = interest(status).jobs;
        if self.other_reads.is_some() {
            let jobs = self.tableau.jobs.iter().filter(|job| job.active());
            followed.extend(jobs.map(|job| job.id.clone()));
        }
        // Those that are followed come first, so that a list that fails keeps none from it.
        let mut reads: Vec<InFlight> = followed.iter().filter_map(|id| self.read_job(id, true)).collect();
        self.process.failed = all.is_some() && self.tableau.list_fails;
        if self.process.failed {
            self.reached.one("List/Failed");
        } else {
            if let Some(all) = all {
                if since.is_some_and(|since| all < since) {
                    self.reached.one("List/OthersReadMore");
                }
                reads.extend(self.read_list(since.unwrap_or(all), all));
            }
            let asked = std::mem::take(&mut self.process.wanted_jobs);
            let asked: Vec<JobId> = asked.difference(&followed).cloned().collect();
            reads.extend(asked.iter().filter_map(|id| self.read_job(id, false)));
            // What was asked for stays asked for until it has landed.
            self.process.wanted_jobs = asked.into_iter().filter(|id| !self.denies(id)).collect();
        }
        let wanted = self.process.wants(&self.cluster.status);
        let now = moment(&mut self.clock);
        let lately =
            matches!(&self.process.kept, JobList::Read { asked, .. } if now.since(*asked) <= JOBS_EVERY * 2);
        if all.is_none() && wanted.is_empty() && !(active && lately) {
            // Nobody needs it: who does next reads it whole.
            (self.process.kept, self.process.list) = (JobList::Unread, None);
            self.process.details.clear();
        }
        let (date, at) = (floor(self.clock.tableau()), Moment(Duration::from_millis(self.clock.ms)));
        self.process.tableau_clock = Some((date, at));
        if slow {
            self.in_flight.extend(reads);
        } else {
            for read in reads {
                self.land(read);
            }
        }
    }

    /// Whether it was refused a moment ago.
    fn denies(&self, id: &JobId) -> bool {
        self.process.denied.get(id).is_some_and(|until| self.clock.ms < *until)
    }

    /// None: it is not asked for, or may not be read, which is believed of one that is followed only when it is refused again after a while.
    fn read_job(&mut self, id: &JobId, followed: bool) -> Option<InFlight> {
        if self.denies(id) {
            return None;
        }
        let asked = moment(&mut self.clock);
        let job = self.tableau.jobs.iter().find(|job| job.id == *id && !job.removed);
        if job.is_some_and(|job| job.refused) {
            let again = self.process.denied.insert(id.clone(), self.clock.ms + ASK_AGAIN_MS).is_some();
            let given_up = !followed || again;
            self.reached.one(if given_up { "Job/GivenUp" } else { "Job/Refused" });
            return given_up.then(|| InFlight::Job(id.clone(), JobAnswer { asked, job: None }));
        }
        Some(InFlight::Job(id.clone(), JobAnswer { asked, job: job.map(TrueJob::told) }))
    }

    /// The list, and the jobs that were asked for by their ids for it.
    fn read_list(&mut self, since: Timestamp, all: Timestamp) -> Vec<InFlight> {
        let asked = moment(&mut self.clock);
        if !self.tableau.list_allowed {
            self.process.kept = JobList::NotAllowed;
            return vec![InFlight::List(JobList::NotAllowed)];
        }
        let reading =
            self.process.tableau_clock.map(|(date, at)| ClockReading { date, sent: at, received: at });
        let process = &self.process;
        let wanted = sub(since, QUEUED_FOR);
        let others = Some(sub(all, QUEUED_FOR));
        let mut look = Look::new(&process.kept, process.last_look.as_ref(), wanted, others, reading, asked);
        let part = matches!(&process.kept, JobList::Read { since, .. } if look.from() > *since);
        self.reached.one(if part { "List/Part" } else { "List/Whole" });
        let mut reads = Vec::new();
        for id in look.by_id() {
            let read = self.read_job(&id, false);
            match &read {
                Some(InFlight::Job(_, answer)) if !self.denies(&id) => {
                    look.answered(&id, answer.job.as_ref());
                }
                Some(_) | None => look.unanswered(&id),
            }
            self.reached.one("List/ById");
            reads.extend(read);
        }
        let all = self.tableau.jobs.iter().filter(|job| !job.removed);
        let rows = all.clone().filter(|job| !job.left_out).map(TrueJob::row);
        let rows = rows.filter(|row| row.created_at >= Some(floor(look.from()))).collect();
        if let JobList::Read { rows: known, .. } = &self.process.kept
            && all.clone().any(|job| job.left_out && known.iter().any(|row| row.id == job.id))
        {
            self.reached.one("List/LeftOut");
        }
        (self.process.kept, self.process.last_look) = look.joined(rows, asked, asked);
        reads.push(InFlight::List(self.process.kept.clone()));
        reads
    }
}
