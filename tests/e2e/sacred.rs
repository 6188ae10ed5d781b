//! Schedules are sacred: five minutes of a schedule that ticks every five seconds, while everything is done to it that Feedwater and people do,
//! and the operator is killed in the middle. On both databases, each with a Prefect of its own. No worker runs: every run that fell due has to be
//! in the server, once.

use crate::prefect_side::schedule;
use crate::stage::{LIMIT, Setting, Stage, is};
use feedwater::api::FlowDeployment;
use jiff::Timestamp;
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use world::Progress;
use world::prefect::{Installation, Postgres, Server, WORK_POOL};
use world::proxy::{Action, Entry, Handle, Position, Proxy, Rule, Verdict};

/// How long the schedule ticks.
const LENGTH: Duration = Duration::from_secs(300);
/// How often the operator is killed at least.
const KILLS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tick_is_there_once_on_both_databases_whatever_is_done() {
    let info = Stage::info();
    let progress = Progress::silent();
    let installation = Installation::get(&progress).await.unwrap();
    let postgres = Postgres::get(&installation, &progress).await.unwrap();
    let place = |name: &str| info.directory.join(format!("sacred-{name}-{}", uuid::Uuid::new_v4().simple()));
    let (one, other) = (place("sqlite"), place("postgres"));
    let sqlite = async { Server::start(&installation, &one, &progress).await.unwrap() };
    let postgres = async { Server::start_on(&postgres, &installation, &other, &progress).await.unwrap() };
    let (sqlite, postgres) = tokio::join!(sqlite, postgres);
    tokio::join!(Ground::ticks("sqlite", &sqlite), Ground::ticks("postgres", &postgres));
}

/// Where the operator is killed.
#[derive(Clone, Copy)]
enum Kill {
    /// The server has changed the deployment, and the operator does not know.
    Patched,
    /// The server has changed a schedule, and the operator does not know.
    Put,
    /// The server has deleted a schedule, and the operator does not know.
    Deleted,
    /// Whatever was changed is known to the operator, and nothing of the repair has arrived.
    Unrepaired,
}

struct Ground {
    name: &'static str,
    stage: Stage,
    proxy: Proxy,
    /// As it is declared now.
    flow: Value,
    /// The deployment in Prefect.
    id: String,
    kills: usize,
}

impl Ground {
    async fn ticks(name: &'static str, server: &Server) {
        let proxy = Proxy::start(server.api_url()).await.unwrap();
        let mut info = Stage::info();
        info.prefect_api_url = Some(server.api_url().to_owned());
        let setting = Setting { prefect_url: Some(proxy.url().to_owned()), ..Setting::default() };
        let stage = Stage::set_in(info, &format!("sacred-{name}"), setting).await;
        let mut flow = stage.flow_object("orders");
        flow["spec"]["workPool"]["name"] = WORK_POOL.into();
        flow["spec"]["description"] = "Loads orders".into();
        flow["spec"]["parameters"] = json!({"region": "eu"});
        flow["spec"]["adoptionPolicy"] = "Adopt".into();
        flow["spec"]["foreignSchedules"] = "Remove".into();
        flow["spec"]["schedules"] = json!([
            {"slug": "ticks", "interval": {"every": "5s", "anchor": "2026-01-01T00:00:00Z"}, "parameters": {"n": 0}},
            {"slug": "minutes", "cron": {"expression": "* * * * *"}},
        ]);
        stage.apply(&[flow.clone()]).await;
        let id = stage.deployed("orders").await;
        let mut ground = Self { name, stage, proxy, flow, id, kills: 0 };
        let begin = ground.first().await;
        let end = begin + LENGTH;
        let mut round = 0;
        while world::clock::now() < end || ground.kills < KILLS {
            ground.disturb(round).await;
            round += 1;
        }
        ground.judge(begin, world::clock::now()).await;
        ground.stage.delete::<FlowDeployment>("orders").await;
    }

