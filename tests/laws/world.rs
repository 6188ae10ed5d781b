//! The truth: Prefect with its runs, Tableau with its jobs, and one true time. Nothing here knows the machine.

use feedwater::api::{RefreshType, TargetKind};
use feedwater::model::failures::Lasting;
use feedwater::model::ids::{JobId, Luid, RunId, StateId};
use feedwater::model::jobs::{Job, JobRow, JobStatus};
use feedwater::model::runs::StateType;
use jiff::{SignedDuration, Timestamp};

pub const UPSTREAMS: usize = 4;
/// Upstreams of which a completion named `Skipped` does not count, and of which only runs with `region: eu` are meant.
pub const EXCLUDES: [bool; UPSTREAMS] = [false, true, false, true];
pub const MATCHES: [bool; UPSTREAMS] = [false, false, true, true];
pub const SITE: &str = "site-1";

/// True time, in milliseconds, and a sequence that makes moments unique.
#[derive(Clone, Debug)]
pub struct Clock {
    pub ms: u64,
    pub seq: u64,
    pub prefect_skew: i64,
    pub tableau_skew: i64,
    pub our_skew: i64,
}

impl Clock {
    fn shown(&self, skew: i64) -> Timestamp {
        let base = Timestamp::from_second(1_760_000_000).unwrap();
        base + SignedDuration::from_millis(i64::try_from(self.ms).unwrap() + skew)
    }
    pub fn ours(&self) -> Timestamp {
        self.shown(self.our_skew)
    }
    pub fn prefect(&self) -> Timestamp {
        self.shown(self.prefect_skew)
    }
    pub fn tableau(&self) -> Timestamp {
        self.shown(self.tableau_skew)
    }
    pub fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

pub fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap()
}

/// A terminal state of a run.
#[derive(Clone, Debug)]
pub struct State {
    pub upstream: usize,
    pub run: RunId,
    pub state: StateId,
    pub at: Timestamp,
    pub started_at: Timestamp,
    /// When it came to be, in true time.
    pub true_ms: u64,
    pub completed: bool,
    /// The state has the name that some exclude.
    pub skipped: bool,
    /// The run is of another region.
    pub elsewhere: bool,
}

impl State {
    /// Whether it is an occasion of its upstream.
    pub fn counts(&self) -> bool {
        self.completed
            && !(self.skipped && EXCLUDES[self.upstream])
            && !(self.elsewhere && MATCHES[self.upstream])
    }
}

/// A run in progress.
#[derive(Clone, Debug)]
pub struct Begun {
    pub upstream: usize,
    pub run: RunId,
    pub kind: StateType,
    /// When it last changed its state.
    pub at: Timestamp,
    /// When it began, in true time.
    pub true_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Prefect {
    /// The present state of every run that ended.
    pub runs: Vec<State>,
    pub begun: Vec<Begun>,
    /// Every COMPLETED state there ever was: what the oracle replays.
    pub ever: Vec<State>,
    pub paused: [bool; UPSTREAMS],
    pub missing: [bool; UPSTREAMS],
    pub down: bool,
}

impl Prefect {
    pub fn end_run(&mut self, clock: &mut Clock, upstream: usize, completed: bool) {
        self.end_run_as(clock, upstream, completed, false, false);
    }

    pub fn end_run_as(
        &mut self,
        clock: &mut Clock,
        upstream: usize,
        completed: bool,
        skipped: bool,
        elsewhere: bool,
    ) {
        let n = clock.next();
        let at = clock.prefect();
        let begun = self.begun.iter().position(|begun| begun.upstream == upstream && !elsewhere);
        let begun = begun.map(|index| self.begun.remove(index).run);
        self.put(State {
            upstream,
            run: begun.unwrap_or_else(|| RunId::new(format!("run-{n}"))),
            state: StateId::new(format!("state-{n:06}")),
            at,
            started_at: at - SignedDuration::from_secs(60),
            true_ms: clock.ms,
            completed,
            skipped,
            elsewhere,
        });
    }

    pub fn begin_run(&mut self, clock: &mut Clock, upstream: usize, kind: StateType, ago: i64) {
        let run = RunId::new(format!("run-{}", clock.next()));
        let at = clock.prefect() - SignedDuration::from_secs(ago);
        self.begun.push(Begun { upstream, run, kind, at, true_ms: clock.ms });
    }

    /// A person (or a user's retry) gives the newest run of the upstream another end.
    pub fn force(&mut self, clock: &mut Clock, upstream: usize, completed: bool) -> Option<State> {
        let index = self.runs.iter().rposition(|run| run.upstream == upstream)?;
        let old = self.runs.remove(index);
        let n = clock.next();
        let state = StateId::new(format!("state-{n:06}"));
        self.put(State {
            state,
            at: clock.prefect(),
            true_ms: clock.ms,
            completed,
            skipped: false,
            ..old.clone()
        });
        Some(old)
    }

