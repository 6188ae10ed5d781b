//! `ExtractRefresh`: how its schedules are changed in Tableau, and taken away with it.

use super::context::Context;
use super::extract_claims::heir;
use super::extract_observed::observe;
use super::extract_rights::{self, Right};
use super::extract_warnings;
use super::extracts::{Act, Extracts, POST_DEADLINE, may_send, site_of};
use super::index::object_name;
use super::lanes::Priority;
use super::reconcile::{Plan, Planned};
use super::site::{Hint, SiteSession};
use crate::api::{ExtractRefresh, ExtractRefreshStatus, FINALIZER};
use crate::model::extract::{
    self, Desired, Parting, ScheduleAck, ScheduleFailure, ScheduleMemory, ScheduleWrite, Subject, TargetView,
};
use crate::model::ids::{ConnectionName, Luid, ObjectName};
use crate::model::time::add;
use crate::tableau::{NewTask, TableauError};
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::{Arc, PoisonError};

/// Sends one change. `None`: nothing was sent, and nothing is to be written down.
pub async fn send(
    ctx: &Context,
    object: &ExtractRefresh,
    session: &Arc<SiteSession>,
    write: &ScheduleWrite,
) -> Option<ScheduleAck> {
    let namespace = object.namespace().unwrap_or_default().into();
    let at = &write.site().map_or_else(|| site_of(object), |site| site.seen_from(&namespace));
    // Signed in before the fence is looked at, as for a refresh.
    let _ = session.client.site().await;
    match right(ctx, object, session, write).await {
        Ok(Right::Given) => {}
        Ok(Right::Denied) => return Some(ScheduleAck::Failed(ScheduleFailure::NotAllowed)),
        // Nothing was changed, and the next try asks again.
        Ok(Right::Unknown) | Err(TableauError::Ambiguous) => {
            return Some(ScheduleAck::Failed(ScheduleFailure::NotSent));
        }
        Err(error) => return Some(ScheduleAck::Failed(failure(error))),
    }
    if !may_send(ctx, at, session) {
        return None;
    }
    if let Some(intent) = write.intent()
        && !ctx.ledger.spend(intent, ctx.clock.moment())
    {
        tracing::error!("an intent of a schedule that may have been sent was about to be sent again");
        return None;
    }
    let client = &session.client;
    let result = match write {
        ScheduleWrite::Create { content, timing, .. } => {
            client.create_task(&new(content), timing, POST_DEADLINE).await.map(Some)
        }
        ScheduleWrite::Attach { content, schedule, .. } => {
            client.attach(&new(content), schedule, POST_DEADLINE).await.map(|()| None)
        }
        ScheduleWrite::Update { task, timing, .. } => client.update_task(task, timing).await.map(|()| None),
        ScheduleWrite::Delete { task, .. } => client.delete_task(task).await.map(|()| None),
        ScheduleWrite::MakeShared { name, timing, .. } => {
            client.create_server_schedule(name, timing).await.map(|_| None)
        }
    };
    let now = ctx.clock.moment();
    if let Some(intent) = write.intent() {
        ctx.ledger.ended(intent, now);
    }
    match touched(session, write) {
        // Known to have changed, or not known: either way what was read before is no longer to be trusted.
        Some(content) => session.touch(&content, now),
        None => session.hint(Hint::Tasks),
    }
    Some(match result {
        Ok(task) => ScheduleAck::Done(task),
        Err(TableauError::Rejected(code))
            if code.starts_with("409") && matches!(write, ScheduleWrite::MakeShared { .. }) =>
        {
            ScheduleAck::Failed(ScheduleFailure::Exists)
        }
        Err(error) => ScheduleAck::Failed(failure(error)),
    })
}

/// Whether the task that a write changes may be touched: its id is what a status says.
async fn right(
    ctx: &Context,
    object: &ExtractRefresh,
    session: &Arc<SiteSession>,
    write: &ScheduleWrite,
) -> Result<Right, TableauError> {
    let task = match write {
        ScheduleWrite::Update { task, .. } | ScheduleWrite::Delete { task, .. } => task,
        // Made on the target, which was judged.
        ScheduleWrite::Create { .. } | ScheduleWrite::Attach { .. } | ScheduleWrite::MakeShared { .. } => {
            return Ok(Right::Given);
        }
    };
    let Some(me) = object_name(object) else { return Ok(Right::Unknown) };
    let at = write.site().cloned().unwrap_or_else(|| (&object.spec.site_ref).into());
    extract_rights::of_task(ctx, &me, (&at, session), task).await
}

/// The pass that sends a write, through the connection that it is for.
pub fn plan(
    ctx: &Context,
    me: &ObjectName,
    named: &ConnectionName,
    write: ScheduleWrite,
    priority: Priority,
) -> Plan<Act> {
    let at = write.site().unwrap_or(named).seen_from(&me.namespace);
    // The session went away between observing and now: it is looked at again when there is one.
    let Some(link) = ctx.sites.get(&at) else { return Plan::Rest };
    let lane = Some(link.session.lane.clone());
    Plan::Do { act: Act::Schedule(link.session, write), lane, priority }
}

