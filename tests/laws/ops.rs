//! What can happen, at random.

use super::operator::{Crash, Fate, Trouble};
use super::world::{EXCLUDES, MATCHES, UPSTREAMS};
use super::{Cluster, Law, Lookup, Setup, Sim, Site, Windows};
use feedwater::api::{OnCreate, RefreshMode, RefreshType};
use feedwater::model::extract::{Claim, Debounce, Freshness, Require};
use feedwater::model::ids::{Luid, ObjectName};
use feedwater::model::jobs::JobStatus;
use feedwater::model::runs::StateType;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Op {
    /// True time passes, in milliseconds.
    Wait(u64),
    /// Polls and passes as the driver does when nothing goes wrong.
    Work,
    PollPrefect {
        slow: bool,
    },
    PollTableau {
        slow: bool,
    },
    Land,
    Pass(Trouble),
    Restart,
    Complete(usize),
    /// The same, by a name that some exclude, or with other parameters than some mean.
    CompleteAs {
        upstream: usize,
        skipped: bool,
        elsewhere: bool,
    },
    FailRun(usize),
    /// A run begins; so many seconds ago, for one in which nothing moves any more.
    Begin {
        upstream: usize,
        kind: StateType,
        ago: i64,
    },
    Force {
        upstream: usize,
        completed: bool,
    },
    StartJob(usize),
    /// With `true` a failure is one that a retry does not mend.
    EndJob(usize, JobStatus, bool),
    RemoveJob(usize),
    /// A job may not be read by its id, or may again.
    RefuseJob(usize, bool),
    /// The list leaves out one that has not ended, or has it again.
    LeaveOut(usize, bool),
    ListFails(bool),
    /// Another resource of the site begins to read jobs, so many seconds back, or ends.
    OtherReads(Option<i64>),
    Budget(bool),
    /// Somebody else refreshes a content, ours or another.
    Person {
        content: usize,
        kind: RefreshType,
    },
    /// A refresh by a schedule of Tableau's own, from its start to its end.
    NativeRun,
    ListAllowed(bool),
    TableauDown(bool),
    PrefectDown(bool),
    PrefectClockBack,
    Token,
    AddUpstream(usize),
    RemoveUpstream(usize),
    Require(Require),
    Retarget(usize),
    Republish,
    Kind(RefreshMode),
    /// An upstream gets a refresh type of its own, or none.
    OwnKind(usize, Option<RefreshType>),
    Limit(u32),
    Suspend(bool),
    Paused(usize, bool),
    Missing(usize, bool),
    Claim(u8),
    Site(bool),
    Lookup(u8),
}

