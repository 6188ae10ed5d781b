//! The client of Tableau's REST API.

use super::auth::{Credential, Leads, Session, Sessions, TOKEN_HEADER};
use super::lists::{PAGE, list_url, name_filters, unique};
use super::wire::{self, ContentRow, JobBody, JobListRow, ProjectRow};
use super::{
    Content, DataQualityWarning, IdentityError, Job, JobAnswer, JobRow, NewTask, Project, Questions,
    RefreshError, ServerSchedule, Site, Tableau, TableauError, Task,
};
use crate::api::{RefreshType, TargetKind};
use crate::http::{Answer, Call, Failure, Http, Method, Unreachable};
use crate::model::ids::{JobId, Luid, ServerScheduleId, TaskId, WarningId, is_id};
use crate::model::time::ClockReading;
use crate::model::timing::Timing;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt;
use std::time::Duration;
use url::Url;

/// How often a list that shrinks while it is read is begun again: a row that moved to a page already read would be missed.
const LIST_ATTEMPTS: usize = 3;

/// One site under one credential. Signs in by itself; repeats a call only after a 401, once.
pub struct TableauClient {
    http: Http,
    sessions: Sessions,
}

impl TableauClient {
    /// A client of the site `site_content_url` (`""`: the default site) of the server at `http`'s base, such as
    /// `https://tableau.example.com`.
    pub fn new(
        http: Http,
        site_content_url: impl Into<String>,
        credential: Credential,
        leads: Leads,
    ) -> Self {
        Self { http, sessions: Sessions::new(credential, site_content_url.into(), leads) }
    }

    /// A call in a session, with one more sign-in after a 401. `make` gets `/api/{version}/sites/{site}`, which it may extend.
    pub(super) async fn call(
        &self,
        make: impl Fn(Url) -> Option<Call> + Send + Sync,
    ) -> Result<Answer, TableauError> {
        let session = self.sessions.get(&self.http).await?;
        let answer = self.http.send(self.request(&session, &make)?).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let session = self.sessions.renew(&self.http, &session).await?;
        let answer = self.http.send(self.request(&session, &make)?).await?;
        if answer.status == 401 { Err(self.sessions.refused_again()) } else { Ok(answer) }
    }

    /// The same within a deadline, signing in and the second call after a 401 included: the caller's lease is measured by it. `make` gets what is left
    /// of it.
    pub(super) async fn call_within(
        &self,
        deadline: Duration,
        make: impl Fn(Url, Duration) -> Option<Call> + Send + Sync,
    ) -> Result<Answer, TableauError> {
        let left = self.left_of(deadline);
        let session = in_time(left(), self.sessions.get(&self.http)).await?;
        let first = some(left())?;
        let call = |url| make(url, first);
        let answer = self.http.send(self.request(&session, call)?).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // A 401 did nothing, so that what is not sent now was not done.
        let session = in_time(left(), self.sessions.renew(&self.http, &session)).await?;
        let second = some(left())?;
        let call = |url| make(url, second);
        let answer = self.http.send(self.request(&session, call)?).await?;
        if answer.status == 401 { Err(self.sessions.refused_again()) } else { Ok(answer) }
    }

    /// What is left of a deadline that begins now.
    pub(super) fn left_of(&self, deadline: Duration) -> impl Fn() -> Duration + Send + Sync + '_ {
        let began = self.http.clock().moment();
        move || deadline.saturating_sub(self.http.clock().moment().since(began))
    }

    fn request(&self, session: &Session, make: impl Fn(Url) -> Option<Call>) -> Result<Call, TableauError> {
        let site = self.http.url(&["api", &session.version, "sites", session.site.as_str()]);
        let call = site.and_then(make).ok_or_else(|| TableauError::Rejected("bad id".into()))?;
        Ok(call.header(TOKEN_HEADER, session.token.clone()))
    }

    /// A list whole. `filter` may be empty.
    async fn list<T: DeserializeOwned + Send>(
        &self,
        operation: &'static str,
        path: &'static str,
        names: (&'static str, &'static str),
        filter: &str,
    ) -> Result<Vec<T>, TableauError> {
        self.list_at(operation, &[path], names, filter, Some).await
    }

    /// The same, of what lies elsewhere than in the site.
    pub(super) async fn list_at<T: DeserializeOwned + Send>(
        &self,
        operation: &'static str,
        path: &[&str],
        (outer, inner): (&'static str, &'static str),
        filter: &str,
        place: impl Fn(Url) -> Option<Url> + Send + Sync,
    ) -> Result<Vec<T>, TableauError> {
        for _ in 0..LIST_ATTEMPTS {
            let (mut rows, mut read, mut total) = (Vec::new(), 0, 0);
            for number in 1u64.. {
                let answer = self
                    .call(|site| {
                        Some(Call::new(
                            operation,
                            Method::GET,
                            list_url(extend(place(site)?, path)?, filter, number),
                        ))
                    })
                    .await?;
                success(&answer)?;
                let page = wire::page(&answer.body, outer, inner).ok_or(TableauError::WrongServer)?;
                let (size, now) = page.pagination.unwrap_or((PAGE, 0));
                if now < total {
                    break;
                }
                total = now;
                read += size.max(1);
                let empty = page.rows.is_empty();
                rows.extend(page.rows);
                if read >= total || empty {
                    return Ok(rows);
                }
            }
        }
        Err(TableauError::Ambiguous)
    }

    async fn contents_by(&self, kind: TargetKind, filter: &str) -> Result<Vec<ContentRow>, TableauError> {
        let (plural, one) = words(kind);
        self.list("list_contents", plural, (plural, one), filter).await
    }
}