    async fn disturb(&mut self, round: usize) {
        match round % 8 {
            0 => {
                self.flow["spec"]["description"] = format!("Loads orders {round}").into();
                self.edited(Some(Kill::Patched)).await;
            }
            1 => self.by_hand(json!({"description": format!("by hand {round}")}), Kill::Patched).await,
            2 => {
                // Applied again as it is: nothing comes of it.
                self.stage.apply(std::slice::from_ref(&self.flow)).await;
                let ticks = self.schedule("ticks").await;
                let armed = self.arm(Kill::Unrepaired);
                let path = format!("/deployments/{}/schedules/{ticks}", self.id);
                self.call(Method::PATCH, &path, json!({"active": false})).await;
                self.killed(armed).await;
            }
            3 => {
                self.flow["spec"]["schedules"][0]["parameters"] = json!({"n": round});
                self.edited(Some(Kill::Put)).await;
            }
            4 => self.adopted(round).await,
            5 => {
                let extra = json!({"slug": "extra", "interval": {"every": "7s"}});
                self.flow["spec"]["schedules"].as_array_mut().unwrap().push(extra);
                self.flow["spec"]["tags"] = json!([format!("round-{round}")]);
                self.edited(Some(Kill::Unrepaired)).await;
            }
            6 => {
                self.flow["spec"]["schedules"].as_array_mut().unwrap().truncate(2);
                self.edited(Some(Kill::Deleted)).await;
            }
            _ => {
                let foreign =
                    json!([{"active": true, "schedule": {"cron": "30 3 * * *", "timezone": "UTC"}}]);
                let armed = self.arm(Kill::Deleted);
                self.call(Method::POST, &format!("/deployments/{}/schedules", self.id), foreign).await;
                self.killed(armed).await;
            }
        }
    }

    async fn edited(&mut self, kill: Option<Kill>) {
        let armed = kill.map(|kill| self.arm(kill));
        self.stage.apply(std::slice::from_ref(&self.flow)).await;
        match armed {
            Some(armed) => self.killed(armed).await,
            None => self.settled().await,
        }
    }

    async fn by_hand(&mut self, fields: Value, kill: Kill) {
        let armed = self.arm(kill);
        self.call(Method::PATCH, &format!("/deployments/{}", self.id), fields).await;
        self.killed(armed).await;
    }

    /// The resource goes and leaves the deployment, somebody takes the mark off, and another resource takes it over.
    async fn adopted(&mut self, round: usize) {
        self.stage.change::<FlowDeployment>("orders", json!({"spec": {"deletionPolicy": "Orphan"}})).await;
        let free = |f: &FlowDeployment| f.finalizers().is_empty() && is(f, "Ready", "True", "InSync");
        self.stage.until("orders", "without finalizer", free).await;
        self.stage.delete::<FlowDeployment>("orders").await;
        self.call(Method::PATCH, &format!("/deployments/{}", self.id), json!({"tags": []})).await;
        self.flow["spec"]["parameters"] = json!({"region": format!("r{round}")});
        self.edited(Some(Kill::Unrepaired)).await;
    }

    fn arm(&self, kill: Kill) -> Armed {
        let (verb, path, position) = match kill {
            Kill::Patched => ("PATCH", "/api/deployments/*", Position::AfterApplied),
            Kill::Put => ("PATCH", "/api/deployments/*/schedules/*", Position::AfterApplied),
            Kill::Deleted => ("DELETE", "/api/deployments/*/schedules/*", Position::AfterApplied),
            Kill::Unrepaired => ("POST", "/api/deployments/*/schedule", Position::Before),
        };
        let (hit, killed) = (Arc::new(watch::Sender::new(false)), watch::Sender::new(false));
        let (hits, released) = (hit.clone(), killed.subscribe());
        let action = Action::hook(move |entry: Entry| {
            let (hits, mut released) = (hits.clone(), released.clone());
            async move {
                // A refusal has changed nothing: SQLite's 503.
                if entry.status.is_some_and(|status| status >= 300) {
                    return Verdict::GoOn;
                }
                hits.send_replace(true);
                let _ = released.wait_for(|released| *released).await;
                Verdict::Drop
            }
        });
        Armed { rule: self.proxy.add(Rule::on(verb, path, action).at(position)), hit, killed }
    }

