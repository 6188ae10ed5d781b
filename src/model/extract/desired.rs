//! What the spec asks for, with the values of what is unset.

use super::DeclaredSchedules;
use crate::api::{
    self, AdoptionPolicy, DeletionPolicy, DriftMode, ForeignSchedules, ManagementPolicy, RefreshType,
    SuspendedSchedules, TargetKind,
};
use crate::model::ids::{DeploymentName, Luid, ObjectName};
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
    /// `metadata.creationTimestamp`, the apiserver's time.
    pub created_at: Timestamp,
    /// Name of the `TableauSite` in the same namespace.
    pub site: String,
    /// The extract.
    pub target: Target,
    /// Full or Incremental.
    pub refresh_type: RefreshType,
    /// The flows that feed it, in the order of the spec.
    pub upstreams: Vec<Upstream>,
    /// How many of them must have completed anew.
    pub require: Require,
    /// Greatest spread of the completions of a set.
    pub within: Option<Duration>,
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
}

/// What an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `FlowDeployment` of the same namespace.
    FlowDeployment(String),
    /// A deployment in Prefect that somebody else manages.
    Prefect {
        /// Name of the `PrefectWorkspace`.
        workspace: String,
        /// Its names there.
        deployment: DeploymentName,
    },
}

/// The key of an upstream: what it is, whatever it is called. A `FlowDeployment` and a direct reference to the same deployment share it.
pub fn key(workspace: &str, deployment: &DeploymentName) -> String {
    format!("{workspace}/{}/{}", deployment.flow.replace('/', r"\/"), deployment.deployment)
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
    /// Parses a resource.
    ///
    /// # Errors
    /// The spec says nothing this build can act on (CEL rules that out for what it knows; another version may have stored more).
    pub fn parse(r: &api::ExtractRefresh) -> Result<Self, Unsupported> {
        let spec = &r.spec;
        let trigger = spec.trigger.as_ref();
        let backoff = spec.retry.as_ref().and_then(|retry| retry.backoff.as_ref());
        Ok(Self {
            name: ObjectName {
                namespace: r.namespace().unwrap_or_default().into(),
                name: r.name_any().into(),
            },
            generation: r.metadata.generation.unwrap_or_default(),
            created_at: r.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            site: spec.site_ref.name.clone(),
            target: target(&spec.target)?,
            refresh_type: spec.refresh_type.unwrap_or(RefreshType::Full),
            upstreams: spec.upstreams.iter().flatten().map(upstream).collect::<Result<_, _>>()?,
            require: require(trigger.and_then(|t| t.require.as_ref()))?,
            within: trigger
                .and_then(|t| t.within.as_ref())
                .map(|w| length("trigger.within", w))
                .transpose()?,
            retry: Retry {
                limit: spec
                    .retry
                    .as_ref()
                    .and_then(|retry| retry.limit)
                    .map_or(3, |limit| u32::try_from(limit).unwrap_or(0)),
                backoff: Backoff {
                    first: or(
                        "retry.backoff.duration",
                        backoff.and_then(|b| b.duration.as_ref()),
                        Duration::from_secs(60),
                    )?,
                    factor: backoff
                        .and_then(|b| b.factor)
                        .map_or(2, |factor| u32::try_from(factor).unwrap_or(1).max(1)),
                    longest: or(
                        "retry.backoff.maxDuration",
                        backoff.and_then(|b| b.max_duration.as_ref()),
                        Duration::from_secs(30 * 60),
                    )?,
                },
            },
            timeout: or("timeout", spec.timeout.as_ref(), Duration::from_secs(2 * 3600))?,
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
            windows: spec
                .refresh_windows
                .iter()
                .flatten()
                .map(|w| Window::parse(w).map_err(Unsupported::new))
                .collect::<Result<_, _>>()?,
            priority: spec.priority.map_or(50, |priority| u8::try_from(priority.clamp(0, 100)).unwrap_or(50)),
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
    let source = match (&u.flow_deployment_ref, &u.prefect_deployment) {
        (Some(reference), None) => Source::FlowDeployment(reference.name.clone()),
        (None, Some(p)) => Source::Prefect {
            workspace: p.workspace_ref.name.clone(),
            deployment: DeploymentName {
                flow: p.flow_name.as_str().into(),
                deployment: p.deployment_name.as_str().into(),
            },
        },
        _ => {
            return Err(Unsupported::new(format!(
                "upstream `{}` has no source that this version knows: set exactly one of flowDeploymentRef, prefectDeployment",
                u.name
            )));
        }
    };
    Ok(Upstream { name: u.name.clone(), source })
}

fn require(value: Option<&IntOrString>) -> Result<Require, Unsupported> {
    match value {
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
