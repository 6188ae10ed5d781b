//! Metrics. Every label has a small, fixed set of values, but for the two that say how fresh each extract is: those are told anew at every look, so
//! nothing of a resource that is gone stays.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// All metrics of the process, shared behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    leader: Gauge,
    websockets: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    panics: Family<KindLabel, Counter>,
    status_writes: Family<KindLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    cycles: Family<CycleLabels, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    residues: Family<ResidueLabel, Counter>,
    reports: Family<ReportLabel, Counter>,
    orphans: Family<KindLabel, Counter>,
    extracts: OnceLock<Arc<dyn Fn() -> Vec<Extract> + Send + Sync>>,
}

/// How fresh an extract is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Namespace of its resource.
    pub namespace: String,
    /// Name of its resource.
    pub name: String,
    /// Whether its data is young enough; none: not known.
    pub fresh: Option<bool>,
    /// Start of the oldest upstream run that it contains, in seconds since 1970; none: not known.
    pub data_time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExtractLabels {
    namespace: String,
    name: String,
}

/// A kind of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Kind {
    /// `PrefectWorkspace`.
    PrefectWorkspace,
    /// `TableauSite`.
    TableauSite,
    /// `ClusterPrefectWorkspace`.
    ClusterPrefectWorkspace,
    /// `ClusterTableauSite`.
    ClusterTableauSite,
    /// `FlowDeployment`.
    FlowDeployment,
    /// `ExtractRefresh`.
    ExtractRefresh,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::PrefectWorkspace,
        Self::TableauSite,
        Self::ClusterPrefectWorkspace,
        Self::ClusterTableauSite,
        Self::FlowDeployment,
        Self::ExtractRefresh,
    ];
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reconciled {
    /// Nothing to do.
    Rest,
    /// Only a person can help.
    Stalled,
    /// Something was written, here or outside.
    Acted,
    /// Something is to be done, and its turn has not come.
    Waiting,
    /// Another write came between; decided again.
    Conflict,
    /// It failed, and is tried again.
    Failed,
}

#[cfg(test)]
impl Reconciled {
    const ALL: [Self; 6] =
        [Self::Rest, Self::Stalled, Self::Acted, Self::Waiting, Self::Conflict, Self::Failed];
}

/// A service that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Service {
    /// A Prefect API.
    Prefect,
    /// A Tableau REST API.
    Tableau,
    /// An identity provider, for signing in to Tableau.
    IdentityProvider,
}

#[cfg(test)]
impl Service {
    const ALL: [Self; 3] = [Self::Prefect, Self::Tableau, Self::IdentityProvider];
}

/// How a call to a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Called {
    /// As asked.
    Ok,
    /// Refused: credentials or rights.
    Denied,
    /// Refused: told to slow down.
    Throttled,
    /// Refused for another reason.
    Rejected,
    /// Answered with a 5xx; Prefect's 503 has done nothing.
    ServerError,
    /// No usable answer; it may have been done.
    Ambiguous,
    /// Not sent.
    Unreachable,
}

#[cfg(test)]
impl Called {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Denied,
        Self::Throttled,
        Self::Rejected,
        Self::ServerError,
        Self::Ambiguous,
        Self::Unreachable,
    ];
}

/// How a read of everything an observer watches ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Cycle {
    /// Everything was read.
    Complete,
    /// Something could not be read.
    Failed,
}

#[cfg(test)]
impl Cycle {
    const ALL: [Self; 2] = [Self::Complete, Self::Failed];
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refreshed {
    /// Refreshed.
    Succeeded,
    /// Tableau says it failed.
    Failed,
    /// A person cancelled it.
    Cancelled,
    /// It ran too long and was cancelled.
    TimedOut,
    /// Its record went before its end was read.
    JobVanished,
    /// Target or type were changed meanwhile.
    Superseded,
}

impl Refreshed {
    const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::TimedOut, Self::JobVanished, Self::Superseded];
}

