//! Where the scripts play: what there is, what is known of it, and how calm returns.

use crate::laws::{Broken, Law};
use crate::reached::Reached;
use crate::weather::Weather;
use crate::world::{Process, Skews, World};
use feedwater::controller::operator::OperatorError;
use feedwater::model::ids::{DeploymentName, Luid};
use feedwater::prefect::StateType;
use feedwater::tableau::JobStatus;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

use crate::world::NAMESPACE;

pub const FLOWS: [&str; 2] = ["a", "b"];
/// Each with its upstreams and its gate.
pub const REFRESHES: [(&str, &[&str], &str); 3] =
    [("one", &["a"], "All"), ("both", &["a", "b"], "All"), ("any", &["a", "b"], "Any")];
/// Data sources; the first are the targets of the refreshes, in their order.
pub const CONTENTS: [&str; 4] = ["one", "both", "any", "spare"];
pub const DESCRIPTION: &str = "Loads what analysts ask for";
/// What the connections are read at, and so how long anything at rest may take to show.
pub const POLL: Duration = Duration::from_secs(10);
/// Of everything that is tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(360);
const WATCHED: [&str; 5] =
    ["extractrefreshes", "flowdeployments", "prefectworkspaces", "tableausites", "secrets"];

/// A world with its operators, and the truth about it.
pub struct Stage {
    pub world: Arc<World>,
    pub luids: Vec<Luid>,
    pub facts: Facts,
    pub weather: Weather,
    slots: [Option<Process>; 2],
    /// Specs as in Git.
    wanted: BTreeMap<(&'static str, &'static str), Value>,
    counter: u64,
}

/// What the laws need to know.
#[derive(Default)]
pub struct Facts {
    pub completions: Vec<Completion>,
    /// When each refresh was created.
    pub since: BTreeMap<&'static str, Timestamp>,
    /// Refreshes whose sets cannot be told from the truth alone: their gate was edited.
    pub inexact: BTreeSet<&'static str>,
    /// Edits of targets: what was refreshed before is not credited.
    pub retargeted: Vec<(&'static str, Timestamp)>,
    /// One extra refresh each.
    pub excuses: Vec<&'static str>,
    /// R1: then every lost answer may cost one extra.
    pub list_was_closed: bool,
}

/// A run that completed.
#[derive(Clone, Debug)]
pub struct Completion {
    pub flow: &'static str,
    pub state: String,
    pub at: Timestamp,
    /// Perhaps nobody could see it: a person took it back, or its flow was deleted.
    pub taken: bool,
}

impl Facts {
    /// What completed of this flow need not have been seen.
    pub fn gone(&mut self, flow: &str) {
        for completion in self.completions.iter_mut().filter(|c| c.flow == flow) {
            completion.taken = true;
        }
    }
}

impl Stage {
    /// Everything in sync, and both operators run.
    pub async fn new(skews: Skews) -> Self {
        let mut world = World::with(skews);
        // Nothing is left behind, however long the storm.
        world.cleanup = Duration::from_secs(7 * 24 * 3600);
        {
            let mut engine = world.engine.lock().unwrap();
            (engine.queued, engine.running) = (Duration::from_secs(3), Duration::from_secs(8));
        }
        world.connections_read_every(POLL);
        let luids = CONTENTS.iter().map(|name| world.publish(name)).collect();
        let weather = Weather::default();
        let sky = weather.clone();
        world.troubles.on_call(move |call| sky.on_call(call));
        let sky = weather.clone();
        world.server.on_request(move |request| sky.on_request(request));
        let mut stage = Self {
            world: Arc::new(world),
            luids,
            facts: Facts::default(),
            weather,
            slots: [None, None],
            wanted: BTreeMap::new(),
            counter: 0,
        };
        stage.as_written();
        stage.apply_all();
        stage.start(0);
        stage.start(1);
        stage.settle().await.unwrap();
        stage
    }

    /// The fault of every kind is over, and everything is as Git has it at first.
    pub async fn calm(&mut self) -> Law {
        self.weather.clear();
        {
            let mut engine = self.world.engine.lock().unwrap();
            engine.stopped = false;
            engine.ends.clear();
        }
        self.world.connections_read_every(POLL);
        for plural in WATCHED {
            self.world.server.release(plural, 0);
            self.world.server.expire(plural);
        }
        self.start(0);
        self.start(1);
        self.as_written();
        self.apply_all();
        // Who failed for long waits for long.
        self.wait(LONGEST_BACKOFF).await;
        self.settle().await?;
        // Deleted ones are gone by now.
        self.apply_all();
        for refresh in 0..REFRESHES.len() {
            if self.exr(refresh)["status"]["owed"]["stopped"].is_string() {
                self.token(refresh);
            }
        }
        self.settle().await
    }

