//! Resources, the model Prefect, and a driver that may die between any two steps.

use crate::prefect::Prefect;
use feedwater::api::{DeletionPolicy, FINALIZER, FlowDeployment, FlowDeploymentStatus};
use feedwater::model::conditions::reason_of;
use feedwater::model::deployments::Deployment;
use feedwater::model::flow::{
    Ack, Ahead, Claim, Claimant, Decision, Desired, Failure, Memory, NoValue, Observed, Place, Step, Turn,
    Values, View, WorkspaceView, Write, WriteKind, claim, decide, fold, heir,
};
use feedwater::model::ids::{DeploymentId, DeploymentName};
use feedwater::model::tenancy::Access;
use feedwater::model::time::{add, sub};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

pub const INSTANCE: &str = "test";
pub const FLOW: &str = "orders";

/// What happens during a pass, once it has come to writing.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// The process dies after so many writes.
    Crash(usize),
    /// This write fails; it may have been done nevertheless.
    Fail(usize, Failure, bool),
}

#[derive(Clone)]
pub struct Resource {
    pub object: FlowDeployment,
    memory: Option<Memory>,
    /// The names its specs ever declared, as the server calls them.
    declared: BTreeSet<String>,
}

/// What keeps a resource from being in sync though nobody edits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    Missing,
    NotReady,
    SecretGone,
}

pub struct World {
    pub prefect: Prefect,
    pub away: Option<Away>,
    pub resources: [Option<Resource>; 2],
    pub now: Timestamp,
    seen: Option<Vec<Deployment>>,
    dirty: Vec<DeploymentName>,
    /// Its policy was Orphan at some time: it may leave things behind.
    pub orphaned: [bool; 2],
    /// Deployments that were given to another resource, which takes them as they are.
    pub handed_over: Vec<DeploymentId>,
    pub status_writes: u32,
    pub calls: u32,
}

pub fn name(n: usize) -> DeploymentName {
    DeploymentName { flow: FLOW.into(), deployment: format!("d{n}").into() }
}

impl World {
    pub fn new() -> Self {
        Self {
            prefect: Prefect::default(),
            away: None,
            resources: [None, None],
            now: "2026-11-24T10:00:00Z".parse().unwrap(),
            seen: None,
            dirty: vec![],
            orphaned: [false; 2],
            handed_over: vec![],
            status_writes: 0,
            calls: 0,
        }
    }

