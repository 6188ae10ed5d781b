//! How the list of a site's jobs is kept. Pure.
//!
//! It is read whole once. A job that has ended does not change any more, so that a later look goes back only to those that had not, and to what may
//! have been listed late: it costs a page, however far back the list reaches. One that has not ended for a day is looked at by its id as long as
//! it has not, or the list would be read days back again and again for it. So is one that a list leaves out before it was seen to end.

use super::extract::{JOBS_EVERY, JobList};
use super::ids::JobId;
use super::jobs::{Job, JobRow, JobStatus};
use super::time::{ClockReading, Moment, add, sub};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A job may have been queued, or have run, for this long before it matters to something: a list that is asked for reaches back so much farther.
pub const QUEUED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A row may be listed this long after its job was made.
const LISTED_LATE: Duration = Duration::from_secs(3600);
/// The list is read whole this often all the same: a right that is given, and a list that was wrong, show.
const WHOLE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Most jobs that one look asks for by their ids: for more the list is read farther back.
const BY_ID: usize = 20;

/// When the list was read, by Tableau's clock at least, and what it does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLook {
    at: Timestamp,
    /// Whole.
    whole: Timestamp,
    /// The farthest that anybody has asked for since then.
    farthest: Timestamp,
    /// Jobs for which the list is not read back, or that it has left out: when each was read last, if it was since.
    apart: BTreeMap<JobId, Option<Moment>>,
}

/// A look at the list: [`Look::by_id`] is asked for first, then the rows since [`Look::from`], and [`Look::joined`] is what is known after it.
#[derive(Clone, Debug)]
pub struct Look {
    from: Timestamp,
    /// The list then holds all since this.
    since: Timestamp,
    looked: Option<LastLook>,
    /// What was known before, if it still counts.
    known: Vec<JobRow>,
    /// Not ended, and to be asked for by their ids.
    old: Vec<JobRow>,
    /// Not ended, and to be found by the list.
    open: Vec<JobRow>,
    /// Of `old`: what Tableau did not answer for.
    unanswered: BTreeSet<JobId>,
}

impl Look {
    /// What has to be read for the list to hold all since `wanted`. `others`: the farthest that others want of it, who then are read for as well; none:
    /// only for whom it is, since a longer list could not be read a moment ago.
    pub fn new(
        list: &JobList,
        before: Option<&LastLook>,
        wanted: Timestamp,
        others: Option<Timestamp>,
        clock: Option<ClockReading>,
        now: Moment,
    ) -> Self {
        let rows = match list {
            JobList::Read { rows, .. } => rows.iter().cloned().collect(),
            JobList::Unread | JobList::NotAllowed => Vec::new(),
        };
        let (mut unended, ended): (Vec<JobRow>, Vec<JobRow>) = rows.into_iter().partition(is_open);
        unended.sort_by_key(|row| row.created_at);
        let partly = partly(list, before, wanted, clock, now);
        // All who ask read one list: if each read it for himself alone, each would take it from the others.
        let asked = others.map_or(wanted, |others| others.min(wanted));
        let farthest = before.map_or(asked, |before| before.farthest.min(asked));
        let wanted = if others.is_some() { farthest } else { wanted };
        let (mut from, since, known) = match partly {
            Some((before, since)) => (sub(before.at, LISTED_LATE).max(since), since, ended),
            None => (wanted, wanted, Vec::new()),
        };
        // Whoever was made lately is found by the list for nothing.
        let lately = before.map_or(from, |before| sub(before.at, QUEUED_FOR));
        let mut apart = before.map(|before| before.apart.clone()).unwrap_or_default();
        let (mut old, mut open) = (Vec::new(), Vec::new());
        for row in unended {
            let stands_apart = apart.get(&row.id).copied();
            let asked_lately = stands_apart.flatten().is_some_and(|at| now.since(at) < JOBS_EVERY);
            match row.created_at.filter(|_| stands_apart.is_none()) {
                Some(created) if created >= from => open.push(row),
                Some(created) if partly.is_some() && created >= lately => {
                    from = created;
                    open.push(row);
                }
                _ if asked_lately => open.push(row),
                _ if old.len() < BY_ID => {
                    apart.insert(row.id.clone(), Some(now));
                    old.push(row);
                }
                _ => {
                    apart.insert(row.id.clone(), Some(now));
                    from = row.created_at.map_or(from, |created| created.min(from));
                    open.push(row);
                }
            }
        }
        let looked = clock.map(|clock| clock.lower(now)).map(|at| match partly {
            Some((before, _)) => LastLook { at, whole: before.whole, farthest, apart },
            None => LastLook { at, whole: at, farthest: asked, apart },
        });
        Self { from, since, looked, known, old, open, unanswered: BTreeSet::new() }
    }

