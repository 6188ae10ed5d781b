//! Tableau's JSON, made mechanically from its XML (reference 2.4): numbers and booleans may be strings, a list an array, one object, `{}` or
//! absent. Unknown keys are ignored.

use super::{Content, Job, JobRow, JobStatus, Project};
use crate::api::{RefreshType, TargetKind};
use crate::model::failures::{self, Lasting};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a page holds: its rows under `{outer: {inner: [...]}}` and what the server says about all of them.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// `pageSize` and `totalAvailable`; `None`: not paged.
    pub(super) pagination: Option<(u64, u64)>,
}

/// Decodes a page; `None` if it is none, for one because a row is not understood: a row silently left out would look absent.
pub(super) fn page<T: DeserializeOwned>(body: &[u8], outer: &str, inner: &str) -> Option<Page<T>> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let rows = rows_of(body.get_mut(outer)?.take(), inner)?;
    let rows = rows.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().ok()?;
    let pagination = body
        .get("pagination")
        .and_then(|p| Some((number(p.get("pageSize")?)?, number(p.get("totalAvailable")?)?)));
    Some(Page { rows, pagination })
}

/// The rows of `{inner: [...]}`, of `{inner: {…}}`, of `[...]`, of `{}`.
pub(super) fn rows_of(list: Value, inner: &str) -> Option<Vec<Value>> {
    let rows = match list {
        Value::Object(mut list) => list.remove(inner).unwrap_or(Value::Null),
        other => other,
    };
    match rows {
        Value::Null => Some(Vec::new()),
        Value::Array(rows) => Some(rows),
        one @ Value::Object(_) => Some(vec![one]),
        _ => None,
    }
}

/// `error.code`, if it is Tableau's kind of code: six digits. Never `summary` or `detail`, which are localized and name things.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = number(body.get("error")?.get("code")?)?;
    (100_000..=999_999).contains(&code).then(|| code.to_string())
}

pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// `serverInfo.restApiVersion`.
pub(super) fn rest_api_version(body: &[u8]) -> Option<(u32, u32)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let (major, minor) = body.get("serverInfo")?.get("restApiVersion")?.as_str()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The answer of a sign-in; its token is a secret.
#[derive(Deserialize)]
pub(super) struct SignedIn {
    pub(super) credentials: SignedInCredentials,
}

#[derive(Deserialize)]
pub(super) struct SignedInCredentials {
    pub(super) token: String,
    pub(super) site: Id,
}

#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProjectRow {
    id: String,
    name: String,
    #[serde(default)]
    parent_project_id: Option<String>,
}

