//! Whether a task or a job that a status names may be touched through a connection of the cluster. Tableau has no marks, so that an id in a status is
//! its only proof; where the connection has the rights of others, what it refreshes has to be allowed as well, by where Tableau says that it lies.

use super::context::Context;
use super::site::SiteSession;
use super::site_contents::paths;
use super::site_tasks::is_of_one;
use super::tenants;
use crate::api::{Attempt, TargetKind};
use crate::model::extract::ProjectPath;
use crate::model::ids::{ConnectionName, JobId, Luid, ObjectName, TaskId};
use crate::model::tenancy::Access;
use crate::model::time::sub;
use crate::tableau::{Questions, TableauError};
use std::time::Duration;

/// Whether something may be touched, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It may, or there is nothing to touch.
    Given,
    /// It may not.
    Denied,
    /// What is allowed is not known yet.
    Unknown,
}

/// Whether this resource may touch a task.
///
/// # Errors
/// Tableau does not tell.
pub async fn of_task(
    ctx: &Context,
    me: &ObjectName,
    (at, session): (&ConnectionName, &SiteSession),
    task: &TaskId,
) -> Result<Right, TableauError> {
    if !at.is_cluster() {
        return Ok(Right::Given);
    }
    match session.client.task(task).await {
        Ok(Some(task)) => of_content(ctx, me, (at, session), task.content.as_ref(), None).await,
        Ok(None) => Ok(Right::Given),
        Err(error) => Err(error),
    }
}

/// Whether this resource may touch a job, which its status calls that of this attempt: one that runs may not name its content (reference 7.1), and is
/// taken for one of the attempt's if the list of jobs calls it so.
///
/// # Errors
/// Tableau does not tell.
pub async fn of_job(
    ctx: &Context,
    me: &ObjectName,
    (at, session): (&ConnectionName, &SiteSession),
    job: &JobId,
    attempt: &Attempt,
) -> Result<Right, TableauError> {
    if !at.is_cluster() {
        return Ok(Right::Given);
    }
    let known = session.snapshot().details.get(job).and_then(|answer| answer.job.clone());
    let known = match known {
        Some(known) => Some(known),
        None => session.client.job(job).await?.job,
    };
    let Some(known) = known else { return Ok(Right::Given) };
    if known.content.is_some() {
        return of_content(ctx, me, (at, session), known.content.as_ref(), None).await;
    }
    // Rarely so: the list is not kept for it.
    let since = sub(attempt.fence.0, CREATED_BEFORE);
    let rows = session.client.jobs(since, &Questions::default()).await?;
    match rows.into_iter().find(|row| row.id == *job).and_then(|row| row.title) {
        Some(title) => {
            let luid = Luid::from(attempt.luid.as_str());
            of_content(ctx, me, (at, session), Some(&luid), Some(&title)).await
        }
        None => Ok(Right::Denied),
    }
}

/// How long before its fence a job that was adopted may have been created.
const CREATED_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// Of a content that the account does not see nobody knows where it lies. `called`: it has to be called so.
async fn of_content(
    ctx: &Context,
    me: &ObjectName,
    (at, session): (&ConnectionName, &SiteSession),
    content: Option<&Luid>,
    called: Option<&str>,
) -> Result<Right, TableauError> {
    let Some(luid) = content else { return Ok(Right::Denied) };
    let mut told = true;
    for kind in [TargetKind::Datasource, TargetKind::Workbook] {
        let found = match session.client.content(kind, luid).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(TableauError::Ambiguous | TableauError::WrongServer) => {
                told = false;
                continue;
            }
            Err(error) if is_of_one(&error) => continue,
            Err(error) => return Err(error),
        };
        if called.is_some_and(|name| name != found.name) {
            return Ok(Right::Denied);
        }
        let paths = paths(&session.client.projects().await?);
        let path: Option<&ProjectPath> = found.project.as_ref().and_then(|project| paths.get(project));
        return Ok(match tenants::content(ctx, &me.namespace, at, kind, (path, &found.name)) {
            Access::Allowed => Right::Given,
            Access::Denied(_) => Right::Denied,
            Access::Unknown => Right::Unknown,
        });
    }
    Ok(if told { Right::Denied } else { Right::Unknown })
}
