//! What there is at the end of a run, without what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::FaultsError;
use super::admin::crs;
use super::point::{Key, System, is_position};
use super::stage::{Stage, expected};
use crate::tableau::{Refresh, RequestedBy, TaskTruth};

/// The end of a run.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The four kinds, and the deployments in Prefect.
    pub state: Value,
    /// The calls that were applied since the act began.
    pub calls: BTreeMap<Key, usize>,
    /// How many refreshes were started.
    pub refreshes: usize,
    /// How many of those that have ended Prefect was not told of to the last: the artifact, which comes after all else.
    pub untold: usize,
    /// How many log lines of refreshes Prefect has more than once.
    pub said_twice: usize,
    /// The earliest run that is still to come; `None` when there is none.
    pub next_run: Option<Timestamp>,
    /// When the runs of schedules were expected, in order.
    pub ticks: Vec<Timestamp>,
    /// Where a secret was found.
    pub leaks: Vec<String>,
    /// What the operator said when it panicked.
    pub panics: Vec<String>,
}

/// How many requests of each system there were when the act began.
pub type Mark = [usize; 3];

/// The present end of the three journals.
pub fn mark(stage: &Stage) -> Mark {
    System::ALL.map(|system| stage.proxy(system).total())
}

/// All there is to see now. `metrics` is what the operator has published.
pub async fn observe(stage: &Stage, since: Mark, metrics: &str) -> Result<Observation, FaultsError> {
    let mut kinds = Map::new();
    let mut seen = vec![("metrics".to_owned(), metrics.to_owned())];
    for plural in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
        let list = stage.admin.get(&crs(&stage.namespace, plural)).await?.unwrap_or_default();
        seen.push((plural.to_owned(), list.to_string()));
        let items = list["items"].as_array().into_iter().flatten();
        kinds.insert(plural.to_owned(), items.map(|item| resource(item, stage)).collect());
    }
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", stage.namespace);
    seen.push(("events".to_owned(), stage.admin.get(&events).await?.unwrap_or_default().to_string()));
    let deployments = stage.deployments().await?;
    kinds
        .insert("deployments".to_owned(), deployments.iter().map(|found| deployment(found, stage)).collect());
    let truth = stage.simulator.truth();
    let task =
        |task: &TaskTruth| format!("{} {:?} {} {:?}", task.name, task.kind, task.timing, task.schedule);
    let mut tasks: Vec<String> = truth.tasks.iter().map(task).collect();
    tasks.sort();
    kinds.insert("tasks".to_owned(), json!(tasks));
    let mut shared: Vec<String> = truth.schedules.iter().map(|(name, _)| name.clone()).collect();
    shared.sort();
    kinds.insert("serverSchedules".to_owned(), json!(shared));
    let warnings = truth
        .warnings
        .iter()
        .map(|warning| text_of(&format!("{} {} by {}", warning.kind, warning.message, warning.by), stage));
    kinds.insert("warnings".to_owned(), warnings.collect());
    let log = std::fs::read_to_string(stage.directory.join("operator.log")).unwrap_or_default();
    let panics = log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
    seen.push(("log".to_owned(), log));
    for system in [System::Kubernetes, System::Prefect] {
        let bodies = stage.proxy(system).read(|journal| {
            journal.iter().map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect::<String>()
        });
        seen.push((format!("requests to {system:?}"), bodies));
    }
    let runs = stage.runs().await?;
    // Seen with 3.9.1: its scheduler may make runs of a deployment in the moment in which it is deleted, and leaves them: no worker submits them.
    let exists = |run: &&Value| deployments.iter().any(|there| there["id"] == run["deployment_id"]);
    let scheduled = |run: &&Value| run["auto_scheduled"] == true && exists(run);
    let ticks: Vec<Timestamp> = runs.iter().filter(scheduled).filter_map(expected).collect();
    let now = crate::clock::now();
    Ok(Observation {
        state: Value::Object(kinds),
        calls: calls(stage, since, |entry| {
            is_position(entry) && entry.status.is_some_and(|status| (200..300).contains(&status))
        }),
        refreshes: truth.refreshes.len(),
        untold: untold(stage, &truth.refreshes).await?,
        said_twice: said_twice(stage, &truth.refreshes).await?,
        next_run: ticks.iter().copied().find(|tick| *tick > now),
        ticks,
        leaks: leaks(stage, &seen),
        panics,
    })
}

async fn untold(stage: &Stage, refreshes: &[Refresh]) -> Result<usize, FaultsError> {
    // Of what a person refreshes nothing is told, unless it is followed for what it contains, which it does not here.
    let ours = |refresh: &&Refresh| refresh.requested_by != RequestedBy::Person && refresh.ended.is_some();
    let ended: Vec<&str> = refreshes.iter().filter(ours).map(|refresh| refresh.job.as_str()).collect();
    let runs = json!({"flow_runs": {"idempotency_key": {"any_": ended}}});
    let artifacts = stage.prefect.call(Method::POST, "/artifacts/filter", Some(runs)).await?;
    let told = artifacts.as_array().into_iter().flatten().map(|artifact| artifact["flow_run_id"].to_string());
    Ok(ended.len().saturating_sub(told.collect::<BTreeSet<_>>().len()))
}

