//! What the index keeps of an `ExtractRefresh` beside its keys: read from its status.

use super::index::{Facts, Key, Reads, UnderWay, created_at};
use crate::api::{Attempt, ExtractRefresh, FINALIZER, ForeignSchedules, TargetKind};
use crate::model::connection::Need;
use crate::model::extract::{self, Learnt, Pasts};
use crate::model::ids::{ConnectionName, JobId, Luid, ObjectName, TaskId};
use kube::ResourceExt;
use std::collections::BTreeSet;

fn scheduled(refresh: &ExtractRefresh) -> bool {
    let spec = &refresh.spec;
    let status = refresh.status.as_ref();
    spec.schedules.as_ref().is_some_and(|all| !all.is_empty())
        || spec.foreign_schedules == Some(ForeignSchedules::Remove)
        || status.is_some_and(|s| !s.schedules.is_empty() || s.schedule_intent.is_some())
}

fn found_by_name(refresh: &ExtractRefresh) -> Option<(TargetKind, Luid)> {
    let (target, found) = (&refresh.spec.target, refresh.status.as_ref()?.target.as_ref()?);
    let same = target.name.is_some() && target.name == found.name && target.kind == found.kind;
    same.then(|| (found.kind, Luid::from(found.luid.as_str())))
}

/// What is known of an `ExtractRefresh`.
pub(super) fn refresh_facts(
    refresh: &ExtractRefresh,
    needs: Vec<(Key, Need)>,
    upstreams: Vec<Reads>,
) -> Facts {
    let status = refresh.status.as_ref();
    let attempt = status.and_then(|s| s.attempt.as_ref());
    let namespace = refresh.namespace().unwrap_or_default().into();
    let named = ConnectionName::from(&refresh.spec.site_ref);
    let at = |learnt: &Learnt| learnt.connection(&named).map(|site| site.seen_from(&namespace));
    let under_way =
        |a: &Attempt| UnderWay { at: at(&a.learnt(&named)), content: Luid::from(a.luid.as_str()) };
    let followed = attempt.and_then(|a| Some((a, at(&a.learnt(&named))?)));
    let jobs = followed
        .iter()
        .flat_map(|(a, at)| {
            a.job_id.iter().chain(&a.waits_for_job).map(move |job| (at.clone(), JobId::from(job.as_str())))
        })
        .collect();
    // The list is read all the while only for an attempt that has no job yet; what is merely owed asks for it before it starts.
    let fence = followed.filter(|(a, _)| a.job_id.is_none()).map(|(a, at)| (at, a.fence.0));
    let tasks: Vec<(ObjectName, TaskId)> = status
        .iter()
        .flat_map(|s| s.schedules.iter())
        .filter_map(|entry| Some((at(&entry.learnt(&named))?, entry.task_id.as_deref()?.into())))
        .collect();
    let held = refresh.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let intent = status.and_then(|s| s.schedule_intent.as_ref());
    let deleting = refresh.metadata.deletion_timestamp.is_some();
    let has_some = tasks.iter().map(|(at, _)| at.clone()).chain(intent.and_then(|i| at(&i.learnt(&named))));
    let parting = if deleting && held { has_some.collect() } else { BTreeSet::new() };
    Facts {
        created_at: created_at(refresh),
        deleting,
        parting,
        tasks,
        active: status.is_some_and(extract::reads_jobs),
        made: false,
        attempting: attempt.map(under_way),
        schedules: scheduled(refresh),
        jobs,
        jobs_since: fence,
        upstreams,
        pasts: Pasts::of(refresh),
        asks_until: extract::asks_for_runs(refresh),
        found: found_by_name(refresh).map(|(kind, luid)| (named.seen_from(&namespace), kind, luid)),
        needs,
    }
}