/// The Debug shows no credential and no session.
impl fmt::Debug for TableauClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableauClient").field("http", &self.http).finish_non_exhaustive()
    }
}

#[async_trait]
impl Tableau for TableauClient {
    async fn site(&self) -> Result<Site, TableauError> {
        let session = self.sessions.get(&self.http).await?;
        Ok(Site { luid: session.site.clone(), rest_api_version: session.version.to_string() })
    }

    fn clock(&self) -> Option<ClockReading> {
        self.http.reading()
    }

    async fn sign_out(&self) {
        if let Some(session) = self.sessions.take().await
            && let Some(url) = self.http.url(&["api", &session.version, "auth", "signout"])
        {
            let call = Call::new("sign_out", Method::POST, url).empty();
            // Best effort: the session dies of age otherwise.
            let _ = self.http.send(call.header(TOKEN_HEADER, session.token.clone())).await;
        }
    }

    async fn projects(&self) -> Result<Vec<Project>, TableauError> {
        let rows: Vec<ProjectRow> =
            self.list("list_projects", "projects", ("projects", "project"), "").await?;
        Ok(unique(rows.into_iter().map(Project::from), |p| p.id.clone()))
    }

    async fn contents(&self, kind: TargetKind, names: &[String]) -> Result<Vec<Content>, TableauError> {
        let mut rows = Vec::new();
        for filter in name_filters(names) {
            rows.extend(self.contents_by(kind, &filter).await?);
        }
        // Whatever the server takes for equal: only the very name counts.
        let wanted = rows.into_iter().filter(|row| names.contains(&row.name));
        Ok(unique(wanted.map(|row| row.into_model(kind)), |c| c.luid.clone()))
    }

    async fn all_contents(&self, kind: TargetKind) -> Result<Vec<Content>, TableauError> {
        let rows = self.contents_by(kind, "").await?.into_iter();
        Ok(unique(rows.map(|row| row.into_model(kind)), |c| c.luid.clone()))
    }

    async fn content(&self, kind: TargetKind, luid: &Luid) -> Result<Option<Content>, TableauError> {
        let (plural, one) = words(kind);
        let answer = self
            .call(|site| Some(Call::new("get_content", Method::GET, extend(site, &[plural, luid.as_str()])?)))
            .await?;
        if is_gone(&answer) {
            return Ok(None);
        }
        success(&answer)?;
        let mut body: serde_json::Value =
            serde_json::from_slice(&answer.body).map_err(|_| TableauError::WrongServer)?;
        let row = body.get_mut(one).map(serde_json::Value::take).ok_or(TableauError::WrongServer)?;
        let row: ContentRow = serde_json::from_value(row).map_err(|_| TableauError::WrongServer)?;
        Ok(Some(row.into_model(kind)))
    }

    async fn jobs(
        &self,
        created_after: Timestamp,
        questions: &Questions,
    ) -> Result<Vec<JobRow>, TableauError> {
        // Whole seconds, rounded down: Tableau's times have no fraction.
        let filter = format!("createdAt:gte:{}", created_after.strftime("%Y-%m-%dT%H:%M:%SZ"));
        let names = ("backgroundJobs", "backgroundJob");
        let counted = |site| {
            questions.ask();
            Some(site)
        };
        let rows: Vec<JobListRow> = self.list_at("list_jobs", &["jobs"], names, &filter, counted).await?;
        Ok(unique(rows.into_iter().map(JobRow::from), |job| job.id.clone()))
    }

