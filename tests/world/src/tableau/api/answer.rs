//! How an answer looks on the wire.

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_TYPE, DATE, RETRY_AFTER, SERVER};
use axum::http::response::Builder;
use tokio::time::Instant;

use super::super::clock::Clock;
use super::super::element::{json, xml};
use super::super::refusal::Refusal;
use super::super::shared::Shared;
use super::Reply;

const NAME: &str = "feedwater-tableau-simulator";

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Xml,
    Json,
}

impl Format {
    /// XML unless `Accept` names JSON, and names it before any XML.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        match (accept.find("json"), accept.find("xml")) {
            (Some(json), Some(xml)) if json < xml => Self::Json,
            (Some(_), None) => Self::Json,
            _ => Self::Xml,
        }
    }
}

/// The answer to a request that reached Tableau.
pub(super) fn render(result: Result<Reply, Refusal>, format: Format, shared: &Shared) -> Response<Body> {
    let (status, elements, retry_after) = match result {
        Ok(reply) => (reply.status, reply.elements, None),
        Err(refusal) => (refusal.status(), vec![refusal.element()], refusal.retry_after),
    };
    let mut response = begin(status, &shared.clock);
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    if elements.is_empty() {
        return end(response, String::new());
    }
    match format {
        Format::Xml => {
            let response = response.header(CONTENT_TYPE, "application/xml;charset=UTF-8");
            end(response, xml(&elements, &shared.config.rest_api_version))
        }
        Format::Json => end(response.header(CONTENT_TYPE, "application/json;charset=UTF-8"), json(&elements)),
    }
}

/// What a gateway answers in front of a Tableau that is not there.
pub(super) fn gateway_page(status: u16, clock: &Clock) -> Response<Body> {
    let page = "<!DOCTYPE html><html><body><h1>Not available</h1></body></html>\n";
    end(begin(status, clock).header(CONTENT_TYPE, "text/html"), page.to_owned())
}

/// The front page says what this is.
pub(super) fn home(clock: &Clock) -> Response<Body> {
    let text = "This is Feedwater's Tableau simulator, not Tableau.\n\
                It answers a part of the Tableau REST API under /api/ and keeps a log of what it was asked.\n";
    end(begin(200, clock).header(CONTENT_TYPE, "text/plain;charset=UTF-8"), text.to_owned())
}

fn begin(status: u16, clock: &Clock) -> Builder {
    Response::builder().status(status).header(SERVER, NAME).header(DATE, clock.header_date(Instant::now()))
}

/// An empty answer with 500 when the parts do not fit, which is so only for an [`Availability::Refuse`] with a number
/// that is no HTTP status.
///
/// [`Availability::Refuse`]: super::super::Availability::Refuse
fn end(response: Builder, body: String) -> Response<Body> {
    response.body(Body::from(body)).unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_is_the_default() {
        for accept in [None, Some("*/*"), Some("application/xml"), Some("text/xml, application/json")] {
            assert_eq!(Format::wanted(accept), Format::Xml, "{accept:?}");
        }
        for accept in ["application/json", "Application/JSON;q=1", "application/json, text/xml"] {
            assert_eq!(Format::wanted(Some(accept)), Format::Json, "{accept}");
        }
    }
}
