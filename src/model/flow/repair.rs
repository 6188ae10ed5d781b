//! What a change in Prefect costs and how it is made good: any write drops the runs to come, deleting a schedule also those that are late, and a
//! new schedule has none for up to a minute: Prefect's scheduler looks at once only where the deployment itself was changed.

use super::diff::Diff;
use super::pass::Pass;
use super::{Step, Write};
use crate::api::{PendingWrite, Time};
use crate::model::deployments::Deployment;
use crate::model::ids::DeploymentId;
use crate::model::time::{add, sub};
use jiff::Timestamp;
use std::iter::successors;
use std::time::Duration;

/// How far back what others' changes dropped is made good: what is due by then is no surprise.
const BACK: Duration = Duration::from_secs(120);
/// What is owed for longer than this, which is longer than [`BACK`], is made good before the change: what is changed now must not have runs in that past.
const STALE: Duration = Duration::from_secs(240);
/// The longest stretch that is made good: what fell due before is nobody's surprise any more, and its runs may have been deleted since.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// So much of it at once.
const PIECE: Duration = Duration::from_secs(3600);
/// Most late runs that are kept.
pub(super) const MOST_LATE: usize = 100;

/// What status says before a write: from when on runs have to be asked for again. Where others changed the deployment just before, their
/// change has cost runs as well, which Prefect makes again only after a while. None: Prefect's time is not known yet.
pub(super) fn announced(p: &Pass, there: &Deployment, diff: &Diff, by_others: bool) -> Option<PendingWrite> {
    let clock = p.o.clock?;
    let theirs = diff.touched(there).filter(|_| by_others).map(|at| at.max(sub(clock, BACK)));
    Some(PendingWrite { since: Time(theirs.unwrap_or(clock).min(clock)), late: None })
}

/// Where what is owed is from long ago: what was late then, and the stretch until now. Before a change it is asked for by the rules there are, and
/// written down, so that the new ones never speak about that past. What is late by then is looked at anew: a note from long ago names a part of it.
pub(super) fn old(owed: &PendingWrite, id: &DeploymentId, clock: Option<Timestamp>) -> Option<Vec<Write>> {
    let stretch = overdue(owed, id, clock)?;
    Some(late(id, owed).chain(stretch).collect())
}

/// The stretch until now in pieces that Prefect makes whole: from a moment on it makes runs until there are three and an hour is over [Prefect 3.9.1,
/// `_generate_scheduled_flow_runs`].
fn overdue(
    owed: &PendingWrite,
    id: &DeploymentId,
    clock: Option<Timestamp>,
) -> Option<impl Iterator<Item = Write>> {
    let clock = clock.filter(|clock| *clock > add(owed.since.0, STALE))?;
    let pieces = successors(Some(owed.since.0.max(sub(clock, LONGEST))), |from| Some(add(*from, PIECE)));
    let pieces = pieces.take_while(move |from| *from < clock);
    let id = id.clone();
    Some(pieces.map(move |from| Write::RestoreRuns { id: id.clone(), from, to: clock.min(add(from, PIECE)) }))
}

/// Asks for the runs that a write of ours made Prefect drop. None for a deployment that is paused: it has none.
pub(super) fn repair(there: &Deployment, owed: &PendingWrite, clock: Option<Timestamp>) -> Option<Step> {
    (!there.paused).then(|| Step::Do(writes(&there.id, owed, clock)))
}

/// All of it: what was late, what has fallen due since, what is to come.
pub(super) fn writes(id: &DeploymentId, owed: &PendingWrite, clock: Option<Timestamp>) -> Vec<Write> {
    let stretch = overdue(owed, id, clock);
    let since = stretch.as_ref().and(clock).unwrap_or(owed.since.0);
    late(id, owed).chain(stretch.into_iter().flatten()).chain([to_come(id, since)]).collect()
}

/// The late ones one by one: a stretch of the past would also get what was never due there.
pub(super) fn late<'a>(id: &'a DeploymentId, owed: &'a PendingWrite) -> impl Iterator<Item = Write> + 'a {
    owed.late.iter().flatten().map(|at| Write::RestoreRuns { id: id.clone(), from: at.0, to: at.0 })
}

/// Those from this moment on.
pub(super) fn to_come(id: &DeploymentId, since: Timestamp) -> Write {
    Write::ScheduleRuns { id: id.clone(), since }
}

/// The late runs to be kept: the last ones, each time once.
pub(super) fn kept(mut late: Vec<Timestamp>) -> Vec<Time> {
    late.sort_unstable();
    late.dedup();
    let most = late.len().saturating_sub(MOST_LATE);
    late.drain(..most);
    late.into_iter().map(Time).collect()
}
