//! `FlowDeployment`: what is observed of it, and how it acts on Prefect.

use super::context::{Context, Objects};
use super::index::{Dependent, Key, object_name};
use super::lanes::{Priority, Waker};
use super::publish;
use super::reconcile::{Note, Plan, Planned, Subject};
use super::workspace::{DeploymentView, Health, WorkspaceSession};
use crate::api::{Conditioned, FlowDeployment, FlowDeploymentStatus};
use crate::model::conditions;
use crate::model::deployments::Deployment;
use crate::model::flow::{
    self, Ack, Claimant, Desired, Failure, Observed, Place, Step, View, WorkspaceView, Write, WriteKind,
};
use crate::model::ids::{DeploymentName, ObjectName};
use crate::prefect::PrefectError;
use crate::runtime::metrics::Kind;
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The subject.
pub struct Flows;

/// What was parsed and observed; `None` for a spec that cannot be acted on.
pub type Seen = Option<(Desired, Observed, Place)>;

/// What a pass may do.
pub enum Act {
    /// Set our finalizer.
    Hold,
    /// Take it away; whether something is left behind in Prefect against the deletion policy.
    Release {
        /// See above.
        orphaned: bool,
    },
    /// Write to Prefect.
    Write(Arc<WorkspaceSession>, DeploymentName, Vec<Write>),
}

/// The reason of a connection that has just been started; nothing is given up while it stands.
const PROGRESSING: &str = "Progressing";
/// Longest time a write to Prefect may take; the lease must outlive it.
const WRITE_DEADLINE: Duration = Duration::from_secs(8);

#[async_trait]
impl Subject for Flows {
    type Object = FlowDeployment;
    type Seen = Seen;
    type Act = Act;
    type Ack = Vec<Ack>;
    const KIND: Kind = Kind::FlowDeployment;

    fn objects(ctx: &Context) -> &Objects<FlowDeployment> {
        &ctx.objects.flows
    }

    fn plan(ctx: &Context, object: &Arc<FlowDeployment>, now: Timestamp) -> Planned<Self> {
        let empty = FlowDeploymentStatus::default();
        let stored = object.status.as_ref().unwrap_or(&empty);
        let desired = match Desired::parse(object, &ctx.instance) {
            Ok(desired) => desired,
            Err(why) => {
                let generation = object.metadata.generation.unwrap_or_default();
                let decision = flow::unsupported(stored, generation, &why, now);
                return Planned {
                    status: decision.status,
                    plan: Plan::Rest,
                    again: decision.again,
                    notes: notes(decision.notes),
                    seen: None,
                };
            }
        };
        let place = desired.place(stored);
        let at =
            ObjectName { namespace: desired.name.namespace.clone(), name: place.workspace.as_str().into() };
        let session = ctx.workspaces.get(&at).map(|link| link.session);
        let observed = observe(ctx, &desired, &place, &at, session.as_deref(), now);
        let decision = flow::decide(&desired, &observed, stored, now);
        remember(ctx, &desired.name, decision.memory);
        let priority = if stored.observed_generation() == desired.generation {
            Priority::Rest
        } else {
            Priority::Changed
        };
        let plan = match (decision.step, session) {
            // Without a session, which went away between observing and now, it is looked at again when there is one.
            (Step::Rest, _) | (Step::Do(_), None) => Plan::Rest,
            (Step::Intend, _) => Plan::Intend(String::new()),
            (Step::Hold, _) => Plan::Do { act: Act::Hold, lane: None, priority },
            (Step::Release, _) => {
                let orphaned = decision.notes.iter().any(|note| note.reason == "Orphaned");
                Plan::Do { act: Act::Release { orphaned }, lane: None, priority }
            }
            (Step::Do(writes), Some(session)) => {
                let lane = Some(session.lane.clone());
                Plan::Do { act: Act::Write(session, place.deployment.clone(), writes), lane, priority }
            }
        };
        Planned {
            status: decision.status,
            plan,
            again: decision.again,
            notes: notes(decision.notes),
            seen: Some((desired, observed, place)),
        }
    }

