//! The workloads of a refresh's life: what starts one, how it ends, and what is told of its data.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::FaultsError;
use super::admin::crs;
use super::point::System;
use super::stage::{LIMIT, SITE, Stage};
use super::workload::{PROJECT, Workload};
use crate::proxy::Entry;
use crate::tableau::{Kind, Outcome, Script, Simulator, Step};

/// How long a run takes whose data is stale when it completes: a little longer than the shortest promise.
const OLD: Duration = Duration::from_secs(61);
/// How long a run goes on after another has completed, and how long a job of a schedule has.
const MEANWHILE: Duration = Duration::from_secs(2);
/// After so long what is owed is not started without a look at what others have refreshed meanwhile.
const OWED_FOR_LONG: Duration = Duration::from_secs(11);

impl Workload {
    /// What the extract declares beside the rest.
    pub(super) fn declare_refresh(self, stage: &Stage, spec: &mut Value) {
        match self {
            Self::Cancel => spec["timeout"] = "1m".into(),
            Self::Incremental => spec["refreshType"] = "IncrementalOrFull".into(),
            Self::Runs => {
                let runs = json!({"workspaceRef": {"name": "prod"}, "tags": [tag(stage)]});
                spec["upstreams"] =
                    json!([{"name": "crm", "prefectRuns": runs, "parameters": {"region": "eu"}}]);
                spec["trigger"] = json!({"debounce": {"quiet": "3s"}});
            }
            Self::Warn | Self::Clear => {
                spec["freshness"] = json!({"failAfter": "1m", "dataQualityWarning": "WhenStale"});
            }
            Self::Wait => spec["trigger"] = json!({"runningUpstreams": {"policy": "Wait"}}),
            Self::Native | Self::Reselect => spec["suspend"] = true.into(),
            _ => {}
        }
    }

