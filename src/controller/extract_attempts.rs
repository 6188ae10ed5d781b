//! `ExtractRefresh`: through which connection the job of an attempt is followed and cancelled: the one through which it was started.

use super::context::Context;
use super::extract_rights::{self, Right};
use super::extracts::{Act, may_send};
use super::lanes::Priority;
use super::reconcile::Plan;
use super::site::{Hint, Looks, SiteSession};
use crate::api::{Attempt, ExtractRefresh, ExtractRefreshStatus};
use crate::model::extract::{Answer, CancelFailure, Desired};
use crate::model::ids::{ConnectionName, JobId, ObjectName};
use crate::tableau::TableauError;
use kube::ResourceExt;
use std::sync::Arc;

/// The connection of the attempt, if it is known.
fn connection(me: &ObjectName, named: &ConnectionName, attempt: &Attempt) -> Option<ObjectName> {
    attempt.learnt(named).connection(named).map(|site| site.seen_from(&me.namespace))
}

/// The session in which jobs are looked at: that of the attempt, else the one of the spec.
fn session(ctx: &Context, desired: &Desired, attempt: Option<&Attempt>) -> Option<Arc<SiteSession>> {
    let at = match attempt {
        Some(attempt) => connection(&desired.name, &desired.site, attempt)?,
        None => desired.site.seen_from(&desired.name.namespace),
    };
    ctx.sites.get(&at).map(|link| link.session)
}

/// Asks for a look at jobs. `waited_for`: nothing goes on without it.
pub fn look(ctx: &Context, desired: &Desired, stored: &ExtractRefreshStatus, looks: Looks, waited_for: bool) {
    let Some(session) = session(ctx, desired, stored.attempt.as_ref()) else { return };
    if !waited_for {
        return session.hint(Hint::Ends(looks));
    }
    if let Some(since) = looks.list {
        session.hint(Hint::JobList(since));
    }
    if !looks.jobs.is_empty() {
        session.hint(Hint::Jobs(looks.jobs));
    }
}

/// What an error means for a job that is to be cancelled.
fn uncancelled(error: &TableauError) -> CancelFailure {
    match error {
        TableauError::MissingScope | TableauError::Forbidden(_) => CancelFailure::Refused,
        TableauError::SignInRefused
        | TableauError::NotLeading
        | TableauError::SessionContested
        | TableauError::Identity(_)
        // It may have ended meanwhile.
        | TableauError::NotFound(_)
        | TableauError::Rejected(_)
        | TableauError::Throttled { .. }
        | TableauError::Ambiguous
        | TableauError::WrongServer
        | TableauError::UnsupportedVersion { .. }
        | TableauError::Unreachable(_) => CancelFailure::Unknown,
    }
}

/// The pass that cancels the job of the attempt.
pub fn cancels(ctx: &Context, desired: &Desired, attempt: Box<Attempt>, job: JobId) -> Plan<Act> {
    // The session went away between observing and now: it is looked at again when there is one.
    let Some(session) = session(ctx, desired, Some(&attempt)) else { return Plan::Rest };
    let lane = Some(session.lane.clone());
    Plan::Do { act: Act::Cancel(session, attempt, job), lane, priority: Priority::Changed }
}

/// Cancels it. `None`: nothing was sent.
pub async fn cancel(
    ctx: &Context,
    object: &ExtractRefresh,
    session: &Arc<SiteSession>,
    attempt: &Attempt,
    job: JobId,
) -> Option<Answer> {
    let me = super::index::object_name(object)?;
    let named = (&object.spec.site_ref).into();
    let learnt = attempt.learnt(&named);
    let at = learnt.connection(&named)?;
    match extract_rights::of_job(ctx, &me, (at, session), &job, attempt).await {
        Ok(Right::Given) => {}
        Ok(right @ (Right::Denied | Right::Unknown)) => {
            tracing::warn!(object = %object.name_any(), %job, "the job is not cancelled: its content is not known to be allowed");
            let denied = right == Right::Denied;
            let failure = if denied { CancelFailure::Refused } else { CancelFailure::Unknown };
            return Some(Answer::CancelSent(Err(failure)));
        }
        Err(error) => {
            tracing::warn!(object = %object.name_any(), %job, %error, "whether the job may be cancelled cannot be looked up");
            return Some(Answer::CancelSent(Err(uncancelled(&error))));
        }
    }
    if !may_send(ctx, &at.seen_from(&me.namespace), session) {
        return None;
    }
    let result = session.client.cancel(&job).await.map_err(|error| {
        tracing::warn!(object = %object.name_any(), %job, %error, "the job could not be cancelled");
        uncancelled(&error)
    });
    session.hint(Hint::Jobs([job].into()));
    Some(Answer::CancelSent(result))
}
