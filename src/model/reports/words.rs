//! What a report says. Names are other people's: they are bounded, and escaped where they could be taken for markup.

use super::{Cause, End, FLOW, LABEL, Phase, Report, SITE};
use crate::api::{JobOrigin, Outcome, RefreshType, TargetKind};
use crate::model::ids::{RunId, TaskRunId};
use crate::model::runs::StateType;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Longest name of a run.
const NAME: usize = 200;
/// Most runs named in an artifact or a log line.
const NAMED: usize = 32;
/// Prefect's levels of log lines.
const INFO: u8 = 20;
const ERROR: u8 = 40;

/// What is known of the extract beside the status of its resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Base URL of the Tableau server.
    pub server_url: String,
    /// Content URL of the site; empty: the default site.
    pub site: String,
    /// Where Tableau shows the extract, as Tableau says.
    pub web_url: Option<String>,
}

/// A task run of the upstream's run: what Prefect hangs another run under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTaskRun {
    /// The upstream's run.
    pub run: RunId,
    /// With `dynamic_key` its identity within that run.
    pub task_key: String,
    /// See above.
    pub dynamic_key: String,
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
}

/// A flow run without a deployment: nobody runs it, its states are told.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Name.
    pub name: String,
    /// The same key of the same flow: the same run.
    pub idempotency_key: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Labels.
    pub labels: Map<String, Value>,
    /// Parameters, for people to read.
    pub parameters: Map<String, Value>,
    /// The task run it hangs under.
    pub parent: Option<TaskRunId>,
    /// Its first state.
    pub state: RunState,
}

/// A state of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// Type.
    pub state_type: StateType,
    /// Name; `None`: the one of the type.
    pub name: Option<&'static str>,
    /// One sentence.
    pub message: String,
}

/// A log line of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Name of the logger.
    pub logger: &'static str,
    /// 20: information, 40: error.
    pub level: u8,
    /// The line.
    pub message: String,
}

/// A markdown artifact of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Key: artifacts of one key are versions of one thing. Lower-case letters, digits and dashes.
    pub key: String,
    /// One line.
    pub description: String,
    /// The text.
    pub markdown: String,
}

/// That an asset was made anew, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetEvent {
    /// UUID: the same one is the same event.
    pub id: String,
    /// When.
    pub occurred: Timestamp,
    /// `prefect.asset.materialization.succeeded` or `.failed`.
    pub event: &'static str,
    /// Key of the asset.
    pub asset: String,
    /// Its name.
    pub name: String,
    /// Where it can be seen.
    pub url: String,
    /// The assets it was made from.
    pub parents: Vec<String>,
    /// Name of the run that made it.
    pub run_name: String,
}

impl Report {
    /// Name of the run: the extract.
    pub fn name(&self) -> String {
        let name = match (&self.extract.project, &self.extract.name) {
            (Some(project), Some(name)) => format!("{project}/{name}"),
            (None, Some(name)) => name.clone(),
            (_, None) => self.refresh.to_string(),
        };
        line(&name).chars().take(NAME).collect()
    }

    /// The task run to hang the report under.
    pub fn task_run(&self, parent: &RunId) -> NewTaskRun {
        NewTaskRun {
            run: parent.clone(),
            task_key: FLOW.to_owned(),
            dynamic_key: self.job.to_string(),
            name: self.name(),
            tags: tags(),
        }
    }

    /// The run, queued: it goes on from there.
    pub fn new_run(&self, parent: Option<TaskRunId>) -> NewRun {
        let parameters = json!({
            "extractRefresh": self.refresh.to_string(),
            "extract": self.name(),
            "refreshType": refresh_type(self.refresh_type),
            "cause": self.cause,
        });
        let labels = json!({ LABEL: self.refresh.to_string(), "tableau.job": self.job.as_str(), SITE: self.site.identity });
        NewRun {
            name: self.name(),
            idempotency_key: self.job.to_string(),
            tags: tags(),
            labels: object(labels),
            parameters: object(parameters),
            parent,
            state: RunState {
                state_type: StateType::Pending,
                name: None,
                message: format!("Queued in Tableau as job {}", self.job),
            },
        }
    }

    /// The state of a phase, other than the first.
    pub fn state(&self, phase: Phase) -> RunState {
        match (phase, &self.end) {
            (Phase::Ended, Some(end)) => RunState {
                state_type: end.state_type(),
                name: (end.outcome == Some(Outcome::TimedOut)).then_some("TimedOut"),
                message: end.sentence().to_owned(),
            },
            (Phase::Queued | Phase::Running | Phase::Ended, _) => RunState {
                state_type: StateType::Running,
                name: None,
                message: format!("Tableau runs job {}", self.job),
            },
        }
    }

