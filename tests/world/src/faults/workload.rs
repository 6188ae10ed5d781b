//! What is done to the operator while it is killed.

use std::fmt;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::FaultsError;
use super::admin::crs;
use super::point::System;
use super::stage::{SITE, Stage};
use crate::proxy::Entry;
use crate::resources;
use crate::tableau::{Config, Edition, Outcome, Script, Step, WarningEcho};

/// A workload: something is prepared, then one thing is done, of which every call is a place to be killed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Everything is declared at once, with a refresh asked for.
    Create,
    /// A deployment gets other fields and schedules, an extract another target and a refresh.
    Edit,
    /// Both credentials are replaced, the old ones refused, and a flow completes.
    Rotate,
    /// A flow completes.
    Trigger,
    /// A flow completes, and the first refresh fails.
    Retry,
    /// A deployment whose schedule ticks every two seconds is edited, and the run of a tick completes.
    Schedule,
    /// Deployment and extract are deleted.
    Delete,
    /// On Cloud an extract's schedules are edited: one changed, one made, one removed; another extract goes with its own.
    Tasks,
    /// The same on a Server, where schedules are shared.
    Shared,
    /// A deployment's settings are edited: its variables, limit, pause, a schedule's parameters.
    Settings,
    /// A deployment that somebody made by hand was observed, and is now taken over.
    TakeOver,
    /// A deployment gets another name.
    Rename,
    /// Schedules that others made are to go.
    Foreign,
    /// A refresh runs longer than it may: it is cancelled, and tried again.
    Cancel,
    /// The record of a job that runs is gone, and the refresh is tried again.
    Vanish,
    /// Tableau refuses an incremental refresh, and a full one is started.
    Incremental,
    /// Runs complete that are chosen by tag and parameters, close to one another.
    Runs,
    /// What is refreshed is stale at once, and Tableau is to say so.
    Warn,
    /// Tableau says that the data is stale, and it is refreshed.
    Clear,
    /// A refresh is due while another run goes on, and then that ends.
    Wait,
    /// A flow completes while a refresh of somebody else runs, which then ends.
    Occupied,
    /// A refresh is owed and held, one of Tableau's own schedules contains it meanwhile, and then it is held no more.
    Native,
    /// The upstream of what is owed is edited: from then on it means other runs.
    Reselect,
}

