//! What may go wrong on the way, as it stands and as it comes: one decision for each request to the API server and each call to a service.

use crate::reached::Reached;
use crate::remote::{Remote, Service, Trouble};
use std::sync::{Arc, Mutex, MutexGuard};
use world::apiserver::{Action, Call, Verb};

/// Clones are the same weather.
#[derive(Clone, Default)]
pub struct Weather(Arc<Mutex<Sky>>);

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // they are independent
pub struct Sky {
    pub prefect_down: bool,
    pub tableau_down: bool,
    pub jobs_forbidden: bool,
    pub server_down: bool,
    /// Each befalls the next call that it fits.
    pub calls: Vec<(Calls, Trouble)>,
    pub requests: Vec<(Requests, Action)>,
    /// Refreshes whose answer did not arrive.
    pub answers_lost: usize,
    pub reached: Reached,
}

/// Some calls to the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    Refresh,
    Jobs,
    Runs,
    Deployments,
    Writes(Service),
    Any,
}

/// Some requests to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    Status,
    Writes,
    Reads,
    Lease,
}

impl Weather {
    pub fn sky(&self) -> MutexGuard<'_, Sky> {
        self.0.lock().unwrap()
    }

    /// The sun shines from now on.
    pub fn clear(&self) {
        let mut sky = self.sky();
        *sky = Sky {
            answers_lost: sky.answers_lost,
            reached: std::mem::take(&mut sky.reached),
            ..Sky::default()
        };
    }

    pub fn on_call(&self, call: &Remote) -> Trouble {
        let sky = &mut *self.sky();
        let down = match call.service {
            Service::Prefect => sky.prefect_down,
            Service::Tableau => sky.tableau_down,
        };
        let refresh = call.operation == "refresh";
        let trouble = if down {
            Trouble::Lose
        } else if let Some(at) = sky.calls.iter().position(|(calls, _)| calls.include(call)) {
            sky.calls.remove(at).1
        } else if sky.jobs_forbidden && call.operation == "jobs" {
            Trouble::Forbid
        } else {
            return Trouble::None;
        };
        sky.answers_lost += usize::from(refresh && trouble != Trouble::Lose);
        let name = match trouble {
            Trouble::None => "None",
            Trouble::Lose => "Lose",
            Trouble::LoseAnswer => "LoseAnswer",
            Trouble::Delay(_) => "Delay",
            Trouble::DelayAnswer(_) => "DelayAnswer",
            Trouble::Late(_) => "Late",
            Trouble::Empty => "Empty",
            Trouble::Forbid => "Forbid",
        };
        let kind = match (call.service, call.writes) {
            (_, _) if refresh => "Refresh",
            (Service::Prefect, true) => "PrefectWrite",
            (Service::Prefect, false) => "PrefectRead",
            (Service::Tableau, _) => "TableauRead",
        };
        sky.reached.one(format!("{kind}/{name}"));
        trouble
    }

    pub fn on_request(&self, request: &Call) -> Action {
        let sky = &mut *self.sky();
        let action = if sky.server_down && request.verb != Verb::Watch {
            Action::Refuse(503)
        } else if let Some(at) = sky.requests.iter().position(|(requests, _)| requests.include(request)) {
            sky.requests.remove(at).1
        } else {
            return Action::Pass;
        };
        let name = match action {
            Action::Pass => "Pass",
            Action::Refuse(_) => "Refuse",
            Action::Lose => "Lose",
            Action::LoseAnswer => "LoseAnswer",
            Action::Delay(_) => "Delay",
            Action::DelayAnswer(_) => "DelayAnswer",
            Action::Stale(_) => "Stale",
        };
        let kind = match (&*request.plural, request.verb.writes()) {
            ("leases", _) => "Lease",
            (_, true) => "Write",
            (_, false) => "Read",
        };
        sky.reached.one(format!("{kind}/{name}"));
        action
    }
}

impl Calls {
    fn include(self, call: &Remote) -> bool {
        match self {
            Self::Refresh => call.operation == "refresh",
            Self::Jobs => call.operation == "jobs",
            Self::Runs => call.operation == "runs",
            Self::Deployments => call.operation == "deployments",
            Self::Writes(service) => call.service == service && call.writes,
            Self::Any => call.operation != "refresh",
        }
    }
}

impl Requests {
    fn include(self, request: &Call) -> bool {
        let lease = request.plural == "leases";
        match self {
            Self::Status => request.subresource == "status",
            Self::Writes => request.verb.writes() && !lease && request.plural != "events",
            Self::Reads => matches!(request.verb, Verb::Get | Verb::List) && !lease,
            Self::Lease => lease,
        }
    }
}
