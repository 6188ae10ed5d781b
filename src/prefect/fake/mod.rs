//! A Prefect in memory, for tests of the controller. It does to deployments, schedules and scheduled runs what the server was measured to do
//! (reference 4 to 6), as far as the trait can show it.

mod reports;
mod rules;

pub use reports::{Told, ToldRun};

use super::{
    Deployment, NewDeployment, NewSchedule, Prefect, PrefectError, Run, RunEvent, RunQuery, Schedule, Server,
    StateType, States,
};
use crate::api::PrefectHosting;
use crate::clock::Clock;
use crate::model::deployments::{Fields, Touched};
use crate::model::ids::{DeploymentId, DeploymentName, FlowId, RunId, ScheduleId};
use crate::model::parameters::Parameters;
use crate::model::time::{ClockReading, Moment};
use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt, unfold};
use jiff::Timestamp;
use rules::{apply, is_terminal, matches, missing_pool, normalised};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// What the fake server holds; tests may change it as a person at the server would.
#[derive(Debug, Default)]
pub struct State {
    /// Flows by name.
    pub flows: BTreeMap<String, FlowId>,
    /// Deployments by id.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// Deployments whose future runs are there: a PATCH takes them away, `schedule_runs` and the server's own loop bring them back.
    pub scheduled: BTreeSet<DeploymentId>,
    /// Runs that fell due and that nobody has taken: deleting a schedule takes them away, `restore_runs` brings them back.
    pub late: BTreeSet<(DeploymentId, Timestamp)>,
    /// Runs, in no order.
    pub runs: Vec<Run>,
    /// Work pools by name.
    pub work_pools: BTreeSet<String>,
    /// What was told of refreshes.
    pub told: Told,
    /// What it says its version is; none: 3.9.1.
    pub version: Option<String>,
    /// Each call in order, as `operation argument`.
    pub calls: Vec<String>,
    /// The question for runs in progress is refused.
    pub refuses_in_progress: bool,
    /// The question for nothing but completions is refused.
    pub refuses_completed: bool,
    /// The same, of those alone that have one of these tags.
    pub refuses_tags: BTreeSet<String>,
    failures: Vec<Failure>,
    fail_named: bool,
    last: Option<ClockReading>,
    ids: u64,
}

#[derive(Debug)]
struct Failure {
    operation: &'static str,
    error: PrefectError,
    done: bool,
}

impl State {
    fn id<T: From<String>>(&mut self, kind: &str) -> T {
        self.ids += 1;
        T::from(format!("{kind}-{}", self.ids))
    }

    fn at(&mut self, id: &DeploymentId) -> Result<&mut Deployment, PrefectError> {
        self.deployments.get_mut(id).ok_or(PrefectError::NotFound)
    }

    fn schedule(&mut self, id: &DeploymentId, schedule: &ScheduleId) -> Result<&mut Schedule, PrefectError> {
        self.at(id)?.schedules.iter_mut().find(|s| s.id == *schedule).ok_or(PrefectError::NotFound)
    }
}

/// The fake.
#[derive(Debug)]
pub struct FakePrefect {
    clock: Clock,
    state: Mutex<State>,
    events: Mutex<broadcast::Sender<RunEvent>>,
}

