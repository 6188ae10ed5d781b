//! What the spec asks for, with the values of what is unset.

use super::{DeclaredSchedules, Selection};
use crate::api::{
    self, AdoptionPolicy, DataQualityWarning, DeletionPolicy, DriftMode, ForeignSchedules, ManagementPolicy,
    OnCreate, RefreshDefaults, RefreshMode, RefreshType, RunningPolicy, SuspendedSchedules, TargetKind,
};
use crate::model::feeds::{Feed, Selector};
use crate::model::ids::{ConnectionName, DeploymentName, Luid, ObjectName};
use crate::model::time::parse_duration;
use crate::model::windows::Window;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::time::Duration;

/// An `ExtractRefresh`, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Namespace and name.
    pub name: ObjectName,
    /// `metadata.generation`.
    pub generation: i64,
    /// It is being deleted.
    pub deleting: bool,
    /// `metadata.creationTimestamp`, the apiserver's time.
    pub created_at: Timestamp,
    /// The connection to Tableau.
    pub site: ConnectionName,
    /// The extract.
    pub target: Target,
    /// How much is loaded.
    pub refresh_type: RefreshMode,
    /// The flows that feed it, in the order of the spec.
    pub upstreams: Vec<Upstream>,
    /// How many of them must have completed anew.
    pub require: Require,
    /// Greatest spread of the completions of a set.
    pub within: Option<Duration>,
    /// How it waits for more completions.
    pub debounce: Option<Debounce>,
    /// How long at most it waits for runs in progress; none: not at all.
    pub running: Option<Duration>,
    /// Whether a new resource, or one that means another extract, is refreshed once.
    pub on_create: OnCreate,
    /// How old its data may be.
    pub freshness: Freshness,
    /// What happens after a failure.
    pub retry: Retry,
    /// Longest run of a job.
    pub timeout: Duration,
    /// Schedules that Tableau runs.
    pub schedules: DeclaredSchedules,
    /// When refreshes may start.
    pub windows: Vec<Window>,
    /// Place in the site's budget.
    pub priority: u8,
    /// No POSTs, no retries.
    pub suspend: bool,
    /// Value of the annotation `feedwater.dev/refresh-requested`.
    pub refresh_token: Option<String>,
    /// Value of the annotation `feedwater.dev/baseline`, if it is a time.
    pub baseline_annotation: Option<Timestamp>,
}

/// The extract that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By project path and name.
    Named {
        /// Data source or workbook.
        kind: TargetKind,
        /// Its project.
        path: ProjectPath,
        /// Its name, exactly.
        name: String,
    },
    /// By LUID.
    Luid {
        /// Data source or workbook.
        kind: TargetKind,
        /// Its LUID.
        luid: Luid,
    },
}

impl Target {
    /// Data source or workbook.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Named { kind, .. } | Self::Luid { kind, .. } => *kind,
        }
    }
}

/// Names of projects from the top down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectPath(pub Vec<String>);

impl ProjectPath {
    /// Reads `Finance/Sales`; `\/` is a slash within a name, `\\` a backslash. `None`: a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = vec![String::new()];
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let escaped = letter == '\\' && matches!(letters.peek(), Some('/' | '\\'));
            match (escaped, letter) {
                (true, _) => parts.last_mut()?.extend(letters.next()),
                (false, '/') => parts.push(String::new()),
                (false, other) => parts.last_mut()?.push(other),
            }
        }
        (!parts.iter().any(String::is_empty)).then_some(Self(parts))
    }
}

impl std::fmt::Display for ProjectPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|part| part.replace('\\', r"\\").replace('/', r"\/")).collect();
        f.write_str(&parts.join("/"))
    }
}

/// A flow that feeds the extract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name in the spec.
    pub name: String,
    /// What it is.
    pub source: Source,
    /// Which of its runs are meant, and which of their completions count.
    pub selection: Selection,
    /// Whether the age of its data is the extract's.
    pub counts_for_freshness: bool,
    /// Of the refresh that it causes; none: the resource's.
    pub refresh_type: Option<RefreshType>,
}