async fn said_twice(stage: &Stage, refreshes: &[Refresh]) -> Result<usize, FaultsError> {
    let jobs: Vec<&str> = refreshes.iter().map(|refresh| refresh.job.as_str()).collect();
    let runs = json!({"flow_runs": {"idempotency_key": {"any_": jobs}}});
    let runs = stage.prefect.call(Method::POST, "/flow_runs/filter", Some(runs)).await?;
    let ids: Vec<&Value> = runs.as_array().into_iter().flatten().map(|run| &run["id"]).collect();
    let lines = json!({"logs": {"flow_run_id": {"any_": ids}}});
    let lines = stage.prefect.call(Method::POST, "/logs/filter", Some(lines)).await?;
    let lines = lines.as_array().map_or(&[][..], Vec::as_slice);
    let told = |line: &Value| format!("{} {}", line["flow_run_id"], line["message"]);
    Ok(lines.len() - lines.iter().map(told).collect::<BTreeSet<_>>().len())
}

/// How many requests of each kind there were since `since`, of those that are `wanted`.
pub fn calls(
    stage: &Stage,
    since: Mark,
    wanted: impl Fn(&crate::proxy::Entry) -> bool,
) -> BTreeMap<Key, usize> {
    let mut counts = BTreeMap::new();
    for (system, since) in System::ALL.into_iter().zip(since) {
        stage.proxy(system).read(|journal| {
            for entry in journal.iter().skip(since).filter(|entry| wanted(entry)) {
                *counts.entry(Key::of(system, entry, &stage.namespace)).or_insert(0) += 1;
            }
        });
    }
    counts
}

fn leaks(stage: &Stage, seen: &[(String, String)]) -> Vec<String> {
    let secrets = stage.all_secrets();
    let found = seen.iter().filter(|(_, text)| secrets.iter().any(|secret| text.contains(secret)));
    found.map(|(place, _)| place.clone()).collect()
}

/// A custom resource: what a person declared and what the operator made of it.
fn resource(object: &Value, stage: &Stage) -> Value {
    let metadata = &object["metadata"];
    plain(
        &json!({
            "name": metadata["name"], "finalizers": metadata["finalizers"], "annotations": metadata["annotations"],
            "deleted": !metadata["deletionTimestamp"].is_null(), "spec": object["spec"], "status": object["status"],
        }),
        stage,
    )
}

/// A deployment in Prefect.
fn deployment(found: &Value, stage: &Stage) -> Value {
    let fields = [
        "name",
        "description",
        "version",
        "entrypoint",
        "path",
        "tags",
        "parameters",
        "work_pool_name",
        "paused",
        "enforce_parameter_schema",
        "pull_steps",
        "job_variables",
        "labels",
    ];
    let mut plain_fields: Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), found[*field].clone())).collect();
    let schedules = found["schedules"].as_array().into_iter().flatten();
    let mut schedules: Vec<Value> = schedules
        .map(|s| json!({"slug": s["slug"], "active": s["active"], "schedule": s["schedule"]}))
        .collect();
    schedules.sort_by_key(|schedule| schedule["slug"].to_string());
    plain_fields.insert("schedules".to_owned(), schedules.into());
    plain(&Value::Object(plain_fields), stage)
}

/// The same without ids, times, hashes and addresses, and with a recovered job taken for ours, which it is.
fn plain(value: &Value, stage: &Stage) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name.clone(), field(name, value, stage))).collect()
        }
        Value::Array(items) => items.iter().map(|item| plain(item, stage)).collect(),
        Value::String(text) => text_of(text, stage).into(),
        other => other.clone(),
    }
}

/// Stands in the key of an upstream that chooses runs, before a fingerprint.
const RUNS: &str = "/%runs/";

fn field(name: &str, value: &Value, stage: &Stage) -> Value {
    match (name, value.as_str()) {
        ("signedInWith" | "refusedWith", Some(_)) => "<hash>".into(),
        ("origin", Some("Recovered")) => "Ours".into(),
        // Of the tags that are chosen, which are this run's own.
        ("key", Some(key)) if key.contains(RUNS) => {
            key.split_inclusive(RUNS).next().map(|of| format!("{of}<hash>")).into()
        }
        _ => plain(value, stage),
    }
}

fn text_of(text: &str, stage: &Stage) -> String {
    if uuid::Uuid::parse_str(text).is_ok() {
        return "<id>".to_owned();
    }
    if text.parse::<Timestamp>().is_ok() {
        return "<time>".to_owned();
    }
    let text = text.replace(&stage.namespace, "NS");
    System::ALL.iter().fold(text, |text, system| text.replace(stage.proxy(*system).url(), "<url>"))
}
