//! The shared schedules of a Tableau Server (`tableau-rest.md` 6.7): of the server, not of a site. Cloud refuses them.

use super::super::config::{Edition, Kind};
use super::super::element::Element;
use super::super::input::Input;
use super::super::query::{Field, Row};
use super::super::refusal::Refusal;
use super::super::schedule::Timing;
use super::super::site::ContentKind;
use super::super::state::State;
use super::super::tasks::{Schedule, When, may_administer};
use super::auth::Caller;
use super::{Call, Reply, content, tasks};

pub(super) fn list(state: &State, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    let next = |schedule: &Schedule| {
        let of = |task: &&super::super::tasks::Task| task.when == When::Shared(schedule.id.clone());
        state.tasks.all.iter().find(of).and_then(|task| task.next).map(tasks::date)
    };
    let rows = state.tasks.schedules.iter().map(|schedule| Row {
        element: row(schedule, next(schedule), call),
        fields: vec![("name", Field::Text(schedule.name.clone()))],
    });
    let (pagination, page) = call.query.page(&["name"], rows.collect())?;
    Ok(Reply::ok(vec![pagination, Element::list("schedules", page)]))
}

pub(super) fn get(state: &State, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    let schedule = state.tasks.schedule(id).ok_or_else(Refusal::no_such_schedule)?;
    Ok(Reply::ok(vec![whole(schedule, call)]))
}

pub(super) fn create(state: &mut State, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    administers(state, call)?;
    let request = request(call)?;
    let Some(wanted) = request.child("schedule") else {
        return Err(Refusal::bad_request("There is no schedule."));
    };
    let name = wanted.attribute("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Refusal::bad_request("There is no name."))?;
    if wanted.attribute("type") != Some("Extract") {
        return Err(Refusal::bad_request("The type is not Extract."));
    }
    if state.tasks.schedules.iter().any(|schedule| schedule.name == name) {
        return Err(Refusal::schedule_exists(name));
    }
    let timing = Timing::read(wanted, Edition::Server)?;
    let id = state.add_schedule(name, timing, priority(wanted)?, call.now);
    let schedule = state.tasks.schedule(&id).ok_or_else(Refusal::no_such_schedule)?;
    Ok(Reply { status: 201, elements: vec![whole(schedule, call)], hold: None })
}

pub(super) fn update(state: &mut State, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    administers(state, call)?;
    let request = request(call)?;
    let Some(wanted) = request.child("schedule") else {
        return Err(Refusal::bad_request("There is no schedule."));
    };
    let timing = wanted.attribute("frequency").map(|_| Timing::read(wanted, Edition::Server)).transpose()?;
    let priority = wanted.attribute("priority").map(|_| priority(wanted)).transpose()?;
    let schedule = state.tasks.schedules.iter_mut().find(|schedule| schedule.id == id);
    let schedule = schedule.ok_or_else(Refusal::no_such_schedule)?;
    if let Some(timing) = timing {
        schedule.timing = timing;
    }
    if let Some(name) = wanted.attribute("name") {
        name.clone_into(&mut schedule.name);
    }
    schedule.priority = priority.unwrap_or(schedule.priority);
    schedule.suspended = wanted.attribute("state").map_or(schedule.suspended, |state| state == "Suspended");
    schedule.updated = call.now;
    let element = whole(schedule, call);
    state.reschedule(None, call.config, call.clock.tableau_time(call.now));
    Ok(Reply::ok(vec![element]))
}

/// Refused while something is on it. (That is not settled.)
pub(super) fn delete(state: &mut State, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    administers(state, call)?;
    state.tasks.schedule(id).ok_or_else(Refusal::no_such_schedule)?;
    if state.tasks.all.iter().any(|task| task.when == When::Shared(id.to_owned())) {
        return Err(Refusal::bad_request("Extracts are on this schedule."));
    }
    state.tasks.schedules.retain(|schedule| schedule.id != id);
    Ok(Reply::empty(204))
}

/// Adds content to a schedule, which makes a task; asked twice, two. The answer does not tell the task's id.
pub(super) fn attach(
    state: &mut State,
    caller: &Caller,
    (id, content_kind): (&str, ContentKind),
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    on_server(call)?;
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["task"])?;
    let task = request.child("task").ok_or_else(|| Refusal::bad_request("There is no task."))?;
    task.allow(&[], &["extractRefresh"])?;
    let refresh =
        task.child("extractRefresh").ok_or_else(|| Refusal::bad_request("There is no extractRefresh."))?;
    refresh.allow(&["incremental"], &["datasource", "workbook"])?;
    let (named, luid) =
        tasks::subject(refresh)?.ok_or_else(|| Refusal::bad_request("There is no content."))?;
    if named != content_kind {
        return Err(Refusal::bad_request("The content is of another kind."));
    }
    let kind = if refresh.attribute("incremental") == Some("true") { Kind::Incremental } else { Kind::Full };
    let found = content::find(content::site(state, caller)?, content_kind, &luid)?;
    if !found.has_extracts {
        return Err(Refusal::no_extract(&found.name));
    }
    tasks::leads(state, &luid)?;
    // A schedule that is not there is answered 500000 (documentation of Add Data Source to Server Schedule).
    state.tasks.schedule(id).ok_or_else(|| Refusal::internal("The schedule could not be found."))?;
    let now = call.clock.tableau_time(call.now);
    state.add_task(&caller.site, &luid, kind, When::Shared(id.to_owned()), call.config, now);
    let name = if content_kind == ContentKind::Datasource { "datasource" } else { "workbook" };
    let answer = Element::new("task").child(
        Element::new("extractRefresh")
            .child(Element::new("schedule").attribute("id", id))
            .child(Element::new(name).attribute("id", &luid)),
    );
    Ok(Reply { hold: state.take_task_hold(&luid), ..Reply::ok(vec![answer]) })
}

