//! Which extract it is, and what asks for a refresh beside completions: a token, a republished target.

use super::desired::{ProjectPath, Target};
use super::observed::{Found, TargetView};
use super::{Pass, coverage, gate, kinds, marks, retry};
use crate::api::{
    Attempt, Demand, DemandKind, ExtractRefreshStatus, OnCreate, TargetKind, TargetStatus, Time,
};
use crate::model::ids::Luid;
use crate::model::tenancy::Access;

/// Whether an attempt is still on what the spec means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Yes.
    Same,
    /// No: never sent, never credited.
    Changed,
    /// The spec was edited and its new target is not looked up yet.
    Unknown,
}

/// Records what the target was found to be. Not found resets nothing: it may be a moment of a republication.
pub(super) fn learn(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    let edited = s.observed_generation != p.d.generation;
    if let Some(target) = s.target.as_mut().filter(|_| edited) {
        target.full_only = false;
    }
    if let TargetView::Found(found) | TargetView::NoExtract(found) = &p.o.target {
        let next = TargetStatus {
            kind: p.d.target.kind(),
            site_luid: found.site_luid.as_str().to_owned(),
            luid: found.luid.as_str().to_owned(),
            project_path: found.path.clone(),
            name: found.name.clone(),
            refresh_type: p.d.least(),
            full_only: false,
        };
        let before = s.target.replace(next.clone());
        if let Some(before) = before {
            let moved =
                (before.kind, &before.site_luid, &before.luid) != (next.kind, &next.site_luid, &next.luid);
            if moved {
                coverage::forget(s);
            } else if before.refresh_type != next.refresh_type {
                coverage::forget_type(s);
            }
            if let Some(target) = &mut s.target {
                target.full_only = before.full_only && !moved;
            }
            if moved && republished(&p.d.target, &before, &next) {
                demand(p, s, DemandKind::Republished, None);
                p.tell(
                    "Republished",
                    "Another content stands under the target's name now, as after it is deleted and published anew: it is refreshed once",
                );
            } else if moved && s.owed.is_none() {
                created(p, s);
            } else if !moved && followed(&p.d.target, &before, &next) {
                p.tell(
                    "TargetMoved",
                    "The target was moved or renamed in Tableau: it is followed by its LUID, and status.target says where it is",
                );
            }
        }
    }
    learn_token(p, s);
}

/// Another LUID under the same names, rather than another target in the spec.
fn republished(target: &Target, before: &TargetStatus, now: &TargetStatus) -> bool {
    matches!(target, Target::Named { .. })
        && (before.kind, &before.site_luid) == (now.kind, &now.site_luid)
        && (&before.project_path, &before.name) == (&now.project_path, &now.name)
}

/// Lies or is called otherwise, which is all the same to a LUID.
fn followed(target: &Target, before: &TargetStatus, now: &TargetStatus) -> bool {
    matches!(target, Target::Luid { .. })
        && (&before.project_path, &before.name) != (&now.project_path, &now.name)
}

/// The resource is new, or means another extract.
pub(super) fn created(p: &Pass, s: &mut ExtractRefreshStatus) {
    match p.d.on_create {
        OnCreate::Refresh => demand(p, s, DemandKind::Created, None),
        OnCreate::Ignore => {}
    }
}

fn learn_token(p: &mut Pass, s: &mut ExtractRefreshStatus) {
    if p.d.refresh_token.is_some() && p.d.refresh_token != s.last_handled_refresh_token {
        s.last_handled_refresh_token.clone_from(&p.d.refresh_token);
        demand(p, s, DemandKind::Requested, p.d.refresh_token.clone());
    }
}

/// A demand skips gate and backoff and starts with a fresh count. A newer one of its kind replaces the older: what covers it covers both.
fn demand(p: &Pass, s: &mut ExtractRefreshStatus, kind: DemandKind, token: Option<String>) {
    let owed = s.owed.get_or_insert_with(|| gate::nothing(p));
    owed.demands.retain(|demand| demand.kind != kind);
    owed.demands.push(Demand { kind, token, fence: p.fence() });
    retry::rearm(s);
    // It does not wait behind a duplicate either, unless that is known to be running.
    if let Some(attempt) = s.attempt.as_mut().filter(|a| a.is_blocked() && a.waits_for_job.is_none()) {
        attempt.not_before = Some(Time(p.now));
    }
}

