//! What the worlds reached: a law that never met a case proves nothing about it.

use feedwater::api::ExtractRefreshStatus;
use feedwater::model::extract::{Decision, Note, Step};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, Default)]
pub struct Reached(BTreeMap<String, u64>);

/// Every condition and reason that the machine can show here, every step, every event, and what worlds have to go through.
const ALL: &str = "
Ready/InSync Ready/Suspended Ready/Progressing Ready/DependencyNotFound Ready/ConnectionUnavailable Ready/TargetConflict
Ready/TargetNotFound Ready/TargetAmbiguous Ready/NoExtract Ready/PermissionDenied Ready/RemoteRejected
Reconciling/Progressing Reconciling/DependencyNotFound Reconciling/ConnectionUnavailable Stalled/TargetConflict
Fresh/UpToDate Fresh/NotYetRefreshed Fresh/Late Fresh/Stale
Refreshing/Queued Refreshing/Running Refreshing/UpToDate Refreshing/WaitingForUpstreams Refreshing/HeldByBudget Refreshing/Debouncing
Refreshing/UpstreamRunning Refreshing/HeldByWindow
Refreshing/ConnectionUnavailable Refreshing/Recovering Refreshing/WaitingForOtherJob Refreshing/JobListUnavailable
Refreshing/Retrying Refreshing/RetriesExhausted Refreshing/NotRetried Refreshing/Cancelled Refreshing/Suspended
LastRefreshSucceeded/Succeeded LastRefreshSucceeded/Failed LastRefreshSucceeded/Cancelled LastRefreshSucceeded/TimedOut
LastRefreshSucceeded/JobVanished LastRefreshSucceeded/Superseded LastRefreshSucceeded/RetriesExhausted
LastRefreshSucceeded/SourceCredentialsInvalid
LastRefreshSucceeded/NotYetRefreshed
UpstreamsHealthy/AllHealthy UpstreamsHealthy/NoUpstreams UpstreamsHealthy/UpstreamNotFound UpstreamsHealthy/UpstreamFailing
UpstreamsHealthy/UpstreamPaused UpstreamsHealthy/NotObserved
Step/Rest Step/Intend Step/Post Step/Look Step/Cancel
List/Whole List/Part List/ById List/Failed List/LeftOut List/OthersReadMore Job/Refused Job/GivenUp
Occasion/Excluded Occasion/Elsewhere Credit/Native
Note/RefreshStarted Note/RefreshSucceeded Note/RefreshFailed Note/RefreshCancelled Note/RefreshTimedOut Note/JobVanished
Note/RefreshSuperseded Note/RetriesExhausted Note/NotRetried Note/RefreshRecovered Note/RefreshAdopted Note/RefreshRefused Note/Republished
Note/TargetMoved Note/RefreshQueuedLong Note/ClockWentBack Note/Late Note/Stale Note/FellBackToFull Note/UpstreamStuck
";

impl Reached {
    pub fn one(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }
    pub fn decision(&mut self, decision: &Decision) {
        self.one(match decision.step {
            Step::Rest
            | Step::LookAtTasks
            | Step::LookAtWarnings(_)
            | Step::Hold
            | Step::Schedule(_)
            | Step::Warn(_) => "Step/Rest",
            Step::Intend { .. } => "Step/Intend",
            Step::Post { .. } => "Step/Post",
            Step::Look { .. } => "Step/Look",
            Step::Cancel { .. } => "Step/Cancel",
        });
        self.status(&decision.status);
        self.notes(&decision.notes);
    }
    pub fn status(&mut self, status: &ExtractRefreshStatus) {
        for condition in &status.conditions {
            self.one(format!("{}/{}", condition.type_, condition.reason));
        }
    }
    pub fn notes(&mut self, notes: &[Note]) {
        for note in notes {
            self.one(format!("Note/{}", note.reason));
        }
    }
    pub fn add(&mut self, other: Self) {
        for (what, times) in other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }
    pub fn never(&self) -> Vec<String> {
        ALL.split_whitespace().filter(|what| !self.0.contains_key(*what)).map(str::to_owned).collect()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, times)| writeln!(f, "{times:>9} {what}"))
    }
}