/// Whose job a refresh was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Origin {
    /// Ours, by Tableau's answer.
    Ours,
    /// Ours, found after the answer was lost.
    Recovered,
    /// Somebody else's, which contained what was owed.
    Adopted,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Ours, Self::Recovered, Self::Adopted];
}

/// The cases in which one refresh too many may be started, each at most one (README, "Limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Residue {
    /// An answer was lost while the job list may not be read.
    R1,
    /// The leader was frozen between the look at the lease and the write to the socket.
    R2,
    /// The job list lagged, or the request arrived, later than the settle time.
    R3,
    /// Tableau removed the job's record before its end was read.
    R4,
    /// Status was lost (restored cluster).
    R5,
}

impl Residue {
    const ALL: [Self; 5] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5];
}

/// What became of the report of a refresh, per Prefect workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reported {
    /// Shown, to its end.
    Shown,
    /// Not shown: the workspace could not be reached in time, is suspended or not ready.
    Expired,
    /// Not shown: too many wait.
    QueueFull,
    /// Not shown: the credentials do not allow it.
    Forbidden,
    /// Not shown: Prefect does not take it.
    Refused,
}

impl Reported {
    const ALL: [Self; 5] = [Self::Shown, Self::Expired, Self::QueueFull, Self::Forbidden, Self::Refused];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: Kind,
    outcome: Reconciled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    service: Service,
    operation: &'static str,
    outcome: Called,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    service: Service,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CycleLabels {
    service: Service,
    outcome: Cycle,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    outcome: Refreshed,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabel {
    outcome: Reported,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResidueLabel {
    case: Residue,
}

impl Metrics {
    /// What [`Self::encode`] writes.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The metrics as text.
    ///
    /// # Errors
    /// A label cannot be encoded, which the types rule out.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        // A standby knows them too; told by one, each is one series.
        if self.leader.get() == 1
            && let Some(extracts) = self.extracts.get()
        {
            encode_registry(&mut text, &told(&extracts()))?;
        }
        encode_eof(&mut text)?;
        Ok(text)
    }

    /// Where how fresh the extracts are is asked for at every look. The first that is set stays.
    pub fn extracts(&self, source: Arc<dyn Fn() -> Vec<Extract> + Send + Sync>) {
        let _ = self.extracts.set(source);
    }

    /// This process leads, or no longer.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }
    /// A websocket of Prefect's events was connected.
    pub fn websocket_connected(&self) {
        self.websockets.inc();
    }
    /// A websocket that was connected was lost.
    pub fn websocket_lost(&self) {
        self.websockets.dec();
    }
    /// A reconcile ended.
    pub fn reconciled(&self, kind: Kind, outcome: Reconciled) {
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).inc();
    }
    /// A reconcile panicked: a fault in Feedwater.
    pub fn panicked(&self, kind: Kind) {
        self.panics.get_or_create(&KindLabel { kind }).inc();
    }
    /// A status was written.
    pub fn wrote_status(&self, kind: Kind) {
        self.status_writes.get_or_create(&KindLabel { kind }).inc();
    }
    /// A call to a service ended. `operation` is a fixed name in the code, never part of a URL.
    pub fn called(&self, service: Service, operation: &'static str, outcome: Called, took: Duration) {
        self.calls.get_or_create(&CallLabels { service, operation, outcome }).inc();
        self.call_seconds.get_or_create(&OperationLabels { service, operation }).observe(took.as_secs_f64());
    }
    /// An observer read everything it watches, or could not.
    pub fn cycled(&self, service: Service, outcome: Cycle) {
        self.cycles.get_or_create(&CycleLabels { service, outcome }).inc();
    }
    /// A refresh ended.
    pub fn refreshed(&self, outcome: Refreshed, origin: Origin) {
        self.refreshes.get_or_create(&RefreshLabels { outcome, origin }).inc();
    }
    /// A refresh was started that may be one too many.
    pub fn may_be_double(&self, case: Residue) {
        self.residues.get_or_create(&ResidueLabel { case }).inc();
    }
    /// The report of a refresh was shown in a Prefect workspace, or will not be.
    pub fn reported(&self, outcome: Reported) {
        self.reports.get_or_create(&ReportLabel { outcome }).inc();
    }
    /// What a deleted resource owned outside was left behind, because it could not be reached within the cleanup deadline.
    pub fn orphaned(&self, kind: Kind) {
        self.orphans.get_or_create(&KindLabel { kind }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let call_seconds =
            Family::new_with_constructor((|| Histogram::new(CALL_SECONDS)) as fn() -> Histogram);
        let mut metrics = Self {
            registry: Registry::with_prefix("feedwater"),
            leader: Gauge::default(),
            websockets: Gauge::default(),
            reconciles: Family::default(),
            panics: Family::default(),
            status_writes: Family::default(),
            calls: Family::default(),
            call_seconds,
            cycles: Family::default(),
            refreshes: Family::default(),
            residues: Family::default(),
            reports: Family::default(),
            orphans: Family::default(),
            extracts: OnceLock::new(),
        };
        metrics.register();
        metrics.begin();
        metrics
    }
}

fn told(extracts: &[Extract]) -> Registry {
    let (fresh, data): (Family<ExtractLabels, Gauge>, Family<ExtractLabels, Gauge>) = Default::default();
    for extract in extracts {
        let labels = ExtractLabels { namespace: extract.namespace.clone(), name: extract.name.clone() };
        if let Some(is) = extract.fresh {
            fresh.get_or_create(&labels).set(is.into());
        }
        if let Some(at) = extract.data_time {
            data.get_or_create(&labels).set(at);
        }
    }
    let mut registry = Registry::with_prefix("feedwater");
    registry.register(
        "extract_fresh",
        "1 while the data of the extract is young enough, 0 while it is late or stale",
        fresh,
    );
    registry.register(
        "extract_data_timestamp_seconds",
        "Start of the oldest upstream run that the extract contains",
        data,
    );
    registry
}

const CALL_SECONDS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

impl Metrics {
    /// What people set an alert on is there from the start, at zero: a counter that is first seen at 1 has no increase.
    fn begin(&self) {
        for kind in Kind::ALL {
            drop(self.panics.get_or_create(&KindLabel { kind }));
            drop(self.orphans.get_or_create(&KindLabel { kind }));
        }
        for case in Residue::ALL {
            drop(self.residues.get_or_create(&ResidueLabel { case }));
        }
        for outcome in Reported::ALL {
            drop(self.reports.get_or_create(&ReportLabel { outcome }));
        }
        for outcome in Refreshed::ALL {
            for origin in Origin::ALL {
                drop(self.refreshes.get_or_create(&RefreshLabels { outcome, origin }));
            }
        }
    }

    /// Names and help. Counters get `_total` from the encoder.
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("leader", "1 while this process holds the lease", self.leader.clone());
        r.register(
            "websockets",
            "Websockets of Prefect's events that are connected",
            self.websockets.clone(),
        );
        r.register("reconciles", "Reconciles, by kind and outcome", self.reconciles.clone());
        r.register("reconcile_panics", "Reconciles that panicked, by kind", self.panics.clone());
        r.register("status_writes", "Statuses written, by kind", self.status_writes.clone());
        r.register("calls", "Calls to Prefect and Tableau, by operation and outcome", self.calls.clone());
        r.register("call_seconds", "How long calls took, by operation", self.call_seconds.clone());
        r.register("observer_cycles", "Reads of everything observed, by outcome", self.cycles.clone());
        r.register("refreshes", "Refreshes that ended, by outcome and origin", self.refreshes.clone());
        r.register(
            "possible_doubles",
            "Refreshes started that may be one too many, by case",
            self.residues.clone(),
        );
        r.register("reports", "Refreshes shown in Prefect, or not, by outcome", self.reports.clone());
        r.register("orphans", "Deleted resources whose outside object was left behind", self.orphans.clone());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
