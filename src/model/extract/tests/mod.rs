//! Rules as tables. `Bench` is one resource with a site, two upstreams `a` and `b`, and a driver without faults.

mod acting;
mod cancelling;
mod covering;
mod declaring;
mod denying;
mod freshening;
mod gating;
mod holding;
mod holding_running;
mod kinds;
mod lasting;
mod others;
mod reporting;
mod scheduling;
mod scheduling_faults;
mod scheduling_leaving;
mod scheduling_server;
mod targets;
mod turning;
mod turning_ends;
mod unanswered;
mod warning;
mod warning_leaving;

use super::*;
use crate::api::{AttemptPhase, OnCreate, RefreshMode, Stopped};
use crate::model::feeds::Feed;
use crate::model::ids::{ConnectionName, DeploymentName, ObjectName};
use crate::model::jobs::{Job, JobAnswer, JobRow, JobStatus};
use crate::model::parameters::Parameters;
use crate::model::tenancy::Access;
use crate::model::time::{Moment, add};
use std::collections::BTreeMap;

pub(super) const SITE: &str = "site-1";
pub(super) const LUID: &str = "luid-1";

pub(super) struct Bench {
    pub(super) d: Desired,
    pub(super) o: Observed,
    pub(super) s: ExtractRefreshStatus,
    pub(super) notes: Vec<&'static str>,
    /// Seconds since the resource was created; every clock shows the same, Tableau's up to a second more.
    now: u64,
    serial: u64,
    ledger: Option<String>,
}

pub(super) fn at(seconds: u64) -> Timestamp {
    add("2026-11-24T00:00:00Z".parse().unwrap(), Duration::from_secs(seconds))
}

pub(super) fn key_of(name: &str) -> String {
    Feed::Deployment(DeploymentName { flow: name.into(), deployment: "nightly".into() })
        .key(&ConnectionName::parse("prod"))
}

pub(super) fn upstream(name: &str) -> Upstream {
    Upstream::new(name, Source::FlowDeployment(name.into()))
}

pub(super) fn found(luid: &str) -> Found {
    Found {
        site_luid: SITE.into(),
        luid: luid.into(),
        path: Some("Finance".into()),
        name: Some("Orders".into()),
    }
}

pub(super) fn named(path: &str, name: &str) -> Target {
    Target::Named { kind: TargetKind::Datasource, path: ProjectPath::parse(path).unwrap(), name: name.into() }
}

impl Bench {
    /// Two upstreams, `All`, everything there, nothing happened yet.
    pub(super) fn new() -> Self {
        let d = Desired {
            name: ObjectName { namespace: "finance".into(), name: "orders".into() },
            generation: 1,
            deleting: false,
            created_at: at(0),
            site: ConnectionName::parse("acme"),
            target: named("Finance", "Orders"),
            refresh_type: RefreshMode::Full,
            upstreams: vec![upstream("a"), upstream("b")],
            require: Require::All,
            within: None,
            debounce: None,
            running: None,
            on_create: OnCreate::Ignore,
            freshness: Freshness::default(),
            retry: Retry {
                limit: 2,
                backoff: Backoff {
                    first: Duration::from_secs(60),
                    factor: 2,
                    longest: Duration::from_secs(600),
                },
            },
            timeout: Duration::from_secs(7200),
            schedules: DeclaredSchedules::nothing(),
            windows: Vec::new(),
            priority: 50,
            suspend: false,
            refresh_token: None,
            baseline_annotation: None,
        };
        let o = Observed {
            site: SiteView::Ready { luid: SITE.into() },
            formers: BTreeMap::new(),
            leaving: BTreeMap::new(),
            access: Access::Allowed,
            standing: crate::model::connection::Standing::Held,
            credential: Some("first".into()),
            target: TargetView::Found(found(LUID)),
            claim: Claim::Ours,
            upstreams: BTreeMap::new(),
            baseline: Some(at(0)),
            tableau_clock: None,
            jobs: JobsView::default(),
            apart: Apart::default(),
            schedules: Schedules::nothing(),
            warnings: Warnings::nothing(),
            budget: BudgetView::Free,
            intent: IntentView::None,
            moment: Moment::default(),
            settle: Duration::from_secs(30),
            cleanup_deadline: Duration::from_secs(600),
            instance: "here".into(),
        };
        let mut bench = Self {
            d,
            o,
            s: ExtractRefreshStatus::default(),
            notes: Vec::new(),
            now: 0,
            serial: 0,
            ledger: None,
        };
        bench.read("a");
        bench.read("b");
        bench.wait(10);
        bench.rest();
        bench
    }

