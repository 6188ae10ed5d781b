//! What is told in Prefect of each refresh: which refreshes, where, under which run, and in what words. Pure.
//!
//! A report is the whole picture as status has it, so that any later one makes an earlier one that was lost good.

mod words;

pub use words::{Artifact, AssetEvent, LogLine, NewRun, NewTaskRun, Outside, RunState};

use crate::api::{Attempt, Contained, ExtractRefreshStatus, HistoryEntry, JobOrigin, Outcome, RefreshType};
use crate::api::{Mark, TargetKind};
use crate::model::ids::{JobId, ObjectName, RunId};
use crate::model::runs::StateType;
use crate::model::time::add;
use jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Flow of the runs that report refreshes: never an occasion (docs/trigger.md 2).
pub const FLOW: &str = "tableau-extract-refresh";
/// Label of these runs, whatever their flow.
pub const LABEL: &str = "feedwater.dev/refresh";
/// Label that says of which site the job is.
pub const SITE: &str = "tableau.site";
/// How long after its end a refresh is still told of: by a process that was started meanwhile, or to a Prefect that was not there.
pub const KEPT: Duration = Duration::from_secs(15 * 60);

/// One refresh, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its job in Tableau: at most one run each.
    pub job: JobId,
    /// Of which site: whoever runs a server of their own can have it answer with the ids of others.
    pub site: Site,
    /// The `ExtractRefresh`.
    pub refresh: ObjectName,
    /// The extract.
    pub extract: Extract,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
    /// Who started the job.
    pub origin: Option<JobOrigin>,
    /// What asked for it beside completions: `Requested`, `Republished`, `Created`; else `Upstreams`.
    pub cause: String,
    /// The runs that it newly contains, newest first.
    pub runs: Vec<Cause>,
    /// Where it is told.
    pub places: Vec<Place>,
    /// When Tableau started it, Tableau's time.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<End>,
}

/// What is refreshed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Data source or workbook; unknown if the target has changed since.
    pub kind: Option<TargetKind>,
    /// LUID.
    pub luid: String,
    /// Its name.
    pub name: Option<String>,
    /// Path of its project.
    pub project: Option<String>,
}

/// A completion that a refresh contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Name of the upstream in the spec.
    pub upstream: String,
    /// Name of its `PrefectWorkspace`.
    pub workspace: String,
    /// The run.
    pub run: RunId,
    /// When it completed, Prefect's time.
    pub at: Timestamp,
}

/// A Prefect that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the `PrefectWorkspace`.
    pub workspace: String,
    /// What is behind it: two names for one Prefect are one place.
    pub server: String,
    /// The run to hang the report under: the newest of this place that caused it.
    pub parent: Option<RunId>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The way; `None`: it is no longer followed, since the `ExtractRefresh` is gone.
    pub outcome: Option<Outcome>,
    /// When.
    pub at: Option<Timestamp>,
}

/// The site of a job, as report runs name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// What a run that is made now says.
    pub identity: String,
    /// What one says that was made when the connection was let in at that site, and is not now; or the other way round.
    pub otherwise: Option<String>,
}

/// Whose a report run says to be, by its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The [`identity`] of the site; a run of an earlier build does not say.
    pub site: Option<String>,
    /// The `ExtractRefresh`.
    pub refresh: Option<String>,
}

impl Whose {
    /// What these labels say.
    pub fn of(labels: &Map<String, Value>) -> Self {
        let label = |name: &str| labels.get(name)?.as_str().map(str::to_owned);
        Self { site: label(SITE), refresh: label(LABEL) }
    }
}

/// A site in few letters.
pub fn identity(site: &str) -> String {
    let mut head = [0; 8];
    head.copy_from_slice(&Sha256::digest(site.as_bytes())[..8]);
    format!("{:016x}", u64::from_be_bytes(head))
}

/// How far a refresh has come; a report goes only forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Waits in Tableau.
    Queued,
    /// Runs in Tableau.
    Running,
    /// Has ended.
    Ended,
}

impl Phase {
    /// What a report run in this state has been told already. A state that others have set to it tells nothing more than that it is there.
    pub fn told(state: StateType) -> Self {
        match state {
            StateType::Completed | StateType::Failed | StateType::Crashed | StateType::Cancelled => {
                Self::Ended
            }
            StateType::Running => Self::Running,
            StateType::Scheduled
            | StateType::Pending
            | StateType::Paused
            | StateType::Cancelling
            | StateType::Other => Self::Queued,
        }
    }

    /// All of them, in their order.
    const ALL: [Self; 3] = [Self::Queued, Self::Running, Self::Ended];

