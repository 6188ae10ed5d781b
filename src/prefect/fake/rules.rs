//! What the server does with what it is sent.

use super::State;
use crate::prefect::{Deployment, Run, RunQuery, StateType, States};
use serde_json::{Map, Value};

pub(super) fn is_terminal(state: StateType) -> bool {
    matches!(state, StateType::Completed | StateType::Failed | StateType::Crashed | StateType::Cancelled)
}

pub(super) fn missing_pool(state: &State, fields: &Map<String, Value>) -> bool {
    fields.get("work_pool_name").and_then(Value::as_str).is_some_and(|pool| !state.work_pools.contains(pool))
}

pub(super) fn apply(deployment: &mut Deployment, fields: &Map<String, Value>) {
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("tags", Value::Array(tags)) => {
                deployment.tags = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            ("paused", Value::Bool(paused)) => {
                deployment.paused = *paused;
                deployment.fields.insert(key.clone(), value.clone());
            }
            (_, Value::Null) => {
                deployment.fields.remove(key);
            }
            _ => {
                deployment.fields.insert(key.clone(), value.clone());
            }
        }
    }
    let pool = deployment.fields.contains_key("work_pool_name");
    if pool && !deployment.fields.contains_key("work_queue_name") {
        deployment.fields.insert("work_queue_name".into(), "default".into());
    }
}

/// What the server adds to a rule (reference 5.2).
pub(super) fn normalised(rule: &Map<String, Value>) -> Map<String, Value> {
    let mut rule = rule.clone();
    if rule.contains_key("cron") {
        rule.entry("timezone").or_insert(Value::Null);
        rule.entry("day_or").or_insert(true.into());
    } else {
        rule.entry("timezone").or_insert("UTC".into());
    }
    if let Some(seconds) = rule.get("interval").and_then(Value::as_f64) {
        rule.insert("interval".into(), seconds.into());
        rule.entry("anchor_date").or_insert("2026-01-01T00:00:00Z".into());
    }
    if let Some(text) = rule.get("rrule").and_then(Value::as_str)
        && !text.contains("DTSTART")
    {
        let text = format!("DTSTART:20200101T000000\n{text}");
        rule.insert("rrule".into(), text.into());
    }
    rule
}

pub(super) fn matches(query: &RunQuery, run: &Run) -> bool {
    let state = match query.states {
        States::Any => true,
        States::Ended => is_terminal(run.state_type),
        States::Completed => run.state_type == StateType::Completed,
        States::InProgress => run.in_progress(),
    };
    (query.deployments.is_empty() || run.deployment.as_ref().is_some_and(|d| query.deployments.contains(d)))
        && (query.runs.is_empty() || query.runs.contains(&run.id))
        && query.all_tags.iter().all(|tag| run.tags.contains(tag))
        && (query.any_tags.is_empty() || query.any_tags.iter().any(|tag| run.tags.contains(tag)))
        && (query.work_pools.is_empty()
            || run.work_pool.as_ref().is_some_and(|pool| query.work_pools.contains(pool)))
        && state
        && query.ended_after.is_none_or(|after| run.ended_at.is_some_and(|end| end >= after))
        && query.ended_before.is_none_or(|before| run.ended_at.is_some_and(|end| end <= before))
}
