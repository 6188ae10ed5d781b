//! One pass over the warning: what is learned, and at most one call.

use super::super::Pass;
use super::super::observed::{Claim, IntentView, SiteView, TargetView};
use super::super::{freshness, retry};
use super::{
    FIRST_WAIT, FRESH, LONGEST_WAIT, LOOK_AGAIN, WarningRefusal, WarningWrite, WarningsView, is_ours,
    refusal, text,
};
use crate::api::{DeletionPolicy, ExtractRefreshStatus, ManagementPolicy, Time, WarningState, WarningStatus};
use crate::model::connection::Standing;
use crate::model::ids::{ConnectionName, Luid, WarningId};
use crate::model::tenancy::Access;
use crate::model::time::{Moment, add};
use crate::model::warnings::DataQualityWarning;
use jiff::Timestamp;
use std::time::Duration;

/// What a pass comes to.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) act: Act,
    pub(crate) again: Option<Timestamp>,
}

/// The one thing to do.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Act {
    #[default]
    Nothing,
    /// The finalizer has to be there first.
    Hold,
    /// Status holds a new intent.
    Intend(String),
    /// Read the warnings on this data source.
    Look(Luid),
    /// Call Tableau.
    Write(WarningWrite),
}

impl Planned {
    fn act(act: Act) -> Self {
        Self { act, again: None }
    }
    fn again(at: Timestamp) -> Self {
        Self { act: Act::Nothing, again: Some(at) }
    }
}

/// What there should be in Tableau.
enum Wish {
    /// Ours on this data source.
    Ours(Luid),
    /// None of ours.
    Nothing,
    /// As it is: nothing is written, or who may is not known.
    AsItIs,
}

/// Plans. `idle`: nothing else is done by this pass.
pub(crate) fn plan(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    idle: bool,
    new_id: impl Fn() -> String,
) -> Planned {
    if p.o.access != Access::Allowed {
        return Planned::default();
    }
    let wish = wish(p, s);
    match s.data_quality_warning.clone() {
        Some(w) if w.may_be_there() => there(p, s, w, &wish, idle),
        entry => not_there(p, s, entry, &wish, idle, new_id),
    }
}

fn wish(p: &Pass, s: &ExtractRefreshStatus) -> Wish {
    if p.d.suspend || p.d.schedules.management == ManagementPolicy::Observe {
        return Wish::AsItIs;
    }
    let stale = freshness::fresh(p, s).0.reason == "Stale";
    // Who refreshes the extract says how fresh it is.
    if !p.d.freshness.warns || !stale || matches!(p.o.claim, Claim::Taken { .. }) {
        return Wish::Nothing;
    }
    match (&p.o.target, &p.o.claim) {
        (TargetView::Found(found) | TargetView::NoExtract(found), Claim::Ours) => {
            Wish::Ours(found.luid.clone())
        }
        (
            TargetView::Found(_)
            | TargetView::NoExtract(_)
            | TargetView::Unread
            | TargetView::NotFound
            | TargetView::Elsewhere(_)
            | TargetView::Ambiguous(_)
            | TargetView::Forbidden,
            _,
        ) => Wish::AsItIs,
    }
}

/// How long somebody else's warning is taken to stay.
const FOREIGN: Duration = Duration::from_secs(3600);

/// None of ours is in Tableau.
fn not_there(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    entry: Option<WarningStatus>,
    wish: &Wish,
    idle: bool,
    new_id: impl Fn() -> String,
) -> Planned {
    let luid = match wish {
        Wish::AsItIs => return Planned::default(),
        Wish::Nothing => {
            // What was in the way of this one may not be in the way of the next.
            s.data_quality_warning = None;
            return Planned::default();
        }
        Wish::Ours(luid) => luid,
    };
    let (mut tries, mut wait) = (0, None);
    if let Some(w) = entry.filter(|w| !anew(p, s, w, luid)) {
        match w.state {
            WarningState::Refused => return Planned::default(),
            // Nothing tells when it is taken away: it is looked for again.
            WarningState::Foreign => wait = w.not_before,
            WarningState::Waiting | WarningState::Setting | WarningState::Set => {
                (tries, wait) = (w.tries, w.not_before);
            }
        }
    } else {
        s.data_quality_warning = None;
    }
    if let Some(Time(at)) = wait.filter(|at| !retry::due(Some(*at), p.now)) {
        return Planned::again(at);
    }
    begin(p, s, luid, tries, idle, new_id)
}