/// Asks for a reading of the tasks, also through the connection through which one is being made.
pub fn look(ctx: &Context, me: &ObjectName, named: &ConnectionName, stored: &ExtractRefreshStatus) {
    let intent = stored.schedule_intent.as_ref().map(|intent| intent.learnt(named));
    let theirs = intent.as_ref().and_then(|learnt| learnt.connection(named)).filter(|site| *site != named);
    for site in [named].into_iter().chain(theirs) {
        if let Some(link) = ctx.sites.get(&site.seen_from(&me.namespace)) {
            link.session.hint(Hint::Tasks);
        }
    }
}

fn new(content: &Subject) -> NewTask {
    NewTask { kind: content.kind, luid: content.luid.clone(), refresh_type: content.refresh_type }
}

/// The content whose tasks a write changes.
fn touched(session: &SiteSession, write: &ScheduleWrite) -> Option<Luid> {
    match write {
        ScheduleWrite::Create { content, .. } | ScheduleWrite::Attach { content, .. } => {
            Some(content.luid.clone())
        }
        ScheduleWrite::Update { task, .. } | ScheduleWrite::Delete { task, .. } => session.content_of(task),
        ScheduleWrite::MakeShared { content, .. } => Some(content.clone()),
    }
}

fn failure(error: TableauError) -> ScheduleFailure {
    match error {
        TableauError::SignInRefused
        | TableauError::NotLeading
        | TableauError::SessionContested
        | TableauError::MissingScope
        | TableauError::Identity(_)
        | TableauError::Unreachable(_)
        | TableauError::UnsupportedVersion { .. }
        | TableauError::WrongServer => ScheduleFailure::NotSent,
        TableauError::Forbidden(_) => ScheduleFailure::Forbidden,
        TableauError::NotFound(_) => ScheduleFailure::NotFound,
        TableauError::Throttled { retry_after } => ScheduleFailure::Throttled(retry_after),
        TableauError::Ambiguous => ScheduleFailure::Ambiguous,
        TableauError::Rejected(code) => match code.as_str() {
            "409004" => ScheduleFailure::NotExpressible,
            "409090" => ScheduleFailure::NoExtract,
            _ => ScheduleFailure::Rejected(code),
        },
    }
}

/// What is done about a resource that is being deleted.
pub fn part(
    ctx: &Context,
    object: &Arc<ExtractRefresh>,
    stored: &ExtractRefreshStatus,
    now: Timestamp,
) -> Planned<Extracts> {
    let rest = |status, plan, again| Planned { status, plan, again, notes: Vec::new(), seen: None };
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return rest(stored.clone(), Plan::Rest, None);
    }
    let release =
        |orphaned| Plan::Do { act: Act::Release { orphaned }, lane: None, priority: Priority::Changed };
    let since = object.metadata.deletion_timestamp.as_ref().map_or(now, |at| at.0);
    let deadline = add(since, ctx.cleanup_deadline);
    let Ok(desired) = Desired::parse(object, None) else {
        // What it says cannot be understood, so what it would have done with its schedules neither.
        let plan = if now >= deadline { release(true) } else { Plan::Rest };
        return rest(stored.clone(), plan, Some(deadline));
    };
    let at = desired.site.seen_from(&desired.name.namespace);
    let session = ctx.sites.get(&at).map(|link| link.session);
    let mut observed = observe(ctx, &desired, stored, &at, session.as_ref());
    if let TargetView::Found(found) | TargetView::NoExtract(found) = &observed.target {
        observed.schedules.heir = heir(ctx, &desired, &at, found);
    }
    let parting = extract::part(&desired, &observed, stored, since, ctx.cleanup_deadline, now);
    let (status, plan, again) = match parting {
        Parting::Rest => (stored.clone(), Plan::Rest, None),
        Parting::Release { orphaned } => (stored.clone(), release(orphaned), None),
        Parting::Write(write) => {
            let plan = plan(ctx, &desired.name, &desired.site, write, Priority::Changed);
            let again = matches!(plan, Plan::Rest).then_some(deadline);
            (stored.clone(), plan, again)
        }
        Parting::Clear(write) => {
            let plan = extract_warnings::plan(ctx, &desired.name, write, Priority::Changed);
            (stored.clone(), plan, Some(deadline))
        }
        Parting::WaitForWarning { status, until, look } => {
            if let Some(datasource) = look {
                extract_warnings::look(ctx, &desired.name, stored, &datasource);
            }
            (*status, Plan::Rest, Some(until))
        }
        Parting::Wait { status, until } => {
            look(ctx, &desired.name, &desired.site, stored);
            (*status, Plan::Rest, Some(until))
        }
    };
    Planned { status, plan, again, notes: Vec::new(), seen: Some((desired, observed)) }
}

/// Keeps what the model wants to remember of a resource, or forgets it.
pub fn remember(ctx: &Context, name: &ObjectName, memory: Option<ScheduleMemory>) {
    let mut all = ctx.schedule_memory.lock().unwrap_or_else(PoisonError::into_inner);
    match memory {
        Some(memory) => {
            all.insert(name.clone(), memory);
        }
        None => {
            all.remove(name);
        }
    }
}
