//! One report, told to one workspace: a call at a time, each behind whatever else is written there.

use super::super::context::Context;
use super::super::flows::load;
use super::super::lanes::Priority;
use super::super::workspace::{Health, WorkspaceSession};
use super::{Entry, Lines, Progress};
use crate::model::connection::DesiredSite;
use crate::model::ids::{ConnectionName, FlowId, ObjectName, RunId};
use crate::model::reports::{FLOW, Outside, Phase, Report};
use crate::model::time::sub;
use crate::prefect::{EnsuredRun, PrefectError};
use crate::runtime::metrics::Reported;
use std::sync::Arc;
use std::time::Duration;

/// Longest time a call may take: it holds a place in the lane.
const CALL: Duration = Duration::from_secs(10);
/// How long before it completed a run may have made an asset.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);

/// Why a report is not told now.
pub(super) enum Stop {
    /// Not now, whatever is told: try again, if so told after this time.
    Later(Option<Duration>),
    /// Prefect failed at this: try again.
    Failed,
    /// The credentials do not allow it.
    Forbidden,
    /// Prefect does not take it.
    Refused(PrefectError),
    /// What is there under the id of its job is of another site.
    Theirs,
}

impl From<PrefectError> for Stop {
    fn from(error: PrefectError) -> Self {
        match error {
            PrefectError::Forbidden => Self::Forbidden,
            PrefectError::Throttled { retry_after } => Self::Later(retry_after),
            PrefectError::Unauthorized
            | PrefectError::Unavailable
            | PrefectError::Ambiguous
            | PrefectError::TimedOut
            | PrefectError::Rejected(500..)
            // A proxy says so while the server behind it is replaced.
            | PrefectError::WrongServer
            | PrefectError::Unreachable(_) => Self::Failed,
            PrefectError::NotFound
            | PrefectError::Conflict
            | PrefectError::Parameters { .. }
            | PrefectError::Invalid { .. }
            | PrefectError::UnsupportedVersion(_)
            | PrefectError::Rejected(_) => Self::Refused(error),
        }
    }
}

/// A report run, and what it was told already.
struct Begun {
    flow: FlowId,
    run: RunId,
    /// By its state.
    told: Phase,
    /// By its log lines.
    logged: Option<Phase>,
}

pub(super) struct Teller<'a> {
    pub(super) ctx: &'a Context,
    pub(super) workspace: &'a ObjectName,
    pub(super) session: Arc<WorkspaceSession>,
    pub(super) entry: &'a Entry,
}

