//! Every kind at each telling moment of its life, as the operator leaves it: `tests/gitops/moments.jsonl`, which `UPDATE=1` writes, and what Flux and
//! Argo CD have to make of it. `tests/e2e/gitops.rs` asks their own libraries.

use crate::remote::Trouble;
use crate::tenants;
use crate::world::{NAMESPACE, Process, World};
use feedwater::prefect::PrefectError;
use feedwater::tableau::{JobStatus, TableauError};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

const FLOW: At = At("flowdeployments", NAMESPACE, "orders");
const EXTRACT: At = At("extractrefreshes", NAMESPACE, "orders");
const WORKSPACE: At = At("prefectworkspaces", NAMESPACE, "prod");
const SITE: At = At("tableausites", NAMESPACE, "acme");
const CLUSTER_WORKSPACE: At = At(tenants::WORKSPACES, "", "prod");
const CLUSTER_SITE: At = At(tenants::SITES, "", "acme");
const OURS: [At; 4] = [WORKSPACE, SITE, FLOW, EXTRACT];
const OF_CLUSTER: [At; 2] = [CLUSTER_WORKSPACE, CLUSTER_SITE];

// What is made of it: kstatus, Argo CD.
const WORKING: Verdict = ("InProgress", "Progressing");
const FINE: Verdict = ("Current", "Healthy");
const PAUSED: Verdict = ("Current", "Suspended");
/// Wrong, and it may be mended without a change of the resource.
const WRONG: Verdict = ("InProgress", "Degraded");
/// Only a person can help.
const FAILED: Verdict = ("Failed", "Degraded");
/// As declared, with data that is too old.
const STALE: Verdict = ("Current", "Degraded");
const GOING: Verdict = ("Terminating", "Progressing");

type Verdict = (&'static str, &'static str);

