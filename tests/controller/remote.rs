//! Prefect and Tableau as one operator process reaches them: over a line that takes time, and on which calls and answers get lost.

use crate::truth::Truth;
use async_trait::async_trait;
use feedwater::api::{RefreshType, TargetKind};
use feedwater::clock::Clock;
use feedwater::controller::services::{PrefectAccess, Services, TableauAccess};
use feedwater::http::Unreachable;
use feedwater::model::ids::{
    DeploymentId, DeploymentName, FlowId, JobId, Luid, RunId, ScheduleId, ServerScheduleId, TaskId,
    TaskRunId, WarningId,
};
use feedwater::model::reports::{Artifact, AssetEvent, LogLine, NewRun, NewTaskRun, RunState};
use feedwater::model::time::ClockReading;
use feedwater::model::timing::Timing;
use feedwater::prefect::fake::FakePrefect;
use feedwater::prefect::{
    Deployment, EnsuredRun, NewDeployment, NewSchedule, Prefect, PrefectError, Reporting, Run, RunEvent,
    RunQuery, Server,
};
use feedwater::tableau::fake::FakeTableau;
use feedwater::tableau::{
    Content, DataQualityWarning, JobAnswer, JobRow, Leads, NewTask, Project, Questions, RefreshError,
    ServerSchedule, Site, Tableau, TableauError, Task,
};
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Half of the time a call takes.
const LINE: Duration = Duration::from_millis(15);

/// A call of one process to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The identity of the process.
    pub process: Arc<str>,
    /// Whom it calls.
    pub service: Service,
    /// Name of the trait's method.
    pub operation: &'static str,
    /// Whether it changes anything there.
    pub writes: bool,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Prefect,
    Tableau,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is done and answered.
    None,
    /// It does not arrive.
    Lose,
    /// It is done, and the answer does not arrive.
    LoseAnswer,
    /// It arrives this much later.
    Delay(Duration),
    /// It is done at once, and the answer comes this much later.
    DelayAnswer(Duration),
    /// A refresh: it arrives this much later, even if nobody waits for the answer any more.
    Late(Duration),
    /// The list of deployments or of jobs: it is answered, and lacks every row.
    Empty,
    /// The list of jobs: it may not be read.
    Forbid,
}

/// Decides about every call to come, and keeps them.
#[derive(Clone)]
pub struct Troubles(Arc<Mutex<Inner>>);

struct Inner {
    decide: Box<dyn FnMut(&Remote) -> Trouble + Send>,
    log: Vec<Remote>,
}

impl Default for Troubles {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { decide: Box::new(|_| Trouble::None), log: Vec::new() })))
    }
}

impl Troubles {
    pub fn on_call(&self, decide: impl FnMut(&Remote) -> Trouble + Send + 'static) {
        self.0.lock().unwrap().decide = Box::new(decide);
    }

    /// The next call of this operation fares so.
    pub fn once(&self, operation: &'static str, trouble: Trouble) {
        let mut left = Some(trouble);
        self.on_call(move |call| {
            if call.operation == operation { left.take().unwrap_or(Trouble::None) } else { Trouble::None }
        });
    }

    pub fn log(&self) -> Vec<Remote> {
        self.0.lock().unwrap().log.clone()
    }

    /// How many of the calls so far change something.
    pub fn writes(&self) -> usize {
        self.0.lock().unwrap().log.iter().filter(|call| call.writes).count()
    }

    fn of(&self, call: Remote) -> Trouble {
        let inner = &mut *self.0.lock().unwrap();
        let trouble = (inner.decide)(&call);
        inner.log.push(call);
        trouble
    }
}

/// The seam of one process.
pub struct Lines {
    pub process: Arc<str>,
    pub clock: Clock,
    pub prefect: Arc<FakePrefect>,
    pub tableau: Arc<FakeTableau>,
    pub troubles: Troubles,
    pub truth: Truth,
}

impl Services for Lines {
    fn prefect(&self, _: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError> {
        Ok(Arc::new(PrefectLine { far: self.prefect.clone(), line: self.line(Service::Prefect) }))
    }

    fn tableau(&self, _: &TableauAccess, _: Leads) -> Result<Arc<dyn Tableau>, TableauError> {
        let line = self.line(Service::Tableau);
        Ok(Arc::new(TableauLine { far: self.tableau.clone(), line, truth: self.truth.clone() }))
    }
}

impl Lines {
    fn line(&self, service: Service) -> Line {
        Line {
            process: self.process.clone(),
            service,
            clock: self.clock.clone(),
            troubles: self.troubles.clone(),
            last: Mutex::new(None),
        }
    }
}

struct Line {
    process: Arc<str>,
    service: Service,
    clock: Clock,
    troubles: Troubles,
    /// What this process has read of the far clock.
    last: Mutex<Option<ClockReading>>,
}

impl Line {
    /// `work` is done at the far end; `date` is what the answer's header says.
    async fn call<T, E>(
        &self,
        operation: &'static str,
        writes: bool,
        (lost, unanswered): (E, E),
        date: impl Fn() -> Option<ClockReading>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let trouble = self.trouble(operation, writes);
        self.carry(trouble, (lost, unanswered), date, work).await
    }

