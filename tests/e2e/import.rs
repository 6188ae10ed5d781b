//! Moving in: what `prefect deploy` and Python have made becomes resources, and those change nothing but the mark.

use crate::prefect_side::{CREATE, FLOW, Line, Runs};
use crate::python;
use crate::stage::{Setting, Stage, is};
use feedwater::api::FlowDeployment;
use feedwater::yaml;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// What the page shows under this language, the n-th.
fn shown(language: &str, nth: usize) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/moving-in.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block =
        page.split(&format!("```{language}\n")).nth(nth + 1).unwrap_or_else(|| panic!("no {language} {nth}"));
    block.split("```").next().unwrap().to_owned()
}

/// Runs `feedwater`; what it prints, and what it tells.
async fn feedwater(api_url: &str, arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_feedwater"))
        .args(arguments)
        .env("PREFECT_API_URL", api_url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, told) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}\n{told}");
    (out, told)
}

/// The deployment without our mark, which it carries once.
fn unmarked(stage: &Stage, mut there: Value) -> Value {
    let mark = format!("feedwater:{0}/{0}/", stage.namespace);
    let tags = there["tags"].as_array_mut().unwrap();
    let all = tags.len();
    tags.retain(|tag| !tag.as_str().unwrap().starts_with(&mark));
    assert_eq!(tags.len() + 1, all, "{there:#}");
    there
}

/// The deployment but for what any write changes, and a run that falls due and is taken by the worker.
fn untouched(mut there: Value) -> Value {
    for field in ["updated", "updated_by", "status", "last_polled"] {
        there.as_object_mut().unwrap().remove(field);
    }
    if let Some(limit) = there["global_concurrency_limit"].as_object_mut() {
        limit.retain(|field, _| !["active_slots", "updated"].contains(&field.as_str()));
    }
    there["schedules"].as_array_mut().unwrap().sort_by_key(|schedule| schedule["id"].to_string());
    there
}

