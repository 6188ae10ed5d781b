//! The resource is being deleted: the warning of ours goes with it, by `deletionPolicy`, after the schedules.

use super::super::observed::{IntentView, SiteView};
use super::super::schedules::{self, Leaving, leaving};
use super::super::{Desired, Observed, Parting, Pass, retry};
use super::plan::{OnItsWay, on_its_way};
use super::{FRESH, LOOK_AGAIN, WarningAck, WarningWrite, WarningsView, fold, is_ours};
use crate::api::{DeletionPolicy, ExtractRefreshStatus, ManagementPolicy, WarningState, WarningStatus};
use crate::model::ids::Luid;
use crate::model::time::add;
use jiff::Timestamp;
use std::time::Duration;

const WARNING: Leaving = Leaving {
    goes: "The data quality warning of this resource is being taken away in Tableau",
    stays: "The data quality warning in Tableau cannot be taken away",
    left: "It is left behind",
};

/// Plans one pass. `since`: the deletion timestamp; `deadline`: how long after it everything is left behind.
pub fn part(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    since: Timestamp,
    deadline: Duration,
    now: Timestamp,
) -> Parting {
    let parting = schedules::part(d, o, s, since, deadline, now);
    let leaves =
        d.schedules.deletion == DeletionPolicy::Orphan || d.schedules.management == ManagementPolicy::Observe;
    let ours = s.data_quality_warning.as_ref().filter(|w| w.may_be_there() && !leaves);
    match (parting, ours) {
        // What the schedules leave behind says nothing of the warning.
        (Parting::Release { orphaned }, Some(w)) => match clear(d, o, s, w, add(since, deadline), now) {
            Parting::Release { orphaned: too } => Parting::Release { orphaned: orphaned || too },
            parting => parting,
        },
        (parting, _) => parting,
    }
}

fn clear(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    entry: &WarningStatus,
    deadline: Timestamp,
    now: Timestamp,
) -> Parting {
    if entry.state == WarningState::Setting && o.warnings.intent == IntentView::InLedger {
        return Parting::Release { orphaned: false };
    }
    if now >= deadline {
        return Parting::Release { orphaned: true };
    }
    let p = Pass::new(d, o, now);
    let luid = Luid::from(entry.luid.as_str());
    let wait = |blocked: Option<&str>, until: Timestamp, look: bool| Parting::WaitForWarning {
        status: Box::new(leaving(s, &WARNING, blocked, now)),
        until: until.min(deadline),
        look: look.then(|| luid.clone()),
    };
    let soon = add(now, LOOK_AGAIN);
    match o.warnings.site {
        SiteView::Ready { .. } => {}
        SiteView::NotReady { .. } => return wait(Some("while the site cannot be used"), soon, false),
        // Through which it was set: there is no other way.
        SiteView::Missing => return Parting::Release { orphaned: true },
    }
    let refused = entry
        .refused
        .is_some()
        .then_some("while Tableau refuses it: give the account the right to, or remove it there");
    if let Some(at) = entry.not_before.filter(|at| !retry::due(Some(*at), now)) {
        return wait(refused, at.0, false);
    }
    let asked = o.warnings.view.asked().filter(|asked| o.moment.since(*asked) <= FRESH);
    let (Some(asked), view) = (asked, &o.warnings.view) else { return wait(refused, soon, true) };
    let all = match view {
        WarningsView::Unread => return wait(refused, soon, true),
        WarningsView::Failed { .. } => {
            return wait(Some("while Tableau does not let this account read it"), soon, false);
        }
        WarningsView::Read { all, .. } => all,
    };
    if let Some(ours) = all.iter().find(|warning| is_ours(warning, d, o, entry)) {
        return Parting::Clear(WarningWrite::Clear { site: entry.site.clone(), luid, id: ours.id.clone() });
    }
    match on_its_way(&p, entry, asked) {
        OnItsWay::No => Parting::Release { orphaned: false },
        OnItsWay::Look => wait(None, soon, true),
        OnItsWay::Until(at) => wait(None, at, false),
    }
}

/// What an answer changes in the status of a resource that is leaving, whose conditions stay.
pub fn parted_warning(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &WarningWrite,
    ack: &WarningAck,
    now: Timestamp,
) -> ExtractRefreshStatus {
    let mut next = s.clone();
    fold::apply(&mut Pass::new(d, o, now), &mut next, sent, ack);
    next
}
