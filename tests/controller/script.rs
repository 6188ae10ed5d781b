//! Worlds at random: two flows, three extracts, two replicas, and what people, services, networks and schedulers do to them.

use crate::remote::{Service, Trouble};
use crate::stage::{CONTENTS, FLOWS, REFRESHES, Stage};
use crate::weather::{Calls, Requests};
use crate::world::{NAMESPACE, SETTLE, Skews};
use feedwater::api::RefreshType;
use feedwater::prefect::StateType;
use feedwater::tableau::JobStatus;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;
use world::apiserver::Action;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Op {
    /// Time passes, in milliseconds.
    Wait(u64),
    // At the services.
    Complete(usize),
    Fail(usize),
    Force(usize, bool),
    Person(usize),
    JobEnds(JobStatus),
    Engine {
        stopped: bool,
    },
    RemoveJob(usize),
    Republish(usize),
    ForeignEdit(usize),
    // By people and GitOps.
    Token(usize),
    Suspend(usize, bool),
    Gate(usize, bool),
    Retarget(usize, usize),
    Incremental(usize, bool),
    Describe(usize),
    Active(usize, bool),
    Cron(usize, u8),
    DeleteRefresh(usize),
    DeleteFlow(usize),
    Apply,
    Rotate,
    BreakSecret(bool),
    // On the way.
    Call(Calls, Trouble),
    Request(Requests, Action),
    PrefectDown(bool),
    TableauDown(bool),
    ServerDown(bool),
    JobsForbidden(bool),
    CutEvents,
    // Of the watches of a kind.
    Hold(&'static str),
    Release(&'static str, usize),
    Replay(&'static str, usize),
    Close(&'static str, bool),
    Expire(&'static str),
    Compact,
    // Of the operators.
    Kill(usize),
    Terminate(usize),
    Start(usize),
    StealLease,
}

impl Stage {
    pub async fn apply(&mut self, op: &Op) {
        let name = format!("{op:?}");
        self.reached(format!("Op/{}", name.split([' ', '(']).next().unwrap_or_default()));
        let world = self.world.clone();
        match op.clone() {
            Op::Wait(ms) => self.wait(Duration::from_millis(ms)).await,
            Op::Complete(flow) => self.complete(flow),
            Op::Fail(flow) => drop(world.prefect.run(&Stage::deployment(flow), StateType::Failed)),
            Op::Force(flow, completed) => self.force(flow, completed),
            Op::Person(content) => {
                let luid = self.luids[content].clone();
                // Refused if one is under way, as a person is.
                let _ = world.tableau.start_elsewhere(&luid, RefreshType::Full);
            }
            Op::JobEnds(status) => world.engine.lock().unwrap().ends.push_back(status),
            Op::Engine { stopped } => world.engine.lock().unwrap().stopped = stopped,
            Op::RemoveJob(nth) => self.remove_job(nth),
            Op::Republish(content) => self.republish(content),
            Op::ForeignEdit(flow) => {
                let mut prefect = world.prefect.state();
                let name = Stage::deployment(flow);
                if let Some(deployment) = prefect.deployments.values_mut().find(|d| d.name == name) {
                    deployment.fields.insert("description".into(), "by hand".into());
                }
            }
            Op::Token(refresh) => self.token(refresh),
            Op::Suspend(refresh, suspend) => self.edit(refresh, |spec| spec["suspend"] = json!(suspend)),
            Op::Gate(refresh, any) => {
                self.facts.inexact.insert(REFRESHES[refresh].0);
                let require = if any { "Any" } else { "All" };
                self.edit(refresh, |spec| spec["trigger"] = json!({"require": require}));
            }
            Op::Retarget(refresh, content) => {
                self.retargeted(refresh);
                self.edit(refresh, |spec| spec["target"]["name"] = json!(CONTENTS[content]));
            }
            Op::Incremental(refresh, incremental) => {
                self.retargeted(refresh);
                let kind = if incremental { "Incremental" } else { "Full" };
                self.edit(refresh, |spec| spec["refreshType"] = json!(kind));
            }
            Op::Describe(flow) => {
                let text = format!("Version {}", self.next());
                self.edit_flow(flow, |spec| spec["description"] = json!(text));
            }
            Op::Active(flow, active) => {
                self.edit_flow(flow, |spec| spec["schedules"][0]["active"] = json!(active));
            }
            Op::Cron(flow, hour) => self.edit_flow(flow, |spec| {
                spec["schedules"][0]["cron"]["expression"] = json!(format!("0 {hour} * * *"));
            }),
            Op::DeleteRefresh(refresh) => self.delete("extractrefreshes", REFRESHES[refresh].0),
            Op::DeleteFlow(flow) => {
                self.facts.gone(FLOWS[flow]);
                self.delete("flowdeployments", FLOWS[flow]);
            }
            Op::Apply => self.apply_all(),
            Op::Rotate => {
                let secret = format!("value-{}", self.next());
                self.world.secret(NAMESPACE, "tableau", &[("name", "token"), ("secret", &secret)]);
            }
            Op::BreakSecret(broken) => {
                let values: &[_] =
                    if broken { &[("name", "token")] } else { &[("name", "token"), ("secret", "value")] };
                world.secret(NAMESPACE, "tableau", values);
            }
            Op::Call(calls, trouble) => {
                if let Trouble::Late(later) = trouble
                    && later >= SETTLE
                {
                    self.facts.excuses.push("R3");
                }
                self.weather.sky().calls.push((calls, trouble));
            }
            Op::Request(requests, action) => {
                let action = match action {
                    Action::Stale(back) => Action::Stale(world.server.version().saturating_sub(back)),
                    action => action,
                };
                self.weather.sky().requests.push((requests, action));
            }
            Op::PrefectDown(down) => self.weather.sky().prefect_down = down,
            Op::TableauDown(down) => self.weather.sky().tableau_down = down,
            Op::ServerDown(down) => self.weather.sky().server_down = down,
            Op::JobsForbidden(forbidden) => {
                self.facts.list_was_closed |= forbidden;
                self.weather.sky().jobs_forbidden = forbidden;
            }
            Op::CutEvents => world.prefect.cut_events(),
            Op::Hold(plural) => world.server.hold(plural),
            Op::Release(plural, skip) => world.server.release(plural, skip),
            Op::Replay(plural, count) => world.server.replay(plural, count),
            Op::Close(plural, mid_line) => world.server.close(plural, mid_line),
            Op::Expire(plural) => world.server.expire(plural),
            Op::Compact => world.server.compact(),
            Op::Kill(slot) => self.kill(slot),
            Op::Terminate(slot) => self.terminate(slot),
            Op::Start(slot) => self.start(slot),
            Op::StealLease => self.steal_lease(),
        }
    }
}

pub fn skews() -> impl Strategy<Value = Skews> {
    let skew = || prop_oneof![2 => Just(0), 1 => -60_000..60_000_i64];
    (skew(), skew(), skew(), skew()).prop_map(|(prefect, tableau, server, operators)| Skews {
        prefect,
        tableau,
        server,
        operators,
    })
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 10..60)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => prop_oneof![3 => 0..3_000_u64, 3 => 0..60_000_u64, 1 => 0..600_000_u64].prop_map(Op::Wait),
        10 => prop_oneof![9 => Just(StateType::Completed), 1 => Just(StateType::Failed)].prop_flat_map(|state| {
            (0..FLOWS.len()).prop_map(move |flow| match state {
                StateType::Completed => Op::Complete(flow),
                _ => Op::Fail(flow),
            })
        }),
        16 => on_the_way(),
        8 => watches(),
        8 => operators(),
        6 => services(),
        10 => people(),
    ]
}

fn people() -> impl Strategy<Value = Op> {
    let refresh = || 0..REFRESHES.len();
    let flow = || 0..FLOWS.len();
    prop_oneof![
        3 => refresh().prop_map(Op::Token),
        2 => (refresh(), proptest::bool::weighted(0.4)).prop_map(|(r, suspend)| Op::Suspend(r, suspend)),
        1 => (refresh(), any::<bool>()).prop_map(|(r, any)| Op::Gate(r, any)),
        2 => (refresh(), 0..CONTENTS.len()).prop_map(|(r, content)| Op::Retarget(r, content)),
        1 => (refresh(), any::<bool>()).prop_map(|(r, incremental)| Op::Incremental(r, incremental)),
        3 => flow().prop_map(Op::Describe),
        1 => (flow(), any::<bool>()).prop_map(|(f, active)| Op::Active(f, active)),
        2 => (flow(), 0..24_u8).prop_map(|(f, hour)| Op::Cron(f, hour)),
        1 => refresh().prop_map(Op::DeleteRefresh),
        1 => flow().prop_map(Op::DeleteFlow),
        3 => Just(Op::Apply),
        1 => Just(Op::Rotate),
        1 => proptest::bool::weighted(0.3).prop_map(Op::BreakSecret),
    ]
}

fn services() -> impl Strategy<Value = Op> {
    let ends = prop_oneof![
        3 => Just(JobStatus::Failed), 1 => Just(JobStatus::Cancelled), 1 => Just(JobStatus::Success)
    ];
    prop_oneof![
        2 => (0..FLOWS.len(), any::<bool>()).prop_map(|(flow, completed)| Op::Force(flow, completed)),
        2 => (0..CONTENTS.len()).prop_map(Op::Person),
        3 => ends.prop_map(Op::JobEnds),
        2 => proptest::bool::weighted(0.4).prop_map(|stopped| Op::Engine { stopped }),
        1 => any::<usize>().prop_map(Op::RemoveJob),
        1 => (0..CONTENTS.len()).prop_map(Op::Republish),
        1 => (0..FLOWS.len()).prop_map(Op::ForeignEdit),
    ]
}

fn on_the_way() -> impl Strategy<Value = Op> {
    let seconds = |most: u64| (1..most).prop_map(Duration::from_secs);
    let common = || {
        prop_oneof![
            1 => Just(Trouble::Lose),
            2 => Just(Trouble::LoseAnswer),
            1 => (1..12_u64).prop_map(|s| Trouble::Delay(Duration::from_secs(s))),
            2 => (1..40_u64).prop_map(|s| Trouble::DelayAnswer(Duration::from_secs(s))),
        ]
    };
    let calls = prop_oneof![
        Just(Calls::Jobs),
        Just(Calls::Runs),
        Just(Calls::Deployments),
        Just(Calls::Writes(Service::Prefect)),
        Just(Calls::Any)
    ];
    let late = prop_oneof![4 => 1..29_u64, 1 => 30..90_u64];
    let refresh = prop_oneof![4 => common(), 1 => late.prop_map(|s| Trouble::Late(Duration::from_secs(s)))];
    let requests =
        prop_oneof![4 => Just(Requests::Status), 2 => Just(Requests::Writes), 1 => Just(Requests::Lease)];
    let action = prop_oneof![
        1 => prop_oneof![Just(409_u16), Just(429), Just(500), Just(503)].prop_map(Action::Refuse),
        1 => Just(Action::Lose),
        3 => Just(Action::LoseAnswer),
        1 => seconds(20).prop_map(Action::Delay),
        2 => seconds(20).prop_map(Action::DelayAnswer),
    ];
    let read = prop_oneof![
        1 => Just(Action::Refuse(500)),
        1 => Just(Action::Lose),
        1 => seconds(20).prop_map(Action::DelayAnswer),
        2 => (1..20_u64).prop_map(Action::Stale),
    ];
    prop_oneof![
        5 => refresh.prop_map(|trouble| Op::Call(Calls::Refresh, trouble)),
        4 => (calls, common()).prop_map(|(calls, trouble)| Op::Call(calls, trouble)),
        1 => Just(Op::Call(Calls::Deployments, Trouble::Empty)),
        5 => (requests, action).prop_map(|(requests, action)| Op::Request(requests, action)),
        2 => read.prop_map(|action| Op::Request(Requests::Reads, action)),
        1 => proptest::bool::weighted(0.3).prop_map(Op::PrefectDown),
        1 => proptest::bool::weighted(0.3).prop_map(Op::TableauDown),
        1 => proptest::bool::weighted(0.3).prop_map(Op::ServerDown),
        1 => proptest::bool::weighted(0.4).prop_map(Op::JobsForbidden),
        1 => Just(Op::CutEvents),
    ]
}

fn watches() -> impl Strategy<Value = Op> {
    let plural = || {
        prop_oneof![
            4 => Just("extractrefreshes"), 3 => Just("flowdeployments"), 1 => Just("prefectworkspaces"),
            1 => Just("tableausites"), 1 => Just("secrets")
        ]
    };
    prop_oneof![
        4 => plural().prop_map(Op::Hold),
        3 => (plural(), prop_oneof![3 => Just(0), 1 => 1..3_usize]).prop_map(|(p, skip)| Op::Release(p, skip)),
        2 => (plural(), 1..6_usize).prop_map(|(p, count)| Op::Replay(p, count)),
        2 => (plural(), any::<bool>()).prop_map(|(p, mid_line)| Op::Close(p, mid_line)),
        2 => plural().prop_map(Op::Expire),
        1 => Just(Op::Compact),
    ]
}

fn operators() -> impl Strategy<Value = Op> {
    let slot = || 0..2_usize;
    prop_oneof![
        4 => slot().prop_map(Op::Kill),
        1 => slot().prop_map(Op::Terminate),
        4 => slot().prop_map(Op::Start),
        1 => Just(Op::StealLease),
    ]
}
