//! What tests ask of Prefect, and a line to it that counts and can be held.

use crate::stage::{LIMIT, Stage};
use k8s_openapi::api::core::v1::Event;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The deployment of a flow object of [`Stage::flow_object`].
pub async fn prefect(stage: &Stage, name: &str) -> Option<Value> {
    stage.prefect.deployment(&format!("{}-{name}", stage.namespace), name).await.unwrap()
}

/// Its tags, sorted.
pub fn tags(there: &Value) -> Vec<String> {
    let mut tags: Vec<String> = serde_json::from_value(there["tags"].clone()).unwrap();
    tags.sort();
    tags
}

/// The schedule of a slug; null where there is none.
pub fn schedule<'a>(there: &'a Value, slug: &str) -> &'a Value {
    there["schedules"].as_array().unwrap().iter().find(|s| s["slug"] == slug).unwrap_or(&Value::Null)
}

/// Slug and id of each schedule that has a slug; by slug, the last first.
pub fn schedule_ids(there: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let schedules = there["schedules"].as_array().unwrap();
    let mut ids: Vec<_> =
        schedules.iter().filter_map(|s| Some((text(&s["slug"])?, text(&s["id"])?))).collect();
    ids.sort();
    ids.reverse();
    ids
}

/// The deployment, once it is as wanted.
pub async fn corrected_by(stage: &Stage, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let started = tokio::time::Instant::now();
    loop {
        let there = prefect(stage, name).await.unwrap_or_default();
        if wanted(&there) {
            return there;
        }
        assert!(started.elapsed() < LIMIT, "not corrected: {there:#}\n{}", stage.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Messages of the `DriftDetected` Events of a resource.
pub async fn drift_events(stage: &Stage, name: &str) -> Vec<String> {
    let events = stage.api::<Event>().list(&kube::api::ListParams::default()).await.unwrap();
    events
        .into_iter()
        .filter(|e| e.involved_object.name.as_deref() == Some(name))
        .filter(|e| e.reason.as_deref() == Some("DriftDetected"))
        .filter_map(|e| e.message)
        .collect()
}

/// The runs of a deployment: (schedule, time due) and how many.
#[derive(Debug, Clone)]
pub struct Runs(BTreeMap<(String, String), usize>);

impl Runs {
    /// All of them, also those that have fallen due meanwhile and that the worker has taken.
    pub async fn read(stage: &Stage, deployment: &str) -> Self {
        Self::found(stage, deployment, &json!({})).await
    }

    /// Those that are still to come, or late.
    pub async fn scheduled(stage: &Stage, deployment: &str) -> Self {
        Self::found(stage, deployment, &json!({"state": {"type": {"any_": ["SCHEDULED"]}}})).await
    }

    async fn found(stage: &Stage, deployment: &str, which: &Value) -> Self {
        let mut runs = BTreeMap::new();
        for offset in (0..).step_by(200) {
            let filter = json!({
                "deployments": {"id": {"any_": [deployment]}}, "flow_runs": which,
                "sort": "ID_DESC", "limit": 200, "offset": offset,
            });
            let page = stage.prefect.call(Method::POST, "/flow_runs/filter", Some(filter)).await.unwrap();
            let page = page.as_array().unwrap();
            for run in page {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                *runs
                    .entry((text(&run["created_by"]["id"]), text(&run["expected_start_time"])))
                    .or_insert(0) += 1;
            }
            if page.len() < 200 {
                break;
            }
        }
        Self(runs)
    }

    /// At least so many: made by Prefect on demand, since its own loop takes half a minute on a busy machine.
    pub async fn made(stage: &Stage, deployment: &str, count: usize) -> Self {
        stage
            .prefect
            .call(Method::POST, &format!("/deployments/{deployment}/schedule"), Some(json!({})))
            .await
            .unwrap();
        let mut runs = Self::scheduled(stage, deployment).await;
        // The last of each schedule lies at the horizon, which moves with the clock: whether it is made is chance.
        let all = runs.0.clone();
        runs.0.retain(|(by, due), _| all.keys().any(|(other, later)| other == by && later > due));
        assert!(runs.0.len() >= count, "Prefect schedules too few runs: {runs:?}");
        runs
    }

    /// Those of one schedule.
    pub fn of(&self, schedule: &str) -> Self {
        let of: BTreeMap<_, _> = self.0.clone().into_iter().filter(|((by, _), _)| by == schedule).collect();
        assert!(!of.is_empty(), "no run of schedule {schedule}");
        Self(of)
    }

    /// Asserts that there is none.
    pub fn none(&self) {
        assert!(self.0.is_empty(), "there are runs: {:?}", self.0);
    }

    /// Asserts that each of those is here, and once.
    pub fn hold(&self, those: &Self) {
        let lost: Vec<_> = those.0.keys().filter(|run| !self.0.contains_key(*run)).collect();
        assert!(lost.is_empty(), "{} of {} runs are lost: {lost:?}", lost.len(), those.0.len());
        let doubled: Vec<_> = self.0.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "doubled: {doubled:?}");
    }
}

/// The write that makes sure of a flow.
pub const FLOW: &str = "POST /api/flows/";
/// The write that makes a deployment, or overwrites whatever is there.
pub const CREATE: &str = "POST /api/deployments/";

/// A line to Prefect that keeps what was asked and how it was answered, and that can withhold an answer after the work is done.
pub struct Line {
    /// Prefect's API through this line.
    pub url: String,
    held: Arc<watch::Sender<Option<String>>>,
    taken: Arc<watch::Sender<bool>>,
    answers: Arc<Mutex<Vec<(String, String)>>>,
}

/// An answer that is waited for.
pub struct Held(watch::Receiver<bool>);

impl Held {
    /// Returns once the request was done.
    pub async fn taken(mut self) {
        self.0.wait_for(|taken| *taken).await.unwrap();
    }
}

impl Line {
    /// A line on a free port.
    pub async fn start(target: &str) -> Self {
        let target = url::Url::parse(target).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = target.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (held, taken) = (Arc::new(watch::Sender::new(None)), Arc::new(watch::Sender::new(false)));
        let line =
            Self { url: url.to_string(), held: held.clone(), taken: taken.clone(), answers: Arc::default() };
        let answers = line.answers.clone();
        let address = target.socket_addrs(|| None).unwrap()[0];
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (held, taken, answers) = (held.clone(), taken.clone(), answers.clone());
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(address).await {
                        serve(client, server, &held, &taken, &answers).await;
                    }
                });
            }
        });
        line
    }

    /// From now on nothing comes back on a connection on which a request that begins so was done.
    pub fn hold_answer(&self, request: &str) -> Held {
        self.held.send_replace(Some(request.to_owned()));
        Held(self.taken.subscribe())
    }

    /// New connections are free again.
    pub fn release(&self) {
        self.held.send_replace(None);
    }

    /// The requests that changed something, as method and path, in order. A server on SQLite answers 503 when two writes meet, and then
    /// has done nothing.
    pub fn writes(&self) -> Vec<String> {
        let reads = ["/filter", "/paginate", "/count"];
        let is_write = |r: &String| !r.starts_with("GET ") && !reads.iter().any(|end| r.ends_with(end));
        let answers = self.answers.lock().unwrap().clone();
        let done = answers.into_iter().filter(|(_, status)| status.starts_with('2'));
        done.map(|(request, _)| request).filter(is_write).collect()
    }

    /// The writes after the first `before`. A flow that is asked for again is named once: Prefect makes it once, and a busy one that refuses
    /// the deployment after it gets both again.
    pub fn writes_after(&self, before: usize) -> Vec<String> {
        let mut later = self.writes().split_off(before);
        later.dedup_by(|again, write| again == write && write == FLOW);
        later
    }

    /// How often this was done.
    pub fn count(&self, write: &str) -> usize {
        self.writes().iter().filter(|w| *w == write).count()
    }
}

/// Passes bytes on. The client writes each request head in one piece.
async fn serve(
    mut client: TcpStream,
    mut server: TcpStream,
    held: &watch::Sender<Option<String>>,
    taken: &watch::Sender<bool>,
    answers: &Mutex<Vec<(String, String)>>,
) {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let (mut wanted, mut silent, mut request) = (false, false, String::new());
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let text = String::from_utf8_lossy(&asked[..length]).into_owned();
                let line = text.lines().next().unwrap_or_default();
                if let Some(head) = line.strip_suffix(" HTTP/1.1") {
                    request = head.split('?').next().unwrap_or_default().to_owned();
                }
                wanted |= held.borrow().as_ref().is_some_and(|begin| line.starts_with(begin.as_str()));
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                let text = String::from_utf8_lossy(&answered[..length]);
                if let Some(status) = text.strip_prefix("HTTP/1.1 ") {
                    answers.lock().unwrap().push((request.clone(), status.chars().take(3).collect()));
                    // A refusal is passed on: what is withheld is that something was done.
                    if wanted && status.starts_with('2') {
                        silent = true;
                        taken.send_replace(true);
                    }
                }
                if !silent && client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