/// Whether `attempt` is on what the spec means now.
pub(super) fn standing(p: &Pass, s: &ExtractRefreshStatus, attempt: &Attempt) -> Standing {
    let same = |is: bool| if is { Standing::Same } else { Standing::Changed };
    // What is owed of an upstream that has left the spec is still of the type that this upstream had.
    let wanted = p.d.may_ask(attempt.refresh_type) || kinds::asked(p, s) == attempt.refresh_type;
    if attempt.kind != p.d.target.kind() || !wanted {
        return Standing::Changed;
    }
    match (&p.o.target, &s.target) {
        (
            TargetView::Found(Found { site_luid, luid, .. })
            | TargetView::NoExtract(Found { site_luid, luid, .. }),
            _,
        ) => same((site_luid.as_str(), luid.as_str()) == (&*attempt.site_luid, &*attempt.luid)),
        (_, Some(target)) if designates(&p.d.target, target) => {
            same((&target.site_luid, &target.luid) == (&attempt.site_luid, &attempt.luid))
        }
        // What may not be seen is never looked up: nothing that was begun for another is held until then.
        (TargetView::Unread, _) if matches!(p.o.access, Access::Denied(_)) => Standing::Changed,
        (TargetView::Unread, _) => Standing::Unknown,
        (
            TargetView::NotFound
            | TargetView::Elsewhere(_)
            | TargetView::Ambiguous(_)
            | TargetView::Forbidden,
            _,
        ) => Standing::Changed,
    }
}

/// Whether the spec still means what was found before.
pub(super) fn designates(target: &Target, found: &TargetStatus) -> bool {
    match target {
        Target::Luid { kind, luid } => *kind == found.kind && luid.as_str() == found.luid,
        Target::Named { kind, path, name } => {
            *kind == found.kind
                && Some(name) == found.name.as_ref()
                && found.project_path.as_deref().and_then(ProjectPath::parse).as_ref() == Some(path)
        }
    }
}

/// The content that was found by what the spec says, if it was by path and name.
pub fn found_before(target: &Target, s: Option<&ExtractRefreshStatus>) -> Option<Luid> {
    let found = s?.target.as_ref()?;
    let named = matches!(target, Target::Named { .. }) && designates(target, found);
    named.then(|| Luid::from(found.luid.as_str()))
}

/// What was found, as a person has to know it.
pub(super) enum Look {
    /// It is there.
    Here,
    /// Not looked up yet.
    Unread,
    /// A reason of `Ready`, and what is wrong and what to do.
    Wrong(&'static str, String),
}

pub(super) fn look(p: &Pass, s: &ExtractRefreshStatus) -> Look {
    let (target, kind) = (named(&p.d.target), word(p.d.target.kind()));
    match &p.o.target {
        TargetView::Unread => Look::Unread,
        TargetView::Found(_) => Look::Here,
        TargetView::NotFound if s.target.as_ref().is_some_and(|found| designates(&p.d.target, found)) => {
            Look::Wrong(
                "TargetNotFound",
                format!(
                    "The {kind} {target} is not on the site any more, or hidden from this account: publish it again, let the account see it, or correct spec.target"
                ),
            )
        }
        TargetView::NotFound => Look::Wrong(
            "TargetNotFound",
            format!(
                "No {kind} {target} is on the site, or it is hidden from this account: correct spec.target, or let the account see it"
            ),
        ),
        TargetView::Elsewhere(found) => Look::Wrong("TargetNotFound", elsewhere(&p.d.target, found)),
        TargetView::Ambiguous(luids) => {
            let luids: Vec<&str> = luids.iter().map(Luid::as_str).collect();
            let luids = marks::list(&luids);
            Look::Wrong(
                "TargetAmbiguous",
                format!("Several contents are {target}: name one by spec.target.luid, such as {luids}"),
            )
        }
        TargetView::Forbidden => Look::Wrong(
            "PermissionDenied",
            format!(
                "Tableau does not let this account see the {kind} {target}: grant it the right to view and to refresh it"
            ),
        ),
        TargetView::NoExtract(_) => Look::Wrong(
            "NoExtract",
            format!(
                "{target} holds no extract, as with a live connection: publish it with one, or delete this resource"
            ),
        ),
    }
}

/// Where a content is that was found by path and name.
fn elsewhere(target: &Target, found: &Found) -> String {
    let named = named(target);
    let (path, name) = match target {
        Target::Named { path, name, .. } => (Some(path.to_string()), Some(name)),
        Target::Luid { .. } => (None, None),
    };
    let (renamed, moved) = (found.name.as_ref() != name, found.path != path);
    let (is, field) = match (&found.path, &found.name) {
        (_, Some(to)) if renamed && !moved => (format!("was renamed to `{to}`"), "spec.target.name"),
        (Some(to), _) if moved && !renamed => {
            (format!("was moved to project `{to}`"), "spec.target.projectPath")
        }
        (Some(to), Some(name)) => (format!("was moved and renamed to `{to}/{name}`"), "spec.target"),
        (None, _) | (_, None) => (
            "was moved to where this account sees no project, as into a personal space".into(),
            "spec.target",
        ),
    };
    format!("{named} {is}: correct {field}, or put it back; nothing is refreshed until then")
}

fn word(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Datasource => "data source",
        TargetKind::Workbook => "workbook",
    }
}

/// The target as a person names it.
pub(super) fn named(target: &Target) -> String {
    match target {
        Target::Named { path, name, .. } => format!("`{path}/{name}`"),
        Target::Luid { luid, .. } => format!("`{luid}`"),
    }
}
