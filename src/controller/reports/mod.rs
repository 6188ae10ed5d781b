//! Each refresh, shown in the Prefect of the flows that caused it (`docs/seen-in-prefect.md`).
//!
//! A pass only hands over what status, as the API server has it, says; telling is done here, behind everything else that is written to that
//! Prefect, and nobody waits for it. What is told is found again by the id of the Tableau job, so nothing has to be remembered across a crash.

mod teller;

use super::context::Context;
use super::index::Key;
use super::tenants;
use crate::api::{ExtractRefreshStatus, PrefectWorkspace};
use crate::model::connection::{DesiredSite, DesiredWorkspace};
use crate::model::ids::{ConnectionName, FlowId, JobId, ObjectName, RunId};
use crate::model::reports::{KEPT, Phase, Place, Report, Site, identity, reports};
use crate::model::time::Moment;
use crate::runtime::metrics::Reported;
use futures::FutureExt;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use teller::{Stop, Teller};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Most reports that wait for one workspace.
const MOST: usize = 256;
/// The first wait after a failure, and the longest. A call whose answer was lost is over by then, so that it shows what it has done.
const WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a workspace that forbids it is left alone.
const FORBIDDEN_FOR: Duration = Duration::from_secs(3600);

/// After so many failures in a row reports go without log lines, for as long; after that a single failure renews it.
const LINE_TRIES: u32 = 4;
const NO_LINES_FOR: Duration = Duration::from_secs(300);

/// What is to be told, and what was.
pub struct Reports {
    inner: Mutex<Inner>,
    begun: UnboundedSender<ObjectName>,
}

#[derive(Default)]
struct Inner {
    /// By resource: what was handed over last, for as long as it can change.
    handed: HashMap<ObjectName, Vec<Report>>,
    /// By workspace.
    boxes: HashMap<ObjectName, Outbox>,
}

/// What waits for one workspace.
#[derive(Default)]
struct Outbox {
    /// In the order of their coming; one per job, the newest picture.
    waiting: VecDeque<Entry>,
    /// A task works on it.
    active: bool,
    /// Until then nothing is told: the workspace forbids it.
    forbidden_until: Option<Moment>,
    /// That it forbids it, or that there is no room, is said already.
    said: bool,
    lines: Lines,
    memory: Memory,
}

/// How writing and reading of log lines fares in a workspace. Where they are read and cannot be written they fail all the same: only writing tells that
/// all is well.
#[derive(Default)]
struct Lines {
    failures: u32,
    /// Until then reports go without them.
    rest_until: Option<Moment>,
}

impl Lines {
    fn rest(&self, now: Moment) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }

    /// `true`: often enough.
    fn failed(&mut self, now: Moment) -> bool {
        self.failures = self.failures.saturating_add(1);
        let enough = self.failures >= LINE_TRIES;
        if enough {
            self.rest_until = Some(now.plus(NO_LINES_FOR));
        }
        enough
    }
}

/// A report for one workspace.
#[derive(Clone, Debug)]
struct Entry {
    since: Moment,
    report: Arc<Report>,
    place: Place,
}

/// What this process knows of what is told already. Without it everything is asked again, and found.
#[derive(Default)]
struct Memory {
    /// What is behind the workspace.
    server: String,
    flow: Option<FlowId>,
    runs: HashMap<(String, JobId), Progress>,
}

impl Memory {
    fn remember(&mut self, report: &Report, progress: Option<Progress>) {
        match progress {
            Some(progress) => self.runs.insert(report.key(), progress),
            None => self.runs.remove(&report.key()),
        };
    }
}

/// How far a report is.
#[derive(Clone, Debug)]
enum Progress {
    /// There is a run.
    Told {
        /// Its flow.
        flow: FlowId,
        /// The run.
        run: RunId,
        /// What it was told last, in states and log lines.
        phase: Phase,
    },
    /// Prefect does not take it: not tried again.
    GivenUp,
}