    /// Returns once nothing has been written, here or there, for three polls, and nothing is under way.
    pub async fn settle(&mut self) -> Law {
        let mut quiet = 0;
        for _ in 0..300 {
            let before = self.world.activity();
            self.wait(POLL).await;
            quiet = if self.world.activity() == before && !self.world.under_way() { quiet + 1 } else { 0 };
            if quiet == 3 {
                return Ok(());
            }
        }
        Err(Broken(format!("it settles: {}", self.short())))
    }

    /// What matters of all that is.
    pub fn short(&self) -> String {
        let mut text = String::new();
        for plural in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
            for object in self.world.server.objects(plural) {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let deleted = &object["metadata"]["deletionTimestamp"];
                let _ = writeln!(text, "\n{plural}/{name} deleted {deleted}");
                for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
                    let field = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
                    let (kind, status, reason) = (field("type"), field("status"), field("reason"));
                    let _ = writeln!(text, "  {kind} {status} {reason}: {}", field("message"));
                }
                for field in ["owed", "attempt", "marks", "pendingWrite"] {
                    if !object["status"][field].is_null() {
                        let _ = writeln!(text, "  {field} {}", object["status"][field]);
                    }
                }
            }
        }
        let writes = self.world.writes();
        for call in &writes[writes.len().saturating_sub(6)..] {
            let _ = writeln!(text, "{} {:?} {}/{}", call.client, call.verb, call.plural, call.name);
        }
        for job in self.world.jobs() {
            let _ = writeln!(text, "{} {:?} {:?}", job.job.id, job.job.status, job.job.content);
        }
        text
    }

    /// Time passes; operators that end are started again.
    pub async fn wait(&mut self, time: Duration) {
        let second = Duration::from_secs(1);
        let mut left = time;
        while !left.is_zero() {
            sleep(left.min(second)).await;
            left = left.saturating_sub(second);
            for slot in 0..2 {
                self.revive(slot);
            }
        }
    }

    pub fn reached(&self, what: impl Into<String>) {
        self.weather.sky().reached.one(what);
    }

    /// What was reached, once.
    pub fn take_reached(&self) -> Reached {
        std::mem::take(&mut self.weather.sky().reached)
    }

    /// Refreshes whose answer was lost on purpose.
    pub fn answers_lost(&self) -> usize {
        self.weather.sky().answers_lost
    }

    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn exr(&self, refresh: usize) -> Value {
        self.world.server.object("extractrefreshes", NAMESPACE, REFRESHES[refresh].0).unwrap_or_default()
    }

    pub fn deployment(flow: usize) -> DeploymentName {
        World::deployment(FLOWS[flow])
    }

    // What people do.

    /// Every object that is not there is created.
    pub fn apply_all(&mut self) {
        for ((plural, name), object) in self.wanted.clone() {
            let there = self.world.server.object(plural, NAMESPACE, name);
            if there.is_none() && plural == "extractrefreshes" {
                self.facts.since.insert(name, self.world.now());
                self.facts.inexact.remove(name);
            }
            if there.is_none_or(|there| there["metadata"]["deletionTimestamp"].is_null()) {
                self.world.server.put(plural, object).unwrap();
            }
        }
    }

    pub fn edit(&mut self, refresh: usize, change: impl FnOnce(&mut Value)) {
        self.change("extractrefreshes", REFRESHES[refresh].0, |object| change(&mut object["spec"]));
    }

    pub fn edit_flow(&mut self, flow: usize, change: impl FnOnce(&mut Value)) {
        self.change("flowdeployments", FLOWS[flow], |object| change(&mut object["spec"]));
    }

    pub fn token(&mut self, refresh: usize) {
        let token = format!("token-{}", self.next());
        self.change("extractrefreshes", REFRESHES[refresh].0, |object| {
            object["metadata"]["annotations"]["feedwater.dev/refresh-requested"] = json!(token);
        });
    }

    pub fn retargeted(&mut self, refresh: usize) {
        self.facts.retargeted.push((REFRESHES[refresh].0, self.world.now()));
    }

    pub fn delete(&mut self, plural: &'static str, name: &'static str) {
        // It may not be there.
        let _ = self.world.server.remove(plural, NAMESPACE, name);
    }

    fn change(&mut self, plural: &'static str, name: &'static str, change: impl FnOnce(&mut Value)) {
        let object = self.wanted.get_mut(&(plural, name)).unwrap();
        change(object);
        let object = object.clone();
        let there = self.world.server.object(plural, NAMESPACE, name);
        if let Some(there) = there
            && there["metadata"]["deletionTimestamp"].is_null()
        {
            let mut object = object;
            // What the operator has annotated stays.
            for (key, value) in there["metadata"]["annotations"].as_object().into_iter().flatten() {
                let annotations = &mut object["metadata"]["annotations"];
                if annotations[key].is_null() {
                    annotations[key] = value.clone();
                }
            }
            self.world.server.put(plural, object).unwrap();
        }
    }

    fn as_written(&mut self) {
        for flow in FLOWS {
            let mut object = World::flow(flow);
            object["spec"]["description"] = json!(DESCRIPTION);
            self.wanted.insert(("flowdeployments", flow), object);
        }
        for (index, (name, upstreams, require)) in REFRESHES.into_iter().enumerate() {
            let mut refresh = World::refresh(name, upstreams);
            refresh["spec"]["trigger"] = json!({"require": require});
            let metadata = &self.exr(index)["metadata"];
            let annotations = metadata["annotations"].clone();
            if annotations.is_object() && metadata["deletionTimestamp"].is_null() {
                refresh["metadata"]["annotations"] = annotations;
            }
            self.wanted.insert(("extractrefreshes", name), refresh);
            let target = &self.exr(index)["spec"]["target"]["name"];
            if target.is_string() && target != CONTENTS[index]
                || self.exr(index)["spec"]["refreshType"] == "Incremental"
            {
                self.retargeted(index);
            }
        }
    }

    // What services do.

    pub fn complete(&mut self, flow: usize) {
        let run = self.world.prefect.run(&Self::deployment(flow), StateType::Completed);
        self.completed(flow, run.state.to_string(), run.deployment.is_none());
    }

    /// A person sets the newest run of a flow to another state.
    pub fn force(&mut self, flow: usize, completed: bool) {
        let id = {
            let prefect = self.world.prefect.state();
            let name = Self::deployment(flow);
            let Some(deployment) = prefect.deployments.values().find(|d| d.name == name) else { return };
            let mut runs: Vec<_> =
                prefect.runs.iter().filter(|run| run.deployment.as_ref() == Some(&deployment.id)).collect();
            runs.sort_by_key(|run| run.state_at);
            let Some(run) = runs.last() else { return };
            let (id, state) = (run.id.clone(), run.state.to_string());
            if let Some(before) = self.facts.completions.iter_mut().find(|c| c.state == state) {
                before.taken = true;
            }
            id
        };
        let state = if completed { StateType::Completed } else { StateType::Failed };
        let run = self.world.prefect.set_state(&id, state).unwrap();
        if completed {
            self.completed(flow, run.state.to_string(), false);
        }
    }

    fn completed(&mut self, flow: usize, state: String, unseen: bool) {
        let object = self.world.server.object("flowdeployments", NAMESPACE, FLOWS[flow]);
        let there = object.is_some_and(|flow| flow["metadata"]["deletionTimestamp"].is_null());
        let (flow, at) = (FLOWS[flow], self.world.now());
        self.facts.completions.push(Completion { flow, state, at, taken: unseen || !there });
    }

    /// Tableau cleans up the record of a job that has ended.
    pub fn remove_job(&mut self, nth: usize) {
        let ended: Vec<_> =
            self.world.jobs().into_iter().filter(|job| job.job.completed_at.is_some()).collect();
        if !ended.is_empty() {
            let job = &ended[nth % ended.len()].job;
            self.world.tableau.forget(&job.id);
            if job.status == JobStatus::Success {
                self.facts.excuses.push("R4");
            }
        }
    }

    /// Published anew under the same name: another LUID.
    pub fn republish(&mut self, content: usize) {
        let old = self.luids[content].clone();
        self.world.tableau.state().contents.retain(|content| content.luid != old);
        self.luids[content] = self.world.publish(CONTENTS[content]);
    }

    // What becomes of operators.

    pub fn start(&mut self, slot: usize) {
        self.revive(slot);
        if self.slots[slot].is_none() {
            let identity = format!("{}-{}", ["left", "right"][slot], self.next());
            self.slots[slot] = Some(self.world.operator(&identity));
        }
    }

    pub fn kill(&mut self, slot: usize) {
        if let Some(process) = self.slots[slot].take() {
            process.kill();
        }
    }

    pub fn terminate(&mut self, slot: usize) {
        if let Some(process) = &self.slots[slot] {
            process.ask_to_end();
        }
    }

    pub fn steal_lease(&self) {
        let spec = json!({"holderIdentity": "thief", "renewTime": self.world.now().to_string()});
        // There may be none yet.
        let _ = self.world.server.merge("leases", NAMESPACE, "feedwater", &json!({"spec": spec}));
    }

    fn revive(&mut self, slot: usize) {
        let Some(process) = &mut self.slots[slot] else { return };
        let Some(end) = process.ended() else { return };
        match end {
            Ok(()) => self.reached("Process/Ended"),
            Err(OperatorError::LeaseLost) => self.reached("Process/LeaseLost"),
            Err(OperatorError::Grace(_)) => self.reached("Process/GraceExpired"),
            Err(error @ OperatorError::ControllerEnded) => panic!("{error}"),
        }
        self.slots[slot] = None;
        self.start(slot);
    }

    /// Reconciles of running operators that panicked.
    pub fn panics(&self) -> Vec<String> {
        let texts = self.slots.iter().flatten().map(|process| process.metrics.encode().unwrap());
        texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.starts_with("feedwater_reconcile_panics_total") && !line.ends_with(" 0"))
            .collect()
    }
}
