//! Who has the last word: a field that was put right three times within an hour is left to the others for an hour, and the condition says so.

use super::pass::{Drifted, Pass, Ready, listed, set, warned};
use super::{Decision, Step, values};
use crate::api::{Correction, FlowDeploymentStatus, Time};
use crate::model::time::{add, sub};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// After so many corrections …
const TIMES: usize = 3;
/// … within this time a field is left, for as long as this after the last of them.
const HOUR: Duration = Duration::from_secs(3600);
/// Most fields remembered: a spec has fewer.
const MOST: usize = 64;

/// Of these fields those that are left for now, and until when. While a write is announced they are those that were left when it was. A new
/// generation is a new word of ours, and so is another value in a Secret: none is left.
pub(super) fn left(p: &Pass, differing: &BTreeSet<String>) -> Option<(BTreeSet<String>, Timestamp)> {
    let decided = p.status.pending_write.is_some();
    let contested = |c: &&Correction| {
        let (Some(first), Some(last)) = (c.at.first(), c.at.last()) else { return false };
        let thrice = c.at.len() >= TIMES && sub(last.0, HOUR) <= first.0 && p.now < add(last.0, HOUR);
        if decided { p.status.contested.contains(&c.field) } else { thrice }
    };
    let rotated = values::rotated_fields(p);
    let all = || {
        let differs = |c: &&Correction| differing.contains(&c.field) && !rotated.contains(c.field.as_str());
        p.status.corrections.iter().filter(contested).filter(differs)
    };
    let until = all().filter_map(|c| Some(add(c.at.last()?.0, HOUR))).min()?;
    p.applied().then(|| (all().map(|c| c.field.clone()).collect(), until))
}

/// The decision where nothing else differs.
pub(super) fn leave(p: &Pass, fields: &BTreeSet<String>, until: Timestamp) -> Decision {
    let names = listed(fields);
    let message = format!(
        "Others keep changing {names} in Prefect: corrected three times within an hour, now left for an hour; make both sides agree, or list \
         it in spec.driftDetection.ignore"
    );
    let mut status = p.status.clone();
    // What a paused deployment would have had due is not asked for.
    status.pending_write = None;
    status.secrets = p.o.values.applied();
    status.in_sync_generation = Some(p.d.generation);
    status.contested = fields.iter().take(MOST).cloned().collect();
    let notes = if status.contested == p.status.contested {
        Vec::new()
    } else {
        vec![warned("DriftContested", message.clone())]
    };
    let ready = Ready::good("InSync", format!("Prefect has had deployment `{}` as declared", p.d.deployment));
    set(&mut status, p.d.generation, ready, Drifted::Contested(message), p.now);
    Decision { notes, again: Some(until), ..p.decision(status, Step::Rest) }
}

/// These fields are put right now, and those are left.
pub(super) fn correct(
    p: &Pass,
    status: &mut FlowDeploymentStatus,
    fields: &BTreeSet<String>,
    left: &BTreeSet<String>,
) {
    let old = sub(p.now, HOUR);
    status.corrections.retain(|c| c.at.last().is_some_and(|at| at.0 > old));
    status.contested = left.iter().take(MOST).cloned().collect();
    for field in fields {
        let place = status.corrections.iter().position(|c| c.field == *field).unwrap_or_else(|| {
            status.corrections.push(Correction { field: field.clone(), at: Vec::new() });
            status.corrections.len() - 1
        });
        let at = &mut status.corrections[place].at;
        at.push(Time(p.now));
        let most = at.len().saturating_sub(TIMES);
        at.drain(..most);
    }
    let most = status.corrections.len().saturating_sub(MOST);
    status.corrections.drain(..most);
}

/// These are set to another value: it starts anew.
pub(super) fn start_anew(status: &mut FlowDeploymentStatus, fields: &BTreeSet<&str>) {
    status.contested.retain(|field| !fields.contains(field.as_str()));
    status.corrections.retain(|c| !fields.contains(c.field.as_str()));
}

/// Nothing differs any more: where we had left a field to others they agree now, and it starts anew.
pub(super) fn agree(status: &mut FlowDeploymentStatus) {
    let contested = std::mem::take(&mut status.contested);
    status.corrections.retain(|c| !contested.contains(&c.field));
}
