//! What the metrics count of `ExtractRefresh`.

use super::context::Context;
use super::index::object_name;
use super::ledger::Entry;
use crate::api::{AttemptPhase, ExtractRefresh, ExtractRefreshStatus, JobOrigin, Outcome};
use crate::model::conditions;
use crate::model::extract::REMOTE_FAILED;
use crate::runtime::metrics::{Extract, Origin, Refreshed, Residue};
use std::sync::Arc;

/// How fresh each extract is, for the metrics.
pub fn freshness(ctx: &Context) -> Vec<Extract> {
    let one = |refresh: Arc<ExtractRefresh>| {
        let name = object_name(&*refresh)?;
        let status = refresh.status.as_ref()?;
        let fresh = match status.conditions.iter().find(|c| c.type_ == "Fresh")?.status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        let data_time = status.data_time.map(|at| at.0.as_second());
        Some(Extract { namespace: name.namespace.to_string(), name: name.name.to_string(), fresh, data_time })
    };
    ctx.objects.refreshes.store.state().into_iter().filter_map(one).collect()
}

/// An intent that may have been sent is given up because no job of it was found: what is sent next may be one too many, and that is counted
/// by its cause.
pub(super) fn possible_double(
    ctx: &Context,
    before: &ExtractRefreshStatus,
    after: &ExtractRefreshStatus,
) -> Option<Residue> {
    // What waits for somebody else's job was answered: Tableau has not started it.
    let lost = before
        .attempt
        .as_ref()
        .filter(|a| a.phase == AttemptPhase::Intended && a.job_id.is_none() && !a.is_blocked())?;
    let owed = after.owed.as_ref()?;
    let given_up = after.attempt.as_ref().is_none_or(|next| next.id != lost.id)
        && owed.refused.as_deref().is_none_or(|why| why == REMOTE_FAILED)
        && owed.tries == before.owed.as_ref().map_or(0, |owed| owed.tries)
        && matches!(ctx.ledger.look(&lost.id, ctx.clock.moment()), Entry::Spent { .. });
    given_up.then(|| match conditions::reason_of(before, "Refreshing") {
        Some("JobListUnavailable") => Residue::R1,
        Some(_) | None => Residue::R3,
    })
}

pub(super) fn outcome(outcome: Outcome) -> Refreshed {
    match outcome {
        Outcome::Succeeded => Refreshed::Succeeded,
        Outcome::Failed => Refreshed::Failed,
        Outcome::Cancelled => Refreshed::Cancelled,
        Outcome::TimedOut => Refreshed::TimedOut,
        Outcome::JobVanished => Refreshed::JobVanished,
        Outcome::Superseded => Refreshed::Superseded,
    }
}

pub(super) fn origin(origin: Option<JobOrigin>) -> Origin {
    match origin {
        Some(JobOrigin::Ours) | None => Origin::Ours,
        Some(JobOrigin::Recovered) => Origin::Recovered,
        Some(JobOrigin::Adopted) => Origin::Adopted,
    }
}