impl Upstream {
    /// One of which every completion counts.
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            selection: Selection::default(),
            counts_for_freshness: true,
            refresh_type: None,
        }
    }

    /// Its key, with that behind it.
    pub fn key(&self, workspace: &ConnectionName, feed: &Feed) -> String {
        self.selection.key(workspace, feed)
    }
}

/// How a refresh waits for more completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// Until no upstream has completed for this long.
    pub quiet: Duration,
    /// But no longer than this after it became due.
    pub longest: Duration,
}

/// Ages from which data is late, and stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Late.
    pub warn_after: Option<Duration>,
    /// Stale.
    pub fail_after: Option<Duration>,
    /// Tableau shows it while it is stale.
    pub warns: bool,
}

/// What an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `FlowDeployment` of the same namespace.
    FlowDeployment(String),
    /// Something in Prefect that somebody else manages.
    Prefect {
        /// The connection to it.
        workspace: ConnectionName,
        /// What it is there.
        feed: Feed,
    },
}

/// How many distinct upstreams make a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// Every one.
    All,
    /// One is enough.
    Any,
    /// So many.
    Count(u32),
}

impl std::fmt::Display for Require {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Any => f.write_str("Any"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

/// What happens after a failed refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub limit: u32,
    /// Time between two tries.
    pub backoff: Backoff,
}

/// Time between two tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// Growth from one wait to the next.
    pub factor: u32,
    /// The longest wait.
    pub longest: Duration,
}

/// A spec that this build cannot act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unsupported {
    /// What is wrong and what to do, one sentence.
    pub message: String,
}