    /// Name of the logger of its lines: what tells whether they are there, whatever they say.
    pub fn logger(self) -> &'static str {
        match self {
            Self::Queued => "feedwater.queued",
            Self::Running => "feedwater.running",
            Self::Ended => "feedwater.ended",
        }
    }

    /// The last whose lines a report run has, by their loggers; `state`: what its state tells.
    pub fn logged(loggers: &[String], state: Self) -> Option<Self> {
        // Lines of an earlier version: that one never sent them again.
        let unknown = loggers.iter().any(|logger| logger == "feedwater").then_some(state);
        let has = |phase: &Self| loggers.iter().any(|logger| logger == phase.logger());
        Self::ALL.into_iter().filter(has).chain(unknown).max()
    }
}

/// What is to be told of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// Its state; else the run is in it, or past it.
    pub state: bool,
    /// Its log lines; else they are there, or later ones are.
    pub lines: bool,
}

impl Report {
    /// What there is one run of.
    pub fn key(&self) -> (String, JobId) {
        (self.site.identity.clone(), self.job.clone())
    }

    /// Whether a run that is there under the id of the job may be that of this report: one of an earlier build does not say of which site it is. What
    /// the connection would be called otherwise is believed of a run of the same resource only: a connection that is not let in at a site
    /// must not be told of what others refresh there.
    pub fn is_of(&self, run: &Whose) -> bool {
        let Some(site) = &run.site else { return true };
        let same = run.refresh.as_ref().is_some_and(|refresh| *refresh == self.refresh.to_string());
        *site == self.site.identity || same && Some(site) == self.site.otherwise.as_ref()
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match (&self.end, self.started_at) {
            (Some(_), _) => Phase::Ended,
            (None, Some(_)) => Phase::Running,
            (None, None) => Phase::Queued,
        }
    }

    /// What is left to tell of a run whose state and whose log lines tell as much as this, in order. A refresh that Tableau has started was running,
    /// though nobody may have seen it.
    pub fn steps(&self, told: Phase, logged: Option<Phase>) -> Vec<Step> {
        let passed = |phase: &Phase| match phase {
            Phase::Queued => true,
            Phase::Running => self.started_at.is_some(),
            Phase::Ended => self.end.is_some(),
        };
        let step = |phase| Step { phase, state: phase > told, lines: Some(phase) > logged };
        let steps = Phase::ALL.into_iter().filter(passed).map(step);
        steps.filter(|step| step.state || step.lines).collect()
    }

    /// The same, of a resource that is gone: nobody follows its job any more.
    #[must_use]
    pub fn abandoned(&self) -> Option<Self> {
        let end = End { outcome: None, at: None };
        self.end.is_none().then(|| Self { end: Some(end), ..self.clone() })
    }
}

/// What there is to tell of a resource: the refresh under way, and the last one for a while. `before`: what was told of it last. `server`: the API
/// behind a `PrefectWorkspace` of this name, if reports are wanted there. `site`: the site behind what stands beside a job.
pub fn reports(
    refresh: &ObjectName,
    s: &ExtractRefreshStatus,
    before: &[Report],
    server: impl Fn(&str) -> Option<String>,
    site: impl Fn(Option<&str>) -> Site,
    now: Timestamp,
) -> Vec<Report> {
    let attempt = s.attempt.as_ref().and_then(|attempt| Some((attempt, attempt.job_id.as_deref()?)));
    let ended = s.history.first().and_then(|ended| Some((ended, ended.job_id.as_deref()?)));
    let recent = |ended: &HistoryEntry| ended.ended_at.is_some_and(|at| add(at.0, KEPT) > now);
    let under_way = attempt.map(|(attempt, job)| under_way(refresh, s, attempt, job));
    let ended = ended.filter(|(ended, _)| recent(ended)).map(|(entry, job)| {
        let known = before.iter().find(|report| report.job.as_str() == job);
        let new = || Report { site: site(entry.site.as_deref()), ..from_history(refresh, s, entry, job) };
        known.map_or_else(new, |known| ended_now(known, entry))
    });
    let beside = s.attempt.as_ref().and_then(|attempt| attempt.site.as_deref());
    let under_way = under_way.map(|report| Report { site: site(beside), ..report });
    let mut reports: Vec<Report> = ended.into_iter().chain(under_way).collect();
    for report in &mut reports {
        let known = before.iter().find(|known| known.job == report.job);
        if let Some(known) = known {
            // Also when its connection has gone.
            report.site.clone_from(&known.site);
        }
        report.places = places(report, s, known.map_or(&[], |known| &known.places), &server);
    }
    // Nowhere to tell it.
    reports.retain(|report| !report.places.is_empty());
    reports
}

