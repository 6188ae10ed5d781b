//! `FlowDeployment`: what is observed of it, and how it acts on Prefect.

use super::ahead;
use super::context::{Context, Objects};
use super::flow_claims;
use super::index::{Denied, Dependent};
use super::lanes::{Priority, Waker};
use super::publish;
use super::reconcile::{Note, Plan, Planned, Subject};
use super::tenants;
use super::values;
use super::workspace::{DeploymentView, Health, WorkspaceSession};
use crate::api::{Conditioned, FINALIZER, FlowDeployment, FlowDeploymentStatus};
use crate::model::conditions;
use crate::model::connection::{DesiredWorkspace, Standing, standing};
use crate::model::flow::{
    self, Ack, Desired, Failure, Observed, Part, Place, Step, Turn, Values, WorkspaceView, Write, WriteKind,
};
use crate::model::ids::{DeploymentName, ObjectName};
use crate::model::pace::Load;
use crate::model::tenancy::Access;
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
    Write {
        /// The workspace object.
        at: ObjectName,
        /// Its session.
        session: Arc<WorkspaceSession>,
        /// The deployment.
        name: DeploymentName,
        /// One after the other.
        writes: Vec<Write>,
    },
}

/// The reason of a connection that has just been started; nothing is given up while it stands.
const PROGRESSING: &str = "Progressing";
/// Most late runs that are asked for again in one turn.
const MOST_RESTORED: usize = 10;
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
        let mut desired = match Desired::parse(object, &ctx.instance) {
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
        let values = values::put(ctx, &mut desired);
        let place = desired.place(stored);
        let at = place.workspace.seen_from(&desired.name.namespace);
        let session = ctx.workspaces.get(&at).map(|link| link.session);
        let observed = observe(ctx, &desired, &place, &at, session.as_deref(), values, stored);
        let itself = matches!(observed.access, Access::Denied(_));
        let who = Dependent::Flow(desired.name.clone());
        tenants::judged(ctx, &who, Denied { itself, ..Denied::default() });
        let decision = flow::decide(&desired, &observed, stored, now);
        let wanted = desired.workspace.to_string();
        if stored.workspace.is_some() && decision.status.workspace.as_ref() == Some(&wanted) {
            turn_to(ctx, &desired, stored, &place);
        }
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
                Plan::Do {
                    act: Act::Write { at, session, name: place.deployment.clone(), writes },
                    lane,
                    priority,
                }
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
            Act::Hold => {
                publish::finalizer(ctx, &ctx.objects.flows, &**object, FINALIZER, true).await.then(Vec::new)
            }
            Act::Release { orphaned } => {
                if !publish::finalizer(ctx, &ctx.objects.flows, &**object, FINALIZER, false).await {
                    return None;
                }
                if orphaned {
                    ctx.metrics.orphaned(Kind::FlowDeployment);
                }
                Some(Vec::new())
            }
            Act::Write { at, session, name, writes } => {
                let mut acks = Vec::new();
                for write in writes {
                    // Suspended, or turned elsewhere, meanwhile: not one more call.
                    if !ctx.may_send(WRITE_DEADLINE) || !ctx.workspaces.uses(&at, &session) {
                        break;
                    }
                    // Others wait for the slot; what is left is in status, and has its turn again.
                    if acks.len() >= MOST_RESTORED && matches!(write, Write::RestoreRuns { .. }) {
                        break;
                    }
                    let (kind, slug) = (write.kind(), slug(&write));
                    // No longer than the lease was asked for; given up, it may or may not have been done.
                    let (began, under_write) = (ctx.clock.moment(), session.writes(&name));
                    let sent = tokio::time::timeout(WRITE_DEADLINE, send(&session, &name, write)).await;
                    let result = sent.unwrap_or(Err((Part::Write, PrefectError::TimedOut)));
                    if let Some(load) = load(result.as_ref().err().map(|(_, error)| error)) {
                        session.lane.told(load, began);
                    }
                    drop(under_write);
                    for (_, other) in ctx.workspaces.all() {
                        other.session.was_written(&name, &session);
                    }
                    let ack = result.unwrap_or_else(|(part, error)| {
                        Ack::Failed(kind, failure(kind, part, slug.as_deref(), error))
                    });
                    let ended = ack.ends();
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
    values: Values,
    stored: &FlowDeploymentStatus,
) -> Observed {
    let deployment = ahead::view(session, &place.deployment);
    let others = flow_claims::claimants(ctx, desired, at, &place.deployment, &deployment);
    let moment = ctx.clock.moment();
    let workspace = ctx.objects.workspace(at);
    Observed {
        workspace: workspace_view(ctx, at),
        access: access(ctx, desired),
        turn: turn(ctx, desired, stored, place, at),
        ahead: ahead::ahead(ctx, desired, place),
        standing: workspace.map_or(Standing::Unheld, |object| standing(&*object)),
        cloud: ahead::leads_to_cloud(ctx, desired),
        values,
        claim: flow::claim(desired, &deployment, &others.all),
        heir: flow_claims::heir(ctx, desired, place, at, &others.present),
        deployment,
        clock: session.and_then(|s| s.client.clock()).map(|reading| reading.lower(moment)),
        cleanup_deadline: ctx.cleanup_deadline,
        memory: ctx.memory.lock().unwrap_or_else(PoisonError::into_inner).get(&desired.name).cloned(),
    }
}

/// Whether the connection that the spec names allows what the spec asks of it.
pub(super) fn access(ctx: &Context, desired: &Desired) -> Access {
    let (flow, namespace) = (&desired.deployment.flow, &desired.name.namespace);
    tenants::flow(ctx, namespace, &desired.workspace, flow, &desired.work_pool)
}

/// Where the connection leads that the spec names, if that is not the one of the place.
fn turn(
    ctx: &Context,
    desired: &Desired,
    stored: &FlowDeploymentStatus,
    place: &Place,
    at: &ObjectName,
) -> Turn {
    if place.workspace == desired.workspace {
        return Turn::None;
    }
    let next = desired.workspace.seen_from(&desired.name.namespace);
    let Some(object) = ctx.objects.workspace(&next) else { return Turn::Missing };
    let Ok(spec) = DesiredWorkspace::parse(&object) else { return Turn::Unusable };
    let same = match ctx.objects.workspace(at).map(|former| DesiredWorkspace::parse(&former)) {
        Some(Ok(former)) => former.api_url == spec.api_url,
        Some(Err(_)) => ctx.workspaces.get(at).is_some_and(|link| link.key.origin == spec.api_url),
        // It is gone, and with it where it led to. Ids are unique: where the deployment is, it has always been. Where a connection has the rights
        // of others, only our mark says so.
        None => ctx.workspaces.get(&next).is_some_and(|link| {
            let DeploymentView::Present(there) = link.session.deployment(&place.deployment) else {
                return false;
            };
            if next.is_cluster() {
                there.tags.contains(&desired.mark)
            } else {
                stored.deployment_id.as_deref() == Some(there.id.as_str())
            }
        }),
    };
    let (flow, namespace) = (&place.deployment.flow, &desired.name.namespace);
    match tenants::flow(ctx, namespace, &desired.workspace, flow, &desired.work_pool) {
        _ if !same => Turn::Elsewhere,
        Access::Allowed => Turn::Same(standing(&*object)),
        Access::Unknown => Turn::Unusable,
        Access::Denied(_) => Turn::Refused,
    }
}

/// What the next connection has read may be older than what was written through the former one.
fn turn_to(ctx: &Context, desired: &Desired, stored: &FlowDeploymentStatus, place: &Place) {
    if stored.workspace.as_deref() != Some(&desired.workspace.to_string())
        && let Some(link) = ctx.workspaces.get(&desired.workspace.seen_from(&desired.name.namespace))
    {
        link.session.wrote(&place.deployment);
        for (_, other) in ctx.workspaces.all() {
            other.session.was_written(&place.deployment, &link.session);
        }
    }
}

/// A `PrefectWorkspace` as its dependents see it.
pub fn workspace_view(ctx: &Context, name: &ObjectName) -> WorkspaceView {
    if ctx.objects.workspace(name).is_none() {
        return WorkspaceView::Missing;
    }
    // Its own condition says something else while it is being deleted.
    let told = || {
        let object = ctx.objects.workspace(name)?;
        let stored = || conditions::reason_of(object.status.as_ref()?, "Ready").map(str::to_owned);
        ctx.workspaces.said(name).map(str::to_owned).or_else(stored)
    };
    match ctx.workspaces.get(name).map(|link| link.session.snapshot().health.clone()) {
        Some(Health::Connected(_)) => WorkspaceView::Ready,
        Some(Health::Connecting) => WorkspaceView::NotReady { reason: PROGRESSING.into() },
        // What an earlier process found good says nothing about now.
        None | Some(Health::Failed(_)) => WorkspaceView::NotReady {
            reason: told()
                .filter(|reason| !matches!(reason.as_str(), "Connected" | "InUse"))
                .unwrap_or_else(|| PROGRESSING.into()),
        },
    }
}

/// Sends it; of a failure also at which part of it.
async fn send(
    session: &WorkspaceSession,
    name: &DeploymentName,
    write: Write,
) -> Result<Ack, (Part, PrefectError)> {
    let client = &session.client;
    let kind = write.kind();
    let at = |part: Part| move |error: PrefectError| (part, error);
    let done = match write {
        Write::Create { flow, new } => {
            let flow = client.ensure_flow(&flow).await.map_err(at(Part::Flow))?;
            // The server overwrites an existing deployment on POST and drops its schedules: look past every snapshot, and right before.
            if client.deployment(name).await.map_err(at(Part::Look))?.is_some() {
                return Ok(Ack::AlreadyThere);
            }
            let made = client.create_deployment(&flow, &new).await;
            return made.map(Ack::Created).map_err(at(Part::Write));
        }
        Write::Patch { id, fields } => {
            // A PATCH to a missing pool is answered 500 on every version [measured]; asking first gives the true reason.
            if let Some(pool) = fields.get("work_pool_name").and_then(|p| p.as_str())
                && !client.work_pool_exists(pool).await.map_err(at(Part::Pool))?
            {
                return Ok(Ack::Failed(kind, Failure::WorkPoolNotFound));
            }
            client.patch_deployment(&id, &fields).await
        }
        Write::AddSchedule { id, new } => client.add_schedule(&id, &new).await,
        Write::PutSchedule { id, schedule, new } => client.put_schedule(&id, &schedule, &new).await,
        Write::DeleteSchedule { id, schedule } => client.delete_schedule(&id, &schedule).await,
        Write::SeeLate { id, before, leaving } => {
            let late = client.late_runs(&id, before, &leaving).await;
            return late.map(Ack::Late).map_err(at(Part::Write));
        }
        Write::RestoreRuns { id, from, to } => {
            let restored = client.restore_runs(&id, from, to).await;
            return restored.map(|()| Ack::Restored { from, to }).map_err(at(Part::Write));
        }
        Write::ScheduleRuns { id, since } => client.schedule_runs(&id, since).await,
        Write::Delete { id } => client.delete_deployment(&id).await,
    };
    done.map(|()| Ack::Done(kind)).map_err(at(Part::Write))
}

/// What a call came to tells about the server's load; nothing where it did not get there.
pub(super) fn load(error: Option<&PrefectError>) -> Option<Load> {
    match error {
        Some(PrefectError::Unavailable | PrefectError::Ambiguous | PrefectError::TimedOut) => {
            Some(Load::Busy)
        }
        Some(PrefectError::Throttled { retry_after }) => Some(Load::Throttled(*retry_after)),
        Some(PrefectError::Unreachable(_)) => None,
        None
        | Some(
            PrefectError::Unauthorized
            | PrefectError::Forbidden
            | PrefectError::NotFound
            | PrefectError::Conflict
            | PrefectError::Parameters { .. }
            | PrefectError::Invalid { .. }
            | PrefectError::Rejected(_)
            | PrefectError::UnsupportedVersion(_)
            | PrefectError::WrongServer,
        ) => Some(Load::Answered),
    }
}

/// The schedule a write is about: Prefect names fields within a schedule, not which.
fn slug(write: &Write) -> Option<String> {
    match write {
        Write::AddSchedule { new, .. } | Write::PutSchedule { new, .. } => Some(new.slug.clone()),
        Write::Create { .. }
        | Write::Patch { .. }
        | Write::DeleteSchedule { .. }
        | Write::SeeLate { .. }
        | Write::RestoreRuns { .. }
        | Write::ScheduleRuns { .. }
        | Write::Delete { .. } => None,
    }
}

fn failure(kind: WriteKind, part: Part, slug: Option<&str>, error: PrefectError) -> Failure {
    match (error, kind) {
        (PrefectError::NotFound, WriteKind::Create) => Failure::WorkPoolNotFound,
        (PrefectError::Parameters { fields }, _) => Failure::ParametersRejected { fields },
        (PrefectError::Invalid { fields }, _) => Failure::Invalid {
            fields: match slug {
                Some(slug) => vec![format!("schedule `{slug}`")],
                None => fields,
            },
        },
        (PrefectError::Forbidden, _) => Failure::Forbidden(part),
        (PrefectError::Unauthorized, _) => Failure::Unauthorized,
        (PrefectError::Throttled { retry_after }, _) => Failure::Throttled(retry_after),
        (PrefectError::Unavailable, _) => Failure::Unavailable,
        (PrefectError::Ambiguous, _) => Failure::Ambiguous,
        (PrefectError::TimedOut, _) => Failure::TimedOut,
        (PrefectError::NotFound, _) => Failure::NotFound,
        (PrefectError::Conflict, _) => Failure::Conflict,
        (PrefectError::Rejected(status), _) => Failure::Rejected(status),
        // A write does not learn the last two.
        (
            PrefectError::Unreachable(_) | PrefectError::WrongServer | PrefectError::UnsupportedVersion(_),
            _,
        ) => Failure::Unreachable,
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
    notes
        .into_iter()
        .map(|n| Note { warning: n.warning, reason: n.reason.into(), message: n.message })
        .collect()
}

/// Forgets what was remembered of a resource that is gone.
pub fn forget(ctx: &Context, name: &ObjectName) {
    remember(ctx, name, None);
    values::forget(ctx, name);
}