    fn trouble(&self, operation: &'static str, writes: bool) -> Trouble {
        let (process, service) = (self.process.clone(), self.service);
        self.troubles.of(Remote { process, service, operation, writes })
    }

    async fn carry<T, E>(
        &self,
        trouble: Trouble,
        (lost, unanswered): (E, E),
        date: impl Fn() -> Option<ClockReading>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let sent = self.clock.moment();
        sleep(LINE).await;
        if trouble == Trouble::Lose {
            return Err(lost);
        }
        if let Trouble::Delay(longer) = trouble {
            sleep(longer).await;
        }
        let result = work.await;
        let date = date();
        if trouble == Trouble::LoseAnswer {
            return Err(unanswered);
        }
        if let Trouble::DelayAnswer(longer) = trouble {
            sleep(longer).await;
        }
        sleep(LINE).await;
        if let Some(far) = date {
            *self.last.lock().unwrap() =
                Some(ClockReading { date: far.date, sent, received: self.clock.moment() });
        }
        result
    }
}

/// What a caller of Prefect sees: the call did not arrive, or its answer did not.
const LOST: (PrefectError, PrefectError) = (PrefectError::Unavailable, PrefectError::Ambiguous);

struct PrefectLine {
    far: Arc<FakePrefect>,
    line: Line,
}

impl PrefectLine {
    async fn read<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, PrefectError>>,
    ) -> Result<T, PrefectError> {
        self.line.call(operation, false, LOST, || self.far.clock(), work).await
    }
    async fn write<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, PrefectError>>,
    ) -> Result<T, PrefectError> {
        self.line.call(operation, true, LOST, || self.far.clock(), work).await
    }
}

#[async_trait]
impl Prefect for PrefectLine {
    async fn probe(&self) -> Result<Server, PrefectError> {
        self.read("probe", self.far.probe()).await
    }
    fn clock(&self) -> Option<ClockReading> {
        *self.line.last.lock().unwrap()
    }
    async fn deployments(&self, flows: &[String]) -> Result<Vec<Deployment>, PrefectError> {
        let trouble = self.line.trouble("deployments", false);
        let rows = self.line.carry(trouble, LOST, || self.far.clock(), self.far.deployments(flows)).await?;
        Ok(if trouble == Trouble::Empty { Vec::new() } else { rows })
    }
    async fn deployment(&self, name: &DeploymentName) -> Result<Option<Deployment>, PrefectError> {
        self.read("deployment", self.far.deployment(name)).await
    }
    async fn work_pool_exists(&self, name: &str) -> Result<bool, PrefectError> {
        self.read("work_pool_exists", self.far.work_pool_exists(name)).await
    }
    async fn flow(&self, name: &str) -> Result<Option<FlowId>, PrefectError> {
        self.read("flow", self.far.flow(name)).await
    }
    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, PrefectError> {
        self.read("runs", self.far.runs(query)).await
    }
    async fn ensure_flow(&self, name: &str) -> Result<FlowId, PrefectError> {
        self.write("ensure_flow", self.far.ensure_flow(name)).await
    }
    async fn create_deployment(
        &self,
        flow: &FlowId,
        new: &NewDeployment,
    ) -> Result<DeploymentId, PrefectError> {
        self.write("create_deployment", self.far.create_deployment(flow, new)).await
    }
    async fn patch_deployment(
        &self,
        id: &DeploymentId,
        fields: &Map<String, Value>,
    ) -> Result<(), PrefectError> {
        self.write("patch_deployment", self.far.patch_deployment(id, fields)).await
    }
    async fn delete_deployment(&self, id: &DeploymentId) -> Result<(), PrefectError> {
        self.write("delete_deployment", self.far.delete_deployment(id)).await
    }
    async fn add_schedule(&self, id: &DeploymentId, new: &NewSchedule) -> Result<(), PrefectError> {
        self.write("add_schedule", self.far.add_schedule(id, new)).await
    }
    async fn put_schedule(
        &self,
        id: &DeploymentId,
        schedule: &ScheduleId,
        new: &NewSchedule,
    ) -> Result<(), PrefectError> {
        self.write("put_schedule", self.far.put_schedule(id, schedule, new)).await
    }
    async fn delete_schedule(&self, id: &DeploymentId, schedule: &ScheduleId) -> Result<(), PrefectError> {
        self.write("delete_schedule", self.far.delete_schedule(id, schedule)).await
    }
    async fn schedule_runs(&self, id: &DeploymentId, since: Timestamp) -> Result<(), PrefectError> {
        self.write("schedule_runs", self.far.schedule_runs(id, since)).await
    }
    async fn late_runs(
        &self,
        id: &DeploymentId,
        before: Timestamp,
        leaving: &[ScheduleId],
    ) -> Result<Vec<Timestamp>, PrefectError> {
        self.read("late_runs", self.far.late_runs(id, before, leaving)).await
    }
    async fn restore_runs(
        &self,
        id: &DeploymentId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(), PrefectError> {
        self.write("restore_runs", self.far.restore_runs(id, from, to)).await
    }
    async fn events(&self) -> Result<BoxStream<'static, Result<RunEvent, PrefectError>>, PrefectError> {
        self.read("events", self.far.events()).await
    }
}

