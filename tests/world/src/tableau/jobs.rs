//! The life of jobs: queued, running, ended, gone.
//!
//! Nothing runs here. [`Jobs::advance`] works out, in order, what has happened up to a moment, at the exact moments
//! at which it happened, however late it is called.

use std::time::Duration;

use tokio::time::Instant;

use super::config::{Kind, Outcome, Script, Step};
use super::site::ContentKind;
use super::truth::RequestedBy;

/// All jobs that ever were, in the order of creation.
#[derive(Default)]
pub(super) struct Jobs {
    all: Vec<Job>,
    /// The moment of the last thing that happened; nothing happens before it any more.
    cursor: Option<Instant>,
}

/// One refresh.
pub(super) struct Job {
    pub(super) id: String,
    /// LUIDs.
    pub(super) site: String,
    pub(super) content: String,
    pub(super) content_kind: ContentKind,
    /// The content's name when the job was created.
    pub(super) title: String,
    pub(super) kind: Kind,
    pub(super) requested_by: RequestedBy,
    pub(super) by: String,
    pub(super) created: Instant,
    pub(super) phase: Phase,
    script: Script,
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It may start from `ready` on; `None` until it is released.
    Queued { ready: Option<Instant> },
    /// It ends at `ends`; `None` until it is released.
    Running { started: Instant, ends: Option<Instant> },
    /// `started` is `None` when it was cancelled in the queue.
    Ended { started: Option<Instant>, ended: Instant, outcome: Outcome },
}

/// What a new job is made of.
pub(super) struct NewJob {
    pub(super) site: String,
    pub(super) content: String,
    pub(super) content_kind: ContentKind,
    pub(super) title: String,
    pub(super) kind: Kind,
    pub(super) requested_by: RequestedBy,
    pub(super) by: String,
    pub(super) script: Script,
}

impl Jobs {
    /// Creates a job; its id.
    pub(super) fn create(&mut self, new: NewJob, now: Instant) -> &Job {
        let NewJob { site, content, content_kind, title, kind, requested_by, by, script } = new;
        let phase = Phase::Queued { ready: due(script.queued, now) };
        let id = uuid::Uuid::new_v4().to_string();
        let job = Job {
            id,
            site,
            content,
            content_kind,
            title,
            kind,
            requested_by,
            by,
            created: now,
            phase,
            script,
        };
        self.all.push(job);
        &self.all[self.all.len() - 1]
    }

    /// Everything that has happened up to `now`, with `slots` jobs running at a time on each site. Whether there
    /// was anything.
    pub(super) fn advance(&mut self, now: Instant, slots: usize) -> bool {
        let mut moved = false;
        while let Some((at, n)) = self.next(slots).filter(|(at, _)| *at <= now) {
            self.all[n].step(at);
            self.cursor = Some(at);
            moved = true;
        }
        moved
    }

    /// When something will happen next by itself.
    pub(super) fn next_change(&self, slots: usize) -> Option<Instant> {
        self.next(slots).map(|(at, _)| at)
    }

    /// The earliest thing to happen: an end, or a start where a slot is free. Of two at the same moment an end comes
    /// first, then the older job.
    fn next(&self, slots: usize) -> Option<(Instant, usize)> {
        let cursor = |at: Instant| self.cursor.map_or(at, |cursor| at.max(cursor));
        let due = self.all.iter().enumerate().filter_map(|(n, job)| match job.phase {
            Phase::Queued { ready: Some(ready) } if self.running(&job.site) < slots => {
                Some((cursor(ready), true, n))
            }
            Phase::Running { ends: Some(ends), .. } => Some((ends, false, n)),
            Phase::Queued { .. } | Phase::Running { .. } | Phase::Ended { .. } => None,
        });
        due.min().map(|(at, _, n)| (at, n))
    }

    fn running(&self, site: &str) -> usize {
        let running = |job: &&Job| job.site == site && matches!(job.phase, Phase::Running { .. });
        self.all.iter().filter(running).count()
    }

    /// The queued or running job of a piece of content: there is never more than one.
    pub(super) fn active(&self, content: &str) -> Option<&Job> {
        self.all.iter().find(|job| job.content == content && !job.has_ended())
    }

    /// Lets the content's job pass the step it is waiting in.
    pub(super) fn release(&mut self, content: &str, now: Instant) {
        for job in self.all.iter_mut().filter(|job| job.content == content) {
            match &mut job.phase {
                Phase::Queued { ready: wait @ None } | Phase::Running { ends: wait @ None, .. } => {
                    *wait = Some(now);
                }
                Phase::Queued { .. } | Phase::Running { .. } | Phase::Ended { .. } => {}
            }
        }
    }

    /// The content's job in the queue turns out to have been started that long ago.
    pub(super) fn start_late(&mut self, content: &str, ago: Duration, now: Instant) {
        let started = now.checked_sub(ago).unwrap_or(now);
        for job in self.all.iter_mut().filter(|job| job.content == content) {
            if matches!(job.phase, Phase::Queued { .. }) {
                job.phase = Phase::Running { started, ends: due(job.script.running, now) };
                self.cursor = Some(now);
            }
        }
    }