    async fn job(&self, id: &JobId) -> Result<JobAnswer, TableauError> {
        let asked = self.http.clock().moment();
        let answer = self
            .call(|site| Some(Call::new("get_job", Method::GET, extend(site, &["jobs", id.as_str()])?)))
            .await?;
        if is_gone(&answer) || code_of(&answer) == "400031" {
            return Ok(JobAnswer { asked, job: None });
        }
        success(&answer)?;
        let body: JobBody = serde_json::from_slice(&answer.body).map_err(|_| TableauError::WrongServer)?;
        Ok(JobAnswer { asked, job: Some(Job::from(body.job)) })
    }

    async fn tasks(&self) -> Result<Vec<Task>, TableauError> {
        Ok(unique(self.list_tasks().await?.into_iter(), |task| task.id.clone()))
    }

    async fn task(&self, id: &TaskId) -> Result<Option<Task>, TableauError> {
        self.task_by_id(id).await
    }

    async fn create_task(
        &self,
        new: &NewTask,
        timing: &Timing,
        deadline: Duration,
    ) -> Result<TaskId, TableauError> {
        self.new_task(new, timing, deadline).await
    }

    async fn update_task(&self, id: &TaskId, timing: &Timing) -> Result<(), TableauError> {
        self.change_task(id, timing).await
    }

    async fn delete_task(&self, id: &TaskId) -> Result<(), TableauError> {
        self.remove_task(id).await
    }

    async fn server_schedules(&self) -> Result<Vec<ServerSchedule>, TableauError> {
        Ok(unique(self.list_schedules().await?.into_iter(), |schedule| schedule.id.clone()))
    }

    async fn server_schedule(&self, id: &ServerScheduleId) -> Result<Option<Timing>, TableauError> {
        self.schedule_by_id(id).await
    }

    async fn create_server_schedule(
        &self,
        name: &str,
        timing: &Timing,
    ) -> Result<ServerScheduleId, TableauError> {
        self.new_schedule(name, timing).await
    }

    async fn attach(
        &self,
        new: &NewTask,
        schedule: &ServerScheduleId,
        deadline: Duration,
    ) -> Result<(), TableauError> {
        self.add_to_schedule(new, schedule, deadline).await
    }

    async fn warnings(&self, datasource: &Luid) -> Result<Vec<DataQualityWarning>, TableauError> {
        self.list_warnings(datasource).await
    }

    async fn set_warning(
        &self,
        datasource: &Luid,
        message: &str,
        deadline: Duration,
    ) -> Result<Option<WarningId>, TableauError> {
        self.new_warning(datasource, message, deadline).await
    }

    async fn delete_warning(&self, id: &WarningId) -> Result<(), TableauError> {
        self.remove_warning(id).await
    }

    async fn refresh(
        &self,
        kind: TargetKind,
        luid: &Luid,
        refresh_type: RefreshType,
        deadline: Duration,
    ) -> Result<JobId, RefreshError> {
        let body = match refresh_type {
            RefreshType::Full => json!({}),
            RefreshType::Incremental => json!({"extractRefresh": {"incremental": "true"}}),
        };
        let make = |deadline: Duration| {
            let body = body.clone();
            move |site| {
                let url = extend(site, &[words(kind).0, luid.as_str(), "refresh"])?;
                let mut call = Call::new("refresh", Method::POST, url).json(body.clone());
                call.deadline = Some(deadline);
                Some(call)
            }
        };
        // Signing in is within the deadline too: the caller's lease is measured by it.
        let left = self.left_of(deadline);
        let session = in_time(left(), self.sessions.get(&self.http)).await?;
        let call = self.request(&session, make(some(left())?))?;
        let answer = self.http.send(call).await.map_err(sent)?;
        if answer.status != 401 {
            return started(&answer);
        }
        // A 401 started nothing.
        let session = in_time(left(), self.sessions.renew(&self.http, &session)).await?;
        let call = self.request(&session, make(some(left())?))?;
        let answer = self.http.send(call).await.map_err(sent)?;
        if answer.status == 401 { Err(RefreshError::SignInRefused) } else { started(&answer) }
    }

    async fn cancel(&self, id: &JobId) -> Result<(), TableauError> {
        let answer = self
            .call(|site| {
                Some(Call::new("cancel_job", Method::PUT, extend(site, &["jobs", id.as_str()])?).empty())
            })
            .await?;
        success(&answer)
    }
}

/// What has to be done before a call, in what is left of its deadline: when it comes too late the call is not sent.
async fn in_time<T>(
    left: Duration,
    work: impl Future<Output = Result<T, TableauError>>,
) -> Result<T, TableauError> {
    tokio::time::timeout(left, work).await.unwrap_or(Err(LATE))
}

