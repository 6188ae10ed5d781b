//! The process: what it remembers of its reads, its ledger, and the driver in a few lines. It crashes where it is told to.

use super::world::{Begun, Clock, Held, KIND, NAMES, SITE, State, UPSTREAMS, floor};
use super::{Cluster, Law, SKIPPED, Sim, parameters};
use feedwater::api::{Attempt, ExtractRefreshStatus};
use feedwater::model::budget::Limit;
use feedwater::model::extract::{
    Answer, Apart, Bounds, BudgetView, CancelFailure, Claim, Desired, Found, InProgress, IntentView, JobList,
    JobsView, Observed, Schedules, Seen, Step, TargetView, Unfinished, Upstream, UpstreamView, Warnings,
    decide, fold, interest, waits_for_runs,
};
use feedwater::model::ids::{JobId, RunId, StateId};
use feedwater::model::job_looks::LastLook;
use feedwater::model::jobs::{JobAnswer, JobStatus};
use feedwater::model::runs::StateType;
use feedwater::model::time::{Moment, add};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const SETTLE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub struct Process {
    pub ledger: BTreeSet<String>,
    pub sent: BTreeMap<String, Moment>,
    pub sighted: BTreeMap<String, Moment>,
    pub workspace: Option<Workspace>,
    pub list: Option<JobList>,
    /// As the observer keeps it, which may have read more than it has published; and when it looked last.
    pub kept: JobList,
    pub last_look: Option<LastLook>,
    pub details: BTreeMap<JobId, JobAnswer>,
    pub tableau_clock: Option<(Timestamp, Moment)>,
    pub target_read: bool,
    /// The last poll failed.
    pub failed: bool,
    /// Jobs that may not be read, and until when they are not asked for again.
    pub denied: BTreeMap<JobId, u64>,
    pub wanted_jobs: BTreeSet<JobId>,
    pub wanted_list: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
pub struct Workspace {
    occasions: Vec<(usize, Seen)>,
    known: BTreeSet<StateId>,
    newest_ended: [Option<(StateType, RunId)>; UPSTREAMS],
    running: Option<(Timestamp, Vec<Begun>)>,
    clock: Option<(Timestamp, Moment)>,
}

/// A read whose answer is still under way.
#[derive(Clone, Debug)]
pub enum InFlight {
    Workspace { runs: Vec<State>, running: Option<(Timestamp, Vec<Begun>)>, clock: (Timestamp, Moment) },
    Job(JobId, JobAnswer),
    List(JobList),
}

impl Process {
    /// Jobs that are followed or asked for.
    pub fn wants(&self, s: &ExtractRefreshStatus) -> BTreeSet<JobId> {
        interest(s).jobs.union(&self.wanted_jobs).cloned().collect()
    }
}

/// What goes wrong in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub crash: Crash,
    /// Of the POST or the cancel, if there is one.
    pub fate: Fate,
    /// Somebody writes the resource between the decision and the write.
    pub edited: bool,
    /// The last edit of the spec has not reached the cache yet.
    pub stale: bool,
}

impl Trouble {
    pub const NONE: Self = Self { crash: Crash::No, fate: Fate::Answered, edited: false, stale: false };
}

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    No,
    BeforeWrite,
    AfterWrite,
    AfterAct,
}

/// What becomes of a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered,
    AnswerLost,
    RequestLost,
    /// Arrives after so many milliseconds, nobody waiting.
    Held(u64),
    Forbidden,
    ForbiddenHidingAJob,
    Rejected,
    Throttled,
    SignInRefused,
    NotSent,
    Vanished,
}

fn unfinished(begun: &Begun) -> Unfinished {
    let parameters = parameters(false);
    Unfinished { run: begun.run.clone(), state: begun.kind, since: begun.at, parameters }
}

pub fn moment(clock: &mut Clock) -> Moment {
    let seq = clock.next();
    Moment(Duration::from_millis(clock.ms) + Duration::from_nanos(seq))
}

fn bounds(reading: (Timestamp, Moment), now: Moment) -> Bounds {
    let lower = add(reading.0, now.since(reading.1));
    Bounds { lower, upper: add(lower, Duration::from_secs(1)) }
}