/// Plural, namespace and name of an object.
#[derive(Clone, Copy)]
struct At(&'static str, &'static str, &'static str);

/// What was seen.
#[derive(Default)]
struct Album(String);

impl Album {
    /// The object as it is now, and what is to be made of it.
    fn take(&mut self, world: &World, at: At, moment: &str, (flux, argo): Verdict) {
        let object = still(read(world, at));
        writeln!(self.0, "{}", json!({"moment": moment, "kstatus": flux, "argo": argo, "object": object}))
            .unwrap();
    }

    /// The same, once the condition `Ready` is so.
    async fn ready(&mut self, world: &World, at: At, moment: &str, ready: (&str, &str), verdict: Verdict) {
        self.once(world, at, moment, ("Ready", ready.0, ready.1), verdict).await;
    }

    /// The same of any condition.
    async fn once(&mut self, world: &World, at: At, moment: &str, is: (&str, &str, &str), verdict: Verdict) {
        for _ in 0..36_000 {
            if condition(&read(world, at), is.0) == Some((is.1, is.2)) {
                self.take(world, at, moment, verdict);
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{moment}: never {is:?}: {:#}", read(world, at)["status"]["conditions"]);
    }
}

fn read(world: &World, At(plural, namespace, name): At) -> Value {
    world.server.object(plural, namespace, name).unwrap()
}

fn change(world: &World, At(plural, namespace, name): At, spec: &Value) {
    world.server.merge(plural, namespace, name, &json!({ "spec": spec })).unwrap();
}

fn delete(world: &World, At(plural, namespace, name): At) {
    world.server.remove(plural, namespace, name).unwrap();
}

/// Without what differs from one recording to the next, and tells nothing here.
fn still(mut value: Value) -> Value {
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.insert("resourceVersion".into(), json!("1"));
    }
    frozen(&mut value);
    value
}

fn frozen(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.parse::<jiff::Timestamp>().is_ok() {
                *text = "2026-11-25T06:00:00Z".into();
            } else if uuid::Uuid::parse_str(text).is_ok() {
                *text = uuid::Uuid::nil().to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(frozen),
        Value::Object(fields) => fields.values_mut().for_each(frozen),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_moments_that_flux_and_argo_cd_are_asked_about_are_recorded() {
    let mut album = Album::default();
    life(&mut album).await;
    waiting(&mut album).await;
    unreachable(&mut album).await;
    refused(&mut album).await;
    flows(&mut album).await;
    refreshes(&mut album).await;
    of_cluster(&mut album).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gitops/moments.jsonl");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &album.0).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    for (now, then) in album.0.lines().zip(known.lines()) {
        let said = "tests/gitops/moments.jsonl is not what is so: UPDATE=1 writes it";
        assert_eq!(telling(now), telling(then), "{said}");
    }
    assert_eq!(album.0.lines().count(), known.lines().count());
}

/// What tools judge by: a recording is out of date when this differs, and not for another word in a message.
fn telling(line: &str) -> Value {
    let mut line: Value = serde_json::from_str(line).unwrap();
    let object = line["object"].take();
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let conditions: Vec<[&Value; 4]> = conditions
        .map(|one| ["type", "status", "reason", "observedGeneration"].map(|field| &one[field]))
        .collect();
    line["object"] = json!([
        object["kind"],
        metadata["name"],
        metadata["generation"],
        metadata["deletionTimestamp"].is_string(),
        object["spec"]["suspend"],
        status["observedGeneration"],
        conditions,
    ]);
    line
}

/// From before anybody looked to the end of it.
async fn life(album: &mut Album) {
    let world = World::new();
    let _ = world.with_orders();
    change(&world, SITE, &json!({"edition": "Cloud"}));
    let schedules = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    change(
        &world,
        EXTRACT,
        &json!({"schedules": schedules, "retry": {"limit": 3, "backoff": {"factor": 2}}}),
    );
    for at in OURS {
        album.take(&world, at, "applied, not looked at yet", WORKING);
    }
    let operator = world.operator("one");
    world.settle().await;
    for at in OURS {
        album.take(&world, at, "as declared", FINE);
    }
    world.complete("orders");
    album.once(&world, EXTRACT, "being refreshed", ("Refreshing", "True", "Running"), FINE).await;
    album.once(&world, EXTRACT, "refreshed", ("Fresh", "True", "UpToDate"), FINE).await;
    world.settle().await;

    operator.kill();
    for at in OURS {
        change(&world, at, &json!({"suspend": true}));
        album.take(&world, at, "edited, not looked at yet", WORKING);
    }
    let _operator = world.operator("two");
    for at in OURS {
        album.ready(&world, at, "suspended", ("True", "Suspended"), PAUSED).await;
    }
    for at in OURS {
        change(&world, at, &json!({"suspend": false}));
    }
    world.settle().await;

    for at in [WORKSPACE, SITE] {
        delete(&world, at);
        album.ready(&world, at, "deleted, and still needed", ("False", "InUse"), GOING).await;
    }
    world.troubles.on_call(|_| Trouble::Lose);
    for at in [FLOW, EXTRACT] {
        delete(&world, at);
        album
            .ready(&world, at, "deleted, and cannot be cleaned up", ("False", "DeletionBlocked"), GOING)
            .await;
    }
}

/// What it needs is not there.
async fn waiting(album: &mut Album) {
    let world = World::new();
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
    world.server.put("extractrefreshes", World::refresh("orders", &["orders"])).unwrap();
    let _operator = world.operator("one");
    for at in [FLOW, EXTRACT] {
        album.ready(&world, at, "waits for its connection", ("Unknown", "DependencyNotFound"), WORKING).await;
    }
    for at in [FLOW, EXTRACT] {
        let long = "waits for its connection, for more than five minutes";
        album.ready(&world, at, long, ("False", "DependencyNotFound"), WRONG).await;
    }
}

/// Nobody answers.
async fn unreachable(album: &mut Album) {
    let world = World::new();
    let _ = world.with_orders();
    world.troubles.on_call(|_| Trouble::Lose);
    let _operator = world.operator("one");
    album.ready(&world, WORKSPACE, "Prefect is down", ("False", "ServiceUnavailable"), WRONG).await;
    album.ready(&world, SITE, "Tableau cannot be reached", ("False", "Unreachable"), WRONG).await;
    for at in [FLOW, EXTRACT] {
        album
            .ready(&world, at, "its connection cannot be used", ("Unknown", "ConnectionUnavailable"), WORKING)
            .await;
    }
}

/// The credentials are wrong, or not there.
async fn refused(album: &mut Album) {
    let world = World::new();
    world.connections();
    for _ in 0..1000 {
        world.prefect.fail("probe", PrefectError::Unauthorized);
        world.tableau.fail("site", TableauError::SignInRefused);
    }
    let _operator = world.operator("one");
    for at in [WORKSPACE, SITE] {
        album.ready(&world, at, "its credentials are refused", ("False", "CredentialsInvalid"), WRONG).await;
    }
    let world = World::new();
    world.connections();
    world.server.remove("secrets", NAMESPACE, "tableau").unwrap();
    let _operator = world.operator("one");
    album.ready(&world, SITE, "its Secret is not there", ("False", "SecretNotFound"), WRONG).await;
}

fn with_flow(spec: &Value) -> (World, Process) {
    let world = World::new();
    world.connections();
    world.server.put("flowdeployments", World::flow("orders")).unwrap();
    change(&world, FLOW, spec);
    let operator = world.operator("one");
    (world, operator)
}

async fn flows(album: &mut Album) {
    let (world, _operator) = with_flow(&json!({"workPool": {"name": "absent"}}));
    album.ready(&world, FLOW, "its work pool is not there", ("False", "WorkPoolNotFound"), WRONG).await;

    let (world, _operator) = with_flow(&json!({"managementPolicy": "Observe"}));
    album.ready(&world, FLOW, "only observes", ("True", "Observing"), FINE).await;

    let warn = json!({"description": "ours", "driftDetection": {"mode": "Warn"}});
    let (world, _operator) = with_flow(&warn);
    world.settle().await;
    for there in world.prefect.state().deployments.values_mut() {
        there.fields.insert("description".into(), json!("theirs"));
    }
    let drifted = ("Drifted", "True", "DriftDetected");
    album.once(&world, FLOW, "changed in Prefect, and left so", drifted, FINE).await;

    let mut second = World::flow("orders");
    second["metadata"]["name"] = json!("younger");
    second["spec"]["deploymentName"] = json!("orders");
    world.server.put("flowdeployments", second).unwrap();
    let younger = At("flowdeployments", NAMESPACE, "younger");
    album.ready(&world, younger, "another declares the same", ("False", "TargetConflict"), FAILED).await;
}

/// An extract `orders` with this spec beside, once its flow has completed and its jobs have ended so.
async fn with_extract(spec: &Value, ends: &[JobStatus]) -> (World, Process) {
    let world = World::new();
    let _ = world.with_orders();
    change(&world, EXTRACT, spec);
    world.engine.lock().unwrap().ends.extend(ends);
    let operator = world.operator("one");
    world.settle().await;
    world.complete("orders");
    (world, operator)
}

async fn refreshes(album: &mut Album) {
    let (world, _operator) = with_extract(&json!({}), &[JobStatus::Failed]).await;
    album.once(&world, EXTRACT, "tried again", ("Refreshing", "False", "Retrying"), FINE).await;

    let (world, _operator) = with_extract(&json!({"retry": {"limit": 0}}), &[JobStatus::Failed]).await;
    let stopped = ("Refreshing", "False", "RetriesExhausted");
    album.once(&world, EXTRACT, "no longer tried again", stopped, FINE).await;

    let promise = json!({"freshness": {"warnAfter": "20m", "failAfter": "40m"}});
    let (world, _operator) = with_extract(&promise, &[]).await;
    album.once(&world, EXTRACT, "older than `warnAfter`", ("Fresh", "False", "Late"), FINE).await;
    album.once(&world, EXTRACT, "older than `failAfter`", ("Fresh", "False", "Stale"), STALE).await;

    let absent = json!({"target": {"name": "absent"}});
    change(&world, EXTRACT, &absent);
    album.ready(&world, EXTRACT, "its target is not there", ("False", "TargetNotFound"), WRONG).await;

    let world = World::new();
    let _ = world.with_orders();
    let _operator = world.operator("one");
    world.settle().await;
    let mut second = World::refresh("orders", &["orders"]);
    second["metadata"]["name"] = json!("younger");
    world.server.put("extractrefreshes", second).unwrap();
    let younger = At("extractrefreshes", NAMESPACE, "younger");
    album.ready(&world, younger, "another declares the same", ("False", "TargetConflict"), FAILED).await;
}

/// Connections of the cluster, and who is not allowed to use them.
async fn of_cluster(album: &mut Album) {
    let (prefect, tableau) = tenants::allowed();
    let world = tenants::cluster(&prefect, &tableau);
    for at in OF_CLUSTER {
        album.take(&world, at, "applied, not looked at yet", WORKING);
    }
    let _ = tenants::team(&world);
    let operator = world.operator("one");
    world.settle().await;
    for at in OF_CLUSTER {
        album.take(&world, at, "as declared", FINE);
    }
    operator.kill();
    for at in OF_CLUSTER {
        change(&world, at, &json!({"suspend": true}));
        album.take(&world, at, "edited, not looked at yet", WORKING);
    }
    let _operator = world.operator("two");
    for at in OF_CLUSTER {
        album.ready(&world, at, "suspended", ("True", "Suspended"), PAUSED).await;
        change(&world, at, &json!({"suspend": false}));
    }
    world.settle().await;
    for at in OF_CLUSTER {
        delete(&world, at);
        album.ready(&world, at, "deleted, and still needed", ("False", "InUse"), GOING).await;
    }

    let world = tenants::cluster(&json!([]), &json!([]));
    let _ = tenants::team(&world);
    world.server.remove("secrets", "platform", "tableau").unwrap();
    let _operator = world.operator("one");
    for at in [FLOW, EXTRACT] {
        album.ready(&world, at, "its connection does not allow it", ("False", "AccessDenied"), FAILED).await;
    }
    album.ready(&world, CLUSTER_SITE, "its Secret is not there", ("False", "SecretNotFound"), WRONG).await;
    let world = tenants::cluster(&json!([]), &json!([]));
    for _ in 0..1000 {
        world.prefect.fail("probe", PrefectError::Unauthorized);
    }
    let _operator = world.operator("one");
    let refused = ("False", "CredentialsInvalid");
    album.ready(&world, CLUSTER_WORKSPACE, "its credentials are refused", refused, WRONG).await;
}
