//! A Prefect of a hundred lines: what `reference/prefect-api.md` 4 to 6 measured about deployments, schedules and lost runs.

use feedwater::model::deployments::{Deployment, NewDeployment, NewSchedule, Schedule, Touched};
use feedwater::model::ids::{DeploymentId, DeploymentName, ScheduleId};
use feedwater::model::time::add;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
pub struct Prefect {
    pub deployments: Vec<Deployment>,
    /// When runs of a deployment were dropped that nobody has asked for again.
    pub lost: BTreeMap<DeploymentId, Vec<Timestamp>>,
    /// When runs were due that no worker has taken.
    pub late: Vec<(DeploymentId, Timestamp)>,
    /// Those of them that a schedule's deletion dropped and nobody has asked for again.
    pub lost_late: Vec<(DeploymentId, Timestamp)>,
    /// Deployments that a person made: no call of ours may ever name them.
    pub by_hand: Vec<DeploymentId>,
    ids: u32,
}

impl Prefect {
    pub fn named(&self, name: &DeploymentName) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.name == *name)
    }

    pub fn named_mut(&mut self, name: &DeploymentName) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|d| d.name == *name)
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("id-{}", self.ids)
    }

    /// POST: an upsert, which must never meet an existing deployment.
    pub fn create(&mut self, flow: &str, new: &NewDeployment) -> DeploymentId {
        let name = DeploymentName { flow: flow.into(), deployment: new.name.as_str().into() };
        assert!(self.named(&name).is_none(), "a POST over an existing deployment wipes it");
        let id = DeploymentId::new(self.id());
        let mut fields = Map::from_iter([
            ("pull_steps".to_owned(), json!([])),
            ("parameters".to_owned(), json!({})),
            ("parameter_openapi_schema".to_owned(), json!({})),
        ]);
        fields.extend(new.fields.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut made = Deployment {
            id: id.clone(),
            name,
            tags: vec![],
            paused: false,
            fields: Map::new().into(),
            schedules: vec![],
            shares_limit: false,
            touched: Touched::default(),
        };
        set(&mut made, &fields);
        self.deployments.push(made);
        id
    }

    /// None: 404.
    fn changed(&mut self, id: &DeploymentId, drops_runs: Option<Timestamp>) -> Option<&mut Deployment> {
        assert!(!self.by_hand.contains(id), "a deployment without our mark is not ours to touch");
        let there = self.deployments.iter_mut().find(|d| d.id == *id)?;
        if let Some(now) = drops_runs {
            self.lost.entry(id.clone()).or_default().push(now);
        }
        Some(there)
    }

    pub fn patch(&mut self, id: &DeploymentId, fields: &Map<String, Value>, now: Timestamp) -> Option<()> {
        let both = fields.contains_key("work_pool_name") == fields.contains_key("work_queue_name");
        assert!(both, "a queue without its pool moves the deployment to another pool");
        set(self.changed(id, Some(now))?, fields);
        Some(())
    }

    pub fn add_schedule(&mut self, id: &DeploymentId, new: &NewSchedule, now: Timestamp) -> Option<()> {
        let schedule = ScheduleId::new(self.id());
        // Its first runs come late, unless they are asked for.
        let there = self.changed(id, Some(now))?;
        if there.schedules.iter().any(|s| s.slug.as_deref() == Some(&new.slug)) {
            return None;
        }
        // The most recently updated comes first.
        there.schedules.insert(0, stored(schedule, new, now));
        Some(())
    }

    pub fn put_schedule(
        &mut self,
        id: &DeploymentId,
        at: &ScheduleId,
        new: &NewSchedule,
        now: Timestamp,
    ) -> Option<()> {
        let there = self.changed(id, Some(now))?;
        let place = there.schedules.iter().position(|s| s.id == *at)?;
        let old = there.schedules.remove(place);
        assert_ne!(old.slug.as_deref(), Some("hand"), "somebody else's schedule");
        let max_scheduled_runs = old.max_scheduled_runs;
        there.schedules.insert(0, Schedule { max_scheduled_runs, ..stored(old.id, new, now) });
        Some(())
    }

    pub fn delete_schedule(&mut self, id: &DeploymentId, at: &ScheduleId, now: Timestamp) {
        let Some(there) = self.changed(id, Some(now)) else { return };
        let slug = there.schedules.iter().find(|s| s.id == *at).and_then(|s| s.slug.clone());
        assert_ne!(slug.as_deref(), Some("hand"), "somebody else's schedule");
        there.schedules.retain(|s| s.id != *at);
        let (dropped, kept) = std::mem::take(&mut self.late).into_iter().partition(|(of, _)| of == id);
        self.late = kept;
        self.lost_late.extend::<Vec<_>>(dropped);
    }

    pub fn late(&self, id: &DeploymentId, before: Timestamp) -> Vec<Timestamp> {
        self.late.iter().filter(|(of, due)| of == id && *due <= before).map(|(_, due)| *due).collect()
    }

    pub fn restore(&mut self, id: &DeploymentId, from: Timestamp, to: Timestamp) -> Option<()> {
        self.changed(id, None)?;
        // It makes runs until there are three and an hour is over.
        let to = to.min(add(from, Duration::from_secs(3600)));
        let here = |run: &(DeploymentId, Timestamp)| run.0 == *id && (from..=to).contains(&run.1);
        let (made, lost) = std::mem::take(&mut self.lost_late).into_iter().partition(here);
        self.lost_late = lost;
        self.late.extend::<Vec<_>>(made);
        // Of what was dropped in this stretch only that is still owed which is due after it.
        for dropped in self.lost.entry(id.clone()).or_default() {
            if (from..=to).contains(dropped) {
                *dropped = to;
            }
        }
        Some(())
    }

    pub fn schedule_runs(&mut self, id: &DeploymentId, since: Timestamp) -> Option<()> {
        self.changed(id, None)?;
        self.lost.entry(id.clone()).or_default().retain(|dropped| *dropped < since);
        self.lost_late.retain(|(of, due)| of != id || *due < since);
        self.lost.retain(|_, dropped| !dropped.is_empty());
        Some(())
    }

    pub fn delete(&mut self, id: &DeploymentId) {
        self.changed(id, None);
        self.forget(id);
    }

    /// A person deletes it.
    pub fn forget(&mut self, id: &DeploymentId) {
        self.deployments.retain(|d| d.id != *id);
        self.late.retain(|(of, _)| of != id);
        self.lost_late.retain(|(of, _)| of != id);
        self.lost.remove(id);
    }
}

