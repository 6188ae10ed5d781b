//! What people do to tasks and schedules in the browser, past the REST API.

use serde_json::{Value, json};

use super::config::{Edition, Kind};
use super::hold::{Hold, Ticket};
use super::input::Input;
use super::refusal::Refusal;
use super::schedule::Timing;
use super::state::{Missing, State, missing};
use super::tasks::{Schedule, Task, When};
use super::{Shared, Simulator, must};

/// Where a schedule is named by its definition, that is as the REST API has it in JSON:
/// `{"frequency": "Weekly", "frequencyDetails": {"start": "05:00:00", "intervals": {"interval": [{"weekDay": "Monday"}]}}}`.
/// One that the edition does not accept is a mistake in the test, which ends.
impl Simulator {
    /// A person gives content a schedule of its own (Cloud); the task's id.
    pub fn add_task(&self, luid: &str, kind: Kind, definition: &Value) -> String {
        must(self.shared.add_task(luid, kind, sure(Definition::cloud(definition))))
    }

    /// An administrator makes a shared schedule (Server); its id.
    pub fn add_schedule(&self, name: &str, definition: &Value) -> String {
        self.shared.add_schedule(name, sure(Definition::server(definition)))
    }

    /// A person adds content to a shared schedule, named or by id (Server); the task's id.
    pub fn attach(&self, luid: &str, schedule: &str, kind: Kind) -> String {
        must(self.shared.attach(luid, schedule, kind))
    }

    /// A person changes a task's own schedule (Cloud).
    pub fn change_task(&self, task: &str, definition: &Value) {
        must(self.shared.change_task(task, sure(Definition::cloud(definition))));
    }

    /// An administrator changes a shared schedule (Server), for all that are on it.
    pub fn change_schedule(&self, name: &str, definition: &Value) {
        must(self.shared.define_schedule(name, sure(Definition::server(definition))));
    }

    /// An administrator suspends a shared schedule, or lets it go on.
    pub fn suspend_schedule(&self, name: &str, suspended: bool) {
        must(self.shared.change_schedule(name, |schedule| schedule.suspended = suspended));
    }

    /// A person removes a task.
    pub fn remove_task(&self, task: &str) {
        must(self.shared.remove_task(task));
    }

    /// Tableau suspends a task: because nobody looks at the content, or after so many failures.
    pub fn suspend_task(&self, task: &str, failures: u32) {
        must(self.shared.suspend_task(task, failures));
    }

    /// A task's time comes now, beside its schedule.
    pub fn tick(&self, task: &str) {
        must(self.shared.tick(task));
    }

    /// Whether the signed-in users administer the server from now on.
    pub fn set_server_admin(&self, admin: bool) {
        self.shared.change(|state, _| state.no_server_admin = !admin);
    }

    /// Whether the signed-in users own the content or lead its project from now on. Those who do not still see it, without its tasks.
    pub fn set_leads(&self, luid: &str, leads: bool) {
        must(self.shared.change(|state, _| {
            state.content(luid)?;
            if leads {
                state.not_led.remove(luid);
            } else {
                state.not_led.insert(luid.to_owned());
            }
            Ok(())
        }));
    }

    /// As [`hold_answer`](Self::hold_answer), for the next creation, change or removal of a task of this content.
    pub fn hold_task_answer(&self, luid: &str) -> Hold {
        must(self.shared.change(|state, _| {
            state.content(luid)?;
            Ok(state.hold(&of_task(luid)))
        }))
    }
}

/// A definition that an edition accepts.
pub(super) struct Definition(Timing);

impl Definition {
    pub(super) fn cloud(definition: &Value) -> Result<Self, String> {
        Self::read(definition, Edition::Cloud)
    }

    pub(super) fn server(definition: &Value) -> Result<Self, String> {
        Self::read(definition, Edition::Server)
    }

