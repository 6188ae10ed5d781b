//! A Tableau site in memory, for tests of the controller: projects, contents, and jobs that move on when told to.

use super::lists::pages;
use super::{
    Content, DataQualityWarning, Job, JobAnswer, JobRow, JobStatus, NewTask, Project, Questions,
    RefreshError, STALE, ServerSchedule, Site, Tableau, TableauError, Task, TaskSchedule,
};
use crate::api::{RefreshType, TargetKind};
use crate::clock::Clock;
use crate::model::ids::{JobId, Luid, ProjectId, ServerScheduleId, TaskId, WarningId};
use crate::model::time::ClockReading;
use crate::model::timing::Timing;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the fake site holds; tests may change it as a person at the site would.
#[derive(Debug, Default)]
pub struct State {
    /// Another site that answers in its place.
    pub other_site: Option<Site>,
    /// Its projects.
    pub projects: Vec<Project>,
    /// Its contents.
    pub contents: Vec<Content>,
    /// Contents that lists leave out, as they do for a while.
    pub unlisted: BTreeSet<Luid>,
    /// Its jobs, oldest first.
    pub jobs: Vec<FakeJob>,
    /// Its extract refresh tasks.
    pub tasks: Vec<Task>,
    /// Tasks that are kept from the account: not in the list, and 403 by their ids.
    pub hidden: BTreeSet<TaskId>,
    /// Shared schedules, of a Server.
    pub schedules: Vec<ServerSchedule>,
    /// Data quality warnings, each on a data source, which has one at most.
    pub warnings: Vec<(Luid, DataQualityWarning)>,
    /// Warnings are given back as for a browser: signs escaped, and the line ended.
    pub escapes: bool,
    /// Pages of a list of jobs that are answered before one fails.
    pub pages_before_failure: u32,
    /// Each call in order, as `operation argument`.
    pub calls: Vec<String>,
    failures: Vec<(&'static str, TableauError)>,
    refresh_failures: Vec<(RefreshError, bool)>,
    last: Option<ClockReading>,
    ids: u64,
}

/// A job with what only the list, or only we, know of it.
#[derive(Clone, Debug)]
pub struct FakeJob {
    /// As read by its id.
    pub job: Job,
    /// As the list types it.
    pub refresh_type: RefreshType,
    /// Name of the content when it was queued.
    pub title: String,
}

impl State {
    fn id<T: From<String>>(&mut self, kind: &str) -> T {
        self.ids += 1;
        T::from(format!("{kind}-{}", self.ids))
    }

    fn queue(&mut self, content: &Content, refresh_type: RefreshType, now: Timestamp) -> JobId {
        let id: JobId = self.id("job");
        let job = Job {
            id: id.clone(),
            status: JobStatus::Pending,
            content: Some(content.luid.clone()),
            created_at: Some(now),
            started_at: None,
            completed_at: None,
            failure: None,
            wants_full: false,
        };
        self.jobs.push(FakeJob { job, refresh_type, title: content.name.clone() });
        id
    }

    fn listed(&self) -> impl Iterator<Item = &Content> {
        self.contents.iter().filter(|content| !self.unlisted.contains(&content.luid))
    }

    /// Adds a task; its id.
    pub fn add_task(&mut self, new: &NewTask, schedule: TaskSchedule) -> TaskId {
        let id: TaskId = self.id("task");
        self.tasks.push(Task {
            id: id.clone(),
            content: Some(new.luid.clone()),
            refresh_type: new.refresh_type,
            schedule,
            next_run_at: Some(Timestamp::UNIX_EPOCH),
            failures: 0,
        });
        id
    }

    /// Sets a warning of any type on a data source; its id.
    pub fn add_warning(&mut self, datasource: &Luid, kind: &str, message: &str) -> WarningId {
        let id: WarningId = self.id("warning");
        let warning = DataQualityWarning { id: id.clone(), kind: kind.into(), message: message.into() };
        self.warnings.push((datasource.clone(), warning));
        id
    }

    fn echoed(&self, warning: &DataQualityWarning) -> DataQualityWarning {
        let mut warning = warning.clone();
        if self.escapes {
            let escaped = warning.message.replace('/', "&#x2F;").replace('(', "&#40;").replace(')', "&#41;");
            warning.message = escaped + "\r\n";
        }
        warning
    }