/// Keys that are sent are set; null clears; an empty schema is filled in.
fn set(there: &mut Deployment, fields: &Map<String, Value>) {
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("tags", tags) => {
                let tags = tags.as_array().expect("tags: null is 422").iter();
                there.tags = tags.map(|t| t.as_str().unwrap().to_owned()).collect();
            }
            ("parameters", Value::Null) => panic!("parameters: null is 409"),
            ("parameter_openapi_schema", Value::Object(schema)) if schema.is_empty() => {
                there.fields.insert(key.clone(), json!({"type": "object", "properties": {}}));
            }
            (_, Value::Null) => {
                there.fields.remove(key);
            }
            (_, value) => {
                there.fields.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The server's additions to a schedule.
fn stored(id: ScheduleId, new: &NewSchedule, now: Timestamp) -> Schedule {
    let mut rule = new.rule.clone();
    if rule.contains_key("cron") {
        rule.entry("day_or").or_insert(json!(true));
    }
    if rule.contains_key("interval") {
        rule.entry("anchor_date").or_insert(json!(now.to_string()));
    }
    if let Some(Value::String(rrule)) = rule.get_mut("rrule")
        && !rrule.contains("DTSTART")
    {
        rrule.insert_str(0, "DTSTART:20200101T000000\n");
    }
    Schedule {
        id,
        slug: Some(new.slug.clone()),
        active: new.active,
        rule,
        parameters: new.parameters.clone(),
        max_scheduled_runs: None,
    }
}