impl Sim {
    pub fn apply(&mut self, op: &Op) -> Result<(), Law> {
        match op.clone() {
            Op::Wait(ms) => self.advance(ms),
            Op::Work => self.work()?,
            Op::PollPrefect { slow } => self.poll_prefect(slow),
            Op::PollTableau { slow } => self.poll_tableau(slow),
            Op::Land => self.land_all(),
            Op::Pass(trouble) => {
                self.pass(trouble)?;
            }
            Op::Restart => self.crash(),
            Op::Complete(nth) => {
                let upstream = self.likely(nth);
                self.prefect.end_run(&mut self.clock, upstream, true);
            }
            Op::CompleteAs { upstream, skipped, elsewhere } => {
                let upstream = self.likely(upstream);
                self.prefect.end_run_as(&mut self.clock, upstream, true, skipped, elsewhere);
                if skipped && EXCLUDES[upstream] {
                    self.reached.one("Occasion/Excluded");
                }
                if elsewhere && MATCHES[upstream] {
                    self.reached.one("Occasion/Elsewhere");
                }
            }
            Op::FailRun(nth) => {
                let upstream = self.likely(nth);
                self.prefect.end_run(&mut self.clock, upstream, false);
            }
            Op::Begin { upstream, kind, ago } => {
                let upstream = self.likely(upstream);
                self.prefect.begin_run(&mut self.clock, upstream, kind, ago);
            }
            Op::Force { upstream, completed } => {
                let upstream = self.likely(upstream);
                let old = self.prefect.force(&mut self.clock, upstream, completed);
                // What a person takes away before it was read was never there for us.
                self.oracle.inexact |= old.is_some_and(|old| old.completed);
            }
            Op::StartJob(nth) => self.tableau.start(&self.clock, nth),
            Op::EndJob(nth, status, lasting) => self.tableau.end(&self.clock, nth, status, lasting),
            Op::RemoveJob(nth) => {
                let mut jobs: Vec<_> =
                    self.tableau.jobs.iter_mut().filter(|j| !j.active() && !j.removed).collect();
                if !jobs.is_empty() {
                    let nth = nth % jobs.len();
                    jobs[nth].removed = true;
                    self.oracle.excuses.push("R4");
                }
            }
            Op::RefuseJob(nth, refused) => {
                let mut jobs: Vec<_> =
                    self.tableau.jobs.iter_mut().filter(|j| j.refused != refused).collect();
                if !jobs.is_empty() {
                    let nth = nth % jobs.len();
                    jobs[nth].refused = refused;
                    // Who starts a job may read it: where that does not hold, it is as if its record were gone.
                    if refused && jobs[nth].intent.is_some() {
                        self.oracle.excuses.push("R4");
                    }
                }
            }
            Op::LeaveOut(nth, left_out) => {
                let may = |job: &super::world::TrueJob| job.left_out != left_out && job.active();
                let mut jobs: Vec<_> = self.tableau.jobs.iter_mut().filter(|j| may(j)).collect();
                if !jobs.is_empty() {
                    let nth = nth % jobs.len();
                    jobs[nth].left_out = left_out;
                    if left_out && jobs[nth].intent.is_some() {
                        self.oracle.excuses.push("R3");
                    }
                }
            }
            Op::ListFails(fails) => self.tableau.list_fails = fails,
            Op::OtherReads(back) => {
                let now = self.clock.tableau();
                self.other_reads = back.map(|back| now - jiff::SignedDuration::from_secs(back));
            }
            Op::Budget(held) => self.held_by_budget = held,
            Op::Person { content, kind } => {
                let luid = self.tableau.contents[content].clone();
                self.tableau.refresh(&mut self.clock, &luid, kind, None);
            }
            Op::NativeRun => {
                let luid = self.tableau.contents[Cluster::content(&self.cluster.desired)].clone();
                if let Some(id) = self.tableau.refresh(&mut self.clock, &luid, RefreshType::Full, None) {
                    self.advance(5_000);
                    let (now, ms) = (self.clock.tableau(), self.clock.ms);
                    let job = self.tableau.jobs.iter_mut().find(|job| job.id == id).unwrap();
                    (job.started, job.ended_at) = (Some((now, ms)), Some(now));
                    job.status = JobStatus::Success;
                }
            }
            Op::ListAllowed(allowed) => {
                self.tableau.list_allowed = allowed;
                self.oracle.list_was_closed |= !allowed;
            }
            Op::TableauDown(down) => self.tableau.down = down,
            Op::PrefectDown(down) => self.prefect.down = down,
            Op::PrefectClockBack => {
                self.clock.prefect_skew -= 180_000;
                self.oracle.clock_back = true;
            }
            Op::Token => {
                let token = format!("token-{}", self.clock.next());
                self.oracle.token_at.insert(token.clone(), self.clock.ms);
                self.cluster.edit(|d| d.refresh_token = Some(token));
            }
            Op::AddUpstream(index) => self.edit_spec(true, |d| {
                if d.upstreams.iter().all(|u| Cluster::index(&u.name) != index) {
                    d.upstreams.push(Cluster::upstream(index));
                }
            }),
            Op::RemoveUpstream(index) => {
                self.edit_spec(true, |d| d.upstreams.retain(|u| Cluster::index(&u.name) != index));
            }
            Op::Require(require) => self.edit_spec(true, |d| d.require = require),
            Op::Retarget(content) => {
                self.process.target_read = false;
                self.oracle.target_changed(self.clock.seq);
                self.edit_spec(false, |d| d.target = Cluster::named(content));
            }
            Op::Republish => {
                let n = self.clock.next();
                let content = Cluster::content(&self.cluster.desired);
                let letter = ["a", "b"][content];
                self.tableau.contents[content] = Luid::new(format!("luid-{letter}{n}"));
                self.oracle.target_changed(n);
            }
            Op::Kind(kind) => {
                self.oracle.target_changed(self.clock.seq);
                self.edit_spec(false, |d| d.refresh_type = kind);
            }
            Op::OwnKind(index, kind) => {
                self.oracle.target_changed(self.clock.seq);
                self.edit_spec(false, |d| {
                    for upstream in d.upstreams.iter_mut().filter(|u| Cluster::index(&u.name) == index) {
                        upstream.refresh_type = kind;
                    }
                });
            }
            Op::Limit(limit) => self.edit_spec(false, |d| d.retry.limit = limit),
            Op::Suspend(suspend) => self.edit_spec(false, |d| d.suspend = suspend),
            Op::Paused(index, paused) => self.prefect.paused[index] = paused,
            Op::Missing(index, missing) => {
                self.prefect.missing[index] = missing;
                self.oracle.inexact = true;
            }
            Op::Claim(which) => {
                let by = ObjectName { namespace: "finance".into(), name: "older".into() };
                self.cluster.claim = match which {
                    0 => Claim::Unresolved,
                    1 => Claim::Busy { by },
                    2 => Claim::Taken { by },
                    _ => Claim::Ours,
                };
            }
            Op::Site(there) => self.cluster.site = if there { Site::There } else { Site::Missing },
            Op::Lookup(which) => {
                self.cluster.target = match which {
                    0 => Lookup::NotFound,
                    1 => Lookup::Ambiguous,
                    2 => Lookup::NoExtract,
                    3 => Lookup::Elsewhere,
                    4 => Lookup::Forbidden,
                    _ => Lookup::Found,
                };
            }
        }
        Ok(())
    }