/// Somebody changed something: what was refused, or was in the way, is asked for once more.
fn anew(p: &Pass, s: &ExtractRefreshStatus, w: &WarningStatus, luid: &Luid) -> bool {
    let other_credential =
        w.refused_with.is_some() && p.o.credential.is_some() && w.refused_with != p.o.credential;
    s.observed_generation != p.generation
        || w.luid != luid.as_str()
        || ConnectionName::parse(&w.site) != p.d.site
        || other_credential
}

/// Writes down what is about to be set.
fn begin(
    p: &Pass,
    s: &mut ExtractRefreshStatus,
    luid: &Luid,
    tries: i32,
    idle: bool,
    new_id: impl Fn() -> String,
) -> Planned {
    let goes_with_us = p.d.schedules.deletion == DeletionPolicy::Delete;
    let held = match p.o.standing {
        Standing::Held => true,
        // Told of when the site waits for us.
        Standing::Unheld => !goes_with_us,
        Standing::Leaving => false,
    };
    if !idle || !held || !matches!(p.o.site, SiteView::Ready { .. }) {
        return Planned::default();
    }
    if unheld(p) {
        return Planned::act(Act::Hold);
    }
    let id = new_id();
    s.data_quality_warning = Some(WarningStatus {
        state: WarningState::Setting,
        site: p.d.site.to_string(),
        luid: luid.to_string(),
        intent: Some(id.clone()),
        id: None,
        refused: None,
        refused_with: None,
        tries,
        not_before: None,
    });
    Planned::act(Act::Intend(id))
}

