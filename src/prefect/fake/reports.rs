//! What the fake server was told (reference 12).

use super::{FakePrefect, State};
use crate::model::ids::{FlowId, RunId, TaskRunId};
use crate::model::reports::{Artifact, AssetEvent, LogLine, NewRun, NewTaskRun, RunState, Whose};
use crate::model::runs::StateType;
use crate::prefect::{EnsuredRun, PrefectError, Reporting};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Everything told.
#[derive(Debug, Default)]
pub struct Told {
    /// Runs, in the order they were made.
    pub runs: Vec<ToldRun>,
    /// Task runs by identity: run, task key, dynamic key.
    pub task_runs: BTreeMap<(RunId, String, String), TaskRunId>,
    /// Asset events, each id once.
    pub assets: Vec<AssetEvent>,
    /// Assets that runs of flows made.
    pub made: BTreeMap<RunId, Vec<String>>,
}

/// A run that was told of.
#[derive(Clone, Debug)]
pub struct ToldRun {
    /// Its id.
    pub id: RunId,
    /// Its flow.
    pub flow: FlowId,
    /// As it was made.
    pub new: NewRun,
    /// The run it hangs under.
    pub parent: Option<RunId>,
    /// Its states in order.
    pub states: Vec<RunState>,
    /// Its log.
    pub lines: Vec<LogLine>,
    /// Its artifacts.
    pub artifacts: Vec<Artifact>,
}

impl ToldRun {
    /// Types of its states, in order.
    pub fn state_types(&self) -> Vec<StateType> {
        self.states.iter().map(|state| state.state_type).collect()
    }
}

fn told<'a>(state: &'a mut State, run: &RunId) -> Result<&'a mut ToldRun, PrefectError> {
    state.told.runs.iter_mut().find(|told| told.id == *run).ok_or(PrefectError::NotFound)
}

#[async_trait]
impl Reporting for FakePrefect {
    async fn ensure_task_run(&self, new: &NewTaskRun) -> Result<TaskRunId, PrefectError> {
        self.call("ensure_task_run", new.run.as_str(), |state| {
            if !state.runs.iter().any(|run| run.id == new.run) {
                return Err(PrefectError::Conflict);
            }
            let key = (new.run.clone(), new.task_key.clone(), new.dynamic_key.clone());
            let id: TaskRunId = state.id("task-run");
            Ok(state.told.task_runs.entry(key).or_insert(id).clone())
        })
    }

    async fn ensure_run(&self, flow: &FlowId, new: &NewRun) -> Result<EnsuredRun, PrefectError> {
        self.call("ensure_run", &new.idempotency_key, |state| {
            let same =
                |told: &&ToldRun| told.flow == *flow && told.new.idempotency_key == new.idempotency_key;
            if let Some(told) = state.told.runs.iter().find(same) {
                let now = told.states.last().map_or(StateType::Other, |state| state.state_type);
                let whose = Whose::of(&told.new.labels);
                return Ok(EnsuredRun {
                    id: told.id.clone(),
                    flow: flow.clone(),
                    state: now,
                    made: false,
                    whose,
                });
            }
            let parent = |task: &TaskRunId| {
                let found = state.told.task_runs.iter().find(|(_, id)| *id == task);
                found.map(|((run, _, _), _)| run.clone()).ok_or(PrefectError::Conflict)
            };
            let parent = new.parent.as_ref().map(parent).transpose()?;
            if !state.flows.values().any(|id| id == flow) {
                return Err(PrefectError::Conflict);
            }
            let id: RunId = state.id("report");
            let states = vec![new.state.clone()];
            state.told.runs.push(ToldRun {
                id: id.clone(),
                flow: flow.clone(),
                new: new.clone(),
                parent,
                states,
                lines: Vec::new(),
                artifacts: Vec::new(),
            });
            Ok(EnsuredRun {
                id,
                flow: flow.clone(),
                state: new.state.state_type,
                made: true,
                whose: Whose::of(&new.labels),
            })
        })
    }

    async fn find_run(&self, flow: &str, key: &str) -> Result<Option<EnsuredRun>, PrefectError> {
        self.call("find_run", key, |state| {
            let flow = state.flows.get(flow);
            let same = |told: &&ToldRun| Some(&told.flow) == flow && told.new.idempotency_key == key;
            Ok(state.told.runs.iter().find(same).map(|told| EnsuredRun {
                id: told.id.clone(),
                flow: told.flow.clone(),
                state: told.states.last().map_or(StateType::Other, |state| state.state_type),
                made: false,
                whose: Whose::of(&told.new.labels),
            }))
        })
    }

    async fn set_run_state(&self, run: &RunId, new: &RunState) -> Result<(), PrefectError> {
        self.call("set_run_state", run.as_str(), |state| {
            told(state, run)?.states.push(new.clone());
            Ok(())
        })
    }

    async fn log(&self, run: &RunId, _: Timestamp, lines: &[LogLine]) -> Result<(), PrefectError> {
        self.call("log", run.as_str(), |state| {
            told(state, run)?.lines.extend_from_slice(lines);
            Ok(())
        })
    }

    async fn loggers(&self, run: &RunId) -> Result<Vec<String>, PrefectError> {
        self.call("loggers", run.as_str(), |state| {
            // Prefect keeps lines of whatever run.
            let lines = told(state, run).map(|told| told.lines.clone()).unwrap_or_default();
            Ok(lines.iter().rev().map(|line| line.logger.to_owned()).collect())
        })
    }

    async fn has_artifact(&self, run: &RunId) -> Result<bool, PrefectError> {
        self.call("has_artifact", run.as_str(), |state| Ok(!told(state, run)?.artifacts.is_empty()))
    }

    async fn add_artifact(&self, run: &RunId, artifact: &Artifact) -> Result<(), PrefectError> {
        self.call("add_artifact", run.as_str(), |state| {
            told(state, run)?.artifacts.push(artifact.clone());
            Ok(())
        })
    }

    async fn assets_made_by(&self, runs: &[RunId], _: Timestamp) -> Result<Vec<String>, PrefectError> {
        self.call("assets_made_by", "", |state| {
            Ok(runs.iter().filter_map(|run| state.told.made.get(run)).flatten().cloned().collect())
        })
    }

    async fn emit(&self, _: &RunId, _: &FlowId, event: &AssetEvent) -> Result<(), PrefectError> {
        self.call("emit", &event.id, |state| {
            if !state.told.assets.iter().any(|known| known.id == event.id) {
                state.told.assets.push(event.clone());
            }
            Ok(())
        })
    }
}
