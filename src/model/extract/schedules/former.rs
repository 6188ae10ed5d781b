//! The spec names another connection than the one through which the tasks in status were made. Where the list of the new one shows such a task on the
//! target, it is the same site, and the task goes on through it. What is elsewhere is taken away by `deletionPolicy`, through the connection
//! through which it was learnt and no other; what that cannot do until the cleanup deadline is left behind, and said to be.

use super::super::Pass;
use super::super::learnt::{self, Learnt};
use super::super::observed::{IntentView, SiteView};
use super::plan::Round;
use super::{Failure, Write, told};
use crate::api::{DeletionPolicy, ExtractRefreshStatus, ManagementPolicy, ScheduleStatus, Time};
use crate::model::ids::{ConnectionName, TaskId};
use crate::model::time::add;
use jiff::Timestamp;

/// What becomes of a task that was learnt through another connection.
enum Departs {
    /// The new connection shows it on the target: it is learnt through that one from now on.
    Stays,
    /// It was just made, and lists lag.
    Settles(Timestamp),
    /// It is written down first that it goes.
    Announced,
    /// It goes.
    Goes(Write),
    /// The former connection cannot be used for now; until then it is waited for.
    Waits(Timestamp),
    /// It is left behind, and why.
    Left(String),
}

impl Round {
    /// Tasks that were learnt through another connection.
    pub(super) fn turn(&mut self, p: &mut Pass, s: &mut ExtractRefreshStatus) {
        for n in 0..s.schedules.len() {
            let entry = &s.schedules[n];
            let Some(task) = entry.task_id.as_deref().map(TaskId::from) else { continue };
            let learnt = entry.learnt(&p.d.site);
            if learnt == Learnt::Here {
                // An earlier build did not write it down.
                s.schedules[n].site = Some(p.d.site.to_string());
                continue;
            }
            let departs = self.departs(p, s, &s.schedules[n], &learnt, &task);
            let entry = &mut s.schedules[n];
            match departs {
                Departs::Stays => (entry.site, entry.left_at) = (Some(p.d.site.to_string()), None),
                Departs::Settles(until) if until > p.now => self.soon(until),
                Departs::Settles(_) => self.look = true,
                Departs::Announced => entry.left_at = Some(Time(p.now)),
                Departs::Goes(write) => {
                    let what = format!("delete schedule `{}` of the site that was named before", entry.name);
                    self.leaving(p, &learnt);
                    self.write(write, what);
                }
                Departs::Waits(until) => {
                    self.leaving(p, &learnt);
                    self.soon(until);
                }
                Departs::Left(why) => {
                    forget(entry);
                    let name = entry.name.clone();
                    orphaned(p, &name, &why);
                }
            }
        }
    }

    fn departs(
        &self,
        p: &Pass,
        s: &ExtractRefreshStatus,
        entry: &ScheduleStatus,
        learnt: &Learnt,
        task: &TaskId,
    ) -> Departs {
        if self.task(Some(task.as_str())).is_some_and(|task| task.content.as_ref() == Some(&self.target)) {
            return Departs::Stays;
        }
        if let Some(settled) = entry.made_at.map(|Time(made)| add(made, p.o.settle))
            && self.asked_at(p) < settled
        {
            return Departs::Settles(settled);
        }
        if p.d.schedules.management == ManagementPolicy::Observe || p.d.suspend {
            return Departs::Waits(Timestamp::MAX);
        }
        let Learnt::At(site) = learnt else {
            return Departs::Left("it is not known through which connection it was made".to_owned());
        };
        if p.d.schedules.deletion == DeletionPolicy::Orphan {
            return Departs::Left("spec.deletionPolicy is Orphan".to_owned());
        }
        let Some(Time(since)) = entry.left_at else { return Departs::Announced };
        let deadline = add(since, p.o.cleanup_deadline);
        let write = Write::Delete { site: site.clone(), task: task.clone() };
        match learnt::view(p.d, p.o, learnt) {
            SiteView::Missing => Departs::Left(gone(site)),
            // Just started: the connection has not been tried yet.
            SiteView::NotReady { reason } if *reason == "Progressing" => {
                Departs::Waits(add(p.now, super::parting::LOOK))
            }
            SiteView::NotReady { .. } if p.now >= deadline => Departs::Left(unusable(site)),
            SiteView::NotReady { .. } => Departs::Waits(deadline),
            SiteView::Ready { .. } => {
                let memory = p.o.schedules.memory.as_ref();
                let about = write.about(s);
                let tried = memory.and_then(|memory| memory.of(&about, p.generation));
                if tried.is_some_and(|tried| tried.failure == Some(Failure::NotAllowed)) {
                    return Departs::Left(format!("{} does not allow what it refreshes", site.site()));
                }
                let waits = memory.and_then(|m| m.waits(&about, p.generation, p.now)).is_some();
                if waits && p.now >= deadline { Departs::Left(refuses(site)) } else { Departs::Goes(write) }
            }
        }
    }