/// One of ours may be in Tableau.
fn there(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    mut w: WarningStatus,
    wish: &Wish,
    idle: bool,
) -> Planned {
    let stays = match wish {
        Wish::AsItIs => return Planned::default(),
        Wish::Nothing => false,
        Wish::Ours(luid) => w.luid == luid.as_str() && ConnectionName::parse(&w.site) == p.d.site,
    };
    if stays && w.state == WarningState::Set {
        if w.refused.is_some() {
            // It is to stay after all.
            (w.refused, w.refused_with, w.tries, w.not_before) = (None, None, 0, None);
            s.data_quality_warning = Some(w);
        }
        return if idle && unheld(p) { Planned::act(Act::Hold) } else { Planned::default() };
    }
    if s.observed_generation != p.generation && w.not_before.is_some() {
        (w.tries, w.not_before) = (0, None);
        s.data_quality_warning = Some(w.clone());
    }
    if !stays && w.state == WarningState::Setting && p.o.warnings.intent == IntentView::InLedger {
        // Never sent.
        s.data_quality_warning = None;
        return Planned::default();
    }
    match p.o.warnings.site {
        SiteView::Ready { .. } => {}
        // Told of when it can be used, if it is the site of the spec.
        SiteView::NotReady { .. } | SiteView::Missing if ConnectionName::parse(&w.site) == p.d.site => {
            return Planned::default();
        }
        SiteView::NotReady { .. } => return Planned::again(add(p.now, LOOK_AGAIN)),
        SiteView::Missing => {
            s.data_quality_warning = None;
            p.warn(
                "WarningLeftBehind",
                format!(
                    "{} is gone, and with it the way to take away the data quality warning that Feedwater set through it",
                    ConnectionName::parse(&w.site).site()
                ),
            );
            return Planned::default();
        }
    }
    if let Some(Time(at)) = w.not_before.filter(|at| !retry::due(Some(*at), p.now)) {
        if matches!(wish, Wish::Ours(_)) && !stays && w.refused.is_some() {
            leave_behind(p, s, &w);
            return Planned::default();
        }
        return Planned::again(at);
    }
    if !idle {
        return Planned::default();
    }
    let luid = Luid::from(w.luid.as_str());
    let look = || Planned { act: Act::Look(luid.clone()), again: Some(add(p.now, LOOK_AGAIN)) };
    let (asked, all) = match &p.o.warnings.view {
        view if view.asked().is_none_or(|asked| p.o.moment.since(asked) > FRESH) => return look(),
        WarningsView::Unread => return look(),
        WarningsView::Failed { refused, .. } => {
            let refused = *refused;
            return unread(p, s, w, stays, refused);
        }
        WarningsView::Read { asked, all } => (*asked, all.clone()),
    };
    let ours: Option<WarningId> =
        all.iter().find(|warning| is_ours(warning, p.d, p.o, &w)).map(|warning| warning.id.clone());
    match (stays, ours) {
        (true, Some(id)) => {
            set(p, s, w, &id);
            Planned::default()
        }
        (false, Some(id)) => Planned::act(Act::Write(WarningWrite::Clear { site: w.site, luid, id })),
        (_, None) => match (on_its_way(p, &w, asked), stays) {
            (OnItsWay::Until(at), _) => Planned::again(at),
            (OnItsWay::Look, _) => look(),
            (OnItsWay::No, true) => absent(p, s, w, &all),
            (OnItsWay::No, false) => {
                forget(p, s, &w, &all);
                Planned::default()
            }
        },
    }
}

/// It may not be taken away, and another data source is to have one: people are told, and it is not followed any more.
fn leave_behind(p: &mut Pass, s: &mut ExtractRefreshStatus, w: &WarningStatus) {
    s.data_quality_warning = None;
    p.warn(
        "WarningLeftBehind",
        format!(
            "Tableau refuses to take away the data quality warning that Feedwater set on the data source {}, which is not the target any more: remove it there",
            w.luid
        ),
    );
}

/// It is to be set, and is not there.
fn absent(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    mut w: WarningStatus,
    all: &[DataQualityWarning],
) -> Planned {
    if !all.is_empty() {
        (w.state, w.intent, w.not_before) = (WarningState::Foreign, None, Some(Time(add(p.now, FOREIGN))));
        s.data_quality_warning = Some(w);
        p.warn(
            "WarningNotSet",
            "Somebody else's data quality warning is on the data source: it stays, and none of ours is set",
        );
        return Planned::default();
    }
    let intent = w.intent.clone().filter(|_| p.o.warnings.intent == IntentView::InLedger);
    if let Some(intent) = intent {
        let (luid, message) = (Luid::from(w.luid.as_str()), text(p.d, p.o));
        return Planned::act(Act::Write(WarningWrite::Set { intent, site: w.site, luid, message }));
    }
    // Sent, and it did not arrive and will not: again by a new intent. At once if it was a process before this one that sent it: that knew of no
    // failure, and the time in which it could arrive is over.
    if w.tries == 0 {
        (w.state, w.intent) = (WarningState::Waiting, None);
        s.data_quality_warning = Some(w);
    } else {
        waits(p, s, w);
    }
    Planned::default()
}

/// Tried again later.
pub(super) fn waits(p: &Pass, s: &mut ExtractRefreshStatus, mut w: WarningStatus) {
    (w.state, w.intent) = (WarningState::Waiting, None);
    failed(p, &mut w);
    s.data_quality_warning = Some(w);
}