impl Teller<'_> {
    /// Tells all of it that is not told yet. `server`: what is behind the workspace now.
    pub(super) async fn tell(&self, server: &str) -> Result<(), Stop> {
        let report = &*self.entry.report;
        if !matches!(self.session.snapshot().health, Health::Connected(_)) {
            return Err(Stop::Later(None));
        }
        let (known_flow, known) = self.ctx.reports.outbox(self.workspace, |outbox| {
            if outbox.memory.server != server {
                outbox.memory = super::Memory { server: server.to_owned(), ..super::Memory::default() };
            }
            (outbox.memory.flow.clone(), outbox.memory.runs.get(&report.key()).cloned())
        });
        let begun = match (known, known_flow) {
            (Some(Progress::GivenUp), _) => {
                self.end_of_it();
                return Ok(());
            }
            (Some(Progress::Told { flow, run, phase }), _) => {
                Begun { flow, run, told: phase, logged: Some(phase) }
            }
            (None, flow) => {
                let Some(begun) = self.begin(flow).await? else {
                    self.shown();
                    return Ok(());
                };
                begun
            }
        };
        self.go_on(&begun).await?;
        if report.end.is_some() {
            self.finish(&begun.flow, &begun.run).await?;
            self.shown();
        }
        self.ctx.reports.outbox(self.workspace, |outbox| {
            outbox.memory.flow = Some(begun.flow);
            (outbox.forbidden_until, outbox.said) = (None, false);
        });
        Ok(())
    }

    /// The run, made if it is not there, and what it was told already; `None`: all there is.
    async fn begin(&self, flow: Option<FlowId>) -> Result<Option<Begun>, Stop> {
        let (report, client) = (&*self.entry.report, &self.session.client);
        // One that has ended already was most likely told by the process before this one: then nothing is written.
        if report.end.is_some()
            && let Some(found) = self.call(client.find_run(FLOW, report.job.as_str())).await?
        {
            self.ours(&found)?;
            let ended = Phase::told(found.state) == Phase::Ended;
            // The artifact is the last of all.
            let whole = ended && self.call(client.has_artifact(&found.id)).await?;
            return if whole { Ok(None) } else { self.found(found).await.map(Some) };
        }
        let flow = match flow {
            Some(flow) => flow,
            None => self.call(client.ensure_flow(FLOW)).await?,
        };
        let parent = match &self.entry.place.parent {
            None => None,
            Some(run) => match self.call(client.ensure_task_run(&report.task_run(run))).await {
                Ok(task) => Some(task),
                // The upstream's run is not there any more: the report stands alone.
                Err(Stop::Refused(_)) => None,
                Err(stop) => return Err(stop),
            },
        };
        let new = report.new_run(parent);
        match self.call(client.ensure_run(&flow, &new)).await {
            Ok(made) => self.found(made).await.map(Some),
            // The flow, or the upstream's run, went away meanwhile: both are asked for again.
            Err(Stop::Refused(PrefectError::Conflict | PrefectError::NotFound)) => Err(Stop::Later(None)),
            Err(stop) => Err(stop),
        }
    }

    /// Ids of jobs are what a server says they are: a run of another site is left alone.
    fn ours(&self, run: &EnsuredRun) -> Result<(), Stop> {
        if self.entry.report.is_of(&run.whose) { Ok(()) } else { Err(Stop::Theirs) }
    }

    /// A run that was just made, or that somebody has told of before: a process that was killed, or this one when an answer was lost.
    async fn found(&self, run: EnsuredRun) -> Result<Begun, Stop> {
        self.ours(&run)?;
        let told = Phase::told(run.state);
        let logged = if run.made {
            None
        } else {
            match self.lines(self.session.client.loggers(&run.id)).await {
                Ok(Some(loggers)) => Phase::logged(&loggers, told),
                // It may write, and not read: better none than two.
                Ok(None) | Err(Stop::Forbidden | Stop::Refused(_)) => Some(told),
                Err(stop) => return Err(stop),
            }
        };
        Ok(Begun { flow: run.flow, run: run.id, told, logged })
    }

    /// States and log lines, in order. States do not wait for lines that cannot be told now.
    async fn go_on(&self, begun: &Begun) -> Result<(), Stop> {
        let report = &*self.entry.report;
        let mut lines = Ok(());
        self.remember(begun, begun.told);
        for step in report.steps(begun.told, begun.logged) {
            if step.state {
                self.call(self.session.client.set_run_state(&begun.run, &report.state(step.phase))).await?;
                self.remember(begun, step.phase);
            }
            if step.lines && lines.is_ok() {
                lines = self.log(&begun.run, step.phase).await;
            }
        }
        lines
    }

    /// What comes after the last state. The artifact is the last of it: where one is, everything is. It is looked for whoever made the run: two
    /// resources that refresh one extract may follow one job.
    async fn finish(&self, flow: &FlowId, run: &RunId) -> Result<(), Stop> {
        let (report, client) = (&*self.entry.report, &self.session.client);
        let outside = outside(self.ctx, report);
        if self.call(client.has_artifact(run)).await? {
            return Ok(());
        }
        let now = self.ctx.clock.now();
        if report.asset(&outside, now, Vec::new()).is_some() {
            let parents = self.parents().await?;
            if let Some(event) = report.asset(&outside, now, parents) {
                optional(self.call(client.emit(run, flow, &event)).await)?;
            }
        }
        self.call(client.add_artifact(run, &report.artifact(&outside))).await
    }

    /// The assets that the upstreams' runs made. A server without them makes the extract an asset without parents.
    async fn parents(&self) -> Result<Vec<String>, Stop> {
        let here = |cause: &&crate::model::reports::Cause| cause.workspace == self.entry.place.workspace;
        let causes: Vec<_> = self.entry.report.runs.iter().filter(here).collect();
        let Some(oldest) = causes.iter().map(|cause| cause.at).min() else { return Ok(Vec::new()) };
        let runs: Vec<RunId> = causes.iter().map(|cause| cause.run.clone()).collect();
        let made = self.call(self.session.client.assets_made_by(&runs, sub(oldest, LONGEST_RUN))).await;
        Ok(optional(made)?.unwrap_or_default())
    }

    /// Where the answer is lost, it is asked later whether they are there.
    async fn log(&self, run: &RunId, phase: Phase) -> Result<(), Stop> {
        let lines = self.entry.report.lines(phase);
        let at = self.ctx.clock.now();
        if self.lines(self.session.client.log(run, at, &lines)).await?.is_some() {
            self.ctx.reports.outbox(self.workspace, |outbox| outbox.lines = Lines::default());
        }
        Ok(())
    }

    /// A call that has to do with log lines: where it fails again and again a report goes without them (`None`), so that the rest of it, and the
    /// reports behind it, do not wait.
    async fn lines<T>(&self, work: impl Future<Output = Result<T, PrefectError>>) -> Result<Option<T>, Stop> {
        let lines = |with: &dyn Fn(&mut Lines) -> bool| {
            self.ctx.reports.outbox(self.workspace, |outbox| with(&mut outbox.lines))
        };
        let now = self.ctx.clock.moment();
        if lines(&|lines| lines.rest(now)) {
            return Ok(None);
        }
        match optional(self.call(work).await) {
            Err(Stop::Failed) => {
                let now = self.ctx.clock.moment();
                if lines(&|lines| lines.failed(now)) { Ok(None) } else { Err(Stop::Failed) }
            }
            told => told,
        }
    }

    fn remember(&self, Begun { flow, run, .. }: &Begun, phase: Phase) {
        let progress = Progress::Told { flow: flow.clone(), run: run.clone(), phase };
        self.ctx.reports.outbox(self.workspace, |outbox| {
            outbox.memory.remember(&self.entry.report, Some(progress));
        });
    }

    fn shown(&self) {
        self.end_of_it();
        self.ctx.metrics.reported(Reported::Shown);
    }

    /// Nothing more will come of an ended refresh.
    fn end_of_it(&self) {
        if self.entry.report.end.is_some() {
            self.ctx.reports.outbox(self.workspace, |outbox| {
                outbox.memory.remember(&self.entry.report, None);
            });
        }
    }

    /// One call, when nobody else wants to write there, and only while this process leads and the workspace is in use.
    async fn call<T>(&self, work: impl Future<Output = Result<T, PrefectError>>) -> Result<T, Stop> {
        let place = format!("reports/{}", self.workspace.name);
        let pass = self.session.lane.pass(&self.workspace.namespace, &place, Priority::Report).await;
        if !self.ctx.acts() || !self.ctx.workspaces.uses(self.workspace, &self.session) {
            return Err(Stop::Later(None));
        }
        let began = self.ctx.clock.moment();
        let result = tokio::time::timeout(CALL, work).await.unwrap_or(Err(PrefectError::TimedOut));
        if let Some(load) = load(result.as_ref().err()) {
            self.session.lane.told(load, began);
        }
        drop(pass);
        Ok(result?)
    }
}

/// What a report can do without, where Prefect does not take it.
fn optional<T>(result: Result<T, Stop>) -> Result<Option<T>, Stop> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Stop::Refused(error)) => {
            tracing::debug!(%error, "Prefect does not take a part of the report of a refresh");
            Ok(None)
        }
        Err(stop) => Err(stop),
    }
}

/// What is known of the extract beside the report; nothing of a resource that is gone.
fn outside(ctx: &Context, report: &Report) -> Outside {
    let refresh = ctx.objects.refreshes.get(&report.refresh);
    let Some(at) = refresh
        .map(|refresh| ConnectionName::from(&refresh.spec.site_ref).seen_from(&report.refresh.namespace))
    else {
        return Outside::default();
    };
    let site = ctx.objects.site(&at).and_then(|site| DesiredSite::parse(&site).ok());
    let Some(site) = site else { return Outside::default() };
    let contents = ctx.sites.get(&at).map(|link| link.session.snapshot().contents.clone());
    let web_url = contents.and_then(|contents| contents.web_url(&report.extract.luid).map(str::to_owned));
    Outside { server_url: site.server_url, site: site.content_url, web_url }
}
