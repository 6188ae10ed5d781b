//! Through which connection an id in status was learnt, which is what it is worth: whoever runs a server of their own can have it answer with the ids
//! of others, and name another connection then. So each id has its connection beside it, and nothing is asked or done with it through another.

use super::Desired;
use super::observed::{Observed, SiteView};
use crate::api::{Attempt, ExtractRefreshStatus, HistoryEntry, ScheduleIntent, ScheduleStatus};
use crate::model::ids::ConnectionName;
use std::collections::BTreeSet;

/// What stands beside an id of which nobody knows.
const UNKNOWN: &str = "";

/// Where an id in status is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// The connection that the spec names.
    Here,
    /// Another one.
    At(ConnectionName),
    /// Nobody knows: an earlier build wrote it, and one of the cluster is named now.
    Unknown,
}

impl Learnt {
    /// Reads what stands beside an id. Absent, an earlier build wrote it: it is taken for one of the present connection, unless that has the
    /// rights of others.
    pub fn of(site: Option<&str>, named: &ConnectionName) -> Self {
        match site.map(ConnectionName::parse) {
            Some(_) if site == Some(UNKNOWN) => Self::Unknown,
            Some(site) if site == *named => Self::Here,
            Some(site) => Self::At(site),
            None if named.is_cluster() => Self::Unknown,
            None => Self::Here,
        }
    }

    /// The connection, if it is known.
    pub fn connection<'a>(&'a self, named: &'a ConnectionName) -> Option<&'a ConnectionName> {
        match self {
            Self::Here => Some(named),
            Self::At(site) => Some(site),
            Self::Unknown => None,
        }
    }
}

impl ScheduleStatus {
    /// Where its task is from.
    pub fn learnt(&self, named: &ConnectionName) -> Learnt {
        Learnt::of(self.site.as_deref(), named)
    }
}

impl ScheduleIntent {
    /// Through which connection it is made.
    pub fn learnt(&self, named: &ConnectionName) -> Learnt {
        Learnt::of(self.site.as_deref(), named)
    }
}

impl Attempt {
    /// Through which connection it is made.
    pub fn learnt(&self, named: &ConnectionName) -> Learnt {
        Learnt::of(self.site.as_deref(), named)
    }
}

impl HistoryEntry {
    /// Through which connection it was.
    pub fn learnt(&self, named: &ConnectionName) -> Learnt {
        Learnt::of(self.site.as_deref(), named)
    }
}

/// The connections other than the one that the spec names, through which something in status was learnt that is still to be looked after.
pub fn formers(s: &ExtractRefreshStatus, named: &ConnectionName) -> BTreeSet<ConnectionName> {
    let tasks = s.schedules.iter().filter(|entry| entry.task_id.is_some()).map(|entry| entry.learnt(named));
    let intent = s.schedule_intent.iter().map(|intent| intent.learnt(named));
    let attempt = s.attempt.iter().map(|attempt| attempt.learnt(named));
    let at = |learnt| match learnt {
        Learnt::At(site) => Some(site),
        Learnt::Here | Learnt::Unknown => None,
    };
    tasks.chain(intent).chain(attempt).filter_map(at).collect()
}

/// An earlier build did not write it down. Where the spec is still the one that this status speaks of, it was this connection. Where not, that is
/// written down too, since the status speaks of the new spec from then on.
pub(super) fn stamp(d: &Desired, s: &mut ExtractRefreshStatus) {
    let known = s.observed_generation == d.generation || !d.site.is_cluster();
    let here = if known { d.site.to_string() } else { UNKNOWN.to_owned() };
    if let Some(attempt) = &mut s.attempt {
        attempt.site.get_or_insert_with(|| here.clone());
    }
    if let Some(intent) = &mut s.schedule_intent {
        intent.site.get_or_insert_with(|| here.clone());
    }
    for entry in s.schedules.iter_mut().filter(|entry| entry.task_id.is_some()) {
        entry.site.get_or_insert_with(|| here.clone());
    }
}

/// How the connection stands through which something was learnt.
pub(super) fn view<'a>(d: &Desired, o: &'a Observed, learnt: &Learnt) -> &'a SiteView {
    const GONE: &SiteView = &SiteView::Missing;
    match learnt.connection(&d.site) {
        Some(site) if *site == d.site => &o.site,
        Some(site) => o.formers.get(site).unwrap_or(GONE),
        None => GONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_worth_something_only_where_it_was_learnt() {
        let (own, other, shared) = (
            ConnectionName::namespaced("prod"),
            ConnectionName::namespaced("evil"),
            ConnectionName::cluster("prod"),
        );
        for (beside, named, learnt) in [
            (Some("prod"), &own, Learnt::Here),
            (Some("cluster:prod"), &shared, Learnt::Here),
            (Some(""), &own, Learnt::Unknown),
            // Of the same name, and yet not the same.
            (Some("prod"), &shared, Learnt::At(own.clone())),
            (Some("cluster:prod"), &own, Learnt::At(shared.clone())),
            (Some("evil"), &shared, Learnt::At(other.clone())),
            // An earlier build named none.
            (None, &own, Learnt::Here),
            (None, &shared, Learnt::Unknown),
        ] {
            assert_eq!(Learnt::of(beside, named), learnt, "{beside:?} {named}");
        }
        assert_eq!(Learnt::Unknown.connection(&shared), None);
    }
}