    fn put(&mut self, state: State) {
        if state.completed {
            self.ever.push(state.clone());
        }
        self.runs.push(state);
    }
}

/// A background job, and whose it is.
#[derive(Clone, Debug)]
pub struct TrueJob {
    pub id: JobId,
    pub luid: Luid,
    pub kind: RefreshType,
    pub title: String,
    pub created_at: Timestamp,
    pub started: Option<(Timestamp, u64)>,
    pub ended_at: Option<Timestamp>,
    pub status: JobStatus,
    /// It failed for a reason that a retry does not mend.
    pub lasting: bool,
    /// The intent of our POST that made it.
    pub intent: Option<String>,
    pub removed: bool,
    /// It may not be read by its id (403).
    pub refused: bool,
    /// The list leaves it out.
    pub left_out: bool,
}

impl TrueJob {
    pub fn active(&self) -> bool {
        matches!(self.status, JobStatus::Pending | JobStatus::InProgress)
    }
    pub fn row(&self) -> JobRow {
        JobRow {
            id: self.id.clone(),
            status: self.status,
            refresh_type: Some(self.kind),
            title: Some(self.title.clone()),
            created_at: Some(floor(self.created_at)),
            started_at: self.started.map(|(at, _)| floor(at)),
            ended_at: self.ended_at.map(floor),
        }
    }
    pub fn told(&self) -> Job {
        Job {
            id: self.id.clone(),
            status: self.status,
            content: Some(self.luid.clone()),
            created_at: Some(floor(self.created_at)),
            started_at: self.started.map(|(at, _)| floor(at)),
            completed_at: self.ended_at.map(floor),
            failure: self.lasting.then_some(Lasting::SourceCredentials),
            wants_full: false,
        }
    }
}

/// A POST that is on its way, its sender no longer waiting.
#[derive(Clone, Debug)]
pub struct Held {
    pub arrives_ms: u64,
    pub luid: Luid,
    pub kind: RefreshType,
    pub intent: String,
}

#[derive(Clone, Debug)]
pub struct Tableau {
    pub jobs: Vec<TrueJob>,
    pub held: Vec<Held>,
    /// LUIDs of the contents `Orders` and `Stock`; republishing changes one.
    pub contents: [Luid; 2],
    pub list_allowed: bool,
    /// Only the list: no answer to it.
    pub list_fails: bool,
    pub down: bool,
}

pub const NAMES: [&str; 2] = ["Orders", "Stock"];
pub const KIND: TargetKind = TargetKind::Datasource;

impl Tableau {
    pub fn new() -> Self {
        let contents = [Luid::from("luid-a1"), Luid::from("luid-b1")];
        Self {
            jobs: Vec::new(),
            held: Vec::new(),
            contents,
            list_allowed: true,
            list_fails: false,
            down: false,
        }
    }

    /// A refresh, if no other of the content is queued or running.
    pub fn refresh(
        &mut self,
        clock: &mut Clock,
        luid: &Luid,
        kind: RefreshType,
        intent: Option<String>,
    ) -> Option<JobId> {
        if self.jobs.iter().any(|job| job.luid == *luid && job.active()) {
            return None;
        }
        let id = JobId::new(format!("job-{}", clock.next()));
        let title = if luid.as_str().starts_with("luid-a") { NAMES[0] } else { NAMES[1] };
        self.jobs.push(TrueJob {
            id: id.clone(),
            luid: luid.clone(),
            kind,
            title: title.to_owned(),
            created_at: clock.tableau(),
            started: None,
            ended_at: None,
            status: JobStatus::Pending,
            lasting: false,
            intent,
            removed: false,
            refused: false,
            left_out: false,
        });
        Some(id)
    }

    pub fn arrive(&mut self, clock: &mut Clock) {
        let (now, later): (Vec<Held>, _) = self.held.drain(..).partition(|held| held.arrives_ms <= clock.ms);
        self.held = later;
        for held in now {
            self.refresh(clock, &held.luid, held.kind, Some(held.intent));
        }
    }

    pub fn start(&mut self, clock: &Clock, nth: usize) {
        let mut pending: Vec<_> = self.jobs.iter_mut().filter(|j| j.status == JobStatus::Pending).collect();
        if !pending.is_empty() {
            let nth = nth % pending.len();
            pending[nth].status = JobStatus::InProgress;
            pending[nth].started = Some((clock.tableau(), clock.ms));
        }
    }

    /// Ends a job: success and failure only when running, a person's cancel at any time.
    pub fn end(&mut self, clock: &Clock, nth: usize, status: JobStatus, lasting: bool) {
        let may = |job: &TrueJob| {
            job.status == JobStatus::InProgress || (status == JobStatus::Cancelled && job.active())
        };
        let mut running: Vec<_> = self.jobs.iter_mut().filter(|j| may(j)).collect();
        if !running.is_empty() {
            let nth = nth % running.len();
            running[nth].status = status;
            running[nth].lasting = lasting && status == JobStatus::Failed;
            running[nth].ended_at = Some(clock.tableau());
        }
    }
}
