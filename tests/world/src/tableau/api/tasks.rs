//! Extract refresh tasks (`tableau-rest.md` 6.2 to 6.5).

use super::super::config::{Edition, Kind, TaskHabits};
use super::super::element::Element;
use super::super::input::Input;
use super::super::refusal::Refusal;
use super::super::schedule::Timing;
use super::super::site::ContentKind;
use super::super::state::State;
use super::super::tasks::{Task, When};
use super::auth::Caller;
use super::{Call, Reply, content, jobs, schedules};

/// The whole site in one answer: no paging, no filter. Who is no administrator sees those of contents he owns or leads.
pub(super) fn list(state: &State, caller: &Caller, call: &Call<'_>) -> Reply {
    let seen = |task: &&Task| task.site == caller.site && !state.not_led.contains(&task.content);
    let tasks = state.tasks.all.iter().filter(seen);
    let rows = tasks.map(|task| Element::new("task").child(row(state, task, call)));
    Reply::ok(vec![Element::list("tasks", rows.collect())])
}

pub(super) fn get(state: &State, caller: &Caller, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let task = row(state, find(state, caller, id)?, call);
    let task = if call.config.tasks.bare { task } else { Element::new("task").child(task) };
    Ok(Reply::ok(vec![task]))
}

/// Only on Cloud: on a Server content is added to a schedule.
pub(super) fn create(state: &mut State, caller: &Caller, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request = body(call)?;
    let (refresh, schedule) = (request.child("extractRefresh"), request.child("schedule"));
    let (Some(refresh), Some(schedule)) = (refresh, schedule) else {
        return Err(Refusal::bad_request("extractRefresh and schedule are required."));
    };
    let (content_kind, luid) =
        subject(refresh)?.ok_or_else(|| Refusal::bad_request("There is no content."))?;
    let kind = kind(refresh, call.config.tasks)?.unwrap_or(Kind::Full);
    let found = content::find(content::site(state, caller)?, content_kind, &luid)?;
    if !found.has_extracts {
        return Err(Refusal::no_extract(&found.name));
    }
    leads(state, &luid)?;
    let timing = Timing::read(schedule, Edition::Cloud)?;
    let now = call.clock.tableau_time(call.now);
    let id = state.add_task(&caller.site, &luid, kind, When::Own(timing), call.config, now);
    let elements = siblings(state, find(state, caller, &id)?, call);
    Ok(Reply { status: call.config.tasks.created, elements, hold: state.take_task_hold(&luid) })
}

/// What is sent replaces; what is not stays.
pub(super) fn update(
    state: &mut State,
    caller: &Caller,
    id: &str,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let request = body(call)?;
    let wanted = request.child("extractRefresh");
    let kind = wanted.map(|refresh| kind(refresh, call.config.tasks)).transpose()?.flatten();
    let content = wanted.map(subject).transpose()?.flatten();
    let timing =
        request.child("schedule").map(|schedule| Timing::read(schedule, Edition::Cloud)).transpose()?;
    find(state, caller, id)?;
    if let Some((content_kind, luid)) = &content {
        content::find(content::site(state, caller)?, *content_kind, luid)?;
    }
    let now = call.clock.tableau_time(call.now);
    if let Some(task) = state.tasks.all.iter_mut().find(|task| task.id == id) {
        task.kind = kind.unwrap_or(task.kind);
        if let Some((_, luid)) = content {
            task.content = luid;
        }
        if let Some(timing) = timing {
            task.when = When::Own(timing);
        }
    }
    state.reschedule(Some(id), call.config, now);
    let task = find(state, caller, id)?;
    let elements = siblings(state, task, call);
    let content = task.content.clone();
    Ok(Reply { status: 200, elements, hold: state.take_task_hold(&content) })
}

pub(super) fn delete(state: &mut State, caller: &Caller, id: &str) -> Result<Reply, Refusal> {
    let content = find(state, caller, id)?.content.clone();
    state.tasks.all.retain(|task| task.id != id);
    Ok(Reply { status: 204, elements: Vec::new(), hold: state.take_task_hold(&content) })
}

pub(super) fn run(state: &mut State, caller: &Caller, id: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    Input::parse(call.content_type, call.body)?.allow(&[], &[])?;
    let task = find(state, caller, id)?;
    let (content, kind) = (task.content.clone(), task.kind);
    jobs::start(state, caller, &content, kind, call)
}

fn find<'a>(state: &'a State, caller: &Caller, id: &str) -> Result<&'a Task, Refusal> {
    let found = state.tasks.all.iter().find(|task| task.site == caller.site && task.id == id);
    let task = found.ok_or_else(|| Refusal::task(id))?;
    leads(state, &task.content)?;
    Ok(task)
}

