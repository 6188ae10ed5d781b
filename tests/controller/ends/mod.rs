//! Every way a refresh can end, every answer to its start, everything a target can be: what the resource says then, what was called, and what
//! comes next. What is seen is `docs/refresh-ends.md`; `UPDATE=1` writes it.

mod after;
mod answers;
mod jobs;
mod targets;

use crate::world::{Process, World};
use feedwater::model::ids::{JobId, Luid};
use feedwater::tableau::JobStatus;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::sleep;
use world::resources::condition;

/// LUIDs as Tableau makes them: of the extract, and of its namesake.
const LUID: &str = "0e31bd11-9c3e-4dd2-a52f-d4ac2a2a6f8c";
const TWIN: &str = "5d0c7a52-41f6-4b8e-9a31-7c6f0e2b9d44";

/// What `spec.timeout` is here.
const TIMEOUT: Duration = Duration::from_secs(600);

/// An extract `orders` in sync, whose jobs move when told to.
struct Scene {
    world: World,
    luid: Luid,
    _operator: Process,
    /// What was called and told before the play began.
    calls: usize,
    events: BTreeSet<String>,
}

/// Minutes after which nothing more is expected: nobody waits for longer than half an hour.
const LONG: usize = 120;

/// Lets something happen, as far as it is told.
type Play = for<'a> fn(&'a Scene) -> BoxFuture<'a, ()>;

impl Scene {
    /// With a spec that is changed so.
    async fn new(change: impl FnOnce(&mut Value)) -> Self {
        let world = World::new();
        world.engine.lock().unwrap().stopped = true;
        world.connections();
        let luid = publish(&world, LUID);
        world.server.put("flowdeployments", World::flow("orders")).unwrap();
        let mut refresh = World::refresh("orders", &["orders"]);
        refresh["spec"]["timeout"] = json!("10m");
        change(&mut refresh["spec"]);
        world.server.put("extractrefreshes", refresh).unwrap();
        let operator = world.operator("one");
        world.settle().await;
        let mut scene = Self { world, luid, _operator: operator, calls: 0, events: BTreeSet::new() };
        scene.begins();
        scene
    }

    /// What is shown is what happens from here on.
    fn begins(&mut self) {
        self.calls = self.world.tableau.state().calls.len();
        self.events = self.all_events().map(|event| name(&event)).collect();
    }

    /// The flow completes.
    fn completes(&self) {
        self.world.complete("orders");
    }

    fn exr(&self) -> Value {
        self.world.exr("orders")
    }

