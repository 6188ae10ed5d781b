//! Prefect's JSON of what is told to it (reference 12). It refuses fields it does not know, so nothing is sent that is not named there.

use super::EnsuredRun;
use super::wire::state_type;
use crate::model::ids::{FlowId, RunId};
use crate::model::reports::{AssetEvent, LogLine, NewRun, NewTaskRun, RunState, Whose};
use crate::model::runs::StateType;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What made the asset, in its events.
const TOOL: &str = "tableau";
const MADE: &str = "prefect.asset.materialization.succeeded";

pub(super) fn task_run(new: &NewTaskRun) -> Value {
    json!({"flow_run_id": new.run.as_str(), "task_key": new.task_key, "dynamic_key": new.dynamic_key,
        "name": new.name, "tags": new.tags, "state": {"type": "PENDING"}})
}

pub(super) fn new_run(flow: &FlowId, new: &NewRun) -> Value {
    json!({"flow_id": flow.as_str(), "name": new.name, "idempotency_key": new.idempotency_key,
        "tags": new.tags, "labels": new.labels, "parameters": new.parameters,
        "parent_task_run_id": new.parent.as_ref().map(crate::model::ids::TaskRunId::as_str),
        "state": run_state(&new.state)})
}

pub(super) fn run_state(state: &RunState) -> Value {
    let mut body = json!({"type": type_name(state.state_type), "message": state.message});
    if let Some(name) = state.name {
        body["name"] = name.into();
    }
    body
}

/// The inverse of [`state_type`].
fn type_name(state: StateType) -> &'static str {
    match state {
        StateType::Scheduled => "SCHEDULED",
        StateType::Pending | StateType::Other => "PENDING",
        StateType::Running => "RUNNING",
        StateType::Completed => "COMPLETED",
        StateType::Failed => "FAILED",
        StateType::Cancelled => "CANCELLED",
        StateType::Crashed => "CRASHED",
        StateType::Paused => "PAUSED",
        StateType::Cancelling => "CANCELLING",
    }
}

pub(super) fn log_lines(run: &RunId, at: Timestamp, lines: &[LogLine]) -> Value {
    let row = |line: &LogLine| {
        json!({"name": line.logger, "level": line.level, "message": line.message, "timestamp": at,
            "flow_run_id": run.as_str()})
    };
    lines.iter().map(row).collect()
}

pub(super) fn asset_filter(runs: &[RunId], since: Timestamp) -> Value {
    let runs: Vec<String> = runs.iter().map(|run| format!("prefect.flow-run.{run}")).collect();
    json!({"filter": {"event": {"name": [MADE]}, "any_resource": {"id": runs}, "occurred": {"since": since}},
        "limit": 50})
}

/// The event as Prefect's own SDK emits it.
pub(super) fn asset_event(run: &RunId, flow: &FlowId, event: &AssetEvent) -> Value {
    let related = |id: &str, role: &str| json!({"prefect.resource.id": id, "prefect.resource.role": role});
    let mut all: Vec<Value> = event.parents.iter().map(|asset| related(asset, "asset")).collect();
    all.push(related(TOOL, "asset-materialized-by"));
    let mut report = related(&format!("prefect.flow-run.{run}"), "flow-run");
    report["prefect.resource.name"] = json!(event.run_name);
    all.extend([report, related(&format!("prefect.flow.{flow}"), "flow")]);
    json!({"id": event.id, "occurred": event.occurred, "event": event.event, "payload": {}, "related": all,
        "resource": {"prefect.resource.id": event.asset, "prefect.resource.name": event.name,
            "prefect.asset.url": event.url}})
}

#[derive(Deserialize)]
pub(super) struct EnsuredRow {
    id: String,
    flow_id: String,
    #[serde(default)]
    state_type: Option<String>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
}

impl EnsuredRow {
    pub(super) fn into_model(self, made: bool) -> EnsuredRun {
        let state = self.state_type.as_deref().map_or(StateType::Other, state_type);
        let whose = self.labels.as_ref().map(Whose::of).unwrap_or_default();
        EnsuredRun { id: self.id.into(), flow: self.flow_id.into(), state, made, whose }
    }
}

#[derive(Deserialize)]
pub(super) struct LogRow {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct SetState {
    status: String,
}

impl SetState {
    pub(super) fn accepted(&self) -> bool {
        self.status == "ACCEPT"
    }
}

#[derive(Deserialize)]
pub(super) struct AssetEvents {
    events: Vec<AssetRow>,
}

#[derive(Deserialize)]
struct AssetRow {
    resource: AssetResource,
}

#[derive(Deserialize)]
struct AssetResource {
    #[serde(rename = "prefect.resource.id")]
    id: String,
}

impl AssetEvents {
    pub(super) fn into_model(self) -> Vec<String> {
        let mut assets: Vec<String> = self.events.into_iter().map(|row| row.resource.id).collect();
        assets.sort();
        assets.dedup();
        assets
    }
}