/// Tasks are for the owner of the content, leaders of its project and administrators.
pub(super) fn leads(state: &State, content: &str) -> Result<(), Refusal> {
    if state.not_led.contains(content) {
        return Err(Refusal::forbidden("Only owners and project leaders can see and change tasks."));
    }
    Ok(())
}

fn body(call: &Call<'_>) -> Result<Input, Refusal> {
    if call.config.edition == Edition::Server {
        return Err(Refusal::method("POST"));
    }
    let request = Input::parse(call.content_type, call.body)?;
    request.allow(&[], &["extractRefresh", "schedule"])?;
    if let Some(refresh) = request.child("extractRefresh") {
        refresh.allow(&["type"], &["datasource", "workbook"])?;
    }
    if let Some(schedule) = request.child("schedule") {
        schedule.allow(&["frequency"], &["frequencyDetails"])?;
    }
    Ok(request)
}

/// The one content that an element names.
pub(super) fn subject(refresh: &Input) -> Result<Option<(ContentKind, String)>, Refusal> {
    let of = |name: &str| {
        let Some(content) = refresh.child(name) else { return Ok(None) };
        content.allow(&["id"], &[])?;
        Ok(Some(content.attribute("id").unwrap_or_default().to_owned()))
    };
    match (of("datasource")?, of("workbook")?) {
        (None, None) => Ok(None),
        (Some(luid), None) => Ok(Some((ContentKind::Datasource, luid))),
        (None, Some(luid)) => Ok(Some((ContentKind::Workbook, luid))),
        (Some(_), Some(_)) => Err(Refusal::bad_request("One content, not two.")),
    }
}

fn kind(refresh: &Input, habits: TaskHabits) -> Result<Option<Kind>, Refusal> {
    match refresh.attribute("type") {
        None => Ok(None),
        Some("FullRefresh") => Ok(Some(Kind::Full)),
        Some(name) if name == habits.incremental => Ok(Some(Kind::Incremental)),
        Some(other) => Err(Refusal::bad_request(format!("'{other}' is no type of an extract refresh."))),
    }
}

fn row(state: &State, task: &Task, call: &Call<'_>) -> Element {
    let (typed, incremental) = (call.config.tasks.typed, task.kind == Kind::Incremental);
    let mut element = Element::new("extractRefresh")
        .attribute("id", &task.id)
        .attribute("priority", "50")
        .attribute("consecutiveFailedCount", task.failures.to_string())
        .attribute("type", if typed && incremental { "IncrementExtractTask" } else { "RefreshExtractTask" });
    if !typed {
        element = element.flag("incremental", incremental);
    }
    let next = told_next(task, call).map(date);
    let schedule = match &task.when {
        When::Own(timing) => Element::new("schedule")
            .attribute("frequency", timing.frequency.to_string())
            .maybe("nextRunAt", next)
            .child(timing.element()),
        When::Shared(id) => match state.tasks.schedule(id) {
            Some(schedule) => schedules::row(schedule, next, call),
            None => return element.child(content_of(state, task)),
        },
    };
    let element = element.child(schedule).child(content_of(state, task));
    match task.last {
        Some(last) => element.child(Element::text("lastRunAt", date(last))),
        None => element,
    }
}

fn content_of(state: &State, task: &Task) -> Element {
    let workbook = state
        .sites
        .iter()
        .flat_map(|site| &site.contents)
        .any(|content| content.luid == task.content && content.kind == ContentKind::Workbook);
    Element::new(if workbook { "workbook" } else { "datasource" }).attribute("id", &task.content)
}

/// The answer to a creation or a change: the task and its schedule side by side.
fn siblings(state: &State, task: &Task, call: &Call<'_>) -> Vec<Element> {
    let habits = call.config.tasks;
    let told = |at: jiff::Timestamp| {
        if habits.offsets { at.strftime("%Y-%m-%dT%H:%M:%S+0000").to_string() } else { date(at) }
    };
    let now = call.clock.tableau_time(call.now);
    let kind = if task.kind == Kind::Full { "FullRefresh" } else { habits.incremental };
    let mut all = vec![
        Element::new("extractRefresh")
            .attribute("id", &task.id)
            .attribute("type", kind)
            .child(content_of(state, task)),
    ];
    if let When::Own(timing) = &task.when {
        all.push(
            Element::new("schedule")
                .attribute("createdAt", told(now))
                .attribute("updatedAt", told(now))
                .attribute("frequency", timing.frequency.to_string())
                .maybe("nextRunAt", told_next(task, call).map(told))
                .child(timing.element()),
        );
    }
    all
}

fn told_next(task: &Task, call: &Call<'_>) -> Option<jiff::Timestamp> {
    let anyway = || call.config.tasks.suspended_runs.then(|| call.clock.tableau_time(call.now));
    task.next.or_else(|| if task.suspended { anyway() } else { None })
}

pub(super) fn date(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