impl FakePrefect {
    /// An empty server whose `Date` follows this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), events: Mutex::new(broadcast::channel(256).0) }
    }

    /// What the server holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the calls so far, without arguments.
    pub fn operations(&self) -> Vec<String> {
        let first = |call: &String| call.split(' ').next().unwrap_or_default().to_owned();
        self.state().calls.iter().map(first).collect()
    }

    /// The next call of this operation (a method's name) fails, and nothing is done. Several are used up in order.
    pub fn fail(&self, operation: &'static str, error: PrefectError) {
        self.state().failures.push(Failure { operation, error, done: false });
    }

    /// What was to fail does not.
    pub fn answers_again(&self) {
        self.state().failures.clear();
    }

    /// The next read of runs by their ids fails; other reads of runs do not.
    pub fn fail_named(&self) {
        self.state().fail_named = true;
    }

    /// The next call of this operation does its work, and its answer is lost.
    pub fn lose_answer(&self, operation: &'static str) {
        self.state().failures.push(Failure { operation, error: PrefectError::Ambiguous, done: true });
    }

    /// A run of this deployment reaches a state now; terminal states end it. Tells the subscribers, as the server does.
    pub fn run(&self, deployment: &DeploymentName, state_type: StateType) -> Run {
        let (made, tags, pool) = {
            let state = self.state();
            let there = state.deployments.values().find(|d| d.name == *deployment);
            let pool = there.and_then(|d| d.fields.get("work_pool_name")?.as_str().map(str::to_owned));
            (there.map(|d| d.id.clone()), there.map(|d| d.tags.clone()).unwrap_or_default(), pool)
        };
        self.put_run(&deployment.flow, made, (tags, pool), state_type)
    }

    /// The same, of a run of any flow without a deployment, with these tags and in that work pool.
    pub fn run_of(&self, flow: &str, tags: &[&str], pool: Option<&str>, state_type: StateType) -> Run {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.put_run(flow, None, (tags, pool.map(str::to_owned)), state_type)
    }

    fn put_run(
        &self,
        flow: &str,
        deployment: Option<DeploymentId>,
        (tags, work_pool): (Vec<String>, Option<String>),
        state_type: StateType,
    ) -> Run {
        let now = self.clock.now();
        let run = {
            let mut state = self.state();
            let flow = state.flows.get(flow).cloned().unwrap_or_else(|| "flow-0".into());
            let run = Run {
                id: state.id("run"),
                name: "fake-run".into(),
                flow,
                deployment,
                tags,
                work_pool,
                state: state.id("state"),
                state_type,
                state_name: format!("{state_type:?}"),
                state_at: now,
                started_at: Some(now),
                ended_at: is_terminal(state_type).then_some(now),
                parameters: Parameters::default(),
                reports_refresh: false,
            };
            state.runs.push(run.clone());
            run
        };
        self.tell(&run);
        run
    }

    /// Moves a run to another state now. From one terminal state to another, `end_time` stays, as measured.
    ///
    /// # Errors
    /// There is no such run.
    pub fn set_state(&self, id: &RunId, state_type: StateType) -> Result<Run, PrefectError> {
        self.set_state_named(id, state_type, &format!("{state_type:?}"))
    }

    /// The same, with a name of its own.
    ///
    /// # Errors
    /// There is no such run.
    pub fn set_state_named(
        &self,
        id: &RunId,
        state_type: StateType,
        name: &str,
    ) -> Result<Run, PrefectError> {
        let now = self.clock.now();
        let run = {
            let mut state = self.state();
            let next = state.id("state");
            let run = state.runs.iter_mut().find(|r| r.id == *id).ok_or(PrefectError::NotFound)?;
            run.ended_at = is_terminal(state_type).then(|| run.ended_at.unwrap_or(now));
            (run.state, run.state_type, run.state_at) = (next, state_type, now);
            name.clone_into(&mut run.state_name);
            run.clone()
        };
        self.tell(&run);
        Ok(run)
    }

    /// Whether a question for runs finds this one.
    pub fn finds(query: &RunQuery, run: &Run) -> bool {
        matches(query, run)
    }

    /// Ends every event stream.
    pub fn cut_events(&self) {
        *self.sender() = broadcast::channel(256).0;
    }

    fn tell(&self, run: &Run) {
        if is_terminal(run.state_type) {
            // Nobody listening is fine.
            let (deployment, tags) = (run.deployment.clone(), run.tags.clone());
            let event = RunEvent { run: run.id.clone(), deployment, tags, work_pool: run.work_pool.clone() };
            let _ = self.sender().send(event);
        }
    }

    fn sender(&self) -> MutexGuard<'_, broadcast::Sender<RunEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: logged, perhaps failing before or after its work.
    fn call<T>(
        &self,
        operation: &'static str,
        argument: &str,
        work: impl FnOnce(&mut State) -> Result<T, PrefectError>,
    ) -> Result<T, PrefectError> {
        let mut state = self.state();
        state.calls.push(format!("{operation} {argument}").trim_end().to_owned());
        let failure = state.failures.iter().position(|f| f.operation == operation);
        let failure = failure.map(|at| state.failures.remove(at));
        if let Some(failure) = &failure
            && !failure.done
        {
            return Err(failure.error.clone());
        }
        let sent = self.clock.moment();
        let result = work(&mut state);
        state.last = Some(reading(&self.clock, sent));
        match failure {
            Some(failure) => Err(failure.error),
            None => result,
        }
    }
}