    async fn act(ctx: &Context, object: &Arc<FlowDeployment>, _: &Seen, act: Act) -> Option<Vec<Ack>> {
        match act {
            Act::Hold => publish::finalizer(ctx, &ctx.objects.flows, &**object, true).await.then(Vec::new),
            Act::Release { orphaned } => {
                if !publish::finalizer(ctx, &ctx.objects.flows, &**object, false).await {
                    return None;
                }
                if orphaned {
                    ctx.metrics.orphaned(Kind::FlowDeployment);
                }
                Some(Vec::new())
            }
            Act::Write(session, name, writes) => {
                let mut acks = Vec::new();
                for write in writes {
                    if !ctx.may_send(WRITE_DEADLINE) {
                        break;
                    }
                    let (kind, slug) = (write.kind(), slug(&write));
                    // No longer than the lease was asked for; given up, it may or may not have been done.
                    let sent = tokio::time::timeout(WRITE_DEADLINE, send(&session, &name, write)).await;
                    let result = sent.unwrap_or(Err(PrefectError::Ambiguous));
                    // Known to have changed, or not known: either way the snapshot is no longer to be trusted.
                    session.wrote(&name, ctx.clock.moment());
                    let ack = result
                        .unwrap_or_else(|error| Ack::Failed(kind, failure(kind, slug.as_deref(), error)));
                    let ended = matches!(ack, Ack::Failed(..) | Ack::AlreadyThere);
                    acks.push(ack);
                    if ended {
                        break;
                    }
                }
                (!acks.is_empty()).then_some(acks)
            }
        }
    }

    fn fold(
        ctx: &Context,
        object: &FlowDeployment,
        seen: &Seen,
        acks: &Vec<Ack>,
        now: Timestamp,
    ) -> (FlowDeploymentStatus, Vec<Note>) {
        let stored = object.status.clone().unwrap_or_default();
        match seen {
            Some((desired, observed, _)) if !acks.is_empty() => {
                let decision = flow::fold(desired, observed, &stored, acks, now);
                remember(ctx, &desired.name, decision.memory);
                (decision.status, notes(decision.notes))
            }
            Some(_) | None => (stored, Vec::new()),
        }
    }

    fn waker(ctx: &Context, name: &ObjectName) -> Waker {
        let (wakes, who) = (ctx.wakes.clone(), Dependent::Flow(name.clone()));
        Arc::new(move || wakes.dependent(&who))
    }
}

fn observe(
    ctx: &Context,
    desired: &Desired,
    place: &Place,
    at: &ObjectName,
    session: Option<&WorkspaceSession>,
    _now: Timestamp,
) -> Observed {
    let deployment = match session.map(|s| s.deployment(&place.deployment)) {
        None | Some(DeploymentView::Unread) => View::Unread,
        Some(DeploymentView::Dirty) => View::Dirty,
        Some(DeploymentView::Absent) => View::Absent,
        Some(DeploymentView::Present(there)) => View::Present(Deployment::clone(&there)),
    };
    let others = claimants(ctx, &desired.name, at, &place.deployment);
    let moment = ctx.clock.moment();
    Observed {
        workspace: workspace_view(ctx, at),
        claim: flow::claim(desired, &deployment, &others),
        heir: flow::heir(&others),
        deployment,
        clock: session.and_then(|s| s.client.clock()).map(|reading| reading.lower(moment)),
        cleanup_deadline: ctx.cleanup_deadline,
        memory: ctx.memory.lock().unwrap_or_else(PoisonError::into_inner).get(&desired.name).cloned(),
    }
}

/// A `PrefectWorkspace` as its dependents see it.
pub fn workspace_view(ctx: &Context, name: &ObjectName) -> WorkspaceView {
    if ctx.objects.workspaces.get(name).is_none() {
        return WorkspaceView::Missing;
    }
    let stored = || {
        let object = ctx.objects.workspaces.get(name)?;
        conditions::reason_of(object.status.as_ref()?, "Ready").map(str::to_owned)
    };
    match ctx.workspaces.get(name).map(|link| link.session.snapshot().health.clone()) {
        Some(Health::Connected(_)) => WorkspaceView::Ready,
        Some(Health::Connecting) => WorkspaceView::NotReady { reason: PROGRESSING.into() },
        // What an earlier process found good says nothing about now.
        None | Some(Health::Failed(_)) => WorkspaceView::NotReady {
            reason: stored().filter(|reason| reason != "Connected").unwrap_or_else(|| PROGRESSING.into()),
        },
    }
}