    /// Kills the operator where it was armed to be, and waits until its successor has everything in order.
    async fn killed(&mut self, armed: Armed) {
        let mut hit = armed.hit.subscribe();
        let came = timeout(LIMIT, hit.wait_for(|hit| *hit)).await;
        assert!(came.is_ok(), "{}: never came to be killed\n{}", self.name, self.stage.log_tail());
        drop(came);
        self.stage.operator.kill().await;
        armed.rule.remove();
        armed.killed.send_replace(true);
        self.kills += 1;
        self.stage.operator.restart().await.unwrap();
        self.settled().await;
    }

    async fn settled(&self) {
        let settled = |f: &FlowDeployment| {
            is(f, "Ready", "True", "InSync") && f.status.as_ref().is_some_and(|s| s.pending_write.is_none())
        };
        // The lease of the one that was killed, and on a busy SQLite each late run may take a second.
        let limit = LIMIT * 3;
        self.stage.until_within(limit, "orders", "in sync, nothing owed", settled).await;
    }

    async fn call(&self, method: Method, path: &str, body: Value) {
        self.stage.prefect.call(method, path, Some(body)).await.unwrap();
    }

    async fn schedule(&self, slug: &str) -> String {
        let there = self.stage.prefect.call(Method::GET, &format!("/deployments/{}", self.id), None).await;
        schedule(&there.unwrap(), slug)["id"].as_str().unwrap().to_owned()
    }

    /// From when on every tick is expected: the first that Prefect has made of both schedules.
    async fn first(&self) -> Timestamp {
        let started = Instant::now();
        loop {
            let runs = self.runs().await;
            let first = |slug: &str| runs.keys().find(|(by, _)| by == slug).map(|(_, due)| *due);
            if let (Some(ticks), Some(minutes)) = (first("ticks"), first("minutes")) {
                return ticks.max(minutes);
            }
            assert!(started.elapsed() < LIMIT, "Prefect schedules nothing");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many runs there are of each schedule and time.
    async fn runs(&self) -> BTreeMap<(String, Timestamp), usize> {
        let mut runs = BTreeMap::new();
        for offset in (0..).step_by(200) {
            let filter = json!({"deployments": {"id": {"any_": [self.id]}}, "sort": "ID_DESC", "limit": 200, "offset": offset});
            let page =
                self.stage.prefect.call(Method::POST, "/flow_runs/filter", Some(filter)).await.unwrap();
            let page = page.as_array().unwrap();
            for run in page {
                let by = run["created_by"]["display_value"].as_str().unwrap_or_default().to_owned();
                let due = run["expected_start_time"].as_str().unwrap().parse().unwrap();
                *runs.entry((by, due)).or_insert(0) += 1;
            }
            if page.len() < 200 {
                return runs;
            }
        }
        unreachable!("the offsets have no end")
    }

    async fn judge(&self, begin: Timestamp, end: Timestamp) {
        let runs = self.runs().await;
        let mut faults = Vec::new();
        for (slug, every) in [("ticks", 5), ("minutes", 60)] {
            let ticks = (begin.as_second()..=end.as_second()).filter(|second| second % every == 0);
            let ticks: Vec<Timestamp> = ticks.map(|second| Timestamp::from_second(second).unwrap()).collect();
            assert!(
                ticks.len() >= usize::try_from(300 / every).unwrap(),
                "{}: {slug} ticked too little",
                self.name
            );
            let count = |due: &Timestamp| runs.get(&(slug.to_owned(), *due)).copied().unwrap_or_default();
            faults.extend(
                ticks.iter().filter(|due| count(due) != 1).map(|due| format!("{slug} {due}: {}", count(due))),
            );
        }
        faults.extend(
            runs.iter().filter(|(_, count)| **count > 1).map(|(run, count)| format!("{run:?}: {count}")),
        );
        let (name, kills, total) = (self.name, self.kills, runs.len());
        assert!(faults.is_empty(), "{name}, {kills} kills, {total} runs, from {begin}: {faults:#?}");
    }
}

/// A kill that waits for its moment.
struct Armed {
    rule: Handle,
    hit: Arc<watch::Sender<bool>>,
    killed: watch::Sender<bool>,
}