impl Sim {
    /// Reads the workspace; `slow`: what it read is published only later.
    pub fn poll_prefect(&mut self, slow: bool) {
        if self.prefect.down {
            return;
        }
        let clock = (floor(self.clock.prefect()), Moment(Duration::from_millis(self.clock.ms)));
        // Asked for only while somebody waits for it.
        let now = self.clock.ours();
        let asks = waits_for_runs(self.cluster.desired.running, &self.cluster.status);
        let running = asks.filter(|until| *until > now).map(|_| (now, self.prefect.begun.clone()));
        let read = InFlight::Workspace { runs: self.prefect.runs.clone(), running, clock };
        if slow { self.in_flight.push(read) } else { self.land(read) }
    }

    fn publish_workspace(
        &mut self,
        runs: Vec<State>,
        running: Option<(Timestamp, Vec<Begun>)>,
        clock: (Timestamp, Moment),
    ) {
        let at = moment(&mut self.clock);
        let view = self.process.workspace.get_or_insert_default();
        if view.clock.is_some_and(|known| known.1 > clock.1) {
            return; // a newer read was published before
        }
        for run in runs {
            let kind = if run.completed { StateType::Completed } else { StateType::Crashed };
            let upstream = Cluster::upstream(run.upstream);
            if upstream.selection.takes(&parameters(run.elsewhere)) {
                view.newest_ended[run.upstream] = Some((kind, run.run.clone()));
            }
            if run.completed && view.known.insert(run.state.clone()) {
                let seen = Seen {
                    run: run.run,
                    state: run.state,
                    state_name: if run.skipped { SKIPPED } else { "Completed" }.into(),
                    parameters: parameters(run.elsewhere),
                    at: run.at,
                    started_at: Some(run.started_at),
                    published: at,
                };
                view.occasions.push((run.upstream, seen));
            }
        }
        view.running = running;
        view.clock = Some(clock);
    }

    pub fn land_all(&mut self) {
        for read in std::mem::take(&mut self.in_flight) {
            self.land(read);
        }
    }

    pub fn land(&mut self, read: InFlight) {
        match read {
            InFlight::Workspace { runs, running, clock } => self.publish_workspace(runs, running, clock),
            InFlight::Job(id, answer) => {
                // Newest-of: an older answer does not replace a newer one.
                if self.process.details.get(&id).is_none_or(|old| old.asked < answer.asked) {
                    self.process.details.insert(id.clone(), answer);
                }
                self.process.wanted_jobs.remove(&id);
            }
            InFlight::List(list) => {
                // Answers about others are of no use.
                let mut wanted = self.process.wants(&self.cluster.status);
                if self.other_reads.is_some() {
                    wanted.extend(self.process.details.keys().cloned());
                }
                if let JobList::Read { rows, .. } = &list {
                    let listed = |id: &JobId| rows.iter().any(|row| row.id == *id);
                    self.process.details.retain(|id, _| wanted.contains(id) || listed(id));
                }
                self.process.list = Some(list);
                self.process.wanted_list = None;
            }
        }
    }

    pub fn crash(&mut self) {
        self.process = Process::default();
        self.in_flight.clear();
    }

