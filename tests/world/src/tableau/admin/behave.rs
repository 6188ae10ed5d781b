//! How jobs and answers behave: scripts, holds, availability.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::{Json, State as Extract};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::super::config::{Availability, Outcome, Script, Step};
use super::super::hold::Hold;
use super::{Admin, Answer, Failure, OfContent, done};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewScript {
    luid: String,
    queued: Option<StepText>,
    running: Option<StepText>,
    outcome: Option<OutcomeName>,
    notes: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StepText {
    Seconds(f64),
    Word(StepWord),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum StepWord {
    UntilReleased,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum OutcomeName {
    Success,
    Failed,
    Cancelled,
    Vanish,
}

pub(super) async fn script(Extract(admin): Extract<Admin>, Json(new): Json<NewScript>) -> Answer {
    let standard = admin.shared.config.default_script.clone();
    let script = Script {
        queued: new.queued.as_ref().map_or(Ok(standard.queued), step)?,
        running: new.running.as_ref().map_or(Ok(standard.running), step)?,
        outcome: match new.outcome {
            None => standard.outcome,
            Some(OutcomeName::Success) => Outcome::Success,
            Some(OutcomeName::Failed) => Outcome::Failed { notes: new.notes.unwrap_or_default() },
            Some(OutcomeName::Cancelled) => Outcome::Cancelled,
            Some(OutcomeName::Vanish) => Outcome::Vanish,
        },
    };
    admin.shared.change(|state, _| state.add_script(&new.luid, script))?;
    Ok(done())
}

fn step(text: &StepText) -> Result<Step, Failure> {
    match text {
        StepText::Word(StepWord::UntilReleased) => Ok(Step::UntilReleased),
        StepText::Seconds(seconds) => seconds_of(*seconds).map(Step::For),
    }
}

pub(super) fn seconds_of(seconds: f64) -> Result<Duration, Failure> {
    let bad = |_| Failure(StatusCode::BAD_REQUEST, format!("{seconds} is no number of seconds"));
    Duration::try_from_secs_f64(seconds).map_err(bad)
}

impl Admin {
    fn held(&self, id: &str) -> Result<Arc<Hold>, Failure> {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.get(id).cloned().ok_or_else(|| Failure(StatusCode::NOT_FOUND, format!("no hold '{id}'")))
    }
}

pub(super) async fn hold(Extract(admin): Extract<Admin>, Json(of): Json<OfContent>) -> Answer {
    let hold = admin.shared.change(|state, _| state.hold_answer(&of.luid))?;
    let id = uuid::Uuid::new_v4().to_string();
    admin.holds.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Arc::new(hold));
    Ok(Json(json!({ "hold": id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfHold {
    hold: String,
    within: Option<f64>,
}

pub(super) async fn taken(Extract(admin): Extract<Admin>, Json(of): Json<OfHold>) -> Answer {
    let hold = admin.held(&of.hold)?;
    let within = seconds_of(of.within.unwrap_or(30.0))?;
    match tokio::time::timeout(within, hold.taken()).await {
        Ok(()) => Ok(done()),
        Err(_) => Err(Failure(StatusCode::REQUEST_TIMEOUT, "no refresh was taken".to_owned())),
    }
}

pub(super) async fn release_hold(Extract(admin): Extract<Admin>, Json(of): Json<OfHold>) -> Answer {
    admin.held(&of.hold)?.release();
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAvailability {
    state: AvailabilityName,
    status: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum AvailabilityName {
    Up,
    Reset,
    Refuse,
    Hang,
}

pub(super) async fn availability(Extract(admin): Extract<Admin>, Json(new): Json<NewAvailability>) -> Answer {
    let availability = match new.state {
        AvailabilityName::Up => Availability::Up,
        AvailabilityName::Reset => Availability::Reset,
        AvailabilityName::Refuse => Availability::Refuse(new.status.unwrap_or(503)),
        AvailabilityName::Hang => Availability::Hang,
    };
    admin.shared.availability.send_replace(availability);
    Ok(done())
}