impl Reports {
    /// Nothing to tell; what comes is told by [`run`], which is given the other end.
    pub fn new() -> (Self, UnboundedReceiver<ObjectName>) {
        let (begun, receiver) = unbounded_channel();
        (Self { inner: Mutex::default(), begun }, receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox<T>(&self, workspace: &ObjectName, with: impl FnOnce(&mut Outbox) -> T) -> T {
        with(self.lock().boxes.entry(workspace.clone()).or_default())
    }

    /// The next report, or the task ends.
    fn next(&self, workspace: &ObjectName) -> Option<Entry> {
        self.outbox(workspace, |outbox| {
            let next = outbox.waiting.pop_front();
            outbox.active = next.is_some();
            next
        })
    }

    fn push(&self, ctx: &Context, workspace: &ObjectName, entry: Entry) {
        let (now, last) = (ctx.clock.moment(), entry.report.end.is_some());
        let dropped = self.outbox(workspace, |outbox| {
            if outbox.forbidden_until.is_some_and(|until| now < until) {
                return Some(Reported::Forbidden);
            }
            let same = |waiting: &&mut Entry| waiting.report.key() == entry.report.key();
            if let Some(waiting) = outbox.waiting.iter_mut().find(same) {
                waiting.report = entry.report;
            } else if outbox.waiting.len() < MOST {
                outbox.waiting.push_back(entry);
            } else {
                if !std::mem::replace(&mut outbox.said, true) {
                    tracing::warn!(%workspace, "too many refreshes wait to be shown in Prefect; those that come now are not shown");
                }
                return Some(Reported::QueueFull);
            }
            if !std::mem::replace(&mut outbox.active, true) {
                // A closed channel: this process ends.
                let _ = self.begun.send(workspace.clone());
            }
            None
        });
        // A refresh under way may still be shown when it ends.
        if let Some(why) = dropped.filter(|_| last) {
            ctx.metrics.reported(why);
        }
    }
}

/// Hands over what this status, which the API server has acknowledged, says of refreshes, if it says more than before.
pub fn hand_over(ctx: &Context, refresh: &ObjectName, status: &ExtractRefreshStatus, now: Timestamp) {
    let before = ctx.reports.lock().handed.get(refresh).cloned();
    if before.is_none() && status.attempt.is_none() && status.history.is_empty() {
        return;
    }
    let before = before.unwrap_or_default();
    let server = |workspace: &str| server(ctx, refresh, workspace);
    let news = reports(refresh, status, &before, server, |beside| site(ctx, refresh, beside), now);
    for report in news.iter().filter(|report| !before.contains(report)) {
        tell(ctx, report);
    }
    let handed = &mut ctx.reports.lock().handed;
    if news.is_empty() {
        handed.remove(refresh);
    } else if news != before {
        handed.insert(refresh.clone(), news);
    }
}

/// The resource is gone: what it had under way is followed no more.
pub fn forget(ctx: &Context, refresh: &ObjectName) {
    let handed = ctx.reports.lock().handed.remove(refresh);
    for report in handed.iter().flatten().filter_map(Report::abandoned) {
        tell(ctx, &report);
    }
}

fn tell(ctx: &Context, report: &Report) {
    let (shared, since) = (Arc::new(report.clone()), ctx.clock.moment());
    for place in &report.places {
        let workspace = ConnectionName::parse(&place.workspace).seen_from(&report.refresh.namespace);
        let entry = Entry { since, report: shared.clone(), place: place.clone() };
        ctx.reports.push(ctx, &workspace, entry);
    }
}

/// The API behind a workspace, where refreshes are to be shown there and this one may be.
fn server(ctx: &Context, refresh: &ObjectName, workspace: &str) -> Option<String> {
    let at = ConnectionName::parse(workspace);
    if !tenants::sees_through(ctx, refresh, &at) {
        return None;
    }
    let name = at.seen_from(&refresh.namespace);
    let object: Arc<PrefectWorkspace> = ctx.objects.workspace(&name)?;
    let spec = DesiredWorkspace::parse(&object).ok()?;
    spec.reports.then_some(spec.api_url)
}

/// The site behind what stands beside a job: where it leads, if it is let in there; else what only it is called.
fn site(ctx: &Context, refresh: &ObjectName, beside: Option<&str>) -> Site {
    let named = ctx.objects.refreshes.get(refresh).map(|object| ConnectionName::from(&object.spec.site_ref));
    let learnt = beside.map(ConnectionName::parse).or(named);
    let Some(at) = learnt.map(|site| site.seen_from(&refresh.namespace)) else {
        return Site { identity: identity(""), otherwise: None };
    };
    let origin = ctx.objects.site(&at).and_then(|site| Some(DesiredSite::parse(&site).ok()?.origin()));
    let counts = |origin: &String| ctx.let_in.counts(&Key::Site(at.clone()), origin);
    let by_name = identity(&at.to_string());
    match origin {
        Some(origin) if counts(&origin) => Site { identity: identity(&origin), otherwise: Some(by_name) },
        origin => Site { identity: by_name, otherwise: origin.as_deref().map(identity) },
    }
}

/// Tells what is handed over, a workspace independent of the others, until it is dropped.
pub async fn run(ctx: Arc<Context>, mut begun: UnboundedReceiver<ObjectName>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            workspace = begun.recv() => {
                let Some(workspace) = workspace else { return };
                let ctx = ctx.clone();
                tasks.spawn(async move {
                    if AssertUnwindSafe(work(&ctx, &workspace)).catch_unwind().await.is_err() {
                        tracing::error!(%workspace, "showing a refresh in Prefect panicked: a fault in Feedwater");
                        ctx.reports.lock().boxes.remove(&workspace);
                    }
                });
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Tells what waits for a workspace, one call at a time.
async fn work(ctx: &Context, workspace: &ObjectName) {
    let mut failures: u32 = 0;
    while let Some(entry) = ctx.reports.next(workspace) {
        if ctx.clock.moment().since(entry.since) > KEPT {
            if entry.report.end.is_some() {
                tracing::warn!(%workspace, refresh = %entry.report.refresh, "a refresh could not be shown in Prefect in time and is not");
                ctx.metrics.reported(Reported::Expired);
            }
            continue;
        }
        let told = match ctx.workspaces.get(workspace) {
            Some(link) => {
                Teller { ctx, workspace, session: link.session, entry: &entry }.tell(&link.key.origin).await
            }
            None => Err(Stop::Later(None)),
        };
        match told {
            Ok(()) => failures = 0,
            Err(stop @ (Stop::Later(_) | Stop::Failed)) => {
                let told = if let Stop::Later(told) = stop { told } else { None };
                let wait = told.unwrap_or(WAIT * (1 << failures.min(8))).clamp(WAIT, LONGEST_WAIT);
                failures = failures.saturating_add(1);
                put_back(ctx, workspace, entry);
                sleep(wait).await;
            }
            Err(Stop::Forbidden) => forbidden(ctx, workspace, &entry),
            Err(stop @ (Stop::Refused(_) | Stop::Theirs)) => {
                let why = match stop {
                    Stop::Refused(error) => error.to_string(),
                    _ => "the run under the id of its job says that it is of another site".to_owned(),
                };
                tracing::warn!(%workspace, refresh = %entry.report.refresh, why, "the report of a refresh cannot be told in Prefect");
                ctx.metrics.reported(Reported::Refused);
                ctx.reports.outbox(workspace, |outbox| {
                    // Of one that has ended nothing more will come.
                    let known = entry.report.end.is_none().then_some(Progress::GivenUp);
                    outbox.memory.remember(&entry.report, known);
                });
            }
        }
    }
}

/// To be tried again, unless there is a newer picture of the same job by now. What an answer that is lost has done is not known: all of it is
/// asked again.
fn put_back(ctx: &Context, workspace: &ObjectName, entry: Entry) {
    ctx.reports.outbox(workspace, |outbox| {
        outbox.memory.flow = None;
        outbox.memory.remember(&entry.report, None);
        if outbox.waiting.iter().all(|waiting| waiting.report.key() != entry.report.key()) {
            outbox.waiting.push_front(entry);
        }
    });
}

/// Said once, not for each refresh.
fn forbidden(ctx: &Context, workspace: &ObjectName, entry: &Entry) {
    let until = ctx.clock.moment().plus(FORBIDDEN_FOR);
    let (dropped, said) = ctx.reports.outbox(workspace, |outbox| {
        outbox.forbidden_until = Some(until);
        outbox.memory = Memory::default();
        let dropped: Vec<Entry> = outbox.waiting.drain(..).collect();
        (dropped, std::mem::replace(&mut outbox.said, true))
    });
    for _ in dropped.iter().chain([entry]).filter(|dropped| dropped.report.end.is_some()) {
        ctx.metrics.reported(Reported::Forbidden);
    }
    if !said {
        tracing::warn!(%workspace, "Prefect forbids showing refreshes in this workspace; it is tried again once an hour (spec.refreshReports: Disabled stops it)");
    }
}