    fn busy(&self, luid: &Luid) -> bool {
        let busy = |job: &FakeJob| job.job.content.as_ref() == Some(luid) && job.job.completed_at.is_none();
        self.jobs.iter().any(busy)
    }
}

/// The fake.
#[derive(Debug)]
pub struct FakeTableau {
    clock: Clock,
    site: Site,
    state: Mutex<State>,
}

impl FakeTableau {
    /// An empty site whose `Date` and job times follow this clock.
    pub fn new(clock: Clock) -> Self {
        let site = Site { luid: "site-1".into(), rest_api_version: "3.27".into() };
        Self { clock, site, state: Mutex::default() }
    }

    /// What the site holds.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the calls so far, without arguments.
    pub fn operations(&self) -> Vec<String> {
        let first = |call: &String| call.split(' ').next().unwrap_or_default().to_owned();
        self.state().calls.iter().map(first).collect()
    }

    /// Adds a project.
    pub fn project(&self, name: &str, parent: Option<&ProjectId>) -> ProjectId {
        let mut state = self.state();
        let id: ProjectId = state.id("project");
        state.projects.push(Project { id: id.clone(), name: name.into(), parent: parent.cloned() });
        id
    }

    /// Publishes a content with an extract.
    pub fn publish(&self, kind: TargetKind, name: &str, project: &ProjectId) -> Luid {
        let mut state = self.state();
        let luid: Luid = state.id("content");
        state.contents.push(Content {
            luid: luid.clone(),
            kind,
            name: name.into(),
            project: Some(project.clone()),
            has_extracts: Some(true),
            web_url: None,
        });
        luid
    }

    /// The next call of this operation (a method's name but `refresh`) fails. Several are used up in order.
    pub fn fail(&self, operation: &'static str, error: TableauError) {
        self.state().failures.push((operation, error));
    }

    /// The next refresh fails, and nothing is started.
    pub fn fail_refresh(&self, error: RefreshError) {
        self.state().refresh_failures.push((error, false));
    }

    /// The next refresh is started, and its answer is lost.
    pub fn lose_refresh_answer(&self) {
        self.state().refresh_failures.push((RefreshError::Ambiguous, true));
    }

    /// Somebody else starts a refresh.
    ///
    /// # Errors
    /// As for a refresh.
    pub fn start_elsewhere(&self, luid: &Luid, refresh_type: RefreshType) -> Result<JobId, RefreshError> {
        let now = self.second();
        start(&mut self.state(), luid, refresh_type, now)
    }

    /// Moves a job on; `InProgress` starts it, the others end it. An end without a start starts it too, but for a cancelled one.
    ///
    /// # Errors
    /// There is no such job, or it has ended.
    pub fn advance(&self, id: &JobId, status: JobStatus) -> Result<(), TableauError> {
        let now = self.second();
        let mut state = self.state();
        let job = &mut state
            .jobs
            .iter_mut()
            .find(|j| j.job.id == *id && j.job.completed_at.is_none())
            .ok_or_else(|| TableauError::NotFound("404".into()))?
            .job;
        job.status = status;
        match status {
            JobStatus::Pending => {}
            JobStatus::InProgress => job.started_at = Some(now),
            JobStatus::Success | JobStatus::Failed => {
                job.started_at.get_or_insert(now);
                job.completed_at = Some(now);
            }
            JobStatus::Cancelled => job.completed_at = Some(now),
        }
        Ok(())
    }

    /// Tableau cleans the job up: it is in no list and unknown by its id.
    pub fn forget(&self, id: &JobId) {
        self.state().jobs.retain(|j| j.job.id != *id);
    }

    /// Tableau's times have whole seconds.
    fn second(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now().as_second()).unwrap_or_default()
    }

    fn call<T>(
        &self,
        operation: &'static str,
        argument: &str,
        work: impl FnOnce(&mut State) -> Result<T, TableauError>,
    ) -> Result<T, TableauError> {
        let mut state = self.state();
        state.calls.push(format!("{operation} {argument}").trim_end().to_owned());
        if let Some(at) = state.failures.iter().position(|(of, _)| *of == operation) {
            return Err(state.failures.remove(at).1);
        }
        let sent = self.clock.moment();
        let result = work(&mut state);
        state.last = Some(ClockReading { date: self.second(), sent, received: self.clock.moment() });
        result
    }
}

#[async_trait]
impl Tableau for FakeTableau {
    async fn site(&self) -> Result<Site, TableauError> {
        self.call("site", "", |state| Ok(state.other_site.as_ref().unwrap_or(&self.site).clone()))
    }