    /// One upstream is enough.
    pub(super) fn any() -> Self {
        let mut bench = Self::new();
        bench.d.require = Require::Any;
        bench
    }

    pub(super) fn now(&self) -> Timestamp {
        at(self.now)
    }

    /// The view of an upstream, empty if it was not there.
    pub(super) fn read(&mut self, name: &str) -> &mut Vec<Seen> {
        let clock = Bounds { lower: self.now(), upper: self.now() };
        let empty = || UpstreamView::Read {
            key: key_of(name),
            occasions: Vec::new(),
            given_up: false,
            newest_ended: None,
            paused: false,
            running: None,
            clock,
        };
        match self.o.upstreams.entry(name.into()).or_insert_with(empty) {
            UpstreamView::Read { occasions, .. } => occasions,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and every clock is read again.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.o.moment = self.moment();
        let now = self.now();
        self.o.tableau_clock = Some(Bounds { lower: now, upper: add(now, Duration::from_secs(1)) });
        for view in self.o.upstreams.values_mut() {
            if let UpstreamView::Read { clock, .. } = view {
                *clock = Bounds { lower: now, upper: now };
            }
        }
    }

    pub(super) fn moment(&mut self) -> Moment {
        self.serial += 1;
        Moment(Duration::from_secs(self.now) + Duration::from_nanos(self.serial))
    }

    /// A second passes and the upstream completes; the name of its run.
    pub(super) fn completes(&mut self, name: &str) -> String {
        self.wait(1);
        let published = self.moment();
        let run = format!("{name}{}", self.now);
        let seen = Seen {
            run: run.as_str().into(),
            state: format!("s-{run}").into(),
            state_name: "Completed".into(),
            parameters: Parameters::default(),
            at: self.now(),
            started_at: Some(at(self.now - 1)),
            published,
        };
        self.read(name).push(seen);
        self.o.moment = self.moment();
        run
    }

    /// Decides once and writes.
    pub(super) fn pass(&mut self) -> Step {
        self.o.moment = self.moment();
        let id = format!("intent-{}", self.serial);
        self.o.intent = match &self.s.attempt {
            Some(attempt) if self.ledger.as_ref() == Some(&attempt.id) => IntentView::InLedger,
            Some(_) if matches!(self.o.intent, IntentView::MaybeSent { .. }) => self.o.intent,
            Some(_) => IntentView::MaybeSent { since: self.o.moment },
            None => IntentView::None,
        };
        let decision = decide(&self.d, &self.o, &self.s, self.now(), || id.clone());
        self.notes.extend(decision.notes.iter().map(|note| note.reason));
        self.s = decision.status;
        if let Step::Intend { id } = &decision.step {
            self.ledger = Some(id.clone());
        }
        decision.step
    }

    /// Decides and writes until there is something to do, or nothing.
    pub(super) fn rest(&mut self) -> Step {
        for _ in 0..10 {
            let before = self.s.clone();
            let step = self.pass();
            // What waited is not started before the list was read; it reads as before.
            if let (Step::Look { list: Some(_), .. }, None) = (&step, &self.s.attempt) {
                let rows = match &self.o.jobs.list {
                    JobList::Read { rows, .. } => rows.to_vec(),
                    JobList::Unread | JobList::NotAllowed => Vec::new(),
                };
                self.list(rows);
                continue;
            }
            if self.s == before {
                return step;
            }
        }
        panic!("no rest: {:?}", self.s);
    }

    /// As far as a POST, over the fence.
    pub(super) fn posts(&mut self) -> Attempt {
        self.rest();
        self.wait(2);
        let step = self.rest();
        assert!(matches!(step, Step::Post { .. }), "{step:?} {:?}", self.s.conditions);
        self.s.attempt.clone().unwrap()
    }

    /// Our POST is answered.
    pub(super) fn answered(&mut self, answer: Answer) {
        let sent = self.s.attempt.clone().unwrap();
        self.ledger = None;
        self.o.moment = self.moment();
        self.o.intent = IntentView::MaybeSent { since: self.o.moment };
        let folded = fold(&self.d, &self.o, &self.s, &sent, answer, self.now());
        self.notes.extend(folded.notes.iter().map(|note| note.reason));
        self.s = folded.status;
    }

    /// As far as a job of ours of this id in the queue.
    pub(super) fn submits(&mut self, job: &str) {
        self.posts();
        self.answered(Answer::Job(job.into()));
    }

    /// What a read of the job by id says, asked now.
    pub(super) fn job(&mut self, id: &str, status: JobStatus, started: Option<Timestamp>) {
        let asked = self.moment();
        let ended = matches!(status, JobStatus::Success | JobStatus::Failed | JobStatus::Cancelled);
        let job = Job {
            id: id.into(),
            status,
            content: Some(LUID.into()),
            created_at: None,
            started_at: started,
            completed_at: ended.then(|| self.now()),
            failure: None,
            wants_full: false,
        };
        self.o.jobs.details.insert(id.into(), JobAnswer { asked, job: Some(job) });
    }

    /// The job list, asked now.
    pub(super) fn list(&mut self, rows: Vec<JobRow>) {
        let asked = self.moment();
        self.o.jobs.list = JobList::Read { asked, answered: asked, since: Timestamp::MIN, rows: rows.into() };
    }

    pub(super) fn row(&self, id: &str, status: JobStatus, kind: RefreshType) -> JobRow {
        JobRow {
            id: id.into(),
            status,
            refresh_type: Some(kind),
            title: Some("Orders".into()),
            created_at: Some(self.now()),
            started_at: None,
            ended_at: None,
        }
    }

    /// A whole refresh that succeeds.
    pub(super) fn refreshes(&mut self, job: &str) {
        self.submits(job);
        self.succeeds(job);
    }

    pub(super) fn succeeds(&mut self, job: &str) {
        let started = self.now();
        self.job(job, JobStatus::Success, Some(started));
        self.rest();
    }

    pub(super) fn reason(&self, kind: &str) -> String {
        let condition = self.s.conditions.iter().find(|c| c.type_ == kind);
        condition.map_or_else(String::new, |c| format!("{}/{}", c.status, c.reason))
    }

    pub(super) fn message(&self, kind: &str) -> &str {
        self.s.conditions.iter().find(|c| c.type_ == kind).map_or("", |c| &c.message)
    }

    /// When it wants to be looked at again.
    pub(super) fn again(&self) -> Option<Timestamp> {
        decide(&self.d, &self.o, &self.s, self.now(), || "again".into()).again
    }

    pub(super) fn owed(&self) -> Vec<String> {
        let owed = self.s.owed.as_ref();
        let mut runs: Vec<String> =
            owed.into_iter().flat_map(|owed| &owed.occasions).map(|o| o.occasion.run_id.clone()).collect();
        runs.sort();
        runs
    }

    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.s.owed.as_ref()?.stopped
    }

    pub(super) fn phase(&self) -> Option<AttemptPhase> {
        self.s.attempt.as_ref().map(|attempt| attempt.phase)
    }
}