impl Workload {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 23] = [
        Self::Create,
        Self::Edit,
        Self::Rotate,
        Self::Trigger,
        Self::Retry,
        Self::Schedule,
        Self::Delete,
        Self::Tasks,
        Self::Shared,
        Self::Settings,
        Self::TakeOver,
        Self::Rename,
        Self::Foreign,
        Self::Cancel,
        Self::Vanish,
        Self::Incremental,
        Self::Runs,
        Self::Warn,
        Self::Clear,
        Self::Wait,
        Self::Occupied,
        Self::Native,
        Self::Reselect,
    ];

    /// Which Tableau it is about.
    pub fn tableau(self) -> Config {
        let edition = if self == Self::Tasks { Edition::Cloud } else { Edition::Server };
        let usual = Config { edition, ..Config::default() };
        match self {
            // It does not know incremental refreshes yet.
            Self::Incremental => Config { rest_api_version: "3.24".to_owned(), ..usual },
            // A text comes back otherwise than it was sent, and is ours all the same.
            Self::Clear => Config { warning_echo: WarningEcho::Escaped, ..usual },
            _ => usual,
        }
    }

    /// Calls that may be missing, because whoever begins anew need not make them.
    pub fn may_lack(self) -> &'static [&'static str] {
        match self {
            // What is taken over is left in the end: the connection is held until that is known, and need not be if it is known by then.
            Self::TakeOver => &["kubernetes:PATCH:prefectworkspaces/prod"],
            _ => &[],
        }
    }

    /// Calls that may be applied more often than in the reference, because being applied again changes nothing.
    pub fn may_repeat(self) -> &'static [&'static str] {
        match self {
            // Asking Prefect to schedule creates only what is missing; a flow of that name is made once.
            Self::Create
            | Self::Edit
            | Self::Schedule
            | Self::Settings
            | Self::TakeOver
            | Self::Rename
            | Self::Foreign => {
                &["prefect:POST:deployments/*/schedule", "prefect:POST:flows", "prefect:PATCH:deployments/*"]
            }
            // The whole schedule is sent.
            Self::Tasks => &["tableau:POST:tasks/extractRefreshes/*"],
            Self::Rotate
            | Self::Trigger
            | Self::Retry
            | Self::Delete
            | Self::Shared
            | Self::Cancel
            | Self::Vanish
            | Self::Incremental
            | Self::Runs
            | Self::Warn
            | Self::Clear
            | Self::Wait
            | Self::Occupied
            | Self::Native
            | Self::Reselect => &[],
        }
    }

    /// How often an extract is refreshed, by whomever.
    pub fn refreshes(self) -> usize {
        match self {
            Self::Create
            | Self::Edit
            | Self::Rotate
            | Self::Trigger
            | Self::Schedule
            | Self::Incremental
            | Self::Runs
            | Self::Warn
            | Self::Wait
            | Self::Native
            | Self::Reselect => 1,
            Self::Retry | Self::Cancel | Self::Vanish | Self::Clear | Self::Occupied => 2,
            Self::Delete
            | Self::Tasks
            | Self::Shared
            | Self::Settings
            | Self::TakeOver
            | Self::Rename
            | Self::Foreign => 0,
        }
    }

    /// Brings about what is there before.
    pub async fn prepare(self, stage: &Stage) -> Result<(), FaultsError> {
        stage.simulator.add_datasource(SITE, PROJECT, "Orders", true);
        stage.simulator.add_datasource(SITE, PROJECT, "Revenue", true);
        if self == Self::Create {
            return Ok(());
        }
        if self == Self::Retry {
            let luid = stage.simulator.add_datasource(SITE, PROJECT, "Orders", true);
            let failed = Outcome::Failed { notes: "the disk is full".to_owned() };
            let short = Step::For(Duration::from_millis(200));
            stage.simulator.script(&luid, Script { running: short, outcome: failed, ..Script::default() });
            stage.simulator.script(&luid, Script::default());
        }
        if self == Self::TakeOver {
            let flow = stage.prefect.ensure_flow(&format!("{}-orders", stage.namespace)).await?;
            let by_hand =
                json!({"name": "orders", "flow_id": flow, "description": "by hand", "tags": ["crm"]});
            stage.prefect.create_deployment(by_hand).await?;
        }
        stage.admin.apply(&resources::list(&self.objects(stage))).await?;
        stage
            .until("everything is ready", async || {
                let flow = stage.flow().await?;
                if self.is_about_deployments() {
                    return Ok(ready(&flow) && flow["status"]["pendingWrite"].is_null());
                }
                let extract = stage.extract().await?;
                let annotated = !extract["metadata"]["annotations"]["feedwater.dev/baseline"].is_null();
                let ticks = self != Self::Schedule || stage.runs_due().await?.len() >= 2;
                let tasks = stage.simulator.truth().tasks.len();
                let scheduled = !self.is_about_schedules() || (tasks == 3 && scheduled(&extract, 2));
                Ok(ready(&flow) && ready(&extract) && annotated && ticks && scheduled)
            })
            .await?;
        if self == Self::Foreign {
            let id = stage.flow().await?["status"]["deploymentId"].as_str().unwrap_or_default().to_owned();
            let theirs = json!([
                {"active": true, "slug": "by-hand", "schedule": {"cron": "30 3 * * *", "timezone": "UTC"}},
                {"active": false, "schedule": {"cron": "0 7 * * *", "timezone": "UTC"}},
            ]);
            stage.prefect.call(Method::POST, &format!("/deployments/{id}/schedules"), Some(theirs)).await?;
            // What the operator has not seen when it is edited would be drift in one run and no drift in the next.
            let proxy = stage.proxy(System::Prefect);
            let by_then = proxy.total();
            let read = |entry: &Entry| entry.path.ends_with("/deployments/filter") && entry.ended.is_some();
            let reads = || proxy.read(|all| all.iter().skip(by_then).filter(|entry| read(entry)).count());
            stage.until("the schedules are seen", async || Ok(reads() >= 2)).await?;
        }
        self.prepare_refresh(stage).await
    }

    /// What there is to be declared.
    fn objects(self, stage: &Stage) -> Vec<Value> {
        let namespace = &stage.namespace;
        let mut objects = stage.connections();
        let mut flow = resources::flow_deployment(namespace, "orders", "prod", "orders");
        flow["spec"]["flowName"] = format!("{namespace}-orders").into();
        flow["spec"]["description"] = "Loads orders".into();
        flow["spec"]["parameters"] = json!({"region": "eu"});
        flow["spec"]["schedules"] = match self {
            Self::Schedule => json!([{"slug": "often", "interval": {"every": "2s"}}]),
            _ => json!([
                {"slug": "nightly", "cron": {"expression": "0 2 * * *"}, "timeZone": "Europe/Berlin"},
                {"slug": "weekly", "cron": {"expression": "0 4 * * 1"}},
            ]),
        };
        let mut extract =
            resources::extract_refresh(namespace, "orders", "acme", ("Finance/Sales", "Orders"), &["orders"]);
        extract["spec"]["retry"] = json!({"limit": 2, "backoff": {"duration": "1s", "factor": 1}});
        if self == Self::Create {
            extract["metadata"]["annotations"] = json!({ASKED: "t1"});
        }
        if self.is_about_schedules() {
            extract["spec"]["schedules"] = json!([
                {"name": "nightly", "frequency": "Daily", "start": "02:00"},
                {"name": "weekly", "frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"]},
            ]);
            let mut other = resources::extract_refresh(
                namespace,
                "other",
                "acme",
                ("Finance/Sales", "Revenue"),
                &["orders"],
            );
            other["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "03:00"}]);
            objects.push(other);
        }
        self.declare_refresh(stage, &mut extract["spec"]);
        if self == Self::TakeOver {
            flow["spec"]["adoptionPolicy"] = "Adopt".into();
            flow["spec"]["managementPolicy"] = "Observe".into();
        }
        objects.push(flow);
        if !self.is_about_deployments() {
            objects.push(extract);
        }
        objects
    }

    /// Does it. Nothing here waits for the operator, which may be dead.
    pub async fn act(self, stage: &Stage) -> Result<(), FaultsError> {
        let path = |plural: &str| format!("{}/orders", crs(&stage.namespace, plural));
        let (flow, extract) = (path("flowdeployments"), path("extractrefreshes"));
        match self {
            Self::Create => stage.admin.apply(&resources::list(&self.objects(stage))).await,
            Self::Edit => {
                let schedules = json!([
                    {"slug": "nightly", "cron": {"expression": "30 3 * * *"}, "timeZone": "Europe/Berlin"},
                    {"slug": "monthly", "cron": {"expression": "0 5 1 * *"}},
                ]);
                let spec = json!({"description": "Loads all orders", "parameters": {"region": "us"},
                    "tags": ["finance"], "schedules": schedules});
                stage.admin.merge(&flow, json!({"spec": spec})).await?;
                let spec = json!({"target": {"name": "Revenue"}, "timeout": "1h"});
                let metadata = json!({"annotations": {ASKED: "t1"}});
                stage.admin.merge(&extract, json!({"spec": spec, "metadata": metadata})).await
            }
            Self::Rotate => {
                stage.rotate().await?;
                stage.complete().await
            }
            Self::Trigger | Self::Retry => stage.complete().await,
            Self::Cancel
            | Self::Vanish
            | Self::Incremental
            | Self::Runs
            | Self::Warn
            | Self::Clear
            | Self::Wait
            | Self::Occupied
            | Self::Native
            | Self::Reselect => self.act_on_refresh(stage).await,
            Self::Schedule => {
                stage.complete_a_tick().await?;
                let spec = json!({"description": "Loads all orders", "parameters": {"region": "us"}});
                stage.admin.merge(&flow, json!({"spec": spec})).await
            }
            Self::Tasks | Self::Shared => {
                let schedules = json!([
                    {"name": "nightly", "frequency": "Daily", "start": "04:00"},
                    {"name": "monthly", "frequency": "Monthly", "start": "06:00", "monthDays": ["LastDay"]},
                ]);
                stage.admin.merge(&extract, json!({"spec": {"schedules": schedules}})).await?;
                stage.admin.delete(&format!("{}/other", crs(&stage.namespace, "extractrefreshes"))).await
            }
            Self::Settings => {
                let schedules = json!([
                    {"slug": "nightly", "cron": {"expression": "0 2 * * *"}, "timeZone": "Europe/Berlin", "parameters": {"region": "us"}},
                    {"slug": "weekly", "cron": {"expression": "0 4 * * 1"}, "maxScheduledRuns": 5},
                ]);
                let spec = json!({"jobVariables": {"env": {"LOG_LEVEL": "INFO"}}, "enforceParameterSchema": false,
                    "concurrencyLimit": {"limit": 2, "collisionStrategy": "CancelNew"}, "schedules": schedules});
                stage.admin.merge(&flow, json!({"spec": spec})).await
            }
            Self::TakeOver => stage.admin.merge(&flow, json!({"spec": {"managementPolicy": "Manage"}})).await,
            Self::Rename => stage.admin.merge(&flow, json!({"spec": {"deploymentName": "nightly"}})).await,
            Self::Foreign => stage.admin.merge(&flow, json!({"spec": {"foreignSchedules": "Remove"}})).await,
            Self::Delete => {
                stage.admin.delete(&extract).await?;
                stage.admin.delete(&flow).await
            }
        }
    }

    /// Whether what was done has had its effect.
    pub async fn is_done(self, stage: &Stage) -> Result<bool, FaultsError> {
        let (flow, extract) = (stage.flow().await?, stage.extract().await?);
        let status = &extract["status"];
        let refreshed = fresh(&extract) && status["owed"].is_null() && status["attempt"].is_null();
        Ok(match self {
            Self::Delete => flow.is_null() && extract.is_null(),
            Self::Tasks | Self::Shared => {
                let other = format!("{}/other", crs(&stage.namespace, "extractrefreshes"));
                let gone = stage.admin.get(&other).await?.is_none();
                ready(&extract) && scheduled(&extract, 2) && gone && status["scheduleIntent"].is_null()
            }
            Self::Settings | Self::TakeOver | Self::Rename | Self::Foreign => {
                ready(&flow) && flow["status"]["pendingWrite"].is_null()
            }
            Self::Create | Self::Edit | Self::Rotate | Self::Trigger | Self::Schedule | Self::Retry => {
                ready(&flow) && ready(&extract) && refreshed
            }
            Self::Warn => ready(&extract) && self.has_shown(stage, status),
            Self::Cancel
            | Self::Vanish
            | Self::Incremental
            | Self::Runs
            | Self::Clear
            | Self::Wait
            | Self::Occupied
            | Self::Native
            | Self::Reselect => ready(&extract) && refreshed && self.has_shown(stage, status),
        })
    }
}