fn under_way(refresh: &ObjectName, s: &ExtractRefreshStatus, attempt: &Attempt, job: &str) -> Report {
    let new = |c: &&Contained| {
        let mark = s.marks.iter().find(|mark| mark.key == c.key);
        let covered = mark.and_then(|mark| mark.covered.as_ref());
        covered.map(crate::api::Position::place) < Some(c.position.place())
    };
    let named = attempt.seen.iter().filter(new);
    let runs = named.filter_map(|c| cause(s, &c.key, &c.run_id, c.position.at.0));
    Report {
        job: job.into(),
        site: Site::default(),
        refresh: refresh.clone(),
        extract: extract(s, &attempt.luid, Some(attempt.kind)),
        refresh_type: attempt.refresh_type,
        origin: attempt.origin,
        cause: crate::model::extract::cause(attempt).to_owned(),
        runs: newest_first(runs.collect()),
        places: Vec::new(),
        started_at: attempt.started_at.map(|at| at.0),
        end: None,
    }
}

fn ended_now(known: &Report, entry: &HistoryEntry) -> Report {
    Report {
        started_at: entry.started_at.map(|at| at.0).or(known.started_at),
        end: Some(End { outcome: Some(entry.outcome), at: entry.ended_at.map(|at| at.0) }),
        ..known.clone()
    }
}

/// After a restart: the history names runs, not whose they are. Those that are still the newest of their upstream are known.
fn from_history(refresh: &ObjectName, s: &ExtractRefreshStatus, entry: &HistoryEntry, job: &str) -> Report {
    let named = |mark: &Mark| {
        let seen = mark.seen.as_ref().filter(|seen| entry.runs.contains(&seen.run_id))?;
        cause(s, &mark.key, &seen.run_id, seen.at.0)
    };
    let known = Report {
        job: job.into(),
        site: Site::default(),
        refresh: refresh.clone(),
        extract: extract(s, &entry.luid, None),
        refresh_type: entry.refresh_type,
        origin: entry.origin,
        cause: entry.cause.clone(),
        runs: newest_first(s.marks.iter().filter_map(named).collect()),
        places: Vec::new(),
        started_at: None,
        end: None,
    };
    ended_now(&known, entry)
}

fn cause(s: &ExtractRefreshStatus, key: &str, run: &str, at: Timestamp) -> Option<Cause> {
    let upstream = s.marks.iter().find(|mark| mark.key == key).map(|mark| mark.name.clone())?;
    Some(Cause { upstream, workspace: workspace(key)?.to_owned(), run: run.into(), at })
}

/// A key begins with the name of the connection, which holds no slash.
fn workspace(key: &str) -> Option<&str> {
    key.split_once('/').map(|(workspace, _)| workspace)
}

fn newest_first(mut runs: Vec<Cause>) -> Vec<Cause> {
    runs.sort_by(|a, b| (b.at, &b.run).cmp(&(a.at, &a.run)));
    runs
}

fn extract(s: &ExtractRefreshStatus, luid: &str, kind: Option<TargetKind>) -> Extract {
    let target = s.target.as_ref().filter(|target| target.luid == luid);
    Extract {
        kind: kind.or(target.map(|target| target.kind)),
        luid: luid.to_owned(),
        name: target.and_then(|target| target.name.clone()),
        project: target.and_then(|target| target.project_path.clone()),
    }
}

/// Each Prefect that a run which caused it came from, under the newest of its runs; if none did, the one of the first upstream. Where it was
/// told before it is told to the end.
fn places(
    report: &Report,
    s: &ExtractRefreshStatus,
    before: &[Place],
    server: impl Fn(&str) -> Option<String>,
) -> Vec<Place> {
    let mut places = before.to_vec();
    let mut add = |workspace: &str, parent: Option<RunId>| {
        if let Some(server) = server(workspace)
            && places.iter().all(|place| place.server != server)
        {
            places.push(Place { workspace: workspace.to_owned(), server, parent });
        }
    };
    for cause in &report.runs {
        add(&cause.workspace, Some(cause.run.clone()));
    }
    if before.is_empty() && report.runs.is_empty() {
        let mut first = s.marks.iter().filter(|mark| mark.removed_at.is_none());
        let home = first.find_map(|mark| workspace(&mark.key));
        // A run caused it that nobody knows any more: where there is more than one Prefect, it may have been told in the other, and a run made
        // here would be a second one.
        let mut ended = s.history.iter().filter(|ended| ended.job_id.as_deref() == Some(report.job.as_str()));
        let forgotten = ended.any(|ended| !ended.runs.is_empty());
        let sole = || s.marks.iter().all(|m| workspace(&m.key).and_then(&server) == home.and_then(&server));
        if let Some(home) = home.filter(|_| !forgotten || sole()) {
            add(home, None);
        }
    }
    places
}

#[cfg(test)]
mod tests;