/// What is left of a deadline, if anything is.
fn some(left: Duration) -> Result<Duration, TableauError> {
    if left.is_zero() { Err(LATE) } else { Ok(left) }
}

const LATE: TableauError = TableauError::Unreachable(Unreachable::Connect);

/// What a refresh POST that was answered has done (reference 5.3).
fn started(answer: &Answer) -> Result<JobId, RefreshError> {
    let code = code_of(answer);
    Err(match (answer.status.as_u16(), code.as_str()) {
        (200..=299, _) => {
            let job = serde_json::from_slice::<JobBody>(&answer.body);
            let id = job.ok().map(|body| body.job.id).filter(|id| is_id(id));
            return id.map(Into::into).ok_or(RefreshError::Ambiguous);
        }
        (500.., _) => RefreshError::Ambiguous,
        (429, _) => RefreshError::Throttled { retry_after: answer.retry_after },
        (_, "409093") => RefreshError::AlreadyQueued,
        (_, "409090") => RefreshError::NoExtract,
        (403, _) => RefreshError::Forbidden(code),
        (404, _) => RefreshError::NotFound(code),
        _ => RefreshError::Rejected(code),
    })
}

fn sent(failure: Failure) -> RefreshError {
    match failure {
        Failure::NotSent(why) => RefreshError::NotSent(why),
        Failure::Unanswered | Failure::TimedOut => RefreshError::Ambiguous,
    }
}

/// What went wrong before the refresh was sent: so nothing was started, and nothing is ambiguous.
impl From<TableauError> for RefreshError {
    fn from(error: TableauError) -> Self {
        match error {
            TableauError::Throttled { retry_after } => Self::Throttled { retry_after },
            TableauError::Unreachable(why) | TableauError::Identity(IdentityError::Unreachable(why)) => {
                Self::NotSent(why)
            }
            TableauError::Ambiguous
            | TableauError::NotLeading
            | TableauError::Identity(IdentityError::Unanswered | IdentityError::Throttled { .. }) => {
                Self::NotSent(Unreachable::Connect)
            }
            TableauError::SignInRefused
            | TableauError::SessionContested
            | TableauError::MissingScope
            | TableauError::Identity(
                IdentityError::NotGranted
                | IdentityError::NoAssertion
                | IdentityError::Refused
                | IdentityError::MissingScope
                | IdentityError::NoToken
                | IdentityError::Claim(_)
                | IdentityError::WrongServer,
            ) => Self::SignInRefused,
            TableauError::Forbidden(code) | TableauError::NotFound(code) | TableauError::Rejected(code) => {
                Self::Rejected(code)
            }
            TableauError::WrongServer => Self::Rejected("not Tableau".into()),
            TableauError::UnsupportedVersion { version, .. } => Self::Rejected(version),
        }
    }
}

impl From<Failure> for TableauError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) => Self::Unreachable(why),
            Failure::Unanswered | Failure::TimedOut => Self::Ambiguous,
        }
    }
}

/// 2xx, or what the status means.
pub(super) fn success(answer: &Answer) -> Result<(), TableauError> {
    let code = code_of(answer);
    Err(match answer.status.as_u16() {
        200..=299 => return Ok(()),
        401 => TableauError::SessionContested,
        403 => TableauError::Forbidden(code),
        404 => TableauError::NotFound(code),
        429 => TableauError::Throttled { retry_after: answer.retry_after },
        500.. => TableauError::Ambiguous,
        _ => TableauError::Rejected(code),
    })
}

/// Tableau's code, else the status.
fn code_of(answer: &Answer) -> String {
    if answer.status.is_success() {
        return String::new();
    }
    wire::error_code(&answer.body).unwrap_or_else(|| answer.status.as_u16().to_string())
}

/// Whether Tableau itself says that the very thing is not there: not its site (404000), its API version (404001) or path (404003), and no
/// proxy's 404.
pub(super) fn is_gone(answer: &Answer) -> bool {
    let code = code_of(answer);
    answer.status == 404 && code.len() == 6 && !matches!(code.as_str(), "404000" | "404001" | "404003")
}

/// How a kind is called in paths, lists and answers.
pub(super) fn words(kind: TargetKind) -> (&'static str, &'static str) {
    match kind {
        TargetKind::Datasource => ("datasources", "datasource"),
        TargetKind::Workbook => ("workbooks", "workbook"),
    }
}

pub(super) fn extend(mut site: Url, path: &[&str]) -> Option<Url> {
    if path.iter().any(|s| matches!(*s, "" | "." | "..")) {
        return None;
    }
    site.path_segments_mut().ok()?.extend(path);
    Some(site)
}
