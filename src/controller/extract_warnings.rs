//! `ExtractRefresh`: how its data quality warning is looked at, set and taken away in Tableau.

use super::context::Context;
use super::extract_observed::site_view;
use super::extracts::{Act, POST_DEADLINE, may_send};
use super::lanes::Priority;
use super::ledger::Entry;
use super::reconcile::Plan;
use super::site::{Hint, SiteSession};
use crate::api::{ExtractRefreshStatus, WarningStatus};
use crate::model::extract::{IntentView, WarningAck, WarningRefusal, WarningWrite, Warnings, WarningsView};
use crate::model::ids::{ConnectionName, Luid, ObjectName};
use crate::tableau::TableauError;
use std::sync::Arc;

/// What is known of the warning in status: memory only.
pub fn view(ctx: &Context, me: &ObjectName, stored: &ExtractRefreshStatus) -> Warnings {
    let Some(w) = stored.data_quality_warning.as_ref().filter(|w| w.may_be_there()) else {
        return Warnings::nothing();
    };
    let at = ConnectionName::parse(&w.site).seen_from(&me.namespace);
    let session = ctx.sites.get(&at).map(|link| link.session);
    let snapshot = session.as_ref().map(|session| session.snapshot());
    let intent =
        w.intent.as_ref().map_or(IntentView::None, |id| match ctx.ledger.look(id, ctx.clock.moment()) {
            Entry::Unspent => IntentView::InLedger,
            Entry::Spent { since } => IntentView::MaybeSent { since },
        });
    Warnings {
        site: site_view(ctx, &at, snapshot.as_ref().map(|snapshot| &snapshot.health)),
        view: session.map_or(WarningsView::Unread, |session| session.warnings_on(&w.luid.as_str().into())),
        intent,
    }
}

/// Asks for a look; whoever asks is woken when it was had.
pub fn look(ctx: &Context, me: &ObjectName, stored: &ExtractRefreshStatus, datasource: &Luid) {
    let site = stored.data_quality_warning.as_ref().map(|w| w.site.as_str());
    if let Some(session) = site.and_then(|site| session(ctx, me, site)) {
        let (datasource, asker, at) = (datasource.clone(), me.clone(), ctx.clock.moment());
        session.hint(Hint::Warnings { datasource, asker, at });
    }
}

/// The pass that sends it. Whatever else waits for the site goes first, but for one that is being deleted.
pub fn plan(ctx: &Context, me: &ObjectName, write: WarningWrite, priority: Priority) -> Plan<Act> {
    match session(ctx, me, write.site()) {
        Some(session) => {
            let lane = Some(session.lane.clone());
            Plan::Do { act: Act::Warn(session, write), lane, priority }
        }
        None => Plan::Rest,
    }
}

fn session(ctx: &Context, me: &ObjectName, site: &str) -> Option<Arc<SiteSession>> {
    let at = ConnectionName::parse(site).seen_from(&me.namespace);
    ctx.sites.get(&at).map(|link| link.session)
}

/// Sends one change. `None`: nothing was sent, and nothing is to be written down.
pub async fn send(
    ctx: &Context,
    at: &ObjectName,
    session: &Arc<SiteSession>,
    write: &WarningWrite,
) -> Option<WarningAck> {
    // Signed in before the fence is looked at, as for a refresh.
    let _ = session.client.site().await;
    if !may_send(ctx, at, session) {
        return None;
    }
    if let Some(intent) = write.intent()
        && !ctx.ledger.spend(intent, ctx.clock.moment())
    {
        tracing::error!("an intent of a warning that may have been sent was about to be sent again");
        return None;
    }
    let client = &session.client;
    let result = match write {
        WarningWrite::Set { luid, message, .. } => client.set_warning(luid, message, POST_DEADLINE).await,
        WarningWrite::Clear { id, .. } => client.delete_warning(id).await.map(|()| None),
    };
    let now = ctx.clock.moment();
    if let Some(intent) = write.intent() {
        ctx.ledger.ended(intent, now);
    }
    // Known to have changed, or not known: either way what was read before is no longer to be trusted.
    session.touch_warnings(write.luid(), now);
    Some(match result {
        Ok(id) => WarningAck::Done(id),
        Err(error) => ack(&error),
    })
}

fn ack(error: &TableauError) -> WarningAck {
    match error {
        TableauError::Forbidden(_) | TableauError::MissingScope => refused(error),
        TableauError::Rejected(code) if code.starts_with("409") => WarningAck::Exists,
        TableauError::Rejected(code) => {
            tracing::warn!(code, "Tableau refuses a data quality warning");
            refused(error)
        }
        TableauError::NotFound(_) => WarningAck::NotFound,
        TableauError::Throttled { retry_after } => WarningAck::Throttled(*retry_after),
        TableauError::Ambiguous => WarningAck::Ambiguous,
        TableauError::SignInRefused
        | TableauError::NotLeading
        | TableauError::SessionContested
        | TableauError::Identity(_)
        | TableauError::WrongServer
        | TableauError::UnsupportedVersion { .. }
        | TableauError::Unreachable(_) => WarningAck::NotSent,
    }
}

fn refused(error: &TableauError) -> WarningAck {
    refusal(error).map_or(WarningAck::NotSent, WarningAck::Refused)
}

/// What an error says of warnings, if it is a refusal and no matter of time.
pub fn refusal(error: &TableauError) -> Option<WarningRefusal> {
    match error {
        TableauError::Forbidden(_) => Some(WarningRefusal::Forbidden),
        TableauError::MissingScope => Some(WarningRefusal::MissingScope),
        TableauError::Rejected(_) => Some(WarningRefusal::Rejected),
        TableauError::NotFound(_)
        | TableauError::Throttled { .. }
        | TableauError::Ambiguous
        | TableauError::SignInRefused
        | TableauError::NotLeading
        | TableauError::SessionContested
        | TableauError::Identity(_)
        | TableauError::WrongServer
        | TableauError::UnsupportedVersion { .. }
        | TableauError::Unreachable(_) => None,
    }
}

/// What was decided about the warning is written: the answer that it was decided on is used up, and an intent that is settled need not be
/// remembered.
pub fn wrote(ctx: &Context, me: &ObjectName, before: Option<&WarningStatus>, after: Option<&WarningStatus>) {
    if before == after {
        return;
    }
    if let Some(w) = after.or(before)
        && let Some(session) = session(ctx, me, &w.site)
    {
        session.touch_warnings(&w.luid.as_str().into(), ctx.clock.moment());
    }
    if let Some(ended) = before.and_then(|w| w.intent.as_ref())
        && after.and_then(|w| w.intent.as_ref()) != Some(ended)
    {
        ctx.ledger.forget(ended);
    }
}