    pub fn observe(&mut self, d: &Desired, s: &ExtractRefreshStatus) -> Observed {
        let now = moment(&mut self.clock);
        let process = &mut self.process;
        let intent = match &s.attempt {
            None => IntentView::None,
            Some(attempt) if process.ledger.contains(&attempt.id) => IntentView::InLedger,
            Some(attempt) => {
                let sighted = *process.sighted.entry(attempt.id.clone()).or_insert(now);
                IntentView::MaybeSent { since: process.sent.get(&attempt.id).copied().unwrap_or(sighted) }
            }
        };
        let workspace = process.workspace.as_ref();
        let prefect_clock = workspace.and_then(|w| w.clock).map(|reading| bounds(reading, now));
        let upstream =
            |u: &Upstream, index: usize| match (self.prefect.missing[index], workspace, prefect_clock) {
                (true, _, _) => UpstreamView::Missing {
                    message: format!("FlowDeployment `u{index}` does not exist"),
                    reference: index.is_multiple_of(2),
                },
                (false, Some(view), Some(clock)) => UpstreamView::Read {
                    key: Cluster::key(index),
                    occasions: view
                        .occasions
                        .iter()
                        .filter(|(upstream, seen)| *upstream == index && u.selection.counts(seen))
                        .map(|(_, seen)| seen.clone())
                        .collect(),
                    given_up: false,
                    newest_ended: view.newest_ended[index].clone(),
                    paused: self.prefect.paused[index],
                    running: view.running.as_ref().map(|(asked, begun)| InProgress {
                        asked: *asked,
                        complete: true,
                        runs: begun
                            .iter()
                            .filter(|begun| begun.upstream == index)
                            .map(unfinished)
                            .filter(|run| u.selection.takes(&run.parameters))
                            .collect(),
                    }),
                    clock,
                },
                (false, ..) => UpstreamView::Unread { key: None, clock: None, stuck: false },
            };
        let content = Cluster::content(d);
        let found = Found {
            site_luid: SITE.into(),
            luid: self.tableau.contents[content].clone(),
            path: Some("Finance".into()),
            name: Some(NAMES[content].into()),
        };
        let target = if process.target_read { self.cluster.target_view(found) } else { TargetView::Unread };
        let skew = SignedDuration::from_millis(self.clock.prefect_skew - self.clock.our_skew);
        Observed {
            access: feedwater::model::tenancy::Access::Allowed,
            standing: feedwater::model::connection::Standing::Held,
            site: self.cluster.site_view(self.tableau.down || process.failed),
            credential: Some("credential".into()),
            claim: if process.target_read { self.cluster.claim.clone() } else { Claim::Unresolved },
            target,
            upstreams: d
                .upstreams
                .iter()
                .map(|u| (u.name.clone(), upstream(u, Cluster::index(&u.name))))
                .collect(),
            baseline: prefect_clock.map(|_| d.created_at + skew - SignedDuration::from_secs(1)),
            tableau_clock: process.tableau_clock.map(|reading| bounds(reading, now)),
            formers: BTreeMap::new(),
            leaving: std::collections::BTreeMap::new(),
            apart: Apart::default(),
            cleanup_deadline: Duration::from_secs(600),
            jobs: JobsView {
                list: process.list.clone().unwrap_or(JobList::Unread),
                details: process.details.clone(),
                used_up: None,
            },
            schedules: Schedules::nothing(),
            warnings: Warnings::nothing(),
            budget: BudgetView::Free,
            intent,
            moment: now,
            settle: SETTLE,
            instance: "laws".into(),
        }
    }