    fn leaving(&mut self, p: &Pass, learnt: &Learnt) {
        let Learnt::At(site) = learnt else { return };
        if p.d.schedules.management == ManagementPolicy::Manage && !p.d.suspend {
            self.told.ready = self.told.ready.take().or_else(|| Some(told::departing(site)));
        }
    }

    fn soon(&mut self, until: Timestamp) {
        let until = Some(until).filter(|until| *until < Timestamp::MAX);
        self.again = [self.again, until].into_iter().flatten().min();
    }
}

/// The connection that the spec names tells nothing, so that nobody knows what stays. Whoever deletes a former one is not kept waiting for that longer
/// than the cleanup deadline, which counts from the deletion, or from the turn if that came later. Returns when that is.
pub(super) fn unheard(p: &mut Pass, s: &mut ExtractRefreshStatus) -> Option<Timestamp> {
    if p.d.schedules.management == ManagementPolicy::Observe || p.d.suspend {
        return None;
    }
    let mut again = None;
    let mut waits = |until: Timestamp| again = again.into_iter().chain([until]).min();
    for entry in s.schedules.iter_mut().filter(|entry| entry.task_id.is_some()) {
        let Learnt::At(site) = entry.learnt(&p.d.site) else { continue };
        let Time(since) = *entry.left_at.get_or_insert(Time(p.now));
        let Some(deleted) = p.o.leaving.get(&site) else { continue };
        let deadline = add(since.max(*deleted), p.o.cleanup_deadline);
        if p.now < deadline {
            waits(deadline);
            continue;
        }
        forget(entry);
        let name = entry.name.clone();
        orphaned(p, &name, &unheard_of(&site, &p.d.site));
    }
    let intent = s.schedule_intent.clone();
    if let Some(intent) = intent
        && let Learnt::At(site) = intent.learnt(&p.d.site)
        && p.o.leaving.contains_key(&site)
    {
        match follow(p, &Learnt::At(site)) {
            Followed::Lost(why) => {
                s.schedule_intent = None;
                orphaned(p, &intent.name, &why);
            }
            Followed::NeverSent => s.schedule_intent = None,
            Followed::Later(until) => waits(until),
            Followed::There | Followed::Here => waits(add(p.now, super::parting::LOOK)),
        }
    }
    again
}

fn unheard_of(site: &ConnectionName, named: &ConnectionName) -> String {
    format!("{} is being deleted, and {} does not tell what it has", site.site(), named.site())
}

fn gone(site: &ConnectionName) -> String {
    format!("{} does not exist any more", site.site())
}

fn unusable(site: &ConnectionName) -> String {
    format!("{} cannot be used", site.site())
}

fn refuses(site: &ConnectionName) -> String {
    format!("Tableau refuses to delete it through {}", site.site())
}

/// Tells of a schedule that stays in Tableau.
pub(super) fn orphaned(p: &mut Pass, name: &str, why: &str) {
    p.warn(
        "Orphaned",
        format!("The schedule `{name}` of the site that spec.siteRef named before is left in Tableau, if it is there: {why}"),
    );
}

/// Nothing is known of a task any more.
pub(super) fn forget(entry: &mut ScheduleStatus) {
    (entry.task_id, entry.site, entry.left_at) = (None, None, None);
    (entry.definition, entry.next_run_at, entry.suspended) = (None, None, None);
}

/// Where an intent is looked after.
pub(super) enum Followed {
    /// Through the connection that the spec names.
    Here,
    /// Through that of the intent, which is another.
    There,
    /// The other one cannot be used for now.
    Later(Timestamp),
    /// It was not sent, and will not be.
    NeverSent,
    /// Whether there is a task of it cannot be found out any more, and why.
    Lost(String),
}

/// An intent is looked after through its own connection, and not sent through another.
pub(super) fn follow(p: &Pass, learnt: &Learnt) -> Followed {
    let site = match learnt {
        Learnt::Here => return Followed::Here,
        _ if p.o.schedules.intent == IntentView::InLedger => return Followed::NeverSent,
        Learnt::Unknown => {
            return Followed::Lost("it is not known through which connection it was made".to_owned());
        }
        Learnt::At(site) => site,
    };
    let IntentView::MaybeSent { since } = p.o.schedules.intent else {
        return Followed::Later(add(p.now, p.o.settle));
    };
    let left = since.plus(p.o.cleanup_deadline).since(p.o.moment);
    match learnt::view(p.d, p.o, learnt) {
        SiteView::Missing => Followed::Lost(gone(site)),
        SiteView::NotReady { .. } if left.is_zero() => Followed::Lost(unusable(site)),
        SiteView::NotReady { .. } => Followed::Later(add(p.now, left)),
        SiteView::Ready { .. } if left.is_zero() => {
            Followed::Lost(format!("{} does not list it", site.site()))
        }
        SiteView::Ready { .. } => Followed::There,
    }
}
