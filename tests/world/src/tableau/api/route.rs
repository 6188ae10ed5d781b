//! Which operation a method and a path ask for.

use super::super::config::ScopeHabits;
use super::super::refusal::Refusal;
use super::super::site::ContentKind;

/// The oldest API version that is answered: clients start their discovery with it.
const OLDEST: (u32, u32) = (2, 4);

/// A scope that no token has.
const NOBODY: &str = "none";

/// An operation of the REST API with the ids from its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    ServerInfo,
    SignIn,
    SignOut,
    QuerySchedules,
    QueryUser(&'a str),
    QueryProjects,
    QueryContents(ContentKind),
    QueryContent(ContentKind, &'a str),
    QueryViews(&'a str),
    Refresh(ContentKind, &'a str),
    QueryJobs,
    QueryJob(&'a str),
    CancelJob(&'a str),
    QueryTasks,
    QueryTask(&'a str),
    CreateTask,
    UpdateTask(&'a str),
    DeleteTask(&'a str),
    RunTask(&'a str),
    QuerySchedule(&'a str),
    CreateSchedule,
    UpdateSchedule(&'a str),
    DeleteSchedule(&'a str),
    QueryScheduleExtracts(&'a str),
    AddToSchedule(&'a str, ContentKind),
    QueryWarnings(&'a str),
    AddWarning(&'a str),
    DeleteWarnings(&'a str),
    DeleteWarning(&'a str),
}

impl Operation<'_> {
    /// The scope that a JWT must have carried at the sign-in (`tableau-rest.md` 1.7); `None`: none is needed.
    pub(super) fn scope(self, habits: ScopeHabits) -> Option<&'static str> {
        Some(match self {
            Self::ServerInfo | Self::SignIn | Self::SignOut => return None,
            Self::QueryUser(_) => "tableau:users:read",
            Self::QueryProjects | Self::QueryContents(_) | Self::QueryContent(..) | Self::QueryViews(_) => {
                "tableau:content:read"
            }
            Self::Refresh(..) | Self::RunTask(_) => "tableau:tasks:run",
            Self::QueryJobs | Self::QueryJob(_) => "tableau:jobs:read",
            Self::CancelJob(_) => "tableau:jobs:update",
            Self::QueryTasks | Self::QueryTask(_) => "tableau:tasks:read",
            Self::CreateTask => "tableau:tasks:create",
            Self::UpdateTask(_) => habits.update_task,
            Self::DeleteTask(_) => "tableau:tasks:delete",
            Self::QuerySchedules
            | Self::QuerySchedule(_)
            | Self::QueryScheduleExtracts(_)
            | Self::CreateSchedule
            | Self::UpdateSchedule(_)
            | Self::DeleteSchedule(_)
            | Self::AddToSchedule(..) => habits.schedules.unwrap_or(NOBODY),
            Self::QueryWarnings(_)
            | Self::AddWarning(_)
            | Self::DeleteWarnings(_)
            | Self::DeleteWarning(_) => habits.warnings.unwrap_or(NOBODY),
        })
    }

    /// The parameters that its query may have.
    pub(super) fn parameters(self) -> &'static [&'static str] {
        const LIST: &[&str] = &["pageNumber", "pageSize", "filter", "sort", "fields"];
        match self {
            Self::QueryProjects
            | Self::QueryContents(_)
            | Self::QueryJobs
            | Self::QuerySchedules
            | Self::QueryScheduleExtracts(_) => LIST,
            // Tasks come all at once, as do warnings (3).
            Self::QueryTasks
            | Self::QueryWarnings(_)
            | Self::QueryViews(_)
            | Self::ServerInfo
            | Self::SignIn
            | Self::SignOut
            | Self::QueryUser(_)
            | Self::QueryContent(..)
            | Self::Refresh(..)
            | Self::QueryJob(_)
            | Self::CancelJob(_)
            | Self::QueryTask(_)
            | Self::CreateTask
            | Self::UpdateTask(_)
            | Self::DeleteTask(_)
            | Self::RunTask(_)
            | Self::QuerySchedule(_)
            | Self::CreateSchedule
            | Self::UpdateSchedule(_)
            | Self::DeleteSchedule(_)
            | Self::AddToSchedule(..)
            | Self::AddWarning(_)
            | Self::DeleteWarnings(_)
            | Self::DeleteWarning(_) => &[],
        }
    }

    /// Whether a body belongs to it, which is then looked at element by element.
    pub(super) fn has_body(self) -> bool {
        match self {
            Self::SignIn
            | Self::Refresh(..)
            | Self::CreateTask
            | Self::UpdateTask(_)
            | Self::RunTask(_)
            | Self::CreateSchedule
            | Self::UpdateSchedule(_)
            | Self::AddToSchedule(..)
            | Self::AddWarning(_) => true,
            // The cancelling of a job is a PUT without a body (7.4).
            Self::CancelJob(_)
            | Self::SignOut
            | Self::ServerInfo
            | Self::QueryUser(_)
            | Self::QueryProjects
            | Self::QueryContents(_)
            | Self::QueryContent(..)
            | Self::QueryViews(_)
            | Self::QueryJobs
            | Self::QueryJob(_)
            | Self::QueryTasks
            | Self::QueryTask(_)
            | Self::DeleteTask(_)
            | Self::QuerySchedules
            | Self::QuerySchedule(_)
            | Self::DeleteSchedule(_)
            | Self::QueryScheduleExtracts(_)
            | Self::QueryWarnings(_)
            | Self::DeleteWarnings(_)
            | Self::DeleteWarning(_) => false,
        }
    }

    /// Its name in the truth log.
    pub(super) fn name(self) -> &'static str {
        use ContentKind::{Datasource, Workbook};
        match self {
            Self::ServerInfo => "serverInfo",
            Self::SignIn => "signIn",
            Self::SignOut => "signOut",
            Self::QuerySchedules => "querySchedules",
            Self::QueryUser(_) => "queryUser",
            Self::QueryProjects => "queryProjects",
            Self::QueryContents(Datasource) => "queryDatasources",
            Self::QueryContents(Workbook) => "queryWorkbooks",
            Self::QueryContent(Datasource, _) => "queryDatasource",
            Self::QueryContent(Workbook, _) => "queryWorkbook",
            Self::QueryViews(_) => "queryWorkbookViews",
            Self::Refresh(Datasource, _) => "refreshDatasource",
            Self::Refresh(Workbook, _) => "refreshWorkbook",
            Self::QueryJobs => "queryJobs",
            Self::QueryJob(_) => "queryJob",
            Self::CancelJob(_) => "cancelJob",
            Self::QueryTasks => "queryExtractRefreshTasks",
            Self::QueryTask(_) => "queryExtractRefreshTask",
            Self::CreateTask => "createExtractRefreshTask",
            Self::UpdateTask(_) => "updateExtractRefreshTask",
            Self::DeleteTask(_) => "deleteExtractRefreshTask",
            Self::RunTask(_) => "runExtractRefreshTask",
            Self::QuerySchedule(_) => "querySchedule",
            Self::CreateSchedule => "createSchedule",
            Self::UpdateSchedule(_) => "updateSchedule",
            Self::DeleteSchedule(_) => "deleteSchedule",
            Self::QueryScheduleExtracts(_) => "queryScheduleExtracts",
            Self::AddToSchedule(_, Datasource) => "addDatasourceToSchedule",
            Self::AddToSchedule(_, Workbook) => "addWorkbookToSchedule",
            Self::QueryWarnings(_) => "queryDataQualityWarnings",
            Self::AddWarning(_) => "addDataQualityWarning",
            Self::DeleteWarnings(_) => "deleteDataQualityWarnings",
            Self::DeleteWarning(_) => "deleteDataQualityWarning",
        }
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) version: (u32, u32),
    pub(super) site: Option<&'a str>,
    pub(super) operation: Operation<'a>,
}

/// `newest` is the newest version that is answered.
pub(super) fn route<'a>(method: &str, path: &'a str, newest: &str) -> Result<Target<'a>, Refusal> {
    let resource = path.strip_prefix("/api").unwrap_or(path);
    let unknown = || Refusal::path(resource);
    let mut segments =
        resource.strip_prefix('/').filter(|_| path.starts_with("/api/")).ok_or_else(unknown)?.split('/');
    let given = segments.next().unwrap_or_default();
    let known = |version: &(u32, u32)| (OLDEST..=parse(newest).unwrap_or(OLDEST)).contains(version);
    let version = parse(given).filter(known).ok_or_else(|| Refusal::version(given))?;
    let segments: Vec<&str> = segments.collect();
    let (site, rest) = match segments.as_slice() {
        ["sites", site, rest @ ..] => (Some(*site), rest),
        all => (None, all),
    };
    let by_method = |known: &[(&str, Operation<'a>)]| {
        let found = known.iter().find(|(known, _)| *known == method);
        found.map(|(_, operation)| *operation).ok_or_else(|| Refusal::method(method))
    };
    let operation = match (site, rest) {
        (None, ["serverinfo" | "serverInfo"]) => by_method(&[("GET", Operation::ServerInfo)]),
        (None, ["auth", "signin"]) => by_method(&[("POST", Operation::SignIn)]),
        (None, ["auth", "signout"]) => by_method(&[("POST", Operation::SignOut)]),
        (None, ["schedules"]) => {
            by_method(&[("GET", Operation::QuerySchedules), ("POST", Operation::CreateSchedule)])
        }
        (None, ["schedules", id]) => by_method(&[
            ("GET", Operation::QuerySchedule(id)),
            ("PUT", Operation::UpdateSchedule(id)),
            ("DELETE", Operation::DeleteSchedule(id)),
        ]),
        (Some(_), ["schedules", id, "extracts"]) => {
            by_method(&[("GET", Operation::QueryScheduleExtracts(id))])
        }
        (Some(_), ["schedules", id, "datasources"]) => {
            by_method(&[("PUT", Operation::AddToSchedule(id, ContentKind::Datasource))])
        }
        (Some(_), ["schedules", id, "workbooks"]) => {
            by_method(&[("PUT", Operation::AddToSchedule(id, ContentKind::Workbook))])
        }
        (Some(_), ["users", id]) => by_method(&[("GET", Operation::QueryUser(id))]),
        (Some(_), ["projects"]) => by_method(&[("GET", Operation::QueryProjects)]),
        (Some(_), ["jobs"]) => by_method(&[("GET", Operation::QueryJobs)]),
        (Some(_), ["jobs", id]) => {
            by_method(&[("GET", Operation::QueryJob(id)), ("PUT", Operation::CancelJob(id))])
        }
        (Some(_), ["tasks", "extractRefreshes"]) => {
            by_method(&[("GET", Operation::QueryTasks), ("POST", Operation::CreateTask)])
        }
        (Some(_), ["tasks", "extractRefreshes", id]) => by_method(&[
            ("GET", Operation::QueryTask(id)),
            ("POST", Operation::UpdateTask(id)),
            ("DELETE", Operation::DeleteTask(id)),
        ]),
        (Some(_), ["tasks", "extractRefreshes", id, "runNow"]) => {
            by_method(&[("POST", Operation::RunTask(id))])
        }
        // Of other kinds of content there is none here.
        (Some(_), ["dataQualityWarnings", "datasource", id]) => by_method(&[
            ("GET", Operation::QueryWarnings(id)),
            ("POST", Operation::AddWarning(id)),
            ("DELETE", Operation::DeleteWarnings(id)),
        ]),
        (Some(_), ["dataQualityWarnings", id]) => by_method(&[("DELETE", Operation::DeleteWarning(id))]),
        (Some(_), [kind @ ("datasources" | "workbooks"), rest @ ..]) => {
            let kind = if *kind == "datasources" { ContentKind::Datasource } else { ContentKind::Workbook };
            match rest {
                [] => by_method(&[("GET", Operation::QueryContents(kind))]),
                [id] => by_method(&[("GET", Operation::QueryContent(kind, id))]),
                [id, "views"] if kind == ContentKind::Workbook => {
                    by_method(&[("GET", Operation::QueryViews(id))])
                }
                [id, "refresh"] => by_method(&[("POST", Operation::Refresh(kind, id))]),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    };
    Ok(Target { version, site, operation: operation? })
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: &str, path: &str) -> &'static str {
        route(method, path, "3.27").map_or_else(|refusal| refusal.code, |target| target.operation.name())
    }

    #[test]
    fn each_path() {
        let table = [
            ("GET", "/api/2.4/serverInfo", "serverInfo"),
            ("GET", "/api/3.27/serverinfo", "serverInfo"),
            ("GET", "/api/3.28/serverinfo", "404001"),
            ("GET", "/api/2.3/serverinfo", "404001"),
            ("GET", "/api/x/serverinfo", "404001"),
            ("GET", "/serverinfo", "404003"),
            ("POST", "/api/3.27/auth/signin", "signIn"),
            ("GET", "/api/3.27/auth/signin", "405000"),
            ("GET", "/api/3.27/sites/s/datasources", "queryDatasources"),
            ("POST", "/api/3.27/sites/s/workbooks/w/refresh", "refreshWorkbook"),
            ("PUT", "/api/3.27/sites/s/jobs/j", "cancelJob"),
            ("DELETE", "/api/3.27/sites/s/jobs/j", "405000"),
            ("POST", "/api/3.27/sites/s/tasks/extractRefreshes", "createExtractRefreshTask"),
            ("POST", "/api/3.27/sites/s/tasks/extractRefreshes/t", "updateExtractRefreshTask"),
            ("PUT", "/api/3.27/sites/s/tasks/extractRefreshes/t", "405000"),
            ("PUT", "/api/3.27/sites/s/schedules/x/workbooks", "addWorkbookToSchedule"),
            ("POST", "/api/3.27/schedules", "createSchedule"),
            ("POST", "/api/3.27/sites/s/dataQualityWarnings/datasource/d", "addDataQualityWarning"),
            ("POST", "/api/3.27/sites/s/dataQualityWarnings/workbook/w", "404003"),
            ("DELETE", "/api/3.27/sites/s/dataQualityWarnings/w", "deleteDataQualityWarning"),
            ("GET", "/api/3.27/sites/s/flows", "404003"),
            ("GET", "/api/3.27/datasources", "404003"),
        ];
        for (method, path, expected) in table {
            assert_eq!(code(method, path), expected, "{method} {path}");
        }
    }
}