    /// What has begun when the act comes.
    pub(super) async fn prepare_refresh(self, stage: &Stage) -> Result<(), FaultsError> {
        match self {
            Self::Cancel | Self::Vanish => {
                let held = if self == Self::Cancel {
                    Script { queued: Step::UntilReleased, running: Step::UntilReleased, ..Script::default() }
                } else {
                    Script { running: Step::UntilReleased, outcome: Outcome::Vanish, ..Script::default() }
                };
                let orders = orders(stage);
                stage.simulator.script(&orders, held);
                stage.simulator.script(&orders, Script::default());
                stage.complete().await?;
                stage.hold_jobs(true);
                let runs = self == Self::Vanish;
                // That it is queued, and that it runs.
                let lines = if runs { 2 } else { 1 };
                stage
                    .until("the refresh is under way, and Prefect was told of it", async || {
                        let attempt = stage.extract().await?["status"]["attempt"].clone();
                        let under_way =
                            attempt["phase"] == "Submitted" && attempt["startedAt"].is_string() == runs;
                        Ok(under_way && told(stage) == lines)
                    })
                    .await
            }
            Self::Warn => begin_long_ago(stage).await,
            Self::Clear => {
                begin_long_ago(stage).await?;
                complete_running(stage).await?;
                stage
                    .until("Tableau says that it is stale", async || {
                        Ok(stage.extract().await?["status"]["dataQualityWarning"]["state"] == "Set")
                    })
                    .await
            }
            Self::Wait => begin(stage).await,
            Self::Occupied => {
                let orders = orders(stage);
                stage.simulator.script(&orders, Script { running: Step::UntilReleased, ..Script::default() });
                stage.simulator.script(&orders, Script::default());
                let _ = stage.simulator.start_refresh(&orders, Kind::Full, "ann");
                stage.hold_jobs(true);
                Ok(())
            }
            Self::Native | Self::Reselect => {
                stage.complete().await?;
                stage
                    .until("a refresh is owed", async || {
                        Ok(!stage.extract().await?["status"]["owed"].is_null())
                    })
                    .await?;
                if self == Self::Native {
                    tokio::time::sleep(OWED_FOR_LONG).await;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Does it.
    pub(super) async fn act_on_refresh(self, stage: &Stage) -> Result<(), FaultsError> {
        match self {
            Self::Cancel => {
                stage.simulator.start_late(&orders(stage), Duration::from_secs(300));
                stage.hold_jobs(false);
                Ok(())
            }
            Self::Vanish => {
                stage.simulator.release_jobs(&orders(stage));
                stage.hold_jobs(false);
                Ok(())
            }
            Self::Runs => {
                for region in ["us", "eu", "eu"] {
                    complete_tagged(stage, region).await?;
                }
                Ok(())
            }
            Self::Warn => complete_running(stage).await,
            Self::Wait => {
                stage.complete().await?;
                tokio::time::sleep(MEANWHILE).await;
                complete_running(stage).await
            }
            Self::Occupied => {
                stage.hold_jobs(false);
                tokio::spawn(release_when_refused(stage.simulator.clone(), orders(stage)));
                stage.complete().await
            }
            Self::Native => {
                let orders = orders(stage);
                let weekly = json!({"start": "05:00:00", "intervals": {"interval": [{"weekDay": "Sunday"}]}});
                let weekly = json!({"frequency": "Weekly", "frequencyDetails": weekly});
                stage.simulator.add_schedule("Weekly", &weekly);
                let task = stage.simulator.attach(&orders, "Weekly", Kind::Full);
                stage.simulator.tick(&task);
                tokio::time::sleep(MEANWHILE).await;
                resume(stage, json!({})).await
            }
            Self::Reselect => {
                let runs = json!({"workspaceRef": {"name": "prod"}, "tags": [tag(stage)]});
                let upstream = json!({"name": "orders", "prefectRuns": runs});
                resume(stage, json!({"upstreams": [upstream]})).await
            }
            _ => stage.complete().await,
        }
    }

    /// Whether what it is about has been met, by the extract's status.
    pub(super) fn has_shown(self, stage: &Stage, status: &Value) -> bool {
        let history = status["history"].as_array().map_or(&[][..], Vec::as_slice);
        let ended = |outcome: &str| history.iter().any(|entry| entry["outcome"] == outcome);
        let runs = history.first().map(|entry| entry["runCount"].clone());
        let warnings = stage.simulator.truth().warnings.len();
        let warning = &status["dataQualityWarning"];
        match self {
            Self::Cancel => ended("TimedOut"),
            Self::Vanish => ended("JobVanished"),
            Self::Incremental => status["target"]["fullOnly"] == true,
            Self::Warn => warnings == 1 && warning["state"] == "Set",
            Self::Clear => warnings == 0 && warning.is_null(),
            // The newest of each upstream counts, and there is one.
            Self::Runs | Self::Wait | Self::Reselect => runs == Some(1.into()) && history.len() == 1,
            Self::Occupied => refused(&stage.simulator) && runs == Some(1.into()) && history.len() == 1,
            // Nothing was started for it.
            Self::Native => {
                runs == Some(1.into())
                    && history.len() == 1
                    && history[0]["origin"] == "Adopted"
                    && stage.simulator.truth().count("refreshDatasource") == 0
            }
            _ => true,
        }
    }
}

/// How often Prefect has got log lines of reports.
fn told(stage: &Stage) -> usize {
    let log = |entry: &&Entry| {
        entry.verb == "POST" && entry.path.trim_end_matches('/').ends_with("/logs") && entry.ended.is_some()
    };
    stage.proxy(System::Prefect).read(|journal| journal.iter().filter(log).count())
}

/// Whether a start was refused since another refresh of the extract was queued or running.
fn refused(simulator: &Simulator) -> bool {
    simulator.truth().requests.iter().any(|request| request.code == Some("409093"))
}

/// Lets somebody's job end once it has been in the way, as long as a run may take: the operator may be dead, and start again.
async fn release_when_refused(simulator: Simulator, content: String) {
    let refused = async {
        while !refused(&simulator) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(MEANWHILE).await;
    };
    let _ = tokio::time::timeout(LIMIT, refused).await;
    simulator.release_jobs(&content);
}

/// The extract is suspended no more, and its spec edited.
async fn resume(stage: &Stage, mut spec: Value) -> Result<(), FaultsError> {
    spec["suspend"] = false.into();
    let extract = format!("{}/orders", crs(&stage.namespace, "extractrefreshes"));
    stage.admin.merge(&extract, json!({"spec": spec})).await
}

/// The tag of this run's runs: a Prefect server serves one run of the matrix after the other, and keeps what they left.
fn tag(stage: &Stage) -> String {
    format!("{}-crm", stage.namespace)
}

fn orders(stage: &Stage) -> String {
    stage.simulator.add_datasource(SITE, PROJECT, "Orders", true)
}

/// A run of the flow begins.
async fn begin(stage: &Stage) -> Result<(), FaultsError> {
    let run = stage.prefect.run_in_state(&stage.deployment().await?, "PENDING").await?;
    Ok(stage.prefect.set_state(&run, "RUNNING").await?)
}

/// It has gone on for so long that its data is stale. (Prefect's times are its own: there is no other way than to wait.)
async fn begin_long_ago(stage: &Stage) -> Result<(), FaultsError> {
    begin(stage).await?;
    tokio::time::sleep(OLD).await;
    Ok(())
}

/// The run that goes on completes.
async fn complete_running(stage: &Stage) -> Result<(), FaultsError> {
    let running = stage.runs().await?.into_iter().find(|run| run["state"]["type"] == "RUNNING");
    let running = running.as_ref().and_then(|run| run["id"].as_str()).unwrap_or_default();
    Ok(stage.prefect.set_state(running, "COMPLETED").await?)
}

/// A run of the flow without its deployment, with the tag that is watched.
async fn complete_tagged(stage: &Stage, region: &str) -> Result<(), FaultsError> {
    let flow = stage.prefect.ensure_flow(&format!("{}-orders", stage.namespace)).await?;
    let run = json!({"flow_id": flow, "tags": ["nightly", tag(stage)],
        "parameters": {"region": region}, "state": {"type": "PENDING"}});
    let run = stage.prefect.call(Method::POST, "/flow_runs/", Some(run)).await?;
    let run = run["id"].as_str().unwrap_or_default().to_owned();
    stage.prefect.set_state(&run, "RUNNING").await?;
    stage.prefect.set_state(&run, "COMPLETED").await?;
    Ok(())
}