    /// Jobs to be asked for by their ids.
    pub fn by_id(&self) -> Vec<JobId> {
        self.old.iter().map(|row| row.id.clone()).collect()
    }

    /// What one of them was found to be; `None`: Tableau does not know it any more.
    pub fn answered(&mut self, id: &JobId, job: Option<&Job>) {
        let Some(index) = self.old.iter().position(|row| row.id == *id) else { return };
        match job {
            Some(job) => {
                let row = &mut self.old[index];
                row.status = job.status;
                row.started_at = job.started_at.or(row.started_at);
                row.ended_at = job.completed_at;
            }
            None => drop(self.old.remove(index)),
        }
    }

    /// One of them could not be read: the list is read as far back as it is old.
    pub fn unanswered(&mut self, id: &JobId) {
        let row = self.old.iter().find(|row| row.id == *id);
        self.from = row.and_then(|row| row.created_at).map_or(self.from, |created| created.min(self.from));
        self.unanswered.insert(id.clone());
    }

    /// Rows since then are to be listed.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// What is known after it was `asked` and `answered`, by the rows that were listed; and when that was.
    pub fn joined(self, new: Vec<JobRow>, asked: Moment, answered: Moment) -> (JobList, Option<LastLook>) {
        let Self { from, since, mut looked, known, old, open, unanswered } = self;
        let listed: BTreeSet<JobId> = new.iter().map(|row| row.id.clone()).collect();
        let is_read = |row: &JobRow| row.created_at.is_some_and(|created| created >= from);
        let stands_apart =
            |row: &JobRow| looked.as_ref().is_some_and(|looked| looked.apart.contains_key(&row.id));
        // What has ended and is not listed though it should be is not there any more; nor is what can be found in neither way.
        let known = known.into_iter().filter(|row| !is_read(row) || stands_apart(row));
        let old = old.into_iter().filter(|row| !(is_read(row) && unanswered.contains(&row.id)));
        // One list that leaves out what had not ended says nothing of it: it is read page by page while it changes.
        let kept: Vec<JobRow> =
            known.chain(old).chain(open).filter(|row| !listed.contains(&row.id)).collect();
        if let Some(looked) = &mut looked {
            let lately = sub(looked.at, QUEUED_FOR);
            let is_old = |row: &&JobRow| row.created_at.is_none_or(|created| created < lately);
            let before = std::mem::take(&mut looked.apart);
            let left_out = kept.iter().filter_map(|row| match before.get(&row.id) {
                Some(asked) => Some((row.id.clone(), *asked)),
                None => is_open(row).then(|| (row.id.clone(), None)),
            });
            let old = new.iter().filter(|row| is_open(row)).filter(is_old);
            looked.apart = left_out.chain(old.map(|row| (row.id.clone(), Some(asked)))).collect();
        }
        let rows = kept.into_iter().chain(new).collect();
        (JobList::Read { asked, answered, since, rows }, looked)
    }
}

/// Whether it is enough to read a part again: since when the list is known, and when it was.
fn partly<'a>(
    list: &JobList,
    before: Option<&'a LastLook>,
    wanted: Timestamp,
    clock: Option<ClockReading>,
    now: Moment,
) -> Option<(&'a LastLook, Timestamp)> {
    let JobList::Read { since, .. } = list else { return None };
    let (before, clock) = (before?, clock?.upper(now));
    // A clock that went back says that this is not what was read before.
    let whole = *since > wanted || clock < before.at || clock >= add(before.whole, WHOLE_EVERY);
    (!whole).then_some((before, *since))
}

fn is_open(row: &JobRow) -> bool {
    matches!(row.status, JobStatus::Pending | JobStatus::InProgress)
}

#[cfg(test)]
#[path = "job_looks_tests.rs"]
mod tests;
