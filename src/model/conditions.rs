//! Conditions as kstatus, `kubectl wait` and people read them (API.md 4).

use crate::api::{Conditioned, Time};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as KubeTime};

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// So it is.
    True,
    /// Wrong.
    False,
    /// Working or waiting.
    Unknown,
}

impl Truth {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition before it is stamped: a reason for programs and one sentence for a person, without clock times or counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Ready`, `Fresh`, …
    pub kind: &'static str,
    /// Its value.
    pub truth: Truth,
    /// CamelCase.
    pub reason: &'static str,
    /// What is so, or what is wrong and what to do.
    pub message: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(kind: &'static str, truth: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, truth, reason, message: message.into() }
    }
}

/// Reason of a reference that is not there: `Unknown` at first, since files come in any order, `False` after a while.
const MISSING: &str = "DependencyNotFound";

/// Order in which `kubectl describe` shows them; kinds not named here come last.
const ORDER: [&str; 8] = [
    "Stalled",
    "Reconciling",
    "Ready",
    "Fresh",
    "Refreshing",
    "LastRefreshSucceeded",
    "UpstreamsHealthy",
    "Drifted",
];

/// Replaces the conditions by these. `lastTransitionTime` moves only with the value; every condition is stamped with the generation.
/// A kind that is not among the verdicts goes away (`Reconciling` and `Stalled` are absent unless True).
pub fn stamp(status: &mut impl Conditioned, verdicts: &[Verdict], generation: i64, now: Timestamp) {
    let mut next: Vec<Condition> = verdicts
        .iter()
        .map(|v| {
            let before = status.conditions().iter().find(|c| c.type_ == v.kind);
            Condition {
                type_: v.kind.to_owned(),
                status: v.truth.as_str().to_owned(),
                reason: v.reason.to_owned(),
                message: shorten(&v.message),
                observed_generation: Some(generation),
                last_transition_time: before
                    // The patience with a missing reference is counted from here, so it begins anew with that reason.
                    .filter(|c| c.status == v.truth.as_str() && (v.reason != MISSING || c.reason == MISSING))
                    .map_or_else(|| KubeTime(whole_second(now)), |c| c.last_transition_time.clone()),
            }
        })
        .collect();
    next.sort_by_key(|c| ORDER.iter().position(|k| *k == c.type_).unwrap_or(ORDER.len()));
    *status.conditions_mut() = next;
    status.set_observed_generation(generation);
}

/// Replaces one condition and leaves the others, and the generation they speak about, as they are.
pub fn replace(status: &mut impl Conditioned, verdict: &Verdict, now: Timestamp) {
    let before = status.conditions().iter().find(|c| c.type_ == verdict.kind);
    let condition = Condition {
        type_: verdict.kind.to_owned(),
        status: verdict.truth.as_str().to_owned(),
        reason: verdict.reason.to_owned(),
        message: shorten(&verdict.message),
        observed_generation: before.and_then(|c| c.observed_generation),
        last_transition_time: before
            .filter(|c| c.status == verdict.truth.as_str())
            .map_or_else(|| KubeTime(whole_second(now)), |c| c.last_transition_time.clone()),
    };
    let conditions = status.conditions_mut();
    conditions.retain(|c| c.type_ != verdict.kind);
    conditions.push(condition);
    conditions.sort_by_key(|c| ORDER.iter().position(|k| *k == c.type_).unwrap_or(ORDER.len()));
}

/// The reason of a condition, if it is there.
pub fn reason_of<'a>(status: &'a impl Conditioned, kind: &str) -> Option<&'a str> {
    status.conditions().iter().find(|c| c.type_ == kind).map(|c| c.reason.as_str())
}

/// Whether the status tells of this generation whether its object is `Ready`.
pub fn tells(status: &impl Conditioned, generation: i64) -> bool {
    status.conditions().iter().any(|c| c.type_ == "Ready" && c.observed_generation == Some(generation))
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn shorten(message: &str) -> String {
    const MOST: usize = 1024;
    if message.len() <= MOST {
        return message.to_owned();
    }
    let mut end = MOST - 3;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExtractRefreshStatus;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_with_the_value_and_with_the_first_sight_of_a_missing_reference() {
        let mut status = ExtractRefreshStatus::default();
        let mut say = |reason, now| {
            stamp(&mut status, &[Verdict::new("Ready", Truth::Unknown, reason, "m")], 1, at(now));
            status.conditions[0].last_transition_time.0
        };
        assert_eq!(say("Progressing", 10), at(10));
        assert_eq!(say("ConnectionUnavailable", 20), at(10));
        assert_eq!(say("DependencyNotFound", 400), at(400));
        assert_eq!(say("DependencyNotFound", 500), at(400));
    }
}