    fn edit_spec(&mut self, gate: bool, change: impl FnOnce(&mut feedwater::model::extract::Desired)) {
        self.oracle.inexact |= gate;
        self.cluster.edit(|d| {
            change(d);
            d.generation += 1;
        });
    }

    /// Mostly an upstream of the spec, sometimes any.
    fn likely(&self, nth: usize) -> usize {
        let named = &self.cluster.desired.upstreams;
        if nth < 10 && !named.is_empty() {
            Cluster::index(&named[nth % named.len()].name)
        } else {
            nth % UPSTREAMS
        }
    }

    pub fn work(&mut self) -> Result<(), Law> {
        self.land_all();
        self.poll_prefect(false);
        self.poll_tableau(false);
        for _ in 0..4 {
            if !self.pass(Trouble::NONE)? {
                break;
            }
        }
        Ok(())
    }
}

pub fn setup() -> impl Strategy<Value = Setup> {
    let within = prop_oneof![2 => Just(None), 1 => (30..600_u64).prop_map(|s| Some(Duration::from_secs(s)))];
    let skew = || prop_oneof![2 => Just(0), 1 => -40_000..40_000_i64];
    let upstreams = prop_oneof![1 => Just(0_usize), 5 => Just(1), 5 => Just(2), 2 => Just(3)];
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    let debounce = prop_oneof![
        2 => Just(None),
        1 => (seconds(1..300), seconds(0..600))
            .prop_map(|(quiet, more)| Some(Debounce { quiet, longest: quiet + more })),
    ];
    let running = prop_oneof![1 => Just(None), 1 => seconds(1..3000).prop_map(Some)];
    let age = || prop_oneof![1 => Just(None), 1 => seconds(60..7200).prop_map(Some)];
    let freshness = (age(), age()).prop_map(|(warn_after, fail_after)| Freshness {
        warn_after,
        fail_after,
        warns: false,
    });
    let windows = prop_oneof![6 => Just(Windows::None), 1 => Just(Windows::Deny), 1 => Just(Windows::Allow)];
    let native = proptest::bool::weighted(0.5);
    let on_create = prop_oneof![3 => Just(OnCreate::Ignore), 1 => Just(OnCreate::Refresh)];
    let trigger = (require(), within, debounce, running, on_create, freshness);
    (upstreams, trigger, mode(), 0..3_u32, (windows, native), (skew(), skew(), skew())).prop_map(
        |(
            upstreams,
            (require, within, debounce, running, on_create, freshness),
            refresh_type,
            limit,
            (windows, native),
            skews,
        )| Setup {
            upstreams,
            require,
            within,
            debounce,
            running,
            on_create,
            freshness,
            refresh_type,
            limit,
            windows,
            native,
            skews,
        },
    )
}

fn require() -> impl Strategy<Value = Require> {
    prop_oneof![2 => Just(Require::All), 2 => Just(Require::Any), 1 => Just(Require::Count(2))]
}

fn mode() -> impl Strategy<Value = RefreshMode> + Clone {
    use RefreshMode::{Full, Incremental, IncrementalOrFull};
    prop_oneof![3 => Just(Full), 1 => Just(Incremental), 2 => Just(IncrementalOrFull)]
}

fn kind() -> impl Strategy<Value = RefreshType> + Clone {
    prop_oneof![3 => Just(RefreshType::Full), 1 => Just(RefreshType::Incremental)]
}

pub fn all() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 10..120)
}