    /// A change of the resource as in Git.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut exr = self.exr();
        change(&mut exr);
        self.world.server.put("extractrefreshes", exr).unwrap();
    }

    /// The flow completes, and our job is queued.
    async fn queued(&self) -> JobId {
        self.completes();
        self.follows().await
    }

    /// Until a job is followed.
    async fn follows(&self) -> JobId {
        let follows = |world: &World| world.exr("orders")["status"]["attempt"]["jobId"].is_string();
        self.world.until("a job is followed", follows).await;
        JobId::from(self.exr()["status"]["attempt"]["jobId"].as_str().unwrap())
    }

    /// The same, and Tableau has started it.
    async fn running(&self) -> JobId {
        let job = self.queued().await;
        self.starts(&job).await;
        job
    }

    async fn starts(&self, job: &JobId) {
        self.world.tableau.advance(job, JobStatus::InProgress).unwrap();
        self.says("Refreshing", "True/Running").await;
    }

    fn ends(&self, job: &JobId, status: JobStatus) {
        self.world.tableau.advance(job, status).unwrap();
    }

    /// Until a condition is so.
    async fn says(&self, kind: &str, expected: &str) {
        self.world
            .until(&format!("{kind} is {expected}"), |world| word(&world.exr("orders"), kind) == expected)
            .await;
    }

    /// A condition as the page shows it: its value, its reason and its message.
    fn told(&self, kind: &str) -> String {
        let exr = self.exr();
        let all = exr["status"]["conditions"].as_array().unwrap();
        let one = all.iter().find(|c| c["type"] == kind).unwrap();
        let text = |field: &str| one[field].as_str().unwrap().replace('|', r"\|");
        let text = format!("{} `{}`: {}", text("status"), text("reason"), text("message"));
        text.replace(LUID, "0e31bd11-…").replace(TWIN, "5d0c7a52-…")
    }

    /// The Events since, in their order.
    fn events(&self) -> String {
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        let new = self.all_events().filter(|event| !self.events.contains(&name(event)));
        let mut all: Vec<(String, String)> =
            new.map(|event| (text(&event, "eventTime"), text(&event, "reason"))).collect();
        all.sort();
        let words: Vec<String> = all.into_iter().map(|(_, reason)| format!("`{reason}`")).collect();
        if words.is_empty() { "none".into() } else { words.join(", ") }
    }

    fn all_events(&self) -> impl Iterator<Item = Value> {
        let of = |event: &Value| event["regarding"]["kind"] == "ExtractRefresh";
        self.world.server.objects("events").into_iter().filter(of)
    }

    /// What was called in Tableau since, as far as it concerns this refresh; one after the other of a kind is one.
    fn calls(&self) -> String {
        let calls = self.world.tableau.state().calls[self.calls..].to_vec();
        let mut words: Vec<(&str, bool)> = Vec::new();
        for call in &calls {
            let word = match call.split(' ').next().unwrap() {
                "refresh" => "start",
                "job" => "read job",
                "jobs" => "list jobs",
                "cancel" => "cancel job",
                "content" => "read content",
                // The lists that are read every few minutes whatever happens.
                "projects" | "contents" | "site" => continue,
                other => panic!("{other}"),
            };
            match words.last_mut() {
                Some((last, more)) if *last == word => *more = true,
                _ => words.push((word, false)),
            }
        }
        let words: Vec<String> =
            words.into_iter().map(|(word, more)| format!("{word}{}", if more { "…" } else { "" })).collect();
        if words.is_empty() { "none".into() } else { words.join(", ") }
    }

    /// Ours waits for jobs of others, which end one after the other.
    async fn after_others(&self) -> String {
        let sent = self.world.truth.log().posts.len();
        let others = |world: &World| {
            let state = world.tableau.state();
            state.jobs.iter().filter(|found| found.job.completed_at.is_none()).count()
        };
        let many = others(&self.world);
        for left in (0..many).rev() {
            let waits = |world: &World| world.exr("orders")["status"]["attempt"]["waitsForJob"].clone();
            let unfinished = |world: &World, id: &str| {
                let state = world.tableau.state();
                state.jobs.iter().any(|found| found.job.id.as_str() == id && found.job.completed_at.is_none())
            };
            let waits_for_one = |world: &World| waits(world).as_str().is_some_and(|id| unfinished(world, id));
            self.world.until("one is waited for", waits_for_one).await;
            assert_eq!((others(&self.world), self.world.truth.log().posts.len()), (left + 1, sent));
            self.ends(&JobId::from(waits(&self.world).as_str().unwrap()), JobStatus::Success);
        }
        self.world.until("ours is started", |world| world.truth.log().posts.len() > sent).await;
        if many == 1 { "when that job has ended".into() } else { "when both have ended".into() }
    }

    /// When the next refresh is started, if nobody does anything.
    async fn then(&self) -> String {
        let (from, sent) = (self.world.now(), self.world.truth.log().posts.len());
        let sent_of = |world: &World| world.truth.log().posts.len();
        let attempt = &self.exr()["status"]["attempt"];
        if attempt["jobId"].is_string() {
            return "followed to its end".into();
        }
        if attempt["waitsForJob"].is_string() {
            return self.after_others().await;
        }
        for _ in 0..LONG {
            if sent_of(&self.world) > sent {
                break;
            }
            sleep(Duration::from_secs(60)).await;
        }
        let next = self.world.truth.log().posts.get(sent).map(|post| post.sent);
        next.map_or("nothing".into(), |at| format!("started {}", after(at.duration_since(from).as_secs())))
    }
}

/// A data source `orders` of this LUID.
fn publish(world: &World, luid: &str) -> Luid {
    let made = world.publish("orders");
    let luid = Luid::from(luid);
    for content in world.tableau.state().contents.iter_mut().filter(|content| content.luid == made) {
        content.luid = luid.clone();
    }
    luid
}

/// A wait that has a tenth of chance in it.
fn after(seconds: i64) -> String {
    match seconds {
        ..5 => "at once".into(),
        5..50 => format!("after {} s", (seconds + 2) / 5 * 5),
        _ => format!("after {} min", (seconds + 30) / 60),
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn word(exr: &Value, kind: &str) -> String {
    condition(exr, kind).map_or_else(String::new, |(status, reason)| format!("{status}/{reason}"))
}

/// One at a time writes the page.
static PAGE: Mutex<()> = Mutex::new(());

/// Holds a table of the page against what is so.
fn page(name: &str, table: &str) {
    let _one = PAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/refresh-ends.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap();
    let (now, tail) = rest.split_once("<!-- end -->\n").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{head}<!-- {name} -->\n{table}<!-- end -->\n{tail}")).unwrap();
        return;
    }
    assert_eq!(now, table, "docs/refresh-ends.md is not what is so: UPDATE=1 writes it");
}

/// A table of markdown.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

/// Which failures are never retried is the code's own table.
#[test]
fn what_is_never_retried_is_on_the_page() {
    let rows: Vec<Vec<String>> = feedwater::model::failures::NEVER_RETRIED
        .iter()
        .map(|row| {
            let unless: Vec<String> = row.unless.iter().map(|words| format!("`{words}`")).collect();
            let unless =
                if unless.is_empty() { String::new() } else { format!(", without {}", unless.join(" or ")) };
            let words = format!("`{}`{unless}", row.says);
            vec![words, format!("`{}`", row.taken_for.reason()), row.seen.into(), row.doubt.into()]
        })
        .collect();
    page("never", &table(&["the job failed, and its notes say", "taken for", "seen", "doubt"], &rows));
}
