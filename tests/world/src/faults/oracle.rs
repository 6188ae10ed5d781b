//! What a run with kills is held against: the same workload without.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

use super::observe::Observation;
use super::point::{Key, System};
use super::workload::Workload;

/// Something at the end of a run that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A refresh, a scheduled run or a deployment that should be there is not.
    Lost(String),
    /// There is one too many.
    Doubled(String),
    /// Anything else: another end state, other calls, a panic, a secret that got out.
    Difference(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(what) => write!(f, "LOST: {what}"),
            Self::Doubled(what) => write!(f, "DOUBLED: {what}"),
            Self::Difference(what) => write!(f, "differs: {what}"),
        }
    }
}

/// How often the schedule of [`Workload::Schedule`] ticks.
const TICK: Duration = Duration::from_secs(2);

/// All that must hold of the end of a run by itself.
pub fn judge(workload: Workload, seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    let expected = workload.refreshes();
    if seen.refreshes < expected {
        findings.push(Finding::Lost(format!("{} of {expected} refreshes", expected - seen.refreshes)));
    }
    if seen.refreshes > expected {
        findings.push(Finding::Doubled(format!("{} refreshes instead of {expected}", seen.refreshes)));
    }
    if seen.said_twice > 0 {
        findings.push(Finding::Doubled(format!("{} log lines in Prefect", seen.said_twice)));
    }
    // Best effort towards a Prefect that is away; here it is there, so a run waits until it was told.
    if seen.untold > 0 {
        findings.push(Finding::Lost(format!("what Prefect shows of {} refreshes", seen.untold)));
    }
    let interval = SignedDuration::try_from(TICK).unwrap_or_default();
    for pair in seen.ticks.windows(2) {
        let apart = pair[1].duration_since(pair[0]);
        if apart.is_zero() {
            findings.push(Finding::Doubled(format!("the scheduled run of {}", pair[0])));
        } else if workload == Workload::Schedule && apart > interval {
            findings.push(Finding::Lost(format!("the scheduled runs between {} and {}", pair[0], pair[1])));
        }
    }
    findings
        .extend(seen.leaks.iter().map(|place| Finding::Difference(format!("a secret is in the {place}"))));
    findings.extend(seen.panics.iter().map(|line| Finding::Difference(format!("panic: {line}"))));
    findings
}

/// All that differs from a run without kills.
pub fn compare(workload: Workload, reference: &Observation, seen: &Observation) -> Vec<Finding> {
    let mut findings = judge(workload, seen);
    let deployments = |o: &Observation| o.state["deployments"].as_array().map_or(0, Vec::len);
    let (wanted, found) = (deployments(reference), deployments(seen));
    if found < wanted {
        findings.push(Finding::Lost(format!("{} of {wanted} deployments", wanted - found)));
    }
    // One that is still to be deleted is none too many: deleting is tried again where Prefect was busy.
    if workload == Workload::Delete && wanted == 0 && found == 1 {
        findings.push(Finding::Lost("the deletion of a deployment".to_owned()));
    } else if found > wanted {
        findings.push(Finding::Doubled(format!("{found} deployments instead of {wanted}")));
    }
    findings.extend(tasks(reference, seen));
    // The first runs of a new deployment come from Prefect's own scheduler, some seconds later; after an edit the operator asks for them.
    if workload == Workload::Edit && reference.next_run != seen.next_run {
        findings.push(Finding::Lost(format!("the next scheduled run is {:?}", seen.next_run)));
    }
    if workload == Workload::Schedule && seen.next_run.is_none() {
        findings.push(Finding::Lost("all scheduled runs to come".to_owned()));
    }
    let mut differences = Vec::new();
    differing("", &reference.state, &seen.state, &mut differences);
    findings.extend(differences.into_iter().map(Finding::Difference));
    findings.extend(calls(workload, reference, seen));
    findings
}

/// A task that is there twice is doubled; one too many, once, is still to be deleted.
fn tasks(reference: &Observation, seen: &Observation) -> Vec<Finding> {
    let of = |o: &Observation| {
        let mut counts = std::collections::BTreeMap::new();
        for task in o.state["tasks"].as_array().into_iter().flatten() {
            *counts.entry(task.to_string()).or_insert(0_usize) += 1;
        }
        counts
    };
    let (wanted, found) = (of(reference), of(seen));
    let names: std::collections::BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let judge = |name: &String| {
        let (wanted, found) = (wanted.get(name).copied().unwrap_or(0), found.get(name).copied().unwrap_or(0));
        match found {
            _ if found < wanted => Some(Finding::Lost(format!("the task {name}"))),
            _ if found > wanted && found > 1 => Some(Finding::Doubled(format!("the task {name}"))),
            _ if found > wanted => Some(Finding::Lost(format!("the deletion of the task {name}"))),
            _ => None,
        }
    };
    names.into_iter().filter_map(judge).collect()
}

/// The calls to Prefect and Tableau, and those that change metadata in Kubernetes: as often as without kills, or more often where that
/// changes nothing. Status and Events are reports, not facts: their number is nobody's promise, and what they say at the end is compared as state.
fn calls(workload: Workload, reference: &Observation, seen: &Observation) -> Vec<Finding> {
    let keys: std::collections::BTreeSet<&Key> = reference.calls.keys().chain(seen.calls.keys()).collect();
    let fact = |key: &&Key| !is_report(key) && !is_sign_in(key);
    let differs = |key: &Key| {
        let count = |o: &Observation| o.calls.get(key).copied().unwrap_or(0);
        let (wanted, found) = (count(reference), count(seen));
        let named = key.to_string();
        let may_repeat = workload.may_repeat().contains(&&*named) || TOLD_AGAIN.contains(&&*named);
        let repeated = found > 0 && (wanted > 0 || named == ENSURED) && may_repeat;
        let unneeded = found == 0 && workload.may_lack().contains(&&*named);
        (found != wanted && !repeated && !unneeded)
            .then(|| Finding::Difference(format!("{key} was applied {found} times, not {wanted}")))
    };
    keys.into_iter().filter(fact).filter_map(differs).collect()
}

fn is_report(key: &Key) -> bool {
    key.system == System::Kubernetes
        && (key.call.ends_with("/status") || key.call.ends_with(":events") || key.call.ends_with("events/*"))
}

/// Reports: calls that make a thing of a name, key or id once, however often they are sent. A busy Prefect may have them sent again.
const TOLD_AGAIN: [&str; 4] =
    ["prefect:POST:flows", "prefect:POST:task_runs", "prefect:POST:flow_runs", "prefect:POST:events"];

/// The flow of reports, found or made by its name: what one process has asked before a run begins, the next one asks within it.
const ENSURED: &str = "prefect:POST:flows";

fn is_sign_in(key: &Key) -> bool {
    key.system == System::Tableau && (key.call.ends_with("auth/signin") || key.call.ends_with("auth/signout"))
}

/// Names every leaf that differs.
fn differing(path: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let get = |from: &serde_json::Map<String, Value>| from.get(name).cloned().unwrap_or_default();
                differing(&format!("{path}/{name}"), &get(a), &get(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differing(&format!("{path}/{n}"), a, b, out);
            }
        }
        _ if wanted == found => {}
        _ => out.push(format!("{path} is {found}, not {wanted}")),
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
