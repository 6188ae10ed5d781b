//! What an acknowledgement changes.

use super::super::{Desired, Folded, Observed, Pass, decide, report, schedules};
use super::plan::{failed, obstructed, refuse, set, waits};
use super::{WarningAck, WarningWrite, WarningsView, is_ours};
use crate::api::{ExtractRefreshStatus, Time, WarningState, WarningStatus};
use crate::model::ids::{Luid, WarningId};
use crate::model::time::{add, ceil_second};
use jiff::Timestamp;
use std::time::Duration;

/// How long a 429 without a time is taken to mean.
const THROTTLED: Duration = Duration::from_secs(60);

/// Folds what became of a write into `s`, the status it was decided on or a newer one read after a conflict.
pub fn fold_warning(
    d: &Desired,
    o: &Observed,
    s: &ExtractRefreshStatus,
    sent: &WarningWrite,
    ack: &WarningAck,
    now: Timestamp,
) -> Folded {
    let mut p = Pass { generation: s.observed_generation, ..Pass::new(d, o, now) };
    let mut next = s.clone();
    apply(&mut p, &mut next, sent, ack);
    let activity = decide::choose(&p, &next);
    let told = schedules::kept(&next, true);
    report::stamp(&p, &mut next, &activity, &told);
    Folded { status: next, notes: p.notes }
}

pub(super) fn apply(p: &mut Pass, s: &mut ExtractRefreshStatus, sent: &WarningWrite, ack: &WarningAck) {
    let entry = s.data_quality_warning.clone();
    match sent {
        WarningWrite::Set { intent, site, luid, .. } => match entry {
            Some(w) if w.intent.as_ref() == Some(intent) => was_set(p, s, w, ack),
            // Somebody else wrote meanwhile, and looks for it by what it says.
            Some(w) if w.may_be_there() => {}
            // That it is there is a fact all the same.
            Some(_) | None => {
                if let WarningAck::Done(Some(id)) = ack {
                    set(p, s, fresh(site, luid), id);
                }
            }
        },
        WarningWrite::Clear { site, luid, id } => {
            let same = |w: &WarningStatus| w.may_be_there() && w.luid == luid.as_str() && w.site == *site;
            if let Some(w) = entry.filter(same) {
                was_cleared(p, s, w, id, ack);
            }
        }
    }
}

fn fresh(site: &str, luid: &Luid) -> WarningStatus {
    WarningStatus {
        state: WarningState::Set,
        site: site.to_owned(),
        luid: luid.to_string(),
        intent: None,
        id: None,
        refused: None,
        refused_with: None,
        tries: 0,
        not_before: None,
    }
}

fn was_set(p: &mut Pass, s: &mut ExtractRefreshStatus, mut w: WarningStatus, ack: &WarningAck) {
    match ack {
        WarningAck::Done(Some(id)) => set(p, s, w, id),
        // The next look tells; if it shows nothing, that was a try.
        WarningAck::Done(None) | WarningAck::Ambiguous => {
            w.tries = (w.tries + 1).min(1000);
            s.data_quality_warning = Some(w);
        }
        WarningAck::Refused(why) => refuse(p, s, w, *why),
        // Somebody was faster: whose it is, is looked at once.
        WarningAck::Exists if w.tries == 0 => {
            (w.state, w.intent, w.tries) = (WarningState::Waiting, None, 1);
            s.data_quality_warning = Some(w);
        }
        WarningAck::Exists | WarningAck::NotFound | WarningAck::NotSent => waits(p, s, w),
        WarningAck::Throttled(told) => {
            (w.state, w.intent, w.not_before) = (WarningState::Waiting, None, Some(later(p, *told)));
            s.data_quality_warning = Some(w);
        }
    }
}

fn was_cleared(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    mut w: WarningStatus,
    id: &WarningId,
    ack: &WarningAck,
) {
    match ack {
        WarningAck::Done(_) | WarningAck::NotFound => {
            // Where an answer was lost there may be two.
            let left = match &p.o.warnings.view {
                WarningsView::Read { all, .. } => {
                    all.iter().any(|warning| is_ours(warning, p.d, p.o, &w) && warning.id != *id)
                }
                WarningsView::Unread | WarningsView::Failed { .. } => false,
            };
            if left {
                return;
            }
            s.data_quality_warning = None;
            p.tell("WarningCleared", "Tableau does not show the data source as stale any more");
        }
        WarningAck::Refused(why) => obstructed(p, s, w, *why, false),
        WarningAck::Throttled(told) => {
            w.not_before = Some(later(p, *told));
            s.data_quality_warning = Some(w);
        }
        WarningAck::Exists | WarningAck::NotSent | WarningAck::Ambiguous => {
            failed(p, &mut w);
            s.data_quality_warning = Some(w);
        }
    }
}

fn later(p: &Pass, told: Option<Duration>) -> Time {
    Time(ceil_second(add(p.now, told.unwrap_or(THROTTLED))))
}