    /// Somebody applies a spec: creates the resource, or edits it.
    pub fn apply(&mut self, n: usize, spec: &Value) {
        let object = match &self.resources[n] {
            Some(old) => {
                let mut object = old.object.clone();
                object.spec = serde_json::from_value(spec.clone()).unwrap();
                object.metadata.generation = object.metadata.generation.map(|g| g + 1);
                object
            }
            None => serde_json::from_value(json!({
                "apiVersion": "feedwater.dev/v1alpha1", "kind": "FlowDeployment", "spec": spec,
                "metadata": {"name": format!("r{n}"), "namespace": "finance", "generation": 1,
                             "creationTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
            }))
            .unwrap(),
        };
        let old = self.resources[n].take();
        let mut declared = old.as_ref().map(|r| r.declared.clone()).unwrap_or_default();
        declared.extend(desired(&object).fields.keys().cloned());
        let orphan = object.spec.deletion_policy == Some(DeletionPolicy::Orphan);
        self.orphaned[n] |= orphan;
        let memory = old.and_then(|r| r.memory);
        self.resources[n] = Some(Resource { object, memory, declared });
    }

    /// Somebody deletes the resource.
    pub fn delete(&mut self, n: usize) {
        let now = self.now;
        let Some(resource) = &mut self.resources[n] else { return };
        if resource.object.metadata.finalizers.iter().flatten().count() == 0 {
            self.let_go(n, true);
        } else if resource.object.metadata.deletion_timestamp.is_none() {
            resource.object.metadata.deletion_timestamp = Some(Time(now));
            resource.object.metadata.generation = resource.object.metadata.generation.map(|g| g + 1);
        }
    }

    /// The observer reads everything.
    pub fn read(&mut self) {
        self.seen = Some(self.prefect.deployments.clone());
        self.dirty.clear();
    }

    /// The process starts again.
    pub fn restart(&mut self) {
        self.seen = None;
        self.dirty.clear();
        for resource in self.resources.iter_mut().flatten() {
            resource.memory = None;
        }
    }

    pub fn status(&self, n: usize) -> FlowDeploymentStatus {
        self.resources[n].as_ref().and_then(|r| r.object.status.clone()).unwrap_or_default()
    }

    pub fn ready(&self, n: usize) -> Option<String> {
        reason_of(&self.status(n), "Ready").map(str::to_owned)
    }

    fn view(&self, place: &Place) -> View<Deployment> {
        match &self.seen {
            _ if self.dirty.contains(&place.deployment) => View::Dirty,
            None => View::Unread,
            Some(seen) => {
                seen.iter().find(|s| s.name == place.deployment).cloned().map_or(View::Absent, View::Present)
            }
        }
    }

    fn claimants(&self, n: usize, place: &Place) -> Vec<Claimant> {
        let others = (0..2)
            .filter(|m| *m != n)
            .filter_map(|m| Some((desired(&self.resources[m].as_ref()?.object), self.status(m))));
        others
            .filter(|(other, status)| other.wanted_place() == *place || other.place(status) == *place)
            .filter_map(|(other, status)| {
                Claimant::of(&other, &status, &Access::Allowed, other.wanted_place() == *place)
            })
            .collect()
    }

    fn ahead(&self, n: usize, d: &Desired, workspace: WorkspaceView) -> Ahead {
        let place = d.wanted_place();
        let deployment = self.view(&place);
        let claim = claim(d, &deployment, &self.claimants(n, &place));
        let deleted = |r: &Resource| r.object.metadata.deletion_timestamp.is_some();
        let given = matches!(claim, Claim::TakenByLeaving { .. })
            && self.resources[1 - n].as_ref().is_some_and(deleted);
        let standing = feedwater::model::connection::Standing::Held;
        Ahead { workspace, standing, deployment, claim, given }
    }

    fn observe(&self, n: usize, d: &Desired, place: &Place) -> Observed {
        let deployment = self.view(place);
        let others = self.claimants(n, place);
        let workspace = match self.away {
            Some(Away::Missing) => WorkspaceView::Missing,
            Some(Away::NotReady) => WorkspaceView::NotReady { reason: "Unreachable".into() },
            Some(Away::SecretGone) | None => WorkspaceView::Ready,
        };
        Observed {
            ahead: (*place != d.wanted_place()).then(|| self.ahead(n, d, workspace.clone())),
            workspace,
            access: Access::Allowed,
            turn: Turn::None,
            standing: feedwater::model::connection::Standing::Held,
            cloud: false,
            values: match self.away {
                Some(Away::SecretGone) => Values::Missing(NoValue::NotFound("orders".into())),
                Some(Away::Missing | Away::NotReady) | None => Values::Put(std::collections::BTreeMap::new()),
            },
            claim: claim(d, &deployment, &others),
            heir: heir(&others),
            deployment,
            clock: Some(sub(self.now, Duration::from_secs(1))),
            cleanup_deadline: Duration::from_secs(1_000_000_000),
            memory: self.resources[n].as_ref().and_then(|r| r.memory.clone()),
        }
    }

    /// One pass over a resource.
    pub fn pass(&mut self, n: usize, fault: &Fault) -> Option<Step> {
        self.now = add(self.now, Duration::from_secs(1));
        let d = desired(&self.resources[n].as_ref()?.object);
        let status = self.status(n);
        let o = self.observe(n, &d, &d.place(&status));
        let decision = decide(&d, &o, &status, self.now);
        let step = decision.step.clone();
        let orphaned = decision.notes.iter().any(|note| note.reason == "Orphaned");
        self.orphaned[n] |= orphaned;
        match &decision.step {
            Step::Rest | Step::Intend => self.publish(n, decision),
            Step::Hold => self.finalizers(n, Some(vec![FINALIZER.to_owned()])),
            Step::Release => {
                self.finalizers(n, None);
                if d.deleting.is_some() {
                    self.let_go(n, orphaned || d.deletion_policy == DeletionPolicy::Orphan);
                }
            }
            Step::Do(writes) => {
                if let Some(acks) = self.act(n, &d, writes, fault) {
                    let decision = fold(&d, &o, &status, &acks, self.now);
                    assert_eq!(decision.step, Step::Rest);
                    self.publish(n, decision);
                } else {
                    self.restart();
                }
            }
        }
        Some(step)
    }

    fn publish(&mut self, n: usize, decision: Decision) {
        let resource = self.resources[n].as_mut().unwrap();
        resource.memory = decision.memory;
        if resource.object.status.clone().unwrap_or_default() != decision.status {
            let text = serde_json::to_string(&decision.status).unwrap();
            resource.object.status = Some(serde_json::from_str(&text).unwrap());
            assert_eq!(
                resource.object.status.as_ref(),
                Some(&decision.status),
                "status survives the API server"
            );
            assert!(decision.status.applied_fields.len() <= 96);
            assert!(decision.status.corrections.iter().all(|c| c.at.len() <= 3));
            self.status_writes += 1;
        }
    }

    /// The object is gone. What it still owed to what it leaves behind stays owed: without a finalizer no call is made.
    fn let_go(&mut self, n: usize, leaves: bool) {
        let Some(resource) = self.resources[n].take() else { return };
        if leaves {
            let left = resource.object.status.and_then(|s| s.deployment_id).map(DeploymentId::new);
            self.prefect.lost.retain(|id, _| left.as_ref() != Some(id));
            self.prefect.lost_late.retain(|(id, _)| left.as_ref() != Some(id));
        }
    }

    fn finalizers(&mut self, n: usize, finalizers: Option<Vec<String>>) {
        self.resources[n].as_mut().unwrap().object.metadata.finalizers = finalizers;
    }

    /// The writes up to the first failure; none: the process died.
    fn act(&mut self, n: usize, d: &Desired, writes: &[Write], fault: &Fault) -> Option<Vec<Ack>> {
        assert!(!writes.is_empty());
        let place = d.place(&self.status(n));
        let mut acks = vec![];
        for (i, write) in writes.iter().enumerate() {
            match fault {
                Fault::Crash(after) if *after == i => return None,
                Fault::Fail(at, failure, done) if *at == i => {
                    if *done {
                        self.call(n, &place, write);
                    }
                    let ack = Ack::Failed(write.kind(), failure.clone());
                    let ends = ack.ends();
                    acks.push(ack);
                    if ends {
                        self.dirty.push(place.deployment);
                        return Some(acks);
                    }
                    continue;
                }
                Fault::None | Fault::Crash(_) | Fault::Fail(..) => {}
            }
            let ack = self.call(n, &place, write);
            let ends = ack.ends();
            acks.push(ack);
            if ends {
                break;
            }
        }
        self.dirty.push(place.deployment);
        if matches!(fault, Fault::Crash(after) if *after >= writes.len()) { None } else { Some(acks) }
    }

    fn call(&mut self, n: usize, place: &Place, write: &Write) -> Ack {
        self.calls += 1;
        self.check(n, write);
        if let Write::Patch { id, fields } = write
            && let Some(Value::Array(tags)) = fields.get("tags")
            && !tags.contains(&json!(desired(&self.resources[n].as_ref().unwrap().object).mark))
        {
            self.handed_over.push(id.clone());
        }
        let now = self.now;
        let prefect = &mut self.prefect;
        let answered = match write {
            Write::Create { flow, new } => {
                if prefect.named(&place.deployment).is_some() {
                    return Ack::AlreadyThere;
                }
                return Ack::Created(prefect.create(flow, new));
            }
            Write::Patch { id, fields } => prefect.patch(id, fields, now),
            Write::AddSchedule { id, new } => prefect.add_schedule(id, new, now),
            Write::PutSchedule { id, schedule, new } => prefect.put_schedule(id, schedule, new, now),
            Write::DeleteSchedule { id, schedule } => {
                prefect.delete_schedule(id, schedule, now);
                Some(())
            }
            Write::SeeLate { id, before, leaving: _ } => return Ack::Late(prefect.late(id, *before)),
            Write::RestoreRuns { id, from, to } => {
                return match prefect.restore(id, *from, *to) {
                    Some(()) => Ack::Restored { from: *from, to: *to },
                    None => Ack::Failed(write.kind(), Failure::Rejected(500)),
                };
            }
            Write::ScheduleRuns { id, since } => prefect.schedule_runs(id, *since),
            Write::Delete { id } => {
                prefect.delete(id);
                Some(())
            }
        };
        match answered {
            Some(()) => Ack::Done(write.kind()),
            None => Ack::Failed(write.kind(), Failure::Rejected(500)),
        }
    }

    /// What must be so before a write goes out.
    fn check(&self, n: usize, write: &Write) {
        let resource = self.resources[n].as_ref().unwrap();
        let status = self.status(n);
        if resource.object.spec.deletion_policy != Some(DeletionPolicy::Orphan) {
            assert!(resource.object.metadata.finalizers.is_some(), "the finalizer precedes {write:?}");
        }
        assert!(status.full_name.is_some() || resource.object.metadata.deletion_timestamp.is_some());
        match write.kind() {
            WriteKind::Patch | WriteKind::PutSchedule | WriteKind::DeleteSchedule => {
                let since = status.pending_write.expect("status says since when runs are lost").since.0;
                assert!(since <= self.now);
            }
            WriteKind::Create
            | WriteKind::AddSchedule
            | WriteKind::SeeLate
            | WriteKind::RestoreRuns
            | WriteKind::ScheduleRuns
            | WriteKind::Delete => {}
        }
        let d = desired(&resource.object);
        if let (Write::Delete { .. }, None) = (write, d.deleting) {
            self.check_ahead(n, &d);
        }
        if let Write::PutSchedule { schedule, new, .. } = write {
            let seen = self.seen.iter().flatten().flat_map(|d| &d.schedules).find(|s| s.id == *schedule);
            let kept = seen.is_some_and(|s| s.parameters == new.parameters);
            assert!(kept, "a replacement must not clear the schedule's parameters");
        }
        if let Write::Patch { fields, .. } = write {
            for field in fields.keys().filter(|f| *f != "tags") {
                assert!(resource.declared.contains(field), "`{field}` was never declared");
            }
        }
    }

    /// Who moves deletes the former one only for a place that he can have: nothing is there that is not his, unless it is given up.
    fn check_ahead(&self, n: usize, d: &Desired) {
        let seen = self.seen.as_ref().expect("it has been read").iter().find(|s| s.name == d.deployment);
        let Some(there) = seen.filter(|there| !there.tags.contains(&d.mark)) else { return };
        let other = self.resources[1 - n].as_ref().map(|other| desired(&other.object));
        let given_up = |other: &Desired| {
            let leaves = other.deleting.is_some() || other.deployment != d.deployment;
            leaves && there.tags.contains(&other.mark)
        };
        assert!(other.is_some_and(|other| given_up(&other)), "{there:?} is in the way of {n}");
    }
}

pub fn desired(object: &FlowDeployment) -> Desired {
    Desired::parse(object, INSTANCE).unwrap()
}