/// Other `FlowDeployment`s that declare the same deployment, in any workspace object that leads to the same session.
fn claimants(ctx: &Context, me: &ObjectName, at: &ObjectName, deployment: &DeploymentName) -> Vec<Claimant> {
    let same_origin: Vec<ObjectName> = match ctx.workspaces.get(at) {
        None => vec![at.clone()],
        Some(link) => ctx
            .workspaces
            .all()
            .into_iter()
            .filter(|(_, other)| other.key.origin == link.key.origin)
            .map(|(name, _)| name)
            .collect(),
    };
    same_origin
        .into_iter()
        .flat_map(|workspace| ctx.index.dependents(&Key::Deployment(workspace, deployment.clone())))
        .filter_map(|who| match &who {
            Dependent::Flow(name) if name != me => {
                let object = ctx.objects.flows.get(name)?;
                let other = Desired::parse(&object, &ctx.instance).ok()?;
                // The index also knows the place somebody is leaving; what counts is where he wants to be.
                (other.deployment == *deployment)
                    .then(|| Claimant::of(&other, &object.status.clone().unwrap_or_default()))
            }
            Dependent::Flow(_) | Dependent::Refresh(_) => None,
        })
        .collect()
}

async fn send(session: &WorkspaceSession, name: &DeploymentName, write: Write) -> Result<Ack, PrefectError> {
    let client = &session.client;
    let kind = write.kind();
    match write {
        Write::Create { flow, new } => {
            // The server overwrites an existing deployment on POST and drops its schedules: look first, past every snapshot.
            if client.deployment(name).await?.is_some() {
                return Ok(Ack::AlreadyThere);
            }
            let flow = client.ensure_flow(&flow).await?;
            return client.create_deployment(&flow, &new).await.map(Ack::Created);
        }
        Write::Patch { id, fields } => {
            // A PATCH to a missing pool is answered 500 on every version [measured]; asking first gives the true reason.
            if let Some(pool) = fields.get("work_pool_name").and_then(|p| p.as_str())
                && !client.work_pool_exists(pool).await?
            {
                return Ok(Ack::Failed(kind, Failure::WorkPoolNotFound));
            }
            client.patch_deployment(&id, &fields).await?;
        }
        Write::AddSchedule { id, new } => client.add_schedule(&id, &new).await?,
        Write::PutSchedule { id, schedule, new } => client.put_schedule(&id, &schedule, &new).await?,
        Write::DeleteSchedule { id, schedule } => client.delete_schedule(&id, &schedule).await?,
        Write::ScheduleRuns { id, since } => client.schedule_runs(&id, since).await?,
        Write::Delete { id } => client.delete_deployment(&id).await?,
    }
    Ok(Ack::Done(kind))
}

/// The schedule a write is about: Prefect names fields within a schedule, not which.
fn slug(write: &Write) -> Option<String> {
    match write {
        Write::AddSchedule { new, .. } | Write::PutSchedule { new, .. } => Some(new.slug.clone()),
        Write::Create { .. }
        | Write::Patch { .. }
        | Write::DeleteSchedule { .. }
        | Write::ScheduleRuns { .. }
        | Write::Delete { .. } => None,
    }
}

fn failure(kind: WriteKind, slug: Option<&str>, error: PrefectError) -> Failure {
    match (error, kind) {
        (PrefectError::NotFound, WriteKind::Create) => Failure::WorkPoolNotFound,
        (PrefectError::Conflict, WriteKind::Create | WriteKind::Patch) => {
            Failure::ParametersRejected { fields: Vec::new() }
        }
        (PrefectError::Invalid { fields }, _) => Failure::Invalid {
            fields: match slug {
                Some(slug) => vec![format!("schedule `{slug}`")],
                None => fields,
            },
        },
        (PrefectError::Forbidden, _) => Failure::Forbidden,
        (PrefectError::Unauthorized, _) => Failure::Unauthorized,
        (PrefectError::Throttled { retry_after }, _) => Failure::Throttled(retry_after),
        (PrefectError::Unavailable, _) => Failure::Unavailable,
        (PrefectError::Unreachable(_), _) => Failure::Unreachable,
        (PrefectError::Ambiguous, _) => Failure::Ambiguous,
        (
            PrefectError::NotFound
            | PrefectError::Conflict
            | PrefectError::Rejected(_)
            | PrefectError::WrongServer,
            _,
        ) => Failure::Rejected,
    }
}

fn remember(ctx: &Context, name: &ObjectName, memory: Option<flow::Memory>) {
    let mut all = ctx.memory.lock().unwrap_or_else(PoisonError::into_inner);
    match memory {
        Some(memory) => {
            all.insert(name.clone(), memory);
        }
        None => {
            all.remove(name);
        }
    }
}

fn notes(notes: Vec<flow::Note>) -> Vec<Note> {
    notes.into_iter().map(|n| Note { warning: n.warning, reason: n.reason, message: n.message }).collect()
}

/// Forgets what was remembered of a resource that is gone.
pub fn forget(ctx: &Context, flow: &FlowDeployment) {
    if let Some(name) = object_name(flow) {
        remember(ctx, &name, None);
    }
}
