//! Telling Prefect of what happens elsewhere (reference 12): runs without a worker, their states, log lines, artifacts and asset events.

use super::PrefectError;
use super::client::{PrefectClient, created, decode, success};
use super::wire::IdRow;
use super::wire_reports as wire;
use crate::http::Method;
use crate::model::ids::{FlowId, RunId, TaskRunId};
pub use crate::model::reports::{Artifact, AssetEvent, LogLine, NewRun, NewTaskRun, RunState, Whose};
use crate::model::runs::StateType;
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

/// What reports need of a workspace. Writes are never repeated by the client.
#[async_trait]
pub trait Reporting: Send + Sync {
    /// The task run of this identity, created when missing. Idempotent.
    ///
    /// `Conflict`: there is no such run [measured].
    async fn ensure_task_run(&self, new: &NewTaskRun) -> Result<TaskRunId, PrefectError>;
    /// The run of this key, created when missing: whatever else differs, one that is there stays as it is. Idempotent.
    ///
    /// `Conflict`: there is no such flow, or no such task run.
    async fn ensure_run(&self, flow: &FlowId, new: &NewRun) -> Result<EnsuredRun, PrefectError>;
    /// The run of this key of a flow of this name, if there is one.
    async fn find_run(&self, flow: &str, key: &str) -> Result<Option<EnsuredRun>, PrefectError>;
    /// Puts a run in a state, whatever it was: a run that has completed would also run again, so the caller must only go forward.
    async fn set_run_state(&self, run: &RunId, state: &RunState) -> Result<(), PrefectError>;
    /// Adds log lines to a run.
    async fn log(&self, run: &RunId, at: Timestamp, lines: &[LogLine]) -> Result<(), PrefectError>;
    /// Loggers of the log lines that a run has, the newest first; at most two hundred. A server of one's own has a line before it answers [source].
    async fn loggers(&self, run: &RunId) -> Result<Vec<String>, PrefectError>;
    /// Whether a run has an artifact, of whatever key.
    async fn has_artifact(&self, run: &RunId) -> Result<bool, PrefectError>;
    /// Adds an artifact to a run: a new version each time.
    async fn add_artifact(&self, run: &RunId, artifact: &Artifact) -> Result<(), PrefectError>;
    /// Keys of assets these runs made since then; at most fifty events are looked at.
    async fn assets_made_by(&self, runs: &[RunId], since: Timestamp) -> Result<Vec<String>, PrefectError>;
    /// Emits an event of an asset, made by this run of this flow. Idempotent by the event's id.
    async fn emit(&self, run: &RunId, flow: &FlowId, event: &AssetEvent) -> Result<(), PrefectError>;
}

/// A run that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsuredRun {
    /// Its id.
    pub id: RunId,
    /// Its flow.
    pub flow: FlowId,
    /// The type of its state.
    pub state: StateType,
    /// Whether this call made it.
    pub made: bool,
    /// Whose it says to be.
    pub whose: Whose,
}

#[async_trait]
impl Reporting for PrefectClient {
    async fn ensure_task_run(&self, new: &NewTaskRun) -> Result<TaskRunId, PrefectError> {
        let body = wire::task_run(new);
        let answer = self.call("ensure_task_run", Method::POST, &["task_runs", ""], Some(body)).await?;
        created(&answer).map(Into::into)
    }

    async fn ensure_run(&self, flow: &FlowId, new: &NewRun) -> Result<EnsuredRun, PrefectError> {
        let body = wire::new_run(flow, new);
        let answer = self.call("ensure_run", Method::POST, &["flow_runs", ""], Some(body)).await?;
        success(&answer)?;
        // An answer that cannot be read leaves open what was done.
        let row = decode::<wire::EnsuredRow>(&answer).map_err(|_| PrefectError::Ambiguous)?;
        Ok(row.into_model(answer.status == 201))
    }

    async fn find_run(&self, flow: &str, key: &str) -> Result<Option<EnsuredRun>, PrefectError> {
        let body = json!({"flows": {"name": {"any_": [flow]}}, "flow_runs": {"idempotency_key": {"any_": [key]}},
            "limit": 1});
        let answer = self.call("find_run", Method::POST, &["flow_runs", "filter"], Some(body)).await?;
        let rows: Vec<wire::EnsuredRow> = decode(&answer)?;
        Ok(rows.into_iter().next().map(|row| row.into_model(false)))
    }

    async fn set_run_state(&self, run: &RunId, state: &RunState) -> Result<(), PrefectError> {
        let body = json!({"state": wire::run_state(state), "force": true});
        let path = ["flow_runs", run.as_str(), "set_state"];
        let answer = self.call("set_run_state", Method::POST, &path, Some(body)).await?;
        // The status of the answer does not tell success (reference 9.4).
        if decode::<wire::SetState>(&answer)?.accepted() { Ok(()) } else { Err(PrefectError::Conflict) }
    }

    async fn log(&self, run: &RunId, at: Timestamp, lines: &[LogLine]) -> Result<(), PrefectError> {
        self.done("log", Method::POST, &["logs", ""], wire::log_lines(run, at, lines)).await
    }

    async fn loggers(&self, run: &RunId) -> Result<Vec<String>, PrefectError> {
        let body = json!({"logs": {"flow_run_id": {"any_": [run.as_str()]}}, "sort": "TIMESTAMP_DESC",
            "limit": 200});
        let answer = self.call("list_logs", Method::POST, &["logs", "filter"], Some(body)).await?;
        Ok(decode::<Vec<wire::LogRow>>(&answer)?.into_iter().map(|row| row.name).collect())
    }

    async fn has_artifact(&self, run: &RunId) -> Result<bool, PrefectError> {
        let body = json!({"artifacts": {"flow_run_id": {"any_": [run.as_str()]}}, "limit": 1});
        let answer = self.call("list_artifacts", Method::POST, &["artifacts", "filter"], Some(body)).await?;
        Ok(!decode::<Vec<IdRow>>(&answer)?.is_empty())
    }

    async fn add_artifact(&self, run: &RunId, artifact: &Artifact) -> Result<(), PrefectError> {
        let body = json!({"key": artifact.key, "type": "markdown", "description": artifact.description,
            "data": artifact.markdown, "flow_run_id": run.as_str()});
        self.done("add_artifact", Method::POST, &["artifacts", ""], body).await
    }

    async fn assets_made_by(&self, runs: &[RunId], since: Timestamp) -> Result<Vec<String>, PrefectError> {
        let body = wire::asset_filter(runs, since);
        let answer = self.call("list_assets", Method::POST, &["events", "filter"], Some(body)).await?;
        Ok(decode::<wire::AssetEvents>(&answer)?.into_model())
    }

    async fn emit(&self, run: &RunId, flow: &FlowId, event: &AssetEvent) -> Result<(), PrefectError> {
        self.done("emit", Method::POST, &["events"], json!([wire::asset_event(run, flow, event)])).await
    }
}