    /// The log lines of a phase.
    pub fn lines(&self, phase: Phase) -> Vec<LogLine> {
        let line = |level, message| LogLine { logger: phase.logger(), level, message };
        let info = |message: String| line(INFO, message);
        match phase {
            Phase::Queued => {
                let whose = whose(self.origin);
                let what = refresh_type(self.refresh_type).to_lowercase();
                let mut lines = vec![info(format!(
                    "A {what} refresh of {} is queued in Tableau; the job is {whose}",
                    self.name()
                ))];
                lines.push(info(format!("Cause: {}", self.why())));
                lines.extend(self.runs.iter().take(NAMED).map(|run| info(run.sentence())));
                lines
            }
            Phase::Running => {
                let since = self.started_at.map(time).unwrap_or_default();
                vec![info(format!("Tableau started job {} at {since}", self.job))]
            }
            Phase::Ended => {
                let Some(end) = &self.end else { return Vec::new() };
                let level = if end.outcome == Some(Outcome::Succeeded) { INFO } else { ERROR };
                let took = self.took().map(|took| format!(", after {took}")).unwrap_or_default();
                vec![line(level, format!("{}{took}", end.sentence()))]
            }
        }
    }

    /// What is to be read of it once it has ended.
    pub fn artifact(&self, outside: &Outside) -> Artifact {
        let end = self.end.as_ref();
        let mut rows = vec![
            ("Extract", format!("{} **{}**", kind(self.extract.kind), text(&self.name()))),
            ("Refresh", refresh_type(self.refresh_type).to_owned()),
            ("Outcome", end.map(End::sentence).unwrap_or_default().to_owned()),
            ("Cause", self.why()),
        ];
        let when = |at: Option<Timestamp>| at.map_or_else(|| "not known".to_owned(), time);
        rows.extend([
            ("Started", when(self.started_at)),
            ("Ended", when(end.and_then(|end| end.at))),
            ("Took", self.took().unwrap_or_else(|| "not known".to_owned())),
            ("Tableau job", format!("`{}`, {}", self.job, whose(self.origin))),
            ("Resource", format!("ExtractRefresh `{}`", self.refresh)),
        ]);
        let table: Vec<String> = rows.iter().map(|(key, value)| format!("| {key} | {value} |\n")).collect();
        // Below the table, whose cells do not wrap.
        let named = self.runs.iter().take(NAMED).map(|run| format!("- {}\n", text(&run.sentence())));
        let runs: Vec<String> = named.collect();
        let link = link(outside).map(|url| format!("\n[Open in Tableau]({url})\n")).unwrap_or_default();
        Artifact {
            key: artifact_key(&format!("tableau-{}-{}", self.refresh.namespace, self.refresh.name)),
            description: format!("{}: {}", self.name(), end.map(End::word).unwrap_or_default()),
            markdown: format!("| | |\n|---|---|\n{}\n{}{link}", table.concat(), runs.concat()),
        }
    }

    /// The event of the extract as an asset; `None` where nobody knows whether it was made anew, or which it is.
    pub fn asset(&self, outside: &Outside, now: Timestamp, parents: Vec<String>) -> Option<AssetEvent> {
        let end = self.end.as_ref()?;
        let event = match end.outcome? {
            Outcome::Succeeded => "prefect.asset.materialization.succeeded",
            Outcome::Failed | Outcome::Cancelled | Outcome::TimedOut => {
                "prefect.asset.materialization.failed"
            }
            Outcome::JobVanished | Outcome::Superseded => return None,
        };
        let plural = match self.extract.kind? {
            TargetKind::Datasource => "datasources",
            TargetKind::Workbook => "workbooks",
        };
        let (_, host) = outside.server_url.split_once("://")?;
        let site = if outside.site.is_empty() { "default" } else { &outside.site };
        Some(AssetEvent {
            id: self.job.to_string(),
            occurred: end.at.unwrap_or(now),
            event,
            asset: asset_key(&format!("tableau://{host}/{site}/{plural}/{}", self.extract.luid)),
            name: self.name(),
            url: link(outside)?,
            parents,
            run_name: self.name(),
        })
    }