impl Unsupported {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl Desired {
    /// Parses a resource; where it is silent, `defaults` of its site speak.
    ///
    /// # Errors
    /// The spec says nothing this build can act on (CEL rules that out for what it knows; another version may have stored more).
    pub fn parse(r: &api::ExtractRefresh, defaults: Option<&RefreshDefaults>) -> Result<Self, Unsupported> {
        let spec = &r.spec;
        let trigger = spec.trigger.as_ref();
        // Whole fields: a `retry` of its own without `limit` does not take the site's.
        let freshness = spec.freshness.as_ref().or_else(|| defaults?.freshness.as_ref());
        let retry = spec.retry.as_ref().or_else(|| defaults?.retry.as_ref());
        let timeout = spec.timeout.as_ref().or_else(|| defaults?.timeout.as_ref());
        let priority = spec.priority.or_else(|| defaults?.priority).unwrap_or(50);
        let upstreams: Vec<_> = spec.upstreams.iter().flatten().map(upstream).collect::<Result<_, _>>()?;
        Ok(Self {
            name: ObjectName {
                namespace: r.namespace().unwrap_or_default().into(),
                name: r.name_any().into(),
            },
            generation: r.metadata.generation.unwrap_or_default(),
            deleting: r.metadata.deletion_timestamp.is_some(),
            created_at: r.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            site: (&spec.site_ref).into(),
            target: target(&spec.target)?,
            refresh_type: spec.refresh_type.unwrap_or(RefreshMode::Full),
            require: require(trigger.and_then(|t| t.require.as_ref()), upstreams.len())?,
            upstreams,
            within: trigger
                .and_then(|t| t.within.as_ref())
                .map(|w| length("trigger.within", w))
                .transpose()?,
            debounce: trigger.and_then(|t| t.debounce.as_ref()).map(debounce).transpose()?,
            running: running(trigger)?,
            on_create: trigger.and_then(|t| t.on_create).unwrap_or(OnCreate::Ignore),
            freshness: fresh_for(freshness, spec.target.kind)?,
            retry: again(retry)?,
            timeout: or("timeout", timeout, Duration::from_secs(2 * 3600))?,
            schedules: DeclaredSchedules {
                all: spec.schedules.clone().unwrap_or_default(),
                foreign: spec.foreign_schedules.unwrap_or(ForeignSchedules::Report),
                suspended: spec.suspended_schedules.unwrap_or(SuspendedSchedules::Report),
                drift: spec
                    .drift_detection
                    .as_ref()
                    .and_then(|drift| drift.mode)
                    .unwrap_or(DriftMode::Enabled),
                management: spec.management_policy.unwrap_or(ManagementPolicy::Manage),
                adoption: spec.adoption_policy.unwrap_or(AdoptionPolicy::Fail),
                deletion: spec.deletion_policy.unwrap_or(DeletionPolicy::Delete),
                has_finalizer: r.finalizers().iter().any(|finalizer| finalizer == api::FINALIZER),
            },
            windows: [spec.refresh_windows.as_ref(), defaults.and_then(|site| site.refresh_windows.as_ref())]
                .into_iter()
                .flatten()
                .flatten()
                .map(|w| Window::parse(w).map_err(Unsupported::new))
                .collect::<Result<_, _>>()?,
            priority: u8::try_from(priority.clamp(0, 100)).unwrap_or(50),
            suspend: spec.suspend.unwrap_or(false),
            refresh_token: r
                .annotations()
                .get(api::REFRESH_REQUESTED)
                .filter(|token| !token.is_empty())
                .map(|token| token.chars().take(256).collect()),
            baseline_annotation: r.annotations().get(api::BASELINE).and_then(|at| at.parse().ok()),
        })
    }
}

/// Whether a site's defaults can be acted on.
///
/// # Errors
/// A field holds nothing this build can act on.
pub fn check_defaults(site: &RefreshDefaults) -> Result<(), Unsupported> {
    fresh_for(site.freshness.as_ref(), TargetKind::Datasource)?;
    again(site.retry.as_ref())?;
    site.timeout.as_ref().map(|timeout| length("timeout", timeout)).transpose()?;
    for window in site.refresh_windows.iter().flatten() {
        Window::parse(window).map_err(Unsupported::new)?;
    }
    Ok(())
}

fn target(t: &api::Target) -> Result<Target, Unsupported> {
    match (&t.luid, &t.project_path, &t.name) {
        (Some(luid), None, None) => {
            Ok(Target::Luid { kind: t.kind, luid: Luid::new(luid.to_ascii_lowercase()) })
        }
        (None, Some(path), Some(name)) => Ok(Target::Named {
            kind: t.kind,
            path: ProjectPath::parse(path).ok_or_else(|| {
                Unsupported::new("target.projectPath has an empty part: write it as `Finance/Sales`")
            })?,
            name: name.clone(),
        }),
        _ => Err(Unsupported::new("target names nothing: set either luid, or both projectPath and name")),
    }
}

fn upstream(u: &api::Upstream) -> Result<Upstream, Unsupported> {
    let source = match (&u.flow_deployment_ref, &u.prefect_deployment, &u.prefect_runs) {
        (Some(reference), None, None) => Source::FlowDeployment(reference.name.clone()),
        (None, Some(there), None) => {
            Source::Prefect { workspace: (&there.workspace_ref).into(), feed: feed_of_deployment(there) }
        }
        (None, None, Some(runs)) => {
            let feed = feed_of_runs(runs).ok_or_else(|| {
                Unsupported::new(format!(
                    "upstream `{}` takes every run: name tags, a workPool or both",
                    u.name
                ))
            })?;
            Source::Prefect { workspace: (&runs.workspace_ref).into(), feed }
        }
        _ => {
            return Err(Unsupported::new(format!(
                "upstream `{}` has no source that this version knows: set exactly one of flowDeploymentRef, prefectDeployment, prefectRuns",
                u.name
            )));
        }
    };
    Ok(Upstream {
        name: u.name.clone(),
        source,
        selection: Selection::of(u),
        counts_for_freshness: u.counts_for_freshness.unwrap_or(true),
        refresh_type: u.refresh_type,
    })
}

/// What a reference to a deployment means in its workspace.
pub fn feed_of_deployment(there: &api::PrefectDeployment) -> Feed {
    let (flow, deployment) = (there.flow_name.as_str().into(), there.deployment_name.as_str().into());
    Feed::Deployment(DeploymentName { flow, deployment })
}

/// What a selector means in its workspace; `None`: every run, which is not supported.
pub fn feed_of_runs(runs: &api::PrefectRuns) -> Option<Feed> {
    let tags = runs.tags.iter().flatten().map(String::as_str);
    Selector::new(tags, runs.work_pool.as_deref()).map(Feed::Runs)
}

fn debounce(d: &api::Debounce) -> Result<Debounce, Unsupported> {
    let quiet = length("trigger.debounce.quiet", &d.quiet)?;
    let longest = or("trigger.debounce.max", d.max.as_ref(), Duration::from_secs(15 * 60).max(quiet))?;
    Ok(Debounce { quiet, longest })
}

/// How long at most a refresh waits for runs in progress; none: not at all.
pub(super) fn running(trigger: Option<&api::Trigger>) -> Result<Option<Duration>, Unsupported> {
    let Some(running) = trigger.and_then(|trigger| trigger.running_upstreams.as_ref()) else {
        return Ok(None);
    };
    match running.policy {
        RunningPolicy::Wait => {
            or("trigger.runningUpstreams.max", running.max.as_ref(), Duration::from_secs(30 * 60)).map(Some)
        }
        RunningPolicy::Ignore => Ok(None),
    }
}

fn fresh_for(f: Option<&api::Freshness>, kind: TargetKind) -> Result<Freshness, Unsupported> {
    let age = |field, age: Option<&api::Duration>| age.map(|age| length(field, age)).transpose();
    let fail_after = age("freshness.failAfter", f.and_then(|f| f.fail_after.as_ref()))?;
    let wanted = f.and_then(|f| f.data_quality_warning) == Some(DataQualityWarning::WhenStale);
    // What a site says for all its extracts does not make its workbooks wrong.
    let warns = wanted && kind == TargetKind::Datasource && fail_after.is_some();
    let warn_after = age("freshness.warnAfter", f.and_then(|f| f.warn_after.as_ref()))?;
    Ok(Freshness { warn_after, fail_after, warns })
}

fn again(retry: Option<&api::Retry>) -> Result<Retry, Unsupported> {
    let backoff = retry.and_then(|retry| retry.backoff.as_ref());
    let wait = |field, wait: Option<&api::Duration>, unset| or(field, wait, Duration::from_secs(unset));
    Ok(Retry {
        limit: retry.and_then(|retry| retry.limit).map_or(3, |limit| u32::try_from(limit).unwrap_or(0)),
        backoff: Backoff {
            first: wait("retry.backoff.duration", backoff.and_then(|b| b.duration.as_ref()), 60)?,
            factor: backoff
                .and_then(|b| b.factor)
                .map_or(2, |factor| u32::try_from(factor).unwrap_or(1).max(1)),
            longest: wait("retry.backoff.maxDuration", backoff.and_then(|b| b.max_duration.as_ref()), 1800)?,
        },
    })
}

fn require(value: Option<&IntOrString>, upstreams: usize) -> Result<Require, Unsupported> {
    match value {
        Some(IntOrString::Int(n)) if usize::try_from(*n).is_ok_and(|n| n > upstreams) => {
            Err(Unsupported::new(format!(
                "trigger.require is {n}, which is more than there are upstreams ({upstreams}): lower it, or add upstreams"
            )))
        }
        None => Ok(Require::All),
        Some(IntOrString::String(text)) if text == "All" => Ok(Require::All),
        Some(IntOrString::String(text)) if text == "Any" => Ok(Require::Any),
        Some(IntOrString::Int(n)) if *n >= 1 => Ok(Require::Count(n.unsigned_abs())),
        Some(_) => Err(Unsupported::new("trigger.require must be All, Any or a number from 1 to 32")),
    }
}

fn or(field: &str, value: Option<&api::Duration>, unset: Duration) -> Result<Duration, Unsupported> {
    value.map_or(Ok(unset), |text| length(field, text))
}

fn length(field: &str, text: &api::Duration) -> Result<Duration, Unsupported> {
    parse_duration(&text.0).map_err(|error| Unsupported::new(format!("{field}: {error}")))
}