#[async_trait]
impl Reporting for PrefectLine {
    async fn ensure_task_run(&self, new: &NewTaskRun) -> Result<TaskRunId, PrefectError> {
        self.write("ensure_task_run", self.far.ensure_task_run(new)).await
    }
    async fn ensure_run(&self, flow: &FlowId, new: &NewRun) -> Result<EnsuredRun, PrefectError> {
        self.write("ensure_run", self.far.ensure_run(flow, new)).await
    }
    async fn find_run(&self, flow: &str, key: &str) -> Result<Option<EnsuredRun>, PrefectError> {
        self.read("find_run", self.far.find_run(flow, key)).await
    }
    async fn set_run_state(&self, run: &RunId, state: &RunState) -> Result<(), PrefectError> {
        self.write("set_run_state", self.far.set_run_state(run, state)).await
    }
    async fn log(&self, run: &RunId, at: Timestamp, lines: &[LogLine]) -> Result<(), PrefectError> {
        self.write("log", self.far.log(run, at, lines)).await
    }
    async fn loggers(&self, run: &RunId) -> Result<Vec<String>, PrefectError> {
        self.read("loggers", self.far.loggers(run)).await
    }
    async fn has_artifact(&self, run: &RunId) -> Result<bool, PrefectError> {
        self.read("has_artifact", self.far.has_artifact(run)).await
    }
    async fn add_artifact(&self, run: &RunId, artifact: &Artifact) -> Result<(), PrefectError> {
        self.write("add_artifact", self.far.add_artifact(run, artifact)).await
    }
    async fn assets_made_by(&self, runs: &[RunId], since: Timestamp) -> Result<Vec<String>, PrefectError> {
        self.read("assets_made_by", self.far.assets_made_by(runs, since)).await
    }
    async fn emit(&self, run: &RunId, flow: &FlowId, event: &AssetEvent) -> Result<(), PrefectError> {
        self.write("emit", self.far.emit(run, flow, event)).await
    }
}

struct TableauLine {
    far: Arc<FakeTableau>,
    line: Line,
    truth: Truth,
}

impl TableauLine {
    async fn call<T>(
        &self,
        operation: &'static str,
        writes: bool,
        work: impl Future<Output = Result<T, TableauError>>,
    ) -> Result<T, TableauError> {
        let lost = (TableauError::Unreachable(Unreachable::Connect), TableauError::Ambiguous);
        self.line.call(operation, writes, lost, || self.far.clock(), work).await
    }
}