    fn why(&self) -> String {
        let others = self.runs.len().saturating_sub(NAMED);
        let more = if others > 0 { format!(", {others} of them not named here") } else { String::new() };
        match (self.cause.as_str(), self.runs.len()) {
            ("Requested", 0) => "somebody asked for it".to_owned(),
            ("Requested", n) => format!("somebody asked for it; it contains {n} new completions{more}"),
            ("Republished", _) => "the extract was published anew".to_owned(),
            ("Created", _) => "its ExtractRefresh was made, and asks for one refresh".to_owned(),
            (_, 0) => "flows that feed it have completed".to_owned(),
            (_, 1) => "a flow that feeds it has completed".to_owned(),
            (_, n) => format!("{n} flows that feed it have completed{more}"),
        }
    }

    fn took(&self) -> Option<String> {
        let seconds = self.end.as_ref()?.at?.duration_since(self.started_at?).as_secs();
        let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
        let first = parts.iter().position(|(amount, _)| *amount > 0).unwrap_or(2);
        let shown: Vec<String> =
            parts[first..].iter().map(|(amount, unit)| format!("{amount} {unit}")).collect();
        (seconds >= 0).then(|| shown.join(" "))
    }
}

impl Cause {
    fn sentence(&self) -> String {
        format!("{} completed at {}, run {}", line(&self.upstream), time(self.at), self.run)
    }
}

impl End {
    fn state_type(&self) -> StateType {
        match self.outcome {
            Some(Outcome::Succeeded) => StateType::Completed,
            Some(Outcome::Failed | Outcome::TimedOut) => StateType::Failed,
            Some(Outcome::Cancelled | Outcome::Superseded) => StateType::Cancelled,
            Some(Outcome::JobVanished) | None => StateType::Crashed,
        }
    }

    fn sentence(&self) -> &'static str {
        match self.outcome {
            Some(Outcome::Succeeded) => "The extract is refreshed",
            Some(Outcome::Failed) => "Tableau reports that the refresh failed; the job in Tableau says why",
            Some(Outcome::TimedOut) => "The refresh ran longer than spec.timeout and was cancelled",
            Some(Outcome::Cancelled) => "The refresh was cancelled in Tableau",
            Some(Outcome::Superseded) => {
                "The target or the refresh type was changed meanwhile: the refresh does not count"
            }
            Some(Outcome::JobVanished) => {
                "Tableau no longer knows the refresh job: whether it succeeded is unknown"
            }
            None => "The ExtractRefresh was deleted: how the refresh ended is not known",
        }
    }

    fn word(&self) -> &'static str {
        match self.outcome {
            Some(Outcome::Succeeded) => "refreshed",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::TimedOut) => "timed out",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Superseded) => "superseded",
            Some(Outcome::JobVanished) | None => "not known",
        }
    }
}

fn tags() -> Vec<String> {
    vec!["feedwater".to_owned(), "tableau".to_owned()]
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn kind(kind: Option<TargetKind>) -> &'static str {
    match kind {
        Some(TargetKind::Datasource) => "data source",
        Some(TargetKind::Workbook) => "workbook",
        None => "",
    }
}

fn refresh_type(refresh_type: RefreshType) -> &'static str {
    match refresh_type {
        RefreshType::Full => "Full",
        RefreshType::Incremental => "Incremental",
    }
}

fn whose(origin: Option<JobOrigin>) -> &'static str {
    match origin {
        Some(JobOrigin::Ours) | None => "started by Feedwater",
        Some(JobOrigin::Recovered) => "started by Feedwater, found after its answer was lost",
        Some(JobOrigin::Adopted) => "somebody else's, which contains what is owed",
    }
}

/// Where Tableau shows the extract, else the server; nothing that could end a link early.
fn link(outside: &Outside) -> Option<String> {
    let plain = |url: &&str| {
        let web = url.starts_with("https://") || url.starts_with("http://");
        web && url.len() <= 1024
            && !url.contains(|c: char| c.is_whitespace() || c.is_control() || "()<>[]|".contains(c))
    };
    let told = outside.web_url.as_deref().filter(plain);
    told.or(Some(outside.server_url.as_str()).filter(plain)).map(str::to_owned)
}

/// Whole seconds: nobody reads more.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn artifact_key(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect()
}

/// Prefect's own limits of an asset key.
fn asset_key(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/".contains(c);
    key.chars().take(512).map(|c| if allowed(c) { c } else { '-' }).collect()
}

fn line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As text of markdown, in a table.
fn text(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if r"\`*_[]<>|#!&".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