/// Made by Python: one that a process serves, and one with all a schedule can have.
const BY_PYTHON: &str = r#"
from datetime import datetime, timedelta, timezone
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.schedules import Cron, Interval, RRule
from flows.fx import fx
fx.to_deployment("served", tags=["moving-in"], cron="0 3 * * *").apply()
fx.to_deployment(
    "by-python", tags=["moving-in", "python"], work_pool_name="etl", parameters={"base": "USD"}, description="By Python",
    job_variables={"env": {"API_TOKEN": "hunter2", "LEVEL": "INFO"}}, concurrency_limit=2, paused=False,
    schedules=[
        Cron("*/7 * * * *", timezone="Europe/Berlin", slug="cron"),
        Interval(timedelta(hours=1, minutes=30), anchor_date=datetime(2026, 1, 1, 0, 15, tzinfo=timezone.utc), slug="interval", parameters={"base": "GBP"}),
        RRule("FREQ=HOURLY;INTERVAL=2", slug="rrule"),
        Cron("0 5 * * *", slug="off", active=False),
    ],
).apply()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_takes_over_what_is_there_and_changes_nothing() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let setting = Setting { prefect_url: Some(line.url.clone()), ..Setting::default() };
    let stage = Stage::set_with("moving-in", setting).await;
    let api_url = stage.info.prefect_api_url.clone().unwrap();
    let python = python::environment(&api_url).await;
    std::fs::write(python.folder().join("prefect.yaml"), shown("yaml", 0)).unwrap();
    std::fs::write(python.folder().join("by_python.py"), BY_PYTHON).unwrap();
    python.shell("prefect --no-prompt deploy --all").await;
    python.shell("python by_python.py").await;

    the_page_shows_what_is_printed(&api_url).await;
    let all =
        ["import", "prefect", "--workspace", "prod", "--namespace", &stage.namespace, "--tag", "moving-in"];
    let (out, told) = feedwater(&api_url, &all).await;
    assert_eq!(feedwater(&api_url, &all).await, (out.clone(), told.clone()), "twice the same");
    for note in [
        "fx/served: it has no work pool",
        "orders/nightly: schedule ",
        "jobVariables.env.API_TOKEN looks like a secret",
    ] {
        assert!(told.contains(note) && (out.contains(note.rsplit(": ").next().unwrap())), "{note}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    let file = python.folder().join("imported.yaml");
    std::fs::write(&file, &out).unwrap();
    let (checked, _) = feedwater(&api_url, &["check", file.to_str().unwrap()]).await;
    assert!(checked.starts_with("3 resources are in order"), "{checked}");

    let mut before = Vec::new();
    for (flow, name) in [("orders", "nightly"), ("fx", "hourly"), ("fx", "by-python")] {
        let there = stage.prefect.deployment(flow, name).await.unwrap().unwrap();
        let id = there["id"].as_str().unwrap().to_owned();
        let runs = Runs::made(&stage, &id, 1).await;
        before.push((flow, name, id, untouched(there), runs));
    }
    stage.connected().await;
    observed_first(&stage, &out).await;
    assert_eq!(line.writes(), Vec::<String>::new());
    stage.kubectl.apply(&out).await.unwrap();
    for document in yaml::documents(&out).unwrap() {
        stage.deployed(document["metadata"]["name"].as_str().unwrap()).await;
    }
    // The mark, and the runs made good that Prefect drops at any change: nothing else.
    let mut expected: Vec<String> = before
        .iter()
        .flat_map(|(_, _, id, ..)| {
            [format!("PATCH /api/deployments/{id}"), format!("POST /api/deployments/{id}/schedule")]
        })
        .collect();
    let mut written = line.writes();
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
    for (flow, name, id, there, runs) in &before {
        let now = stage.prefect.deployment(flow, name).await.unwrap().unwrap();
        assert_eq!(untouched(unmarked(&stage, now)), *there, "{flow}/{name}");
        Runs::read(&stage, id).await.hold(runs);
    }

    // Applied once more nothing is written any more, and there is nothing left to import.
    stage.kubectl.apply(&out).await.unwrap();
    stage.flow("later").await;
    assert_eq!(line.writes_after(expected.len()), [FLOW, CREATE]);
    let (_, told) = feedwater(&api_url, &all).await;
    assert!(told.contains("4 deployments: 0 imported, 1 not, 3 passed over"), "{told}");
    let (marked, _) = feedwater(&api_url, &[&all[..], &["--marked"]].concat()).await;
    assert_eq!(yaml::documents(&marked).unwrap().len(), 3, "{marked}");

    given_a_slug_it_can_be_kept(&stage, &before[0].2, &all).await;

    // Taken over, they stay when the resources go; the server is shared.
    for document in yaml::documents(&out).unwrap() {
        stage.delete::<FlowDeployment>(document["metadata"]["name"].as_str().unwrap()).await;
    }
    for (_, _, id, ..) in &before {
        stage.prefect.call(Method::DELETE, &format!("/deployments/{id}"), None).await.unwrap();
    }
}

/// What the page says to run prints what the page shows.
async fn the_page_shows_what_is_printed(api_url: &str) {
    let command = shown("console", 0);
    let command = command.trim().strip_prefix("$ feedwater ").unwrap().split(" > ").next().unwrap();
    let arguments: Vec<&str> = command.split(' ').collect();
    let (out, told) = feedwater(api_url, &arguments).await;
    let lines = |text: &str| text.lines().map(known).collect::<Vec<_>>();
    assert_eq!(lines(&out), lines(&shown("yaml", 1)), "docs/moving-in.md shows another output:\n{out}");
    for note in shown("text", 0).lines() {
        assert!(
            lines(&told).contains(&known(note)),
            "docs/moving-in.md shows `{note}`, and this is told:\n{told}"
        );
    }
}

/// Under `managementPolicy: Observe` the plan is to take them over, and nothing else.
async fn observed_first(stage: &Stage, out: &str) {
    let observing =
        out.replace("adoptionPolicy: Adopt", "adoptionPolicy: Adopt\n  managementPolicy: Observe");
    stage.kubectl.apply(&observing).await.unwrap();
    for document in yaml::documents(out).unwrap() {
        let observes = |f: &FlowDeployment| is(f, "Ready", "True", "Observing");
        let seen = stage.until(document["metadata"]["name"].as_str().unwrap(), "Observing", observes).await;
        let spec = &document["spec"];
        let name = |field: &str| spec[field].as_str().unwrap().to_owned();
        let plan = format!("adopt deployment `{}/{}`", name("flowName"), name("deploymentName"));
        assert_eq!(seen.status.unwrap().plan, [plan]);
    }
}

/// As the page says.
async fn given_a_slug_it_can_be_kept(stage: &Stage, nightly: &str, all: &[&str]) {
    let there = stage.prefect.deployment("orders", "nightly").await.unwrap().unwrap();
    let nameless = there["schedules"].as_array().unwrap().iter().find(|s| s["slug"].is_null()).unwrap();
    let schedule = nameless["id"].as_str().unwrap();
    assert!(shown("sh", 0).contains(
        r#"schedules/SCHEDULE" -H 'Content-Type: application/json' -d '{"slug": "noon", "parameters": {}}'"#
    ));
    let path = format!("/deployments/{nightly}/schedules/{schedule}");
    stage.prefect.call(Method::PATCH, &path, Some(json!({"slug": "noon", "parameters": {}}))).await.unwrap();
    let (again, _) = feedwater(
        stage.info.prefect_api_url.as_ref().unwrap(),
        &[all, &["--marked", "--flow", "orders"]].concat(),
    )
    .await;
    let slugs: Vec<&str> = again.lines().filter(|line| line.contains("slug: ")).collect();
    assert!(slugs.len() == 2 && slugs.iter().any(|line| line.ends_with("noon")), "{again}");
    let now = stage.prefect.deployment("orders", "nightly").await.unwrap().unwrap();
    assert!(now["schedules"].as_array().unwrap().iter().any(|s| s["id"] == schedule && s["slug"] == "noon"));
}

/// A line without the ids that differ from server to server.
fn known(line: &str) -> String {
    let id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    line.split(' ').map(|word| if id(word) { "<id>" } else { word }).collect::<Vec<_>>().join(" ")
}

/// What Kubernetes or Prefect might not keep as it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_values_come_through_as_they_are() {
    let line = Line::start(&Stage::info().prefect_api_url.unwrap()).await;
    let setting = Setting { prefect_url: Some(line.url.clone()), ..Setting::default() };
    let stage = Stage::set_with("odd", setting).await;
    let flow = format!("{} (odd)", stage.namespace);
    let flow_id = stage.prefect.ensure_flow(&flow).await.unwrap();
    let odd = json!({
        "name": "Ödd name: #1", "flow_id": flow_id, "entrypoint": "f.py:f", "work_pool_name": "etl", "description": "a: |\n  b\n--- \"c\"\t",
        "parameters": {"none": null, "yes": "yes", "float": 1.0, "text": "0123", "nested": {"null": null, "list": [null, 1e3]}, "date": "2026-01-01"},
        "job_variables": {"env": {"A": ""}, "unknown": {"none": null}}, "tags": ["a b", "no", "~"],
        "labels": {"n": 1.5, "flag": true}, "version": "1e3",
    });
    let there = stage.prefect.create_deployment(odd).await.unwrap();
    let arguments =
        ["import", "prefect", "--workspace", "prod", "--namespace", &stage.namespace, "--flow", &flow];
    let (out, _) = feedwater(&stage.info.prefect_api_url.clone().unwrap(), &arguments).await;
    stage.kubectl.apply(&out).await.unwrap();
    let name = yaml::documents(&out).unwrap()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    stage.deployed(&name).await;
    let adopted =
        stage.until::<FlowDeployment>(&name, "adopted", |f| is(f, "Drifted", "False", "NoDrift")).await;
    assert_eq!(adopted.status.unwrap().adopted, Some(true));
    let id = there["id"].as_str().unwrap();
    assert_eq!(
        line.writes(),
        [format!("PATCH /api/deployments/{id}"), format!("POST /api/deployments/{id}/schedule")]
    );
    let now = stage.prefect.call(Method::GET, &format!("/deployments/{id}"), None).await.unwrap();
    assert_eq!(untouched(unmarked(&stage, now)), untouched(there));
}
