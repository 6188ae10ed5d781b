//! Full or incremental: what suffices, and what is asked for. Full covers Incremental, never the reverse.

use super::{Desired, Pass};
use crate::api::{Attempt, ExtractRefreshStatus, Mark, OwedOccasion, RefreshMode, RefreshType};

/// An unknown kind counts as Incremental.
pub(super) fn suffices(kind: Option<RefreshType>, wanted: RefreshType) -> bool {
    kind == Some(RefreshType::Full) || wanted == RefreshType::Incremental
}

impl Desired {
    /// What suffices where an upstream has no type of its own.
    pub(super) fn least(&self) -> RefreshType {
        match self.refresh_type {
            RefreshMode::Full => RefreshType::Full,
            RefreshMode::Incremental | RefreshMode::IncrementalOrFull => RefreshType::Incremental,
        }
    }

    /// Of a schedule without a type of its own: Tableau cannot fall back, and full is always possible.
    pub(super) fn scheduled(&self) -> RefreshType {
        match self.refresh_type {
            RefreshMode::Full | RefreshMode::IncrementalOrFull => RefreshType::Full,
            RefreshMode::Incremental => RefreshType::Incremental,
        }
    }

    /// Whether a refresh of this kind may be ours by the spec as it is now.
    pub(super) fn may_ask(&self, kind: RefreshType) -> bool {
        self.refresh_type == RefreshMode::IncrementalOrFull
            || kind == self.least()
            || self.upstreams.iter().any(|upstream| upstream.refresh_type == Some(kind))
    }
}

/// What suffices for an upstream.
pub(super) fn of_mark(p: &Pass, mark: &Mark) -> RefreshType {
    mark.refresh_type.unwrap_or(p.d.least())
}

/// What suffices for an occasion that is owed.
pub(super) fn of_owed(p: &Pass, owed: &OwedOccasion) -> RefreshType {
    owed.refresh_type.unwrap_or(p.d.least())
}

/// What suffices for all that is owed.
pub(super) fn needed(p: &Pass, s: &ExtractRefreshStatus) -> RefreshType {
    let Some(owed) = &s.owed else { return p.d.least() };
    let demands = owed.demands.iter().map(|_| p.d.least());
    let full =
        owed.occasions.iter().map(|o| of_owed(p, o)).chain(demands).any(|kind| kind == RefreshType::Full);
    if full { RefreshType::Full } else { RefreshType::Incremental }
}

/// What is asked for.
pub(super) fn asked(p: &Pass, s: &ExtractRefreshStatus) -> RefreshType {
    let full_only = s.target.as_ref().is_some_and(|target| target.full_only);
    if full_only { RefreshType::Full } else { needed(p, s) }
}

/// Whether a full refresh may take the place of this one.
pub(super) fn may_fall_back(p: &Pass, attempt: &Attempt) -> bool {
    p.d.refresh_type == RefreshMode::IncrementalOrFull && attempt.refresh_type == RefreshType::Incremental
}

/// From now on it is refreshed in full, until the resource is edited or the extract is another one.
pub(super) fn fall_back(s: &mut ExtractRefreshStatus) {
    if let Some(target) = &mut s.target {
        target.full_only = true;
    }
}

/// Takes in which upstream has which type of its own. Coverage of another type is none.
pub(super) fn learn(p: &Pass, s: &mut ExtractRefreshStatus) {
    for upstream in &p.d.upstreams {
        let Some(mark) = s.marks.iter_mut().find(|mark| mark.live() && mark.name == upstream.name) else {
            continue;
        };
        let before = of_mark(p, mark);
        mark.refresh_type = upstream.refresh_type;
        // A full refresh contains what an incremental one would.
        if !suffices(Some(before), of_mark(p, mark)) {
            mark.covered = None;
        }
    }
    for owed in s.owed.iter_mut().flat_map(|owed| &mut owed.occasions) {
        let mut types = s.marks.iter().filter(|m| m.live() && m.key == owed.key).map(|m| m.refresh_type);
        // Two upstreams may mean the same runs, but for `excludeStateNames`: then what was owed knows its type, and nobody else does.
        if let Some(first) = types.next()
            && types.all(|other| other == first)
        {
            owed.refresh_type = first;
        }
    }
}