#[async_trait]
impl Tableau for TableauLine {
    async fn site(&self) -> Result<Site, TableauError> {
        self.call("site", false, self.far.site()).await
    }
    fn clock(&self) -> Option<ClockReading> {
        *self.line.last.lock().unwrap()
    }
    async fn sign_out(&self) {
        let work = async {
            self.far.sign_out().await;
            Ok(())
        };
        let _ = self.call("sign_out", false, work).await;
    }
    async fn projects(&self) -> Result<Vec<Project>, TableauError> {
        self.call("projects", false, self.far.projects()).await
    }
    async fn contents(&self, kind: TargetKind, names: &[String]) -> Result<Vec<Content>, TableauError> {
        self.call("contents", false, self.far.contents(kind, names)).await
    }
    async fn all_contents(&self, kind: TargetKind) -> Result<Vec<Content>, TableauError> {
        self.call("all_contents", false, self.far.all_contents(kind)).await
    }
    async fn content(&self, kind: TargetKind, luid: &Luid) -> Result<Option<Content>, TableauError> {
        self.call("content", false, self.far.content(kind, luid)).await
    }
    async fn tasks(&self) -> Result<Vec<Task>, TableauError> {
        self.call("tasks", false, self.far.tasks()).await
    }
    async fn task(&self, id: &TaskId) -> Result<Option<Task>, TableauError> {
        self.call("task", false, self.far.task(id)).await
    }
    async fn create_task(
        &self,
        new: &NewTask,
        timing: &Timing,
        deadline: Duration,
    ) -> Result<TaskId, TableauError> {
        self.call("create_task", true, self.far.create_task(new, timing, deadline)).await
    }
    async fn update_task(&self, id: &TaskId, timing: &Timing) -> Result<(), TableauError> {
        self.call("update_task", true, self.far.update_task(id, timing)).await
    }
    async fn delete_task(&self, id: &TaskId) -> Result<(), TableauError> {
        self.call("delete_task", true, self.far.delete_task(id)).await
    }
    async fn server_schedules(&self) -> Result<Vec<ServerSchedule>, TableauError> {
        self.call("server_schedules", false, self.far.server_schedules()).await
    }
    async fn server_schedule(&self, id: &ServerScheduleId) -> Result<Option<Timing>, TableauError> {
        self.call("server_schedule", false, self.far.server_schedule(id)).await
    }
    async fn create_server_schedule(
        &self,
        name: &str,
        timing: &Timing,
    ) -> Result<ServerScheduleId, TableauError> {
        self.call("create_server_schedule", true, self.far.create_server_schedule(name, timing)).await
    }
    async fn attach(
        &self,
        new: &NewTask,
        schedule: &ServerScheduleId,
        deadline: Duration,
    ) -> Result<(), TableauError> {
        self.call("attach", true, self.far.attach(new, schedule, deadline)).await
    }
    async fn warnings(&self, datasource: &Luid) -> Result<Vec<DataQualityWarning>, TableauError> {
        self.call("warnings", false, self.far.warnings(datasource)).await
    }
    async fn set_warning(&self, on: &Luid, m: &str, d: Duration) -> Result<Option<WarningId>, TableauError> {
        self.call("set_warning", true, self.far.set_warning(on, m, d)).await
    }
    async fn delete_warning(&self, id: &WarningId) -> Result<(), TableauError> {
        self.call("delete_warning", true, self.far.delete_warning(id)).await
    }
    async fn jobs(&self, since: Timestamp, asked: &Questions) -> Result<Vec<JobRow>, TableauError> {
        let trouble = self.line.trouble("jobs", false);
        if trouble == Trouble::Forbid {
            return Err(TableauError::Forbidden("403004".into()));
        }
        let lost = (TableauError::Unreachable(Unreachable::Connect), TableauError::Ambiguous);
        let work = self.far.jobs(since, asked);
        let rows = self.line.carry(trouble, lost, || self.far.clock(), work).await?;
        Ok(if trouble == Trouble::Empty { Vec::new() } else { rows })
    }
    async fn job(&self, id: &JobId) -> Result<JobAnswer, TableauError> {
        let asked = self.line.clock.moment();
        let answer = self.call("job", false, self.far.job(id)).await?;
        Ok(JobAnswer { asked, ..answer })
    }
    async fn refresh(
        &self,
        kind: TargetKind,
        luid: &Luid,
        refresh_type: RefreshType,
        deadline: Duration,
    ) -> Result<JobId, RefreshError> {
        let trouble = self.line.trouble("refresh", true);
        let lost = (RefreshError::NotSent(Unreachable::Connect), RefreshError::Ambiguous);
        let post = self.truth.sent(luid);
        let (far, luid, truth) = (self.far.clone(), luid.clone(), self.truth.clone());
        let delay = match trouble {
            Trouble::Late(later) | Trouble::Delay(later) => later,
            _ => Duration::ZERO,
        };
        let arrive = async move {
            sleep(delay).await;
            let answer = far.refresh(kind, &luid, refresh_type, deadline).await;
            if let Ok(job) = &answer {
                truth.arrived(post, job);
            }
            answer
        };
        // What is on the wire arrives, whatever becomes of the sender.
        let work = async { tokio::spawn(arrive).await.unwrap() };
        let trouble = if delay.is_zero() { trouble } else { Trouble::None };
        let call = self.line.carry(trouble, lost, || self.far.clock(), work);
        tokio::time::timeout(deadline, call).await.unwrap_or(Err(RefreshError::Ambiguous))
    }
    async fn cancel(&self, id: &JobId) -> Result<(), TableauError> {
        self.call("cancel", true, self.far.cancel(id)).await
    }
}