#[async_trait]
impl Prefect for FakePrefect {
    async fn probe(&self) -> Result<Server, PrefectError> {
        self.call("probe", "", |state| {
            let version = state.version.clone().unwrap_or_else(|| "3.9.1".into());
            Ok(Server { version: Some(version), hosting: PrefectHosting::SelfHosted, csrf: false })
        })
    }

    fn clock(&self) -> Option<ClockReading> {
        self.state().last
    }

    async fn deployments(&self, flows: &[String]) -> Result<Vec<Deployment>, PrefectError> {
        self.call("deployments", &flows.join(","), |state| {
            let of = |d: &&Deployment| flows.iter().any(|flow| **flow == *d.name.flow);
            Ok(state.deployments.values().filter(of).cloned().collect())
        })
    }

    async fn deployment(&self, name: &DeploymentName) -> Result<Option<Deployment>, PrefectError> {
        self.call("deployment", &name.to_string(), |state| {
            Ok(state.deployments.values().find(|d| d.name == *name).cloned())
        })
    }

    async fn work_pool_exists(&self, name: &str) -> Result<bool, PrefectError> {
        self.call("work_pool_exists", name, |state| Ok(state.work_pools.contains(name)))
    }

    async fn flow(&self, name: &str) -> Result<Option<FlowId>, PrefectError> {
        self.call("flow", name, |state| Ok(state.flows.get(name).cloned()))
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, PrefectError> {
        let asked = match query.states {
            States::InProgress => "in-progress",
            States::Completed => "completed",
            States::Any | States::Ended => "",
        };
        self.call("runs", asked, |state| {
            if state.refuses_in_progress && query.states == States::InProgress {
                return Err(PrefectError::Unavailable);
            }
            let refused =
                state.refuses_completed || query.all_tags.iter().any(|tag| state.refuses_tags.contains(tag));
            if refused && query.states == States::Completed {
                return Err(PrefectError::TimedOut);
            }
            if !query.runs.is_empty() && std::mem::take(&mut state.fail_named) {
                return Err(PrefectError::Unavailable);
            }
            let mut runs: Vec<_> = state.runs.iter().filter(|run| matches(query, run)).cloned().collect();
            match query.states {
                States::InProgress => runs.sort_by(|a, b| b.id.cmp(&a.id)),
                States::Any | States::Ended | States::Completed => {
                    runs.sort_by_key(|run| std::cmp::Reverse(run.ended_at));
                }
            }
            Ok(runs.into_iter().skip(query.offset as usize).take(query.limit.min(200) as usize).collect())
        })
    }

    async fn ensure_flow(&self, name: &str) -> Result<FlowId, PrefectError> {
        self.call("ensure_flow", name, |state| {
            if let Some(flow) = state.flows.get(name) {
                return Ok(flow.clone());
            }
            let flow: FlowId = state.id("flow");
            state.flows.insert(name.to_owned(), flow.clone());
            Ok(flow)
        })
    }

    async fn create_deployment(
        &self,
        flow: &FlowId,
        new: &NewDeployment,
    ) -> Result<DeploymentId, PrefectError> {
        self.call("create_deployment", &new.name, |state| {
            let flow = state.flows.iter().find(|(_, id)| *id == flow).ok_or(PrefectError::Conflict)?;
            let name = DeploymentName { flow: flow.0.as_str().into(), deployment: new.name.as_str().into() };
            if missing_pool(state, &new.fields) {
                return Err(PrefectError::NotFound);
            }
            let existing = state.deployments.values().find(|d| d.name == name).map(|d| d.id.clone());
            let id = existing.unwrap_or_else(|| state.id("deployment"));
            let deployment = state.deployments.entry(id.clone()).or_insert_with(|| Deployment {
                id: id.clone(),
                name,
                tags: Vec::new(),
                paused: false,
                fields: Fields::default(),
                schedules: Vec::new(),
                shares_limit: false,
                touched: Touched::default(),
            });
            // Over an existing one a POST keeps what is left out, but not schedules and parameters.
            deployment.schedules.clear();
            deployment.fields.insert("parameters".into(), Map::new().into());
            apply(deployment, &new.fields);
            state.scheduled.remove(&id);
            Ok(id)
        })
    }

    async fn patch_deployment(
        &self,
        id: &DeploymentId,
        fields: &Map<String, Value>,
    ) -> Result<(), PrefectError> {
        let names = fields.keys().cloned().collect::<Vec<_>>().join(",");
        self.call("patch_deployment", &format!("{id} {names}"), |state| {
            if missing_pool(state, fields) {
                return Err(PrefectError::Rejected(500));
            }
            apply(state.at(id)?, fields);
            state.scheduled.remove(id);
            Ok(())
        })
    }

    async fn delete_deployment(&self, id: &DeploymentId) -> Result<(), PrefectError> {
        self.call("delete_deployment", id.as_str(), |state| {
            state.deployments.remove(id);
            state.scheduled.remove(id);
            Ok(())
        })
    }

    async fn add_schedule(&self, id: &DeploymentId, new: &NewSchedule) -> Result<(), PrefectError> {
        self.call("add_schedule", &format!("{id} {}", new.slug), |state| {
            let schedule = Schedule {
                id: state.id("schedule"),
                slug: Some(new.slug.clone()),
                active: new.active,
                rule: normalised(&new.rule),
                parameters: new.parameters.clone(),
                max_scheduled_runs: new.max_scheduled_runs,
            };
            let deployment = state.at(id)?;
            if deployment.schedules.iter().any(|s| s.slug == schedule.slug) {
                return Err(PrefectError::Conflict);
            }
            deployment.schedules.push(schedule);
            Ok(())
        })
    }

    async fn put_schedule(
        &self,
        id: &DeploymentId,
        schedule: &ScheduleId,
        new: &NewSchedule,
    ) -> Result<(), PrefectError> {
        self.call("put_schedule", &format!("{id} {}", new.slug), |state| {
            let old = state.schedule(id, schedule)?;
            old.slug = Some(new.slug.clone());
            old.active = new.active;
            old.rule = normalised(&new.rule);
            old.parameters.clone_from(&new.parameters);
            old.max_scheduled_runs = new.max_scheduled_runs.or(old.max_scheduled_runs);
            state.scheduled.remove(id);
            Ok(())
        })
    }

    async fn delete_schedule(&self, id: &DeploymentId, schedule: &ScheduleId) -> Result<(), PrefectError> {
        self.call("delete_schedule", &format!("{id} {schedule}"), |state| {
            if let Some(deployment) = state.deployments.get_mut(id) {
                deployment.schedules.retain(|s| s.id != *schedule);
                state.scheduled.remove(id);
                state.late.retain(|(of, _)| of != id);
            }
            Ok(())
        })
    }

    async fn late_runs(
        &self,
        id: &DeploymentId,
        before: Timestamp,
        _leaving: &[ScheduleId],
    ) -> Result<Vec<Timestamp>, PrefectError> {
        self.call("late_runs", &format!("{id} {before}"), |state| {
            let late = state.late.iter().rev().filter(|(of, due)| of == id && *due <= before);
            Ok(late.map(|(_, due)| *due).collect())
        })
    }

    async fn restore_runs(
        &self,
        id: &DeploymentId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), PrefectError> {
        self.call("restore_runs", &format!("{id} {from} {to}"), |state| {
            state.at(id)?;
            state.late.insert((id.clone(), from));
            Ok(())
        })
    }

    async fn schedule_runs(&self, id: &DeploymentId, since: Timestamp) -> Result<(), PrefectError> {
        self.call("schedule_runs", &format!("{id} {since}"), |state| {
            let deployment = state.at(id)?;
            if !deployment.paused && deployment.schedules.iter().any(|s| s.active) {
                state.scheduled.insert(id.clone());
            }
            Ok(())
        })
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError> {
        self.call("events", "", |_| Ok(()))?;
        let receiver = self.sender().subscribe();
        Ok(unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((Ok(event), receiver)),
                    // A slow subscriber loses events without notice, as at the server.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed())
    }
}

/// `Date` has whole seconds, rounded down.
fn reading(clock: &Clock, sent: Moment) -> ClockReading {
    let date = Timestamp::from_second(clock.now().as_second()).unwrap_or_default();
    ClockReading { date, sent, received: clock.moment() }
}