    /// Ends a job as cancelled. No effect on one that has ended. False when there is no such job.
    pub(super) fn cancel(&mut self, id: &str, now: Instant) -> bool {
        let Some(job) = self.all.iter_mut().find(|job| job.id == id) else { return false };
        let started = match job.phase {
            Phase::Ended { .. } => return true,
            Phase::Queued { .. } => None,
            Phase::Running { started, .. } => Some(started),
        };
        job.phase = Phase::Ended { started, ended: now, outcome: Outcome::Cancelled };
        self.cursor = Some(now);
        true
    }

    /// The jobs of a site whose records can be read, oldest first.
    pub(super) fn readable<'a>(
        &'a self,
        site: &'a str,
        now: Instant,
        retention: Duration,
    ) -> impl Iterator<Item = &'a Job> {
        self.all.iter().filter(move |job| job.site == site && job.readable(now, retention))
    }

    pub(super) fn all(&self) -> &[Job] {
        &self.all
    }
}

impl Job {
    fn step(&mut self, at: Instant) {
        self.phase = match self.phase {
            Phase::Queued { .. } => Phase::Running { started: at, ends: due(self.script.running, at) },
            Phase::Running { started, .. } => {
                Phase::Ended { started: Some(started), ended: at, outcome: self.script.outcome.clone() }
            }
            Phase::Ended { .. } => return,
        };
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    pub(super) fn started(&self) -> Option<Instant> {
        match self.phase {
            Phase::Queued { .. } => None,
            Phase::Running { started, .. } => Some(started),
            Phase::Ended { started, .. } => started,
        }
    }

    /// When and how it ended.
    pub(super) fn end(&self) -> Option<(Instant, &Outcome)> {
        match &self.phase {
            Phase::Queued { .. } | Phase::Running { .. } => None,
            Phase::Ended { ended, outcome, .. } => Some((*ended, outcome)),
        }
    }

    fn readable(&self, now: Instant, retention: Duration) -> bool {
        match self.end() {
            None => true,
            Some((_, Outcome::Vanish)) => false,
            Some((ended, _)) => now.saturating_duration_since(ended) < retention,
        }
    }
}

/// `None` also for a time beyond all clocks.
fn due(step: Step, from: Instant) -> Option<Instant> {
    match step {
        Step::For(duration) => from.checked_add(duration),
        Step::UntilReleased => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn new(content: &str, queued: Step, running: Step) -> NewJob {
        NewJob {
            site: "site".to_owned(),
            content: content.to_owned(),
            content_kind: ContentKind::Datasource,
            title: content.to_owned(),
            kind: Kind::Full,
            requested_by: RequestedBy::Person,
            by: "somebody".to_owned(),
            script: Script { queued, running, outcome: Outcome::Success },
        }
    }

    fn life(jobs: &Jobs, start: Instant) -> Vec<(Option<u64>, Option<u64>)> {
        let seconds = |at: Instant| (at - start).as_secs();
        jobs.all()
            .iter()
            .map(|job| (job.started().map(seconds), job.end().map(|(at, _)| seconds(at))))
            .collect()
    }

    #[test]
    fn a_late_look_sees_what_happened_when_it_happened() {
        let (mut jobs, start) = (Jobs::default(), Instant::now());
        // One slot: b is ready first, a waits for it although it is older, c waits for a.
        jobs.create(new("a", Step::For(2 * SECOND), Step::For(3 * SECOND)), start);
        jobs.create(new("b", Step::For(SECOND), Step::For(4 * SECOND)), start);
        jobs.create(new("c", Step::For(SECOND), Step::For(SECOND)), start);
        assert!(jobs.advance(start + 60 * SECOND, 1));
        assert_eq!(life(&jobs, start), [(Some(5), Some(8)), (Some(1), Some(5)), (Some(8), Some(9))]);
        assert_eq!(jobs.next_change(1), None);
    }

    #[test]
    fn each_release_passes_one_step() {
        let (mut jobs, start) = (Jobs::default(), Instant::now());
        jobs.create(new("a", Step::UntilReleased, Step::UntilReleased), start);
        jobs.advance(start + SECOND, 1);
        assert_eq!(life(&jobs, start), [(None, None)]);
        for (second, expected) in [(2, (Some(2), None)), (3, (Some(2), Some(3)))] {
            jobs.release("a", start + second * SECOND);
            jobs.advance(start + second * SECOND, 1);
            assert_eq!(life(&jobs, start), [expected]);
        }
    }

    #[test]
    fn a_cancelled_job_frees_its_slot_at_once_and_its_record_stays_for_a_while() {
        let (mut jobs, start) = (Jobs::default(), Instant::now());
        let id = jobs.create(new("a", Step::For(Duration::ZERO), Step::UntilReleased), start).id.clone();
        jobs.create(new("b", Step::For(Duration::ZERO), Step::For(SECOND)), start);
        jobs.advance(start + 5 * SECOND, 1);
        assert!(jobs.cancel(&id, start + 5 * SECOND));
        jobs.advance(start + 10 * SECOND, 1);
        assert_eq!(life(&jobs, start), [(Some(0), Some(5)), (Some(5), Some(6))]);
        let readable = |at: u32| jobs.readable("site", start + at * SECOND, 3 * SECOND).count();
        assert_eq!([readable(7), readable(8), readable(9)], [2, 1, 0]);
    }
}
