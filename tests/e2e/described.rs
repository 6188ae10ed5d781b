//! What `kubectl describe` says in the moments that people meet: `docs/describe.md` shows real outputs of `exr`, `docs/flow-deployments.md` of `fdep`,
//! and they stay true. `UPDATE=1` writes them anew.

use crate::stage::{LIMIT, Stage, is};
use crate::triggers_help::{failing, status};
use feedwater::api::{ExtractRefresh, FlowDeployment};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use world::tableau::{Script, Step};

const EXR: &str = "extractrefresh";

impl Stage {
    /// The output of a `FlowDeployment`, as soon as it has this Event, which is written after the status.
    async fn described(&self, name: &str, event: &str) -> String {
        let started = tokio::time::Instant::now();
        loop {
            let text = self.describe("flowdeployment", name).await;
            let events = text.split_once("\nEvents:").map(|(_, events)| events.to_owned());
            if events.is_some_and(|events| events.contains(event)) {
                return text;
            }
            assert!(started.elapsed() < LIMIT, "no Event {event}:\n{text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The output, as it would be in a namespace `finance` where the flows are called as their deployments are.
    async fn describe(&self, kind: &str, name: &str) -> String {
        let args = ["describe", kind, name, "-n", &self.namespace];
        let text = self.kubectl.run(&args).await.unwrap();
        let text = text.replace(&format!("{}-", self.namespace), "").replace(&self.namespace, "finance");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        format!("{}\n", lines.join("\n"))
    }

    /// An extract of the data source of its own name after the flow of that name, and more; returns the LUID.
    async fn example(&self, name: &str, more: Value) -> String {
        let luid = self.datasource(name);
        let mut fields = json!({"freshness": {"warnAfter": "12h", "failAfter": "26h"}});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.declare_with(name, name, &[name], fields).await;
        luid
    }
}

fn varies(word: &str) -> bool {
    let word = word.trim_matches('`');
    uuid::Uuid::parse_str(word).is_ok() || word.parse::<Timestamp>().is_ok()
}

/// The output without what differs each time: times, ids, versions, ages, and which Event came first.
fn plain(text: &str) -> String {
    let (object, events) = text.split_once("\nEvents:").unwrap_or((text, ""));
    let mut plain = String::new();
    let same = |line: &str| {
        let words = line.split_whitespace().map(|word| if varies(word) { "…" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    for line in object.lines().filter(|line| !line.trim_start().starts_with("Resource Version:")) {
        writeln!(plain, "{}", same(line)).unwrap();
    }
    let events = events.lines().filter_map(|line| {
        // Type, reason, age (`3s`, `3s (x2 over 5s)`), who, message.
        let (before, message) = line.split_once(" feedwater ")?;
        let words: Vec<&str> = before.split_whitespace().take(2).collect();
        Some(format!("{} {}", words.join(" "), same(message)))
    });
    let events: std::collections::BTreeSet<String> = events.collect();
    for event in events {
        writeln!(plain, "{event}").unwrap();
    }
    plain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_kubectl_describe_says() {
    let stage = Stage::set("described").await;
    let mut flows = std::collections::BTreeMap::new();
    for name in ["orders", "fx", "stock", "crm", "returns"] {
        flows.insert(name, stage.flow(name).await);
    }
    let complete = async |name: &str| stage.prefect.complete(&flows[name]).await.unwrap();
    let mut shown = Vec::new();

    // The shortest promise there is: it is broken while the others are looked at.
    stage.example("returns", json!({"freshness": {"failAfter": "1m"}})).await;
    complete("returns").await;

    stage.example("orders", json!({})).await;
    complete("orders").await;
    stage.fresh("orders").await;
    shown.push(("fresh", stage.describe(EXR, "orders").await));

    // Two upstreams, of which one has completed anew.
    let revenue = stage.datasource("revenue");
    stage.declare("revenue", "revenue", &["orders", "fx"]).await;
    complete("orders").await;
    let waits = |e: &ExtractRefresh| {
        is(e, "Refreshing", "False", "WaitingForUpstreams")
            && status(e).upstreams.iter().any(|upstream| upstream.new)
    };
    stage.extract("revenue", "it waits for the other", waits).await;
    assert_eq!(stage.refreshed(&revenue), 0);
    shown.push(("waiting", stage.describe(EXR, "revenue").await));

    let stock = stage.example("stock", json!({})).await;
    stage.tableau.script(&stock, Script { running: Step::UntilReleased, ..Script::default() });
    complete("stock").await;
    stage.activity("stock", "True", "Running").await;
    shown.push(("running", stage.describe(EXR, "stock").await));
    stage.tableau.release_jobs(&stock);

    let retry = json!({"retry": {"limit": 1, "backoff": {"duration": "1s"}}});
    let crm = stage.example("crm", retry).await;
    stage.tableau.script(&crm, failing());
    complete("crm").await;
    stage.activity("crm", "False", "RetriesExhausted").await;
    shown.push(("failed", stage.describe(EXR, "crm").await));

    let too_old = |e: &ExtractRefresh| is(e, "Fresh", "False", "Stale");
    stage.until_within(Duration::from_secs(120), "returns", "Stale", too_old).await;
    shown.push(("stale", stage.describe(EXR, "returns").await));

    hold("docs/describe.md", &shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_deployments_shows_what_kubectl_describe_says() {
    let stage = Stage::set("deployments").await;
    let declare = async |name: &str, more: Value| {
        let mut flow = stage.flow_object(name);
        flow["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stage.apply(&[flow]).await;
    };
    let mut shown = Vec::new();

    let nightly =
        json!([{"slug": "nightly", "cron": {"expression": "0 2 * * *"}, "timeZone": "Europe/Berlin"}]);
    declare("orders", json!({"schedules": nightly})).await;
    stage.deployed("orders").await;
    shown.push(("healthy", stage.described("orders", "Created").await));

    declare("fx", json!({"description": "Loads the rates of the day", "driftDetection": {"mode": "Warn"}}))
        .await;
    let id = stage.deployed("fx").await;
    let theirs = json!({"description": "changed by hand"});
    stage.prefect.call(Method::PATCH, &format!("/deployments/{id}"), Some(theirs)).await.unwrap();
    let differs = |f: &FlowDeployment| is(f, "Drifted", "True", "DriftDetected");
    stage.until("fx", "Drifted", differs).await;
    shown.push(("drifted", stage.described("fx", "Created").await));

    declare("crm", json!({"workPool": {"name": "kubernetes-heavy"}})).await;
    let refused = |f: &FlowDeployment| is(f, "Ready", "False", "WorkPoolNotFound");
    stage.until("crm", "WorkPoolNotFound", refused).await;
    shown.push(("failing", stage.described("crm", "WorkPoolNotFound").await));

    hold("docs/flow-deployments.md", &shown);
}

/// The page has these outputs in their places, or is given them.
fn hold(page: &str, shown: &[(&str, String)]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (name, now) in shown {
        let begin = format!("<!-- describe: {name} -->\n```console\n");
        let from =
            text.find(&begin).unwrap_or_else(|| panic!("{page} has no place for `{name}`")) + begin.len();
        let to = from + text[from..].find("```\n<!-- end -->").unwrap();
        if std::env::var_os("UPDATE").is_some() {
            text.replace_range(from..to, now);
        } else {
            let (there, now) = (plain(&text[from..to]), plain(now));
            assert_eq!(there, now, "{page} is not what kubectl says of `{name}`: UPDATE=1 writes it anew");
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, text).unwrap();
    }
}
