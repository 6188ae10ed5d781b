//! What must hold (docs/trigger.md 9), told from the truth alone: naive on purpose, and without the operator's own functions.

use crate::stage::{DESCRIPTION, FLOWS, POLL, REFRESHES, Stage};
use crate::truth::Post;
use crate::world::{World, scheduled};
use feedwater::prefect::StateType;
use feedwater::tableau::JobStatus;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use world::resources::condition;

/// A law that was broken.
#[derive(Debug)]
pub struct Broken(pub String);

pub type Law = Result<(), Broken>;

fn law(holds: bool, what: impl FnOnce() -> String) -> Law {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

impl Stage {
    /// To be called when all is calm.
    pub async fn judge(&mut self) -> Law {
        law(self.panics().is_empty(), || format!("no reconcile panics: {:?}", self.panics()))?;
        self.converged()?;
        self.nothing_lost()?;
        self.nothing_believed_without_proof()?;
        self.nothing_doubled()?;
        self.deployments_match()?;
        self.shown_once()?;
        self.at_rest("at rest").await?;
        // Another process takes over and finds nothing to do.
        self.kill(0);
        self.kill(1);
        self.start(1);
        self.start(0);
        self.at_rest("after a restart").await?;
        self.next_round().await?;
        self.note_reasons();
        Ok(())
    }

    fn converged(&self) -> Law {
        for plural in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
            for object in self.world.server.objects(plural) {
                let ready = condition(&object, "Ready");
                law(ready.is_some_and(|(status, _)| status == "True"), || {
                    format!("everything becomes Ready: {plural} {object:#}")
                })?;
            }
        }
        Ok(())
    }

    /// A job is one run in Prefect, whose states go only forward, with one artifact at most.
    fn shown_once(&self) -> Law {
        let prefect = self.world.prefect.state();
        let mut keys = BTreeSet::new();
        for told in &prefect.told.runs {
            law(keys.insert(&told.new.idempotency_key), || format!("a job is shown once: {told:#?}"))?;
            let states = told.state_types();
            let place = |state: &StateType| match state {
                StateType::Pending => 0,
                StateType::Running => 1,
                _ => 2,
            };
            law(states.is_sorted_by_key(place) && states.len() <= 3, || {
                format!("states go only forward, each told once: {told:#?}")
            })?;
            law(told.artifacts.len() <= 1, || format!("one artifact: {told:#?}"))?;
            if told.artifacts.len() == 1 {
                self.reached("Shown");
            }
        }
        Ok(())
    }

    /// The last completion that must have made a set is in a successful job.
    fn nothing_lost(&self) -> Law {
        let log = self.world.truth.log();
        for (index, (name, upstreams, require)) in REFRESHES.into_iter().enumerate() {
            if self.facts.inexact.contains(name) {
                continue;
            }
            // A completion within the second of the creation may be from before it.
            let since = self.facts.since[name].checked_add(SignedDuration::from_secs(2)).unwrap();
            let newest = |flow: &&str| {
                let of = self.facts.completions.iter().filter(|c| c.flow == *flow && !c.taken);
                of.map(|c| c.at).filter(|at| *at > since).max()
            };
            let bounds: Vec<Option<Timestamp>> = upstreams.iter().map(newest).collect();
            let bound = match require {
                "All" => bounds.iter().min().copied().flatten(),
                _ => bounds.iter().max().copied().flatten(),
            };
            let Some(bound) = bound else { continue };
            let exr = self.exr(index);
            let luid = exr["status"]["target"]["luid"].as_str().unwrap_or_default();
            // After an edit of the target nothing is owed on the new one by itself (docs/trigger.md 4).
            let edited = self.facts.retargeted.iter().any(|(of, at)| *of == name && *at >= bound);
            let elsewhere: Vec<_> = self.facts.retargeted.iter().filter(|(of, _)| *of == name).collect();
            let contained = if elsewhere.is_empty() {
                log.successes(luid).any(|(_, start, _)| start >= bound)
            } else {
                self.luids.iter().any(|luid| log.successes(luid.as_str()).any(|(_, start, _)| start >= bound))
            };
            law(contained || edited, || {
                format!("what completed by {bound} is refreshed: {}\n{:#?}", self.short(), log.posts)
            })?;
        }
        Ok(())
    }

    /// What a status calls covered is in a job that had succeeded by then, and had begun after the completion.
    fn nothing_believed_without_proof(&self) -> Law {
        let log = self.world.truth.log();
        let mut known: BTreeSet<(String, String, String)> = BTreeSet::new();
        for (at, exr) in self.world.history("extractrefreshes") {
            let luid = exr["status"]["target"]["luid"].as_str().unwrap_or_default();
            for mark in exr["status"]["marks"].as_array().into_iter().flatten() {
                let Some(state) = mark["covered"]["stateId"].as_str() else { continue };
                let uid = exr["metadata"]["uid"].to_string();
                if !known.insert((uid, mark["key"].to_string(), state.to_owned())) {
                    continue;
                }
                let completion = self.facts.completions.iter().find(|c| c.state == state);
                let proven = completion.is_some_and(|completion| {
                    log.successes(luid).any(|(_, start, end)| start >= completion.at && end <= at)
                });
                law(proven, || format!("what is covered has a proof: {state} at {at} in {exr:#}"))?;
            }
        }
        Ok(())
    }

    /// No job of ours for what a successful job of ours already contained, but for the named cases.
    fn nothing_doubled(&self) -> Law {
        let log = self.world.truth.log();
        let mut doubles = Vec::new();
        let arrived: Vec<(&Post, bool)> = log
            .posts
            .iter()
            .filter_map(|post| {
                let (job, _) = post.arrived.as_ref()?;
                let success = log.ended.get(job).is_some_and(|(status, _)| *status == JobStatus::Success);
                Some((post, success))
            })
            .collect();
        for (index, (second, _)) in arrived.iter().enumerate() {
            let Some(resource) = &second.resource else {
                doubles.push(format!("nothing asked for it: {second:#?}"));
                continue;
            };
            let earlier = arrived[..index].iter().filter(|(first, success)| {
                *success
                    && first.luid == second.luid
                    && first.resource.as_ref().is_some_and(|of| {
                        of["metadata"]["uid"] == resource["metadata"]["uid"] && suffices(of, resource)
                    })
            });
            for (first, _) in earlier {
                let between = |at: &Timestamp| first.sent <= *at && *at <= second.sent;
                let name = resource["metadata"]["name"].as_str().unwrap_or_default();
                let uncredited = self.facts.retargeted.iter().any(|(of, at)| *of == name && between(at));
                if !uncredited && self.all_recorded(resource, first.sent) {
                    doubles.push(format!("{first:#?}\ncontains what is refreshed by\n{second:#?}"));
                    // One job too many is one, however many before it contain the same.
                    break;
                }
            }
        }
        let mut excused = self.facts.excuses.len();
        if self.facts.list_was_closed {
            excused += self.answers_lost();
        }
        if !doubles.is_empty() && doubles.len() <= excused {
            self.reached("Double/Excused");
        }
        law(doubles.len() <= excused, || {
            format!("{} doubles, {excused} excused: {}", doubles.len(), doubles.join("\n"))
        })
    }

    /// Whether everything that this resource owes was written in its status before a moment.
    fn all_recorded(&self, resource: &Value, before: Timestamp) -> bool {
        let history = self.world.history("extractrefreshes");
        let then = history
            .iter()
            .rev()
            .filter(|(_, exr)| exr["metadata"]["uid"] == resource["metadata"]["uid"])
            .find(|(at, _)| *at <= before);
        let Some((_, then)) = then else { return false };
        let owed = &resource["status"]["owed"];
        let seen = |occasion: &Value| {
            let marks = then["status"]["marks"].as_array().into_iter().flatten();
            let newest = marks
                .filter(|mark| mark["key"] == occasion["key"])
                .filter_map(|mark| time(&mark["seen"]["at"]))
                .max();
            newest >= time(&occasion["occasion"]["at"])
        };
        let asked = |demand: &Value| {
            let demands = then["status"]["owed"]["demands"].as_array().into_iter().flatten();
            demands.clone().any(|known| known["kind"] == demand["kind"] && known["token"] == demand["token"])
        };
        owed["occasions"].as_array().into_iter().flatten().all(seen)
            && owed["demands"].as_array().into_iter().flatten().all(asked)
    }

    /// Prefect holds exactly what the resources say, and its scheduled runs.
    fn deployments_match(&self) -> Law {
        let prefect = self.world.prefect.state();
        law(prefect.deployments.len() == FLOWS.len(), || format!("no more: {:#?}", prefect.deployments))?;
        for (flow, name) in FLOWS.into_iter().enumerate() {
            let found = prefect.deployments.values().find(|d| d.name == Stage::deployment(flow));
            let Some(deployment) = found else {
                return Err(Broken(format!("the deployment {name} exists")));
            };
            let spec = &World::flow(name)["spec"];
            law(deployment.fields.get("description") == Some(&DESCRIPTION.into()), || {
                format!("its fields are as declared: {deployment:#?}")
            })?;
            let rules: Vec<_> = deployment.schedules.iter().map(|s| (&s.rule["cron"], s.active)).collect();
            law(rules == [(&spec["schedules"][0]["cron"]["expression"], true)], || {
                format!("its schedules are as declared: {deployment:#?}")
            })?;
            law(!scheduled(&prefect, &deployment.id) || prefect.scheduled.contains(&deployment.id), || {
                format!("its scheduled runs are there: {deployment:#?}")
            })?;
        }
        Ok(())
    }

    /// Nothing is written, here or there.
    async fn at_rest(&mut self, when: &str) -> Law {
        let (before, since) = (self.world.activity(), self.world.now());
        self.wait(POLL * 12).await;
        law(self.world.activity() == before, || format!("{when} nothing is written: {}", self.changes(since)))
    }

    /// What of statuses has changed since then.
    fn changes(&self, since: Timestamp) -> String {
        let mut text = String::new();
        for plural in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
            let history = self.world.history(plural);
            for (index, (at, after)) in history.iter().enumerate().filter(|(_, (at, _))| *at >= since) {
                let same =
                    |other: &&(Timestamp, Value)| other.1["metadata"]["uid"] == after["metadata"]["uid"];
                let Some((_, before)) = history[..index].iter().rev().find(same) else { continue };
                let _ = writeln!(text, "{at} {plural}/{}", after["metadata"]["name"]);
                for (field, value) in after["status"].as_object().into_iter().flatten() {
                    if field == "conditions" {
                        let _ = writeln!(text, "  {} -> {}", reasons(before), reasons(after));
                    } else if before["status"][field] != *value {
                        let _ = writeln!(text, "  {field} {} -> {value}", before["status"][field]);
                    }
                }
            }
        }
        text
    }

    /// Each flow completes once more: exactly one refresh for each set.
    async fn next_round(&mut self) -> Law {
        let posts = |stage: &Stage, refresh: usize| {
            let name = REFRESHES[refresh].0;
            let log = stage.world.truth.log();
            let of = |post: &&Post| {
                post.arrived.is_some()
                    && post.resource.as_ref().is_some_and(|exr| exr["metadata"]["name"] == name)
            };
            log.posts.iter().filter(of).count()
        };
        let before: Vec<usize> = (0..REFRESHES.len()).map(|refresh| posts(self, refresh)).collect();
        for flow in 0..FLOWS.len() {
            self.complete(flow);
            self.settle().await?;
        }
        for (refresh, expected) in [1, 1, 2].into_iter().enumerate() {
            let more = posts(self, refresh) - before[refresh];
            law(more == expected, || {
                format!("{more} refreshes for {expected} sets: {:#}", self.exr(refresh))
            })?;
        }
        self.nothing_lost()?;
        self.nothing_believed_without_proof()
    }

    /// For the count of what was reached.
    fn note_reasons(&self) {
        for plural in ["prefectworkspaces", "tableausites", "flowdeployments", "extractrefreshes"] {
            for (_, object) in self.world.history(plural) {
                let kind = object["kind"].as_str().unwrap_or_default();
                for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
                    let word = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
                    self.reached(format!("{kind}/{}/{}", word("type"), word("reason")));
                }
                if let Some(origin) = object["status"]["attempt"]["origin"].as_str() {
                    self.reached(format!("Origin/{origin}"));
                }
                if !object["status"]["pendingWrite"].is_null() {
                    self.reached("FlowDeployment/pendingWrite");
                }
            }
        }
        for (_, code) in self.world.server.log() {
            match code {
                Some(code) => self.reached(format!("Answer/{code}")),
                None => self.reached("Answer/None"),
            }
        }
        for post in &self.world.truth.log().posts {
            self.reached(if post.arrived.is_some() { "Post/Arrived" } else { "Post/NotArrived" });
        }
    }
}

fn reasons(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let words: Vec<_> =
        conditions.map(|c| format!("{} {}: {}", c["type"], c["reason"], c["message"])).collect();
    words.join(", ")
}

fn suffices(has: &Value, wanted: &Value) -> bool {
    let kind = |exr: &Value| exr["status"]["attempt"]["refreshType"].as_str().unwrap_or_default().to_owned();
    kind(has) == kind(wanted) || kind(has) == "Full"
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}