    fn clock(&self) -> Option<ClockReading> {
        self.state().last
    }

    async fn sign_out(&self) {
        self.state().calls.push("sign_out".into());
    }

    async fn projects(&self) -> Result<Vec<Project>, TableauError> {
        self.call("projects", "", |state| Ok(state.projects.clone()))
    }

    async fn contents(&self, kind: TargetKind, names: &[String]) -> Result<Vec<Content>, TableauError> {
        self.call("contents", &names.join(","), |state| {
            let wanted = |c: &&Content| c.kind == kind && names.contains(&c.name);
            Ok(state.listed().filter(wanted).cloned().collect())
        })
    }

    async fn all_contents(&self, kind: TargetKind) -> Result<Vec<Content>, TableauError> {
        self.call("all_contents", "", |state| {
            Ok(state.listed().filter(|c| c.kind == kind).cloned().collect())
        })
    }

    async fn content(&self, kind: TargetKind, luid: &Luid) -> Result<Option<Content>, TableauError> {
        self.call("content", luid.as_str(), |state| {
            Ok(state.contents.iter().find(|c| c.kind == kind && c.luid == *luid).cloned())
        })
    }

    async fn jobs(
        &self,
        created_after: Timestamp,
        questions: &Questions,
    ) -> Result<Vec<JobRow>, TableauError> {
        let listed = self.call("jobs", &created_after.to_string(), |state| {
            let since = Timestamp::from_second(created_after.as_second()).unwrap_or_default();
            let recent = |job: &&FakeJob| job.job.created_at >= Some(since);
            Ok(state.jobs.iter().filter(recent).map(row).collect::<Vec<JobRow>>())
        });
        let pages = match &listed {
            Ok(rows) => pages(rows.len()),
            Err(_) => self.state().pages_before_failure + 1,
        };
        (0..pages).for_each(|_| questions.ask());
        listed
    }

    async fn job(&self, id: &JobId) -> Result<JobAnswer, TableauError> {
        let asked = self.clock.moment();
        self.call("job", id.as_str(), |state| {
            let job = state.jobs.iter().find(|j| j.job.id == *id).map(|j| j.job.clone());
            Ok(JobAnswer { asked, job })
        })
    }

    async fn tasks(&self) -> Result<Vec<Task>, TableauError> {
        self.call("tasks", "", |state| {
            Ok(state.tasks.iter().filter(|task| !state.hidden.contains(&task.id)).cloned().collect())
        })
    }

    async fn task(&self, id: &TaskId) -> Result<Option<Task>, TableauError> {
        self.call("task", id.as_str(), |state| {
            if state.hidden.contains(id) {
                return Err(TableauError::Forbidden("403004".into()));
            }
            Ok(state.tasks.iter().find(|task| task.id == *id).cloned())
        })
    }

    async fn create_task(&self, new: &NewTask, timing: &Timing, _: Duration) -> Result<TaskId, TableauError> {
        self.call("create_task", &format!("{} {timing}", new.luid), |state| {
            Ok(state.add_task(new, TaskSchedule::Own(Some(timing.clone()))))
        })
    }

    async fn update_task(&self, id: &TaskId, timing: &Timing) -> Result<(), TableauError> {
        self.call("update_task", &format!("{id} {timing}"), |state| {
            let task = state.tasks.iter_mut().find(|task| task.id == *id);
            let task = task.ok_or_else(|| TableauError::NotFound("404018".into()))?;
            task.schedule = TaskSchedule::Own(Some(timing.clone()));
            Ok(())
        })
    }

    async fn delete_task(&self, id: &TaskId) -> Result<(), TableauError> {
        self.call("delete_task", id.as_str(), |state| {
            state.tasks.retain(|task| task.id != *id);
            Ok(())
        })
    }

    async fn server_schedules(&self) -> Result<Vec<ServerSchedule>, TableauError> {
        let bare = |schedule: &ServerSchedule| ServerSchedule { timing: None, ..schedule.clone() };
        self.call("server_schedules", "", |state| Ok(state.schedules.iter().map(bare).collect()))
    }

    async fn server_schedule(&self, id: &ServerScheduleId) -> Result<Option<Timing>, TableauError> {
        self.call("server_schedule", id.as_str(), |state| {
            let found = state.schedules.iter().find(|schedule| schedule.id == *id);
            found
                .map(|schedule| schedule.timing.clone())
                .ok_or_else(|| TableauError::NotFound("404021".into()))
        })
    }