    fn read(definition: &Value, edition: Edition) -> Result<Self, String> {
        let body = json!({ "schedule": definition }).to_string();
        let read = || {
            let input = Input::parse(Some("application/json"), body.as_bytes())?;
            let schedule = input.child("schedule").ok_or_else(|| Refusal::bad_request("no schedule"))?;
            Timing::read(schedule, edition)
        };
        read().map(Self).map_err(|refusal: Refusal| format!("{definition}: {}", refusal.detail))
    }
}

fn sure(definition: Result<Definition, String>) -> Definition {
    definition.unwrap_or_else(|error| panic!("{error}"))
}

impl State {
    /// The next hold on tasks of this content that was not given up; it is taken.
    pub(super) fn take_task_hold(&mut self, content: &str) -> Option<Ticket> {
        self.take_hold(&of_task(content))
    }
}

fn of_task(luid: &str) -> String {
    format!("task of {luid}")
}

impl Shared {
    pub(super) fn add_task(&self, luid: &str, kind: Kind, as_defined: Definition) -> Result<String, Missing> {
        self.new_task(luid, kind, |_| Ok(When::Own(as_defined.0)))
    }

    pub(super) fn attach(&self, luid: &str, schedule: &str, kind: Kind) -> Result<String, Missing> {
        self.new_task(luid, kind, |state| {
            let found =
                state.tasks.schedules.iter().find(|known| known.id == schedule || known.name == schedule);
            Ok(When::Shared(found.ok_or_else(|| missing("schedule", schedule))?.id.clone()))
        })
    }

    fn new_task(
        &self,
        luid: &str,
        kind: Kind,
        when: impl FnOnce(&State) -> Result<When, Missing>,
    ) -> Result<String, Missing> {
        self.change(|state, now| {
            let site = state.content(luid)?.0.luid.clone();
            let when = when(state)?;
            Ok(state.add_task(&site, luid, kind, when, &self.config, self.clock.tableau_time(now)))
        })
    }

    pub(super) fn change_task(&self, id: &str, as_defined: Definition) -> Result<(), Missing> {
        self.with_task(id, |all, n| all[n].when = When::Own(as_defined.0))
    }

    pub(super) fn remove_task(&self, id: &str) -> Result<(), Missing> {
        self.with_task(id, |all, n| drop(all.remove(n)))
    }

    pub(super) fn suspend_task(&self, id: &str, failures: u32) -> Result<(), Missing> {
        self.with_task(id, |all, n| (all[n].suspended, all[n].failures) = (true, failures))
    }

    fn tick(&self, id: &str) -> Result<(), Missing> {
        self.change(|state, now| {
            let task =
                state.tasks.all.iter_mut().find(|task| task.id == id).ok_or_else(|| missing("task", id))?;
            task.next = Some(self.clock.tableau_time(now));
            Ok(())
        })
    }

    fn with_task(&self, id: &str, change: impl FnOnce(&mut Vec<Task>, usize)) -> Result<(), Missing> {
        self.change(|state, now| {
            let n =
                state.tasks.all.iter().position(|task| task.id == id).ok_or_else(|| missing("task", id))?;
            change(&mut state.tasks.all, n);
            state.reschedule(Some(id), &self.config, self.clock.tableau_time(now));
            Ok(())
        })
    }

    pub(super) fn add_schedule(&self, name: &str, as_defined: Definition) -> String {
        self.change(|state, now| state.add_schedule(name, as_defined.0, 50, now))
    }

    pub(super) fn define_schedule(&self, name: &str, as_defined: Definition) -> Result<(), Missing> {
        self.change_schedule(name, |schedule| schedule.timing = as_defined.0)
    }

    fn change_schedule(&self, name: &str, change: impl FnOnce(&mut Schedule)) -> Result<(), Missing> {
        self.change(|state, now| {
            let found = state.tasks.schedules.iter_mut().find(|known| known.name == name || known.id == name);
            let schedule = found.ok_or_else(|| missing("schedule", name))?;
            change(schedule);
            schedule.updated = now;
            state.reschedule(None, &self.config, self.clock.tableau_time(now));
            Ok(())
        })
    }
}