    /// One pass of the driver. True: it wrote or acted.
    pub fn pass(&mut self, Trouble { crash, fate, edited, stale }: Trouble) -> Result<bool, Law> {
        let before = self.cluster.before_edit.clone().filter(|_| stale);
        let version = self.cluster.version - u64::from(before.is_some());
        let s = self.cluster.status.clone();
        let d = before.unwrap_or_else(|| self.cluster.desired.clone());
        let mut o = self.observe(&d, &s);
        let now = self.clock.ours();
        let id = format!("intent-{}", self.clock.next());
        let mut decision = decide(&d, &o, &s, now, || id.clone());
        if decision.starts && self.held_by_budget {
            // Asked only for what is about to start.
            o.budget = BudgetView::Held { by: Limit::Running, until: None };
            decision = decide(&d, &o, &s, now, || id.clone());
        }
        let again = decide(&d, &o, &s, now, || id.clone());
        self.law(decision == again, "deciding twice gives one answer")?;
        self.reached.decision(&decision);
        self.again = decision.again;
        self.check_step(&d, &s, &decision)?;

        if edited {
            self.cluster.edit(|_| {});
        }
        if crash == Crash::BeforeWrite {
            self.crash();
            return Ok(true);
        }
        match decision.step.clone() {
            Step::Post { id, kind, luid, refresh_type } => {
                let sent = s.attempt.clone().ok_or(Law("a POST has an attempt".into()))?;
                let known = self.process.ledger.remove(&id);
                self.law(known && kind == KIND, "a POST is of the ledger")?;
                let posted = super::oracle::Posted::new(self, &sent);
                self.posted.push(posted);
                let answer = self.post(&luid, refresh_type, &id, fate);
                self.answered(&sent, answer, crash)?;
                return Ok(true);
            }
            Step::Cancel { job } => {
                let sent = s.attempt.clone().ok_or(Law("a cancel has an attempt".into()))?;
                let cancelled = !self.tableau.down && fate == Fate::Answered;
                if let Some(job) =
                    self.tableau.jobs.iter_mut().find(|j| j.id == job && j.active() && cancelled)
                {
                    job.status = JobStatus::Cancelled;
                    job.ended_at = Some(self.clock.tableau());
                }
                self.answered(
                    &sent,
                    Answer::CancelSent(if cancelled { Ok(()) } else { Err(CancelFailure::Unknown) }),
                    crash,
                )?;
                return Ok(true);
            }
            Step::Look { jobs, list, .. } => {
                self.process.wanted_jobs.extend(jobs);
                self.process.wanted_list = self.process.wanted_list.into_iter().chain(list).min();
            }
            Step::Intend { .. }
            | Step::Rest
            | Step::LookAtTasks
            | Step::LookAtWarnings(_)
            | Step::Hold
            | Step::Schedule(_)
            | Step::Warn(_) => {}
        }
        if decision.status == s {
            return Ok(false);
        }
        if self.cluster.version != version {
            return Ok(true); // conflict before an act: decide again
        }
        self.write(decision.status)?;
        if crash == Crash::AfterWrite {
            self.crash();
        } else if let Step::Intend { id } = decision.step {
            self.process.ledger.insert(id);
        }
        Ok(true)
    }

    fn answered(&mut self, sent: &Attempt, answer: Answer, crash: Crash) -> Result<(), Law> {
        if crash != Crash::No || answer == Answer::Ambiguous {
            self.oracle.answers_lost += 1;
        }
        if crash != Crash::No {
            self.crash();
            return Ok(());
        }
        let end = moment(&mut self.clock);
        self.process.sent.insert(sent.id.clone(), end);
        // Read again: it may be a newer one.
        let s = self.cluster.status.clone();
        let d = self.cluster.desired.clone();
        let o = self.observe(&d, &s);
        let folded = fold(&d, &o, &s, sent, answer, self.clock.ours());
        self.reached.status(&folded.status);
        self.reached.notes(&folded.notes);
        self.write(folded.status)
    }

    fn post(
        &mut self,
        luid: &feedwater::model::ids::Luid,
        kind: feedwater::api::RefreshType,
        intent: &str,
        fate: Fate,
    ) -> Answer {
        if self.tableau.down {
            return Answer::NotSent;
        }
        let answer = match fate {
            Fate::RequestLost => return Answer::Ambiguous,
            Fate::Held(ms) => {
                let arrives_ms = self.clock.ms + ms;
                self.tableau.held.push(Held {
                    arrives_ms,
                    luid: luid.clone(),
                    kind,
                    intent: intent.to_owned(),
                });
                return Answer::Ambiguous;
            }
            Fate::Forbidden => return Answer::Forbidden,
            Fate::Rejected => return Answer::Rejected { code: "400000".into() },
            Fate::Throttled => return Answer::Throttled(Some(Duration::from_secs(20))),
            Fate::SignInRefused => return Answer::SignInRefused,
            Fate::NotSent => return Answer::NotSent,
            Fate::Vanished => return Answer::NotFound,
            Fate::Answered | Fate::AnswerLost | Fate::ForbiddenHidingAJob => {
                let intent = Some(intent.to_owned());
                self.tableau
                    .refresh(&mut self.clock, luid, kind, intent)
                    .map_or(Answer::AlreadyQueued, Answer::Job)
            }
        };
        match (fate, answer) {
            (Fate::AnswerLost, _) => Answer::Ambiguous,
            (Fate::ForbiddenHidingAJob, Answer::AlreadyQueued) => Answer::Forbidden,
            (_, answer) => answer,
        }
    }
}
