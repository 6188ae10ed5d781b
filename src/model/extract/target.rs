//! Which extract it is, and what asks for a refresh beside completions: a token, a republished target.

use super::desired::{ProjectPath, Target};
use super::observed::{Found, TargetView};
use super::{Pass, coverage, gate, retry};
use crate::api::{Attempt, Demand, DemandKind, ExtractRefreshStatus, TargetStatus, Time};

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
    if let TargetView::Found(found) | TargetView::NoExtract(found) = &p.o.target {
        let next = TargetStatus {
            kind: p.d.target.kind(),
            site_luid: found.site_luid.as_str().to_owned(),
            luid: found.luid.as_str().to_owned(),
            project_path: found.path.clone(),
            name: found.name.clone(),
            refresh_type: p.d.refresh_type,
        };
        if let Some(before) = s.target.replace(next.clone()) {
            let moved =
                (before.kind, &before.site_luid, &before.luid) != (next.kind, &next.site_luid, &next.luid);
            if moved || before.refresh_type != next.refresh_type {
                coverage::forget(s);
            }
            if moved && republished(&p.d.target, &before, &next) {
                demand(p, s, DemandKind::Republished, None);
                p.tell(
                    "Republished",
                    "The target was published anew under another LUID: it is refreshed once",
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
    if attempt.kind != p.d.target.kind() || attempt.refresh_type != p.d.refresh_type {
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
        (TargetView::Unread, _) => Standing::Unknown,
        (TargetView::NotFound | TargetView::Ambiguous, _) => Standing::Changed,
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

/// The target as a person names it.
pub(super) fn named(target: &Target) -> String {
    match target {
        Target::Named { path, name, .. } => format!("`{path}/{name}`"),
        Target::Luid { luid, .. } => format!("`{luid}`"),
    }
}