fn op() -> impl Strategy<Value = Op> {
    let upstream = || 0..UPSTREAMS;
    let likely = || prop_oneof![4 => Just(true), 1 => Just(false)];
    let ended = prop_oneof![
        3 => Just(JobStatus::Success), 3 => Just(JobStatus::Failed), 1 => Just(JobStatus::Cancelled)
    ];
    let crash = prop_oneof![
        12 => Just(Crash::No), 1 => Just(Crash::BeforeWrite), 1 => Just(Crash::AfterWrite), 2 => Just(Crash::AfterAct)
    ];
    let begun = prop_oneof![
        3 => Just(StateType::Running), 1 => Just(StateType::Paused), 1 => Just(StateType::Scheduled)
    ];
    let fate = prop_oneof![
        8 => Just(Fate::Answered),
        3 => Just(Fate::AnswerLost),
        2 => Just(Fate::RequestLost),
        2 => (1..20_000_u64).prop_map(Fate::Held),
        1 => Just(Fate::Forbidden),
        1 => Just(Fate::ForbiddenHidingAJob),
        4 => Just(Fate::Rejected),
        1 => Just(Fate::Throttled),
        1 => Just(Fate::SignInRefused),
        1 => Just(Fate::NotSent),
        1 => Just(Fate::Vanished),
    ];
    let common = prop_oneof![
        10 => prop_oneof![3 => 0..3_000_u64, 2 => 0..60_000_u64, 1 => 0..2_400_000_u64].prop_map(Op::Wait),
        20 => Just(Op::Work),
        6 => any::<bool>().prop_map(|slow| Op::PollPrefect { slow }),
        6 => any::<bool>().prop_map(|slow| Op::PollTableau { slow }),
        3 => Just(Op::Land),
        16 => (crash, fate, proptest::bool::weighted(0.1), proptest::bool::weighted(0.1))
            .prop_map(|(crash, fate, edited, stale)| Op::Pass(Trouble { crash, fate, edited, stale })),
        1 => Just(Op::Restart),
        12 => (0..12_usize).prop_map(Op::Complete),
        2 => (0..12_usize, any::<bool>(), any::<bool>())
            .prop_map(|(upstream, skipped, elsewhere)| Op::CompleteAs { upstream, skipped, elsewhere }),
        2 => (0..12_usize).prop_map(Op::FailRun),
        4 => (0..12_usize, begun, prop_oneof![4 => Just(0), 1 => Just(90_000_i64)])
            .prop_map(|(upstream, kind, ago)| Op::Begin { upstream, kind, ago }),
        2 => (0..12_usize, likely()).prop_map(|(upstream, completed)| Op::Force { upstream, completed }),
        8 => any::<usize>().prop_map(Op::StartJob),
        8 => (any::<usize>(), ended, proptest::bool::weighted(0.2))
            .prop_map(|(nth, status, lasting)| Op::EndJob(nth, status, lasting)),
        3 => (prop_oneof![4 => Just(0), 1 => Just(1_usize)], kind()).prop_map(|(content, kind)| Op::Person { content, kind }),
        2 => Just(Op::Token),
        5 => Just(Op::NativeRun),
    ];
    let rare = prop_oneof![
        // Until what is listed is of no interest any more, and what runs has run for longer than a list is read back.
        3 => (3_600_000..180_000_000_u64).prop_map(Op::Wait),
        3 => any::<usize>().prop_map(Op::RemoveJob),
        3 => (any::<usize>(), proptest::bool::weighted(0.6)).prop_map(|(nth, refused)| Op::RefuseJob(nth, refused)),
        3 => (any::<usize>(), proptest::bool::weighted(0.6)).prop_map(|(nth, left_out)| Op::LeaveOut(nth, left_out)),
        3 => proptest::bool::weighted(0.5).prop_map(Op::ListFails),
        3 => proptest::option::weighted(0.7, 0..800_000_i64).prop_map(Op::OtherReads),
        3 => proptest::bool::weighted(0.5).prop_map(Op::Budget),
        3 => proptest::bool::weighted(0.6).prop_map(Op::ListAllowed),
        3 => proptest::bool::weighted(0.3).prop_map(Op::TableauDown),
        2 => proptest::bool::weighted(0.3).prop_map(Op::PrefectDown),
        1 => Just(Op::PrefectClockBack),
        2 => upstream().prop_map(Op::AddUpstream),
        2 => upstream().prop_map(Op::RemoveUpstream),
        2 => require().prop_map(Op::Require),
        3 => (0..2_usize).prop_map(Op::Retarget),
        2 => Just(Op::Republish),
        2 => mode().prop_map(Op::Kind),
        2 => (0..UPSTREAMS, proptest::option::of(kind())).prop_map(|(upstream, kind)| Op::OwnKind(upstream, kind)),
        1 => (0..4_u32).prop_map(Op::Limit),
        3 => proptest::bool::weighted(0.4).prop_map(Op::Suspend),
        1 => (upstream(), any::<bool>()).prop_map(|(u, paused)| Op::Paused(u, paused)),
        2 => (upstream(), proptest::bool::weighted(0.3)).prop_map(|(u, missing)| Op::Missing(u, missing)),
        2 => (0..6_u8).prop_map(Op::Claim),
        1 => any::<bool>().prop_map(Op::Site),
        2 => (0..8_u8).prop_map(Op::Lookup),
    ];
    prop_oneof![8 => common, 1 => rare]
}