impl Workload {
    /// Of which a change need pass a few kills only: those of deployments are like each other, and those of refreshes differ from a trigger in little.
    pub fn is_one_of_many(self) -> bool {
        self.is_about_deployments()
            || matches!(self, Self::Cancel | Self::Vanish | Self::Incremental | Self::Runs | Self::Wait)
            || matches!(self, Self::Occupied | Self::Native | Self::Reselect)
    }

    /// Data is not stale before a minute has passed; a change need not wait for that.
    pub fn takes_a_minute(self) -> bool {
        matches!(self, Self::Warn | Self::Clear)
    }

    /// Without an extract.
    pub fn is_about_deployments(self) -> bool {
        matches!(self, Self::Settings | Self::TakeOver | Self::Rename | Self::Foreign)
    }

    fn is_about_schedules(self) -> bool {
        matches!(self, Self::Tasks | Self::Shared)
    }
}

/// Whether so many schedules are there, and read back.
fn scheduled(extract: &Value, count: usize) -> bool {
    let all = extract["status"]["schedules"].as_array().map_or(&[][..], Vec::as_slice);
    all.len() == count && all.iter().all(|schedule| schedule["definition"].is_string())
}

pub(super) const PROJECT: &[&str] = &["Finance", "Sales"];
const ASKED: &str = "feedwater.dev/refresh-requested";

/// `Ready` at the present generation.
fn ready(object: &Value) -> bool {
    holds(object, "Ready")
}

fn fresh(object: &Value) -> bool {
    holds(object, "Fresh")
}

fn holds(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| {
        condition["type"] == kind
            && condition["status"] == "True"
            && condition["observedGeneration"] == object["metadata"]["generation"]
    })
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Rotate => "rotate",
            Self::Trigger => "trigger",
            Self::Retry => "retry",
            Self::Schedule => "schedule",
            Self::Delete => "delete",
            Self::Tasks => "tasks",
            Self::Shared => "shared",
            Self::Settings => "settings",
            Self::TakeOver => "take-over",
            Self::Rename => "rename",
            Self::Foreign => "foreign",
            Self::Cancel => "cancel",
            Self::Vanish => "vanish",
            Self::Incremental => "incremental",
            Self::Runs => "runs",
            Self::Warn => "warn",
            Self::Clear => "clear",
            Self::Wait => "wait",
            Self::Occupied => "occupied",
            Self::Native => "native",
            Self::Reselect => "reselect",
        })
    }
}