/// One more try did not succeed.
pub(super) fn failed(p: &Pass, w: &mut WarningStatus) {
    let before = u32::try_from(w.tries).unwrap_or_default();
    w.tries = (w.tries + 1).min(1000);
    w.not_before = Some(retry::after(p, retry::grown(FIRST_WAIT, 2, before, LONGEST_WAIT)));
}

/// It is there, and ours.
pub(super) fn set(p: &mut Pass, s: &mut ExtractRefreshStatus, mut w: WarningStatus, id: &WarningId) {
    w.state = WarningState::Set;
    w.id = Some(id.to_string());
    (w.intent, w.refused, w.refused_with, w.tries, w.not_before) = (None, None, None, 0, None);
    s.data_quality_warning = Some(w);
    p.tell("WarningSet", "Tableau shows on the data source that its data is stale");
}

/// Nothing of ours is there any more.
fn forget(p: &mut Pass, s: &mut ExtractRefreshStatus, w: &WarningStatus, all: &[DataQualityWarning]) {
    s.data_quality_warning = None;
    let edited = all.iter().any(|warning| Some(warning.id.as_str()) == w.id.as_deref());
    if edited {
        p.tell(
            "WarningTakenOver",
            "Somebody has edited the data quality warning that Feedwater set: it is theirs now, and stays",
        );
    }
}

/// The warnings could not be read.
fn unread(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    mut w: WarningStatus,
    stays: bool,
    refused: Option<WarningRefusal>,
) -> Planned {
    match refused {
        // Never sent, so that nothing is there.
        Some(why) if stays && p.o.warnings.intent == IntentView::InLedger => refuse(p, s, w, why),
        Some(why) => obstructed(p, s, w, why, stays),
        None => {
            failed(p, &mut w);
            s.data_quality_warning = Some(w);
        }
    }
    Planned::default()
}

/// Tableau refuses to have it set.
pub(super) fn refuse(p: &mut Pass, s: &mut ExtractRefreshStatus, mut w: WarningStatus, why: WarningRefusal) {
    (w.state, w.intent, w.tries, w.not_before) = (WarningState::Refused, None, 0, None);
    (w.refused, w.refused_with) = (Some(why.reason().to_owned()), p.o.credential.clone());
    let told = refusal(w.refused.as_deref());
    s.data_quality_warning = Some(w);
    p.warn(
        "WarningNotSet",
        format!("{told}; it is asked for again after an edit, or the next time the data is stale"),
    );
}

/// Tableau refuses to have it taken away, or to show it.
pub(super) fn obstructed(
    p: &mut Pass,
    s: &mut ExtractRefreshStatus,
    mut w: WarningStatus,
    why: WarningRefusal,
    stays: bool,
) {
    if w.refused.is_none() && !stays {
        p.warn(
            "WarningNotCleared",
            "Tableau refuses to take away the data quality warning that Feedwater set: remove it there, or give the account the right to",
        );
    }
    w.refused = Some(why.reason().to_owned());
    failed(p, &mut w);
    s.data_quality_warning = Some(w);
}

/// Whether what was sent may still arrive, though a read did not show it.
pub(super) enum OnItsWay {
    /// No.
    No,
    /// That read began too early.
    Look,
    /// Too early yet for one that tells.
    Until(Timestamp),
}

pub(super) fn on_its_way(p: &Pass, w: &WarningStatus, asked: Moment) -> OnItsWay {
    let IntentView::MaybeSent { since } = p.o.warnings.intent else { return OnItsWay::No };
    let settled = since.plus(p.o.settle);
    let left = settled.since(p.o.moment);
    if w.state != WarningState::Setting || asked >= settled {
        OnItsWay::No
    } else if left.is_zero() {
        OnItsWay::Look
    } else {
        OnItsWay::Until(add(p.now, left))
    }
}

/// Our finalizer has to be there while there is something to take away.
fn unheld(p: &Pass) -> bool {
    !p.d.schedules.has_finalizer && p.d.schedules.deletion == DeletionPolicy::Delete
}