pub(super) fn extracts(state: &State, caller: &Caller, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    on_server(call)?;
    state.tasks.schedule(id).ok_or_else(Refusal::no_such_schedule)?;
    let on = |task: &&super::super::tasks::Task| {
        task.site == caller.site && task.when == When::Shared(id.to_owned())
    };
    let rows = state.tasks.all.iter().filter(on).map(|task| {
        let kind = if task.kind == Kind::Full { "FullRefresh" } else { "IncrementalRefresh" };
        let element = Element::new("extract")
            .attribute("id", &task.id)
            .attribute("priority", "50")
            .attribute("type", kind)
            .child(Element::new("datasource").attribute("id", &task.content));
        Row { element, fields: Vec::new() }
    });
    let (pagination, page) = call.query.page(&[], rows.collect())?;
    Ok(Reply::ok(vec![pagination, Element::list("extracts", page)]))
}

fn on_server(call: &Call<'_>) -> Result<(), Refusal> {
    match call.config.edition {
        Edition::Cloud => Err(Refusal::forbidden("admin schedules not supported on this site")),
        Edition::Server => Ok(()),
    }
}

fn administers(state: &State, call: &Call<'_>) -> Result<(), Refusal> {
    if may_administer(call.config, state) {
        Ok(())
    } else {
        Err(Refusal::forbidden("Only server administrators can change schedules."))
    }
}

fn request(call: &Call<'_>) -> Result<Input, Refusal> {
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["schedule"])?;
    if let Some(schedule) = request.child("schedule") {
        let attributes = ["name", "priority", "type", "executionOrder", "frequency", "state"];
        schedule.allow(&attributes, &["frequencyDetails"])?;
    }
    Ok(request)
}

fn priority(schedule: &Input) -> Result<u8, Refusal> {
    let priority = schedule.attribute("priority").map_or(Some(50), |text| text.parse().ok());
    let priority = priority.filter(|priority| (1..=100).contains(priority));
    priority.ok_or_else(|| Refusal::bad_request("Invalid priority."))
}

/// As lists and tasks show it: without its definition.
pub(super) fn row(schedule: &Schedule, next: Option<String>, call: &Call<'_>) -> Element {
    Element::new("schedule")
        .attribute("id", &schedule.id)
        .attribute("name", &schedule.name)
        .attribute("state", if schedule.suspended { "Suspended" } else { "Active" })
        .attribute("priority", schedule.priority.to_string())
        .attribute("createdAt", call.clock.body_date(schedule.created))
        .attribute("updatedAt", call.clock.body_date(schedule.updated))
        .attribute("type", "Extract")
        .attribute("frequency", schedule.timing.frequency.to_string())
        .maybe("nextRunAt", next)
}

fn whole(schedule: &Schedule, call: &Call<'_>) -> Element {
    let timing =
        if call.config.tasks.customized { schedule.timing.customized() } else { schedule.timing.element() };
    row(schedule, None, call).attribute("executionOrder", "Parallel").child(timing)
}