impl From<ProjectRow> for Project {
    fn from(row: ProjectRow) -> Self {
        Self { id: row.id.into(), name: row.name, parent: row.parent_project_id.map(Into::into) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContentRow {
    id: String,
    pub(super) name: String,
    #[serde(default)]
    project: Option<MaybeId>,
    #[serde(default)]
    has_extracts: Option<Value>,
    #[serde(default)]
    webpage_url: Option<String>,
}

#[derive(Deserialize)]
struct MaybeId {
    id: Option<String>,
}

impl ContentRow {
    pub(super) fn into_model(self, kind: TargetKind) -> Content {
        Content {
            luid: self.id.into(),
            kind,
            name: self.name,
            project: self.project.and_then(|p| p.id).map(Into::into),
            has_extracts: self.has_extracts.and_then(|v| v.as_bool().or_else(|| v.as_str()?.parse().ok())),
            web_url: self.webpage_url,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobListRow {
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    job_type: String,
    #[serde(default)]
    title: Option<String>,
    #[serde(default, deserialize_with = "date")]
    created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "date")]
    started_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "date")]
    ended_at: Option<Timestamp>,
}

impl From<JobListRow> for JobRow {
    fn from(row: JobListRow) -> Self {
        let status = match row.status.to_ascii_lowercase().as_str() {
            "pending" => JobStatus::Pending,
            "inprogress" => JobStatus::InProgress,
            "success" => JobStatus::Success,
            "failed" => JobStatus::Failed,
            "cancelled" => JobStatus::Cancelled,
            // One this build does not know: what the times say, and never success.
            _ if row.ended_at.is_some() => JobStatus::Failed,
            _ if row.started_at.is_some() => JobStatus::InProgress,
            _ => JobStatus::Pending,
        };
        Self {
            id: row.id.into(),
            status,
            refresh_type: refresh_type(&row.job_type),
            title: row.title,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

/// `refresh_extracts`, `RefreshExtracts`, `RefreshExtractsViaBridge`, `increment_extracts`, … (reference 7.3).
fn refresh_type(job_type: &str) -> Option<RefreshType> {
    let plain: String =
        job_type.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let plain = plain.strip_suffix("viabridge").unwrap_or(&plain);
    match plain.strip_suffix('s').unwrap_or(plain) {
        "refreshextract" => Some(RefreshType::Full),
        "incrementextract" | "incrementalextract" => Some(RefreshType::Incremental),
        _ => None,
    }
}

#[derive(Deserialize)]
pub(super) struct JobBody {
    pub(super) job: JobDetail,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobDetail {
    pub(super) id: String,
    #[serde(default)]
    finish_code: Option<Value>,
    #[serde(default, deserialize_with = "date")]
    created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "date")]
    started_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "date")]
    completed_at: Option<Timestamp>,
    #[serde(default)]
    extract_refresh_job: Option<RefreshDetail>,
    #[serde(default)]
    status_notes: Option<Value>,
}

#[derive(Deserialize)]
struct RefreshDetail {
    notes: Option<Value>,
    datasource: Option<MaybeId>,
    workbook: Option<MaybeId>,
}

impl From<JobDetail> for Job {
    fn from(job: JobDetail) -> Self {
        let told = Told::of(&job);
        // `finishCode` can be there before the end; `completedAt` cannot (reference 7.1). Tableau's own client takes a job for failed that has
        // an error among its notes, whatever its code says.
        let status = match (job.completed_at, job.finish_code.as_ref().and_then(number)) {
            (Some(_), Some(0)) if told.error => JobStatus::Failed,
            (Some(_), Some(0)) => JobStatus::Success,
            (Some(_), Some(2)) => JobStatus::Cancelled,
            (Some(_), _) => JobStatus::Failed,
            (None, _) if job.started_at.is_some() => JobStatus::InProgress,
            (None, _) => JobStatus::Pending,
        };
        let content = job.extract_refresh_job.and_then(|r| r.datasource.or(r.workbook)?.id);
        Self {
            id: job.id.into(),
            status,
            content: content.map(Into::into),
            created_at: job.created_at,
            started_at: job.started_at,
            completed_at: job.completed_at,
            failure: told.failure.filter(|_| status == JobStatus::Failed),
            wants_full: told.wants_full && status == JobStatus::Failed,
        }
    }
}

/// What a job's notes come to. Their text stays here.
struct Told {
    /// One of `statusNotes` is an error.
    error: bool,
    failure: Option<Lasting>,
    /// Only a full refresh helps.
    wants_full: bool,
}

impl Told {
    fn of(job: &JobDetail) -> Self {
        let notes =
            job.status_notes.clone().and_then(|notes| rows_of(notes, "statusNote")).unwrap_or_default();
        let of = |note: &Value, field: &str| note.get(field).and_then(Value::as_str).map(str::to_owned);
        let own = job.extract_refresh_job.as_ref().and_then(|refresh| refresh.notes.as_ref()?.as_str());
        let texts: Vec<String> = own
            .map(str::to_owned)
            .into_iter()
            .chain(notes.iter().filter_map(|note| of(note, "text")))
            .collect();
        Self {
            error: notes
                .iter()
                .any(|note| of(note, "type").is_some_and(|t| t.eq_ignore_ascii_case("errorCode"))),
            failure: texts.iter().find_map(|text| Lasting::told_by(text)),
            wants_full: texts.iter().any(|text| failures::wants_full(text)),
        }
    }
}

/// `Z`, `+hh:mm` and `+hhmm`; an empty text is no date.
fn date<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)?.filter(|t| !t.is_empty()) else { return Ok(None) };
    text.parse()
        .or_else(|_| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%z", &text))
        .map(Some)
        .map_err(|_| serde::de::Error::custom("not a date"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_shape_of_a_list_is_read() {
        let rows = |list: &Value| {
            let body = json!({"projects": list}).to_string();
            page::<ProjectRow>(body.as_bytes(), "projects", "project").map(|p| p.rows.len())
        };
        let row = json!({"id": "1", "name": "n"});
        assert_eq!(rows(&json!({})), Some(0));
        assert_eq!(rows(&json!({"project": row})), Some(1));
        assert_eq!(rows(&json!({"project": [row, row]})), Some(2));
        assert_eq!(rows(&json!([row])), Some(1));
        assert_eq!(rows(&json!({"project": [{"id": "1"}]})), None, "a row without a name is not dropped");
        assert!(page::<ProjectRow>(b"{\"other\":{}}", "projects", "project").is_none());
    }

    #[test]
    fn dates_come_with_three_kinds_of_offset() {
        let at = |text: &str| {
            serde_json::from_value::<JobDetail>(json!({"id": "1", "createdAt": text})).unwrap().created_at
        };
        let noon: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for text in ["2026-11-24T12:00:00Z", "2026-11-24T14:00:00+02:00", "2026-11-24T05:00:00-0700"] {
            assert_eq!(at(text), Some(noon), "{text}");
        }
    }

    #[test]
    fn job_types_of_list_detail_and_admin_insights() {
        for (text, expected) in [
            ("refresh_extracts", Some(RefreshType::Full)),
            ("RefreshExtract", Some(RefreshType::Full)),
            ("RefreshExtractsViaBridge", Some(RefreshType::Full)),
            ("increment_extracts", Some(RefreshType::Incremental)),
            ("IncrementExtractsViaBridge", Some(RefreshType::Incremental)),
            ("increment_extracts_via_bridge", Some(RefreshType::Incremental)),
            ("run_flow", None),
            ("", None),
        ] {
            assert_eq!(refresh_type(text), expected, "{text}");
        }
    }

    #[test]
    fn a_job_has_ended_only_with_completed_at() {
        let status = |rest: Value| {
            let mut job = json!({"id": "1"});
            job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            Job::from(serde_json::from_value::<JobDetail>(job).unwrap()).status
        };
        let end = "2026-11-24T12:00:00Z";
        assert_eq!(status(json!({})), JobStatus::Pending);
        assert_eq!(status(json!({"finishCode": "1"})), JobStatus::Pending);
        assert_eq!(status(json!({"startedAt": end, "finishCode": "0"})), JobStatus::InProgress);
        assert_eq!(status(json!({"completedAt": end, "finishCode": "0"})), JobStatus::Success);
        assert_eq!(status(json!({"completedAt": end, "finishCode": 1})), JobStatus::Failed);
        assert_eq!(status(json!({"completedAt": end, "finishCode": "2"})), JobStatus::Cancelled);
        assert_eq!(status(json!({"completedAt": end, "finishCode": "3"})), JobStatus::Failed);
        assert_eq!(status(json!({"completedAt": end})), JobStatus::Failed);
    }
    /// The row "it fails" of docs/refresh-ends.md: tried again, and never given up for good.
    #[test]
    fn words_and_codes_that_nobody_knows_are_a_failure_that_is_tried_again_and_never_a_success() {
        let end = "2026-11-24T12:00:00Z";
        for notes in [
            json!("Fehler bei der Anmeldung für den Benutzer 'etl'."),
            json!("ログインに失敗しました"),
            json!("The extract engine said 0x7F; please perform the usual steps"),
            json!(""),
            json!(["a", "list"]),
            Value::Null,
        ] {
            for code in [json!("1"), json!(3), json!("17"), json!("Failed"), Value::Null] {
                let job = json!({"id": "1", "startedAt": end, "completedAt": end, "finishCode": code,
                    "extractRefreshJob": {"notes": notes}, "statusNotes": {"statusNote": [{"type": "Unheard", "text": notes}]}});
                let job = Job::from(serde_json::from_value::<JobDetail>(job).unwrap());
                let told = (job.status, job.failure, job.wants_full);
                assert_eq!(told, (JobStatus::Failed, None, false), "{notes} {code}");
            }
        }
        let listed = |rest: Value| {
            let mut row = json!({"id": "1", "status": "Abandoned", "jobType": "refresh_extracts"});
            row.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            JobRow::from(serde_json::from_value::<JobListRow>(row).unwrap()).status
        };
        assert_eq!(listed(json!({"startedAt": end, "endedAt": end})), JobStatus::Failed);
        assert_eq!(listed(json!({"startedAt": end})), JobStatus::InProgress);
        assert_eq!(listed(json!({})), JobStatus::Pending);
    }

    #[test]
    fn what_a_failed_job_says_is_understood_where_it_is_known_and_goes_no_further() {
        let of = |rest: Value| {
            let mut job = json!({"id": "1", "completedAt": "2026-11-24T12:00:00Z"});
            job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            let job = Job::from(serde_json::from_value::<JobDetail>(job).unwrap());
            assert!(!format!("{job:?}").contains("hunter2"), "{job:?}");
            (job.status, job.failure)
        };
        let refused = Some(Lasting::SourceCredentials);
        let words = "Login failed for user 'hunter2'.";
        let note = |kind: &str, text: &str| json!({"type": kind, "value": "1", "text": text});
        assert_eq!(
            of(json!({"finishCode": "1", "extractRefreshJob": {"notes": words}})),
            (JobStatus::Failed, refused)
        );
        assert_eq!(
            of(json!({"finishCode": "1", "statusNotes": {"statusNote": [note("errorMessage", words)]}})),
            (JobStatus::Failed, refused)
        );
        assert_eq!(
            of(json!({"finishCode": "1", "extractRefreshJob": {"notes": "no route"}})),
            (JobStatus::Failed, None)
        );
        assert_eq!(
            of(json!({"finishCode": "0", "extractRefreshJob": {"notes": words}})),
            (JobStatus::Success, None)
        );
        assert_eq!(
            of(json!({"finishCode": "2", "extractRefreshJob": {"notes": words}})),
            (JobStatus::Cancelled, None)
        );
        let notes = json!({"notes": "The incremental refresh is not possible: run a full refresh"});
        for (code, wanted) in [("1", true), ("2", false)] {
            let job = json!({"id": "1", "completedAt": "2026-11-24T12:00:00Z", "finishCode": code,
                             "extractRefreshJob": notes});
            assert_eq!(Job::from(serde_json::from_value::<JobDetail>(job).unwrap()).wants_full, wanted);
        }
        // An error among the notes of what is called a success: never believed.
        for notes in [json!({"statusNote": note("ErrorCode", "x")}), json!([note("errorCode", "x")])] {
            assert_eq!(of(json!({"finishCode": "0", "statusNotes": notes})), (JobStatus::Failed, None));
        }
        // A shape that is not known hides nothing else.
        for notes in [json!(7), json!({}), json!({"statusNote": "text"}), json!({"statusNote": ["text"]})] {
            assert_eq!(of(json!({"finishCode": "0", "statusNotes": notes})), (JobStatus::Success, None));
        }
        assert_eq!(
            of(json!({"finishCode": "1", "extractRefreshJob": {"notes": {"a": 1}}})),
            (JobStatus::Failed, None)
        );
    }
}
