//! Tableau's errors (`tableau-rest.md` 2.5): one constructor for each that the simulator gives.

use super::element::Element;

/// An error answer. Its code begins with the three digits of its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) summary: &'static str,
    pub(super) detail: String,
    /// Seconds for a `Retry-After` header.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    fn new(code: &'static str, summary: &'static str, detail: impl Into<String>) -> Self {
        Self { code, summary, detail: detail.into(), retry_after: None }
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        self.code[..3].parse().unwrap_or(500)
    }

    /// `<error code><summary/><detail/></error>`
    pub(super) fn element(&self) -> Element {
        Element::new("error")
            .attribute("code", self.code)
            .child(Element::text("summary", self.summary))
            .child(Element::text("detail", &self.detail))
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("400000", "Bad Request", detail)
    }

    pub(super) fn bad_page_number(given: &str) -> Self {
        Self::new("400006", "Invalid page number", format!("The page number '{given}' is invalid."))
    }

    pub(super) fn bad_page_size(given: &str) -> Self {
        Self::new("400007", "Invalid page size", format!("The page size '{given}' is invalid."))
    }

    /// The job is unknown, or was cleaned up.
    pub(super) fn job(id: &str) -> Self {
        Self::new("400031", "Bad Request", format!("There was a problem querying job '{id}'."))
    }

    pub(super) fn no_credentials() -> Self {
        Self::new("401000", "Unauthorized Access", "No authentication credentials were provided.")
    }

    pub(super) fn sign_in() -> Self {
        Self::new("401001", "Signin Error", "Error signing in to Tableau Server")
    }

    /// A JWT is not taken. The number and word of Tableau's help are in the text alone.
    pub(super) fn jwt(number: u32, word: &str) -> Self {
        Self::new("401001", "Signin Error", format!("Error signing in to Tableau Server ({number}: {word})"))
    }

    pub(super) fn invalid_credentials() -> Self {
        Self::new("401002", "Unauthorized Access", "Invalid authentication credentials were provided.")
    }

    pub(super) fn forbidden(detail: &str) -> Self {
        Self::new("403004", "Forbidden", detail)
    }

    pub(super) fn no_data_management() -> Self {
        Self::new("403157", "Forbidden", "The feature is disabled: it needs Data Management.")
    }

    /// Data has a warning already. (The code is not settled.)
    pub(super) fn warning_exists() -> Self {
        Self::new("409120", "Resource Conflict", "The content has a data quality warning already.")
    }

    /// (The code is not settled.)
    pub(super) fn warning(id: &str) -> Self {
        Self::not_found("404120", format!("Data quality warning '{id}' could not be found."))
    }

    pub(super) fn site(id: &str) -> Self {
        Self::not_found("404000", format!("Site '{id}' could not be found."))
    }

    pub(super) fn version(given: &str) -> Self {
        Self::not_found("404001", format!("API version '{given}' is not supported by this server."))
    }

    pub(super) fn user(id: &str) -> Self {
        Self::not_found("404002", format!("User '{id}' could not be found."))
    }

    pub(super) fn path(path: &str) -> Self {
        Self::not_found("404003", format!("Unknown resource '{path}' specified in URI."))
    }

    pub(super) fn datasource(id: &str) -> Self {
        Self::not_found("404004", format!("Datasource '{id}' could not be found."))
    }

    pub(super) fn workbook(id: &str) -> Self {
        Self::not_found("404006", format!("Workbook '{id}' could not be found."))
    }

    fn not_found(code: &'static str, detail: String) -> Self {
        Self::new(code, "Resource Not Found", detail)
    }

    pub(super) fn method(method: &str) -> Self {
        Self::new(
            "405000",
            "Invalid Request Method",
            format!("The HTTP method '{method}' is not allowed for this resource."),
        )
    }

    pub(super) fn no_extract(name: &str) -> Self {
        let detail = format!("Extract operation 'refresh' is not allowed for '{name}': it has no extract.");
        Self::new("409090", "Bad Request", detail)
    }

    pub(super) fn already_queued(name: &str) -> Self {
        let detail = format!("Job for '{name}' is already queued. Not queuing a duplicate.");
        Self::new("409093", "Resource Conflict", detail)
    }

    /// A schedule that this edition cannot run.
    pub(super) fn schedule(detail: impl Into<String>) -> Self {
        Self::new("409004", "Bad Request", detail)
    }

    /// A schedule of this name is there. (The code is not settled.)
    pub(super) fn schedule_exists(name: &str) -> Self {
        Self::new("409021", "Resource Conflict", format!("A schedule named '{name}' already exists."))
    }

    pub(super) fn task(id: &str) -> Self {
        Self::not_found("404018", format!("Task '{id}' could not be found."))
    }

    pub(super) fn internal(detail: &str) -> Self {
        Self::new("500000", "Internal Server Error", detail)
    }

    /// As the documentation has it for a schedule that is not there.
    pub(super) fn no_such_schedule() -> Self {
        Self::new("404021", "Resource Not Found", "The schedule could not be found.")
    }

    /// `seconds` until the next refresh may be started; the header is optional on real sites.
    pub(super) fn too_many_refreshes(seconds: u64, header: bool) -> Self {
        let minutes = seconds.div_ceil(60);
        let detail = format!(
            "Too many requests for 'api.rest.refresh_extracts'. Please retry after {minutes} minutes."
        );
        Self { retry_after: header.then_some(seconds), ..Self::new("429000", "Too Many Requests", detail) }
    }
}
