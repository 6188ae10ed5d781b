//! A resource that is renamed in Git: the one that goes hands its schedules to the one that comes, so that nothing is deleted in Tableau.
//!
//! The one that comes first writes the ids of the tasks into its own status; only then does the other let go of them. A crash in between leaves
//! both with the ids, and the next pass of either goes on from there.

use super::super::Pass;
use super::super::observed::TargetView;
use super::TasksView;
use super::plan::{Act, MOST, unheld};
use crate::api::{ExtractRefreshStatus, ManagementPolicy, ScheduleStatus};
use crate::model::ids::{ConnectionName, ObjectName, TaskId};
use crate::model::tenancy::Access;
use std::collections::BTreeSet;

/// What a resource that is being deleted would take with it, as the one sees it that waits for its target.
#[derive(Clone, Debug, PartialEq)]
pub struct Estate {
    /// The one that goes.
    pub from: ObjectName,
    /// Its entries that have a task in Tableau.
    pub schedules: Vec<ScheduleStatus>,
}

/// The resource that waits for the target of one that is being deleted, and declares schedules itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// The one that comes.
    pub name: ObjectName,
    /// The tasks that its status names: its own.
    pub holds: BTreeSet<TaskId>,
}

/// Takes over what the one before has made. Those that this one does not declare go as everything that has left the spec.
pub(super) fn inherit(p: &mut Pass, s: &mut ExtractRefreshStatus, idle: bool) -> Act {
    let Some(estate) = &p.o.schedules.estate else { return Act::Nothing };
    let declared = &p.d.schedules;
    let waits: Vec<ScheduleStatus> = estate
        .schedules
        .iter()
        .filter(|entry| {
            entry.task_id.is_some() && !s.schedules.iter().any(|own| own.task_id == entry.task_id)
        })
        .filter(|entry| is_proven(p, estate, entry))
        .map(|entry| ScheduleStatus { site: Some(p.d.site.to_string()), left_at: None, ..entry.clone() })
        .collect();
    let keeps = !declared.all.is_empty() && declared.management == ManagementPolicy::Manage;
    if waits.is_empty() || !keeps || p.o.access != Access::Allowed {
        return Act::Nothing;
    }
    if unheld(p) {
        return if idle { Act::Hold } else { Act::Nothing };
    }
    let from = estate.from.name.clone();
    let mut taken = false;
    for entry in waits {
        let room = s.schedules.len() < MOST;
        match s.schedules.iter_mut().find(|own| own.name == entry.name) {
            Some(own) if own.task_id.is_none() => *own = entry,
            None if room => s.schedules.push(entry),
            // Both have one of that name, or there is no room: that of the other goes with it.
            Some(_) | None => continue,
        }
        taken = true;
    }
    if taken {
        p.tell(
            "SchedulesHandedOver",
            format!("The schedules of ExtractRefresh `{from}`, which is being deleted, are taken over as they are in Tableau"),
        );
    }
    Act::Nothing
}

/// Whether it is a task of our target as far as we can tell ourselves: the other one learnt it through the very connection of our namespace that we
/// use, or ours shows it on the target. The word of another namespace's resource is not enough.
fn is_proven(p: &Pass, estate: &Estate, entry: &ScheduleStatus) -> bool {
    let ours = p.d.site.seen_from(&p.d.name.namespace);
    let theirs =
        entry.site.as_deref().map(|site| ConnectionName::parse(site).seen_from(&estate.from.namespace));
    // Where the connection has the rights of others, what a status says is not enough either.
    if theirs == Some(ours) && !p.d.site.is_cluster() {
        return true;
    }
    let (TasksView::Read { tasks, .. }, TargetView::Found(found) | TargetView::NoExtract(found)) =
        (&p.o.schedules.tasks, &p.o.target)
    else {
        return false;
    };
    let same = |id: &str| entry.task_id.as_deref() == Some(id);
    tasks.iter().any(|task| same(task.id.as_str()) && task.content.as_ref() == Some(&found.luid))
}