    async fn create_server_schedule(
        &self,
        name: &str,
        timing: &Timing,
    ) -> Result<ServerScheduleId, TableauError> {
        self.call("create_server_schedule", name, |state| {
            if state.schedules.iter().any(|schedule| schedule.name == name) {
                return Err(TableauError::Rejected("409021".into()));
            }
            let id: ServerScheduleId = state.id("schedule");
            state.schedules.push(ServerSchedule {
                id: id.clone(),
                name: name.into(),
                active: true,
                updated_at: "1".into(),
                timing: Some(timing.clone()),
            });
            Ok(id)
        })
    }

    async fn attach(
        &self,
        new: &NewTask,
        schedule: &ServerScheduleId,
        _: Duration,
    ) -> Result<(), TableauError> {
        self.call("attach", &format!("{} {schedule}", new.luid), |state| {
            let found = state.schedules.iter().find(|known| known.id == *schedule).cloned();
            let found = found.ok_or(TableauError::Ambiguous)?;
            let shared = TaskSchedule::Shared { id: found.id, name: found.name, active: found.active };
            state.add_task(new, shared);
            Ok(())
        })
    }

    async fn warnings(&self, datasource: &Luid) -> Result<Vec<DataQualityWarning>, TableauError> {
        self.call("warnings", datasource.as_str(), |state| {
            let on = state.warnings.iter().filter(|(on, _)| on == datasource);
            Ok(on.map(|(_, warning)| state.echoed(warning)).collect())
        })
    }

    async fn set_warning(
        &self,
        datasource: &Luid,
        message: &str,
        _: Duration,
    ) -> Result<Option<WarningId>, TableauError> {
        self.call("set_warning", datasource.as_str(), |state| {
            if state.warnings.iter().any(|(on, _)| on == datasource) {
                return Err(TableauError::Rejected("409120".into()));
            }
            Ok(Some(state.add_warning(datasource, STALE, message)))
        })
    }

    async fn delete_warning(&self, id: &WarningId) -> Result<(), TableauError> {
        self.call("delete_warning", id.as_str(), |state| {
            state.warnings.retain(|(_, warning)| warning.id != *id);
            Ok(())
        })
    }

    async fn refresh(
        &self,
        kind: TargetKind,
        luid: &Luid,
        refresh_type: RefreshType,
        _deadline: Duration,
    ) -> Result<JobId, RefreshError> {
        let now = self.second();
        let sent = self.clock.moment();
        let mut state = self.state();
        state.calls.push(format!("refresh {luid} {refresh_type:?}"));
        let failure = (!state.refresh_failures.is_empty()).then(|| state.refresh_failures.remove(0));
        if let Some((error, false)) = failure {
            return Err(error);
        }
        if !state.contents.iter().any(|c| c.luid == *luid && c.kind == kind) {
            return Err(not_found(kind));
        }
        let result = start(&mut state, luid, refresh_type, now);
        state.last = Some(ClockReading { date: now, sent, received: self.clock.moment() });
        match failure {
            Some((error, _)) => Err(error),
            None => result,
        }
    }

    async fn cancel(&self, id: &JobId) -> Result<(), TableauError> {
        self.call("cancel", id.as_str(), |_| Ok(()))?;
        self.advance(id, JobStatus::Cancelled)
    }
}

fn start(
    state: &mut State,
    luid: &Luid,
    refresh_type: RefreshType,
    now: Timestamp,
) -> Result<JobId, RefreshError> {
    let content = state.contents.iter().find(|c| c.luid == *luid).cloned();
    let content = content.ok_or_else(|| not_found(TargetKind::Datasource))?;
    if content.has_extracts == Some(false) {
        return Err(RefreshError::NoExtract);
    }
    if state.busy(luid) {
        return Err(RefreshError::AlreadyQueued);
    }
    Ok(state.queue(&content, refresh_type, now))
}

fn not_found(kind: TargetKind) -> RefreshError {
    RefreshError::NotFound(match kind {
        TargetKind::Datasource => "404004".into(),
        TargetKind::Workbook => "404006".into(),
    })
}

fn row(job: &FakeJob) -> JobRow {
    JobRow {
        id: job.job.id.clone(),
        status: job.job.status,
        refresh_type: Some(job.refresh_type),
        title: Some(job.title.clone()),
        created_at: job.job.created_at,
        started_at: job.job.started_at,
        ended_at: job.job.completed_at,
    }
}
