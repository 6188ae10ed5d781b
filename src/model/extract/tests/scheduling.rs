//! Schedules that Tableau runs: `Bench` with a site of either edition that answers at once, or does not.

use super::*;
use crate::api::{
    AdoptionPolicy, DriftMode, Edition, ForeignSchedules, ManagementPolicy, SuspendedSchedules,
    TableauSchedule,
};
use crate::model::ids::TaskId;
use crate::model::tasks::{ServerSchedule, Task, TaskSchedule};
use crate::model::timing::Timing;
use serde_json::{Value, json};

/// The connection of the spec.
pub(super) fn here() -> ConnectionName {
    ConnectionName::parse("acme")
}

/// A resource without upstreams on a site.
pub(super) struct Site {
    pub(super) bench: Bench,
    pub(super) tasks: Vec<Task>,
    /// Of [`Self::tasks`]: kept from the account.
    pub(super) hidden: Vec<TaskId>,
    pub(super) schedules: Vec<ServerSchedule>,
    /// Each call, in order.
    pub(super) calls: Vec<String>,
    ids: u32,
    ledger: Option<String>,
    since: Option<Moment>,
}

pub(super) fn schedule(declared: &Value) -> TableauSchedule {
    serde_json::from_value(declared.clone()).unwrap()
}

pub(super) fn nightly() -> TableauSchedule {
    schedule(&json!({"name": "nightly", "frequency": "Daily", "start": "02:00"}))
}

pub(super) fn weekly() -> TableauSchedule {
    schedule(&json!({"name": "weekly", "frequency": "Weekly", "start": "05:00", "weekDays": ["Sunday"]}))
}

impl Site {
    pub(super) fn new(edition: Edition, declared: Vec<TableauSchedule>) -> Self {
        let mut bench = Bench::new();
        bench.d.upstreams = Vec::new();
        bench.d.schedules.all = declared;
        bench.d.schedules.has_finalizer = true;
        bench.o.schedules.edition = edition;
        bench.d.generation += 1;
        let mut site = Self {
            bench,
            tasks: Vec::new(),
            hidden: Vec::new(),
            schedules: Vec::new(),
            calls: Vec::new(),
            ids: 0,
            ledger: None,
            since: None,
        };
        site.read();
        site
    }

    /// The tasks and schedules are read now.
    pub(super) fn read(&mut self) {
        let asked = self.bench.moment();
        let listed = |task: &&Task| !self.hidden.contains(&task.id);
        let tasks: Vec<Task> = self.tasks.iter().filter(listed).cloned().collect();
        let ours = self.bench.s.schedules.iter().filter_map(|entry| entry.task_id.as_deref());
        let missing = ours.map(TaskId::from).filter(|id| !tasks.iter().any(|task| task.id == *id));
        let said = |id: &TaskId| if self.hidden.contains(id) { Unlisted::Hidden } else { Unlisted::Gone };
        let unlisted = missing.map(|id| (id.clone(), said(&id))).collect();
        self.bench.o.schedules.tasks = TasksView::Read { asked, tasks, unlisted };
        self.bench.o.schedules.server = match self.bench.o.schedules.edition {
            Edition::Cloud => ServerView::Unread,
            Edition::Server => ServerView::Read(self.schedules.clone()),
        };
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        format!("t{}", self.ids)
    }

    /// Somebody else gives the target a schedule.
    pub(super) fn somebody_adds(&mut self, timing: &TableauSchedule) -> TaskId {
        let timing = Timing::declared(timing, Edition::Cloud).unwrap();
        self.add(TaskSchedule::Own(Some(timing)), RefreshType::Full)
    }

    fn add(&mut self, schedule: TaskSchedule, refresh_type: RefreshType) -> TaskId {
        let id: TaskId = self.id().into();
        self.tasks.push(Task {
            id: id.clone(),
            content: Some(LUID.into()),
            refresh_type,
            schedule,
            next_run_at: Some(at(50_000)),
            failures: 0,
        });
        id
    }

    pub(super) fn administrator_adds(&mut self, name: &str, timing: Option<Timing>) {
        let id = format!("s-{name}");
        self.schedules.push(ServerSchedule {
            id: id.as_str().into(),
            name: name.into(),
            active: true,
            updated_at: "1".into(),
            timing,
        });
    }

    /// Tableau does it, and does or does not answer.
    pub(super) fn perform(&mut self, write: &ScheduleWrite) -> ScheduleAck {
        match write {
            ScheduleWrite::Create { content, timing, .. } => {
                self.calls.push(format!("create {timing}"));
                let id = self.add(TaskSchedule::Own(Some(timing.clone())), content.refresh_type);
                ScheduleAck::Done(Some(id))
            }
            ScheduleWrite::Attach { content, schedule, .. } => {
                self.calls.push(format!("attach {schedule}"));
                let found = self.schedules.iter().find(|known| known.id == *schedule).unwrap().clone();
                let shared = TaskSchedule::Shared { id: found.id, name: found.name, active: found.active };
                self.add(shared, content.refresh_type);
                ScheduleAck::Done(None)
            }
            ScheduleWrite::Update { task, timing, .. } => {
                self.calls.push(format!("update {task} {timing}"));
                self.tasks.iter_mut().find(|known| known.id == *task).unwrap().schedule =
                    TaskSchedule::Own(Some(timing.clone()));
                ScheduleAck::Done(None)
            }
            ScheduleWrite::Delete { task, .. } => {
                self.calls.push(format!("delete {task}"));
                self.tasks.retain(|known| known.id != *task);
                ScheduleAck::Done(None)
            }
            ScheduleWrite::MakeShared { name, timing, .. } => {
                self.calls.push(format!("make {name}"));
                self.administrator_adds(name, Some(timing.clone()));
                ScheduleAck::Done(None)
            }
        }
    }

    /// One pass: what it does, and whether it did or wrote anything.
    pub(super) fn pass(&mut self) -> (Step, bool) {
        let bench = &mut self.bench;
        bench.o.moment = bench.moment();
        bench.o.schedules.intent = match &bench.s.schedule_intent {
            None => IntentView::None,
            Some(intent) if self.ledger.as_ref() == Some(&intent.id) => IntentView::InLedger,
            Some(_) => IntentView::MaybeSent { since: *self.since.get_or_insert(bench.o.moment) },
        };
        let id = format!("intent-{}", bench.serial);
        let decision = decide(&bench.d, &bench.o, &bench.s, bench.now(), || id.clone());
        bench.notes.extend(decision.notes.iter().map(|note| note.reason));
        let wrote = bench.s != decision.status;
        bench.s = decision.status;
        if let Step::Intend { id } = &decision.step {
            (self.ledger, self.since) = (Some(id.clone()), None);
        }
        (decision.step, wrote)
    }

    /// Tableau's answer reaches us.
    pub(super) fn fold(&mut self, write: &ScheduleWrite, ack: &ScheduleAck) {
        if write.intent().is_some() {
            self.ledger = None;
            self.since = Some(self.bench.moment());
        }
        let bench = &mut self.bench;
        let (folded, memory) = fold_schedule(&bench.d, &bench.o, &bench.s, write, ack, bench.now());
        bench.notes.extend(folded.notes.iter().map(|note| note.reason));
        bench.s = folded.status;
        bench.o.schedules.memory = Some(memory);
        bench.o.schedules.tasks = TasksView::Dirty;
    }

    /// The same while the resource is being deleted.
    pub(super) fn part(&mut self, write: &ScheduleWrite, ack: &ScheduleAck) {
        let bench = &mut self.bench;
        let (status, memory) = parted(&bench.d, &bench.o, &bench.s, write, ack, bench.now());
        (bench.s, bench.o.schedules.memory) = (status, Some(memory));
    }

    /// Until nothing more happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            match self.pass() {
                (Step::Schedule(write), _) => {
                    let ack = self.perform(&write);
                    self.fold(&write, &ack);
                    self.read();
                }
                (Step::LookAtTasks, _) => self.read(),
                (_, true) => {}
                (_, false) => return,
            }
        }
        panic!("no rest: {:#?} {:?}", self.bench.s, self.calls);
    }

    /// As far as the first write.
    pub(super) fn first_write(&mut self) -> ScheduleWrite {
        for _ in 0..10 {
            if let (Step::Schedule(write), _) = self.pass() {
                return write;
            }
        }
        panic!("nothing is written: {:#?}", self.bench.s);
    }

    pub(super) fn taken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.calls)
    }

    pub(super) fn message(&self, kind: &str) -> String {
        self.bench
            .s
            .conditions
            .iter()
            .find(|c| c.type_ == kind)
            .map_or_else(String::new, |c| c.message.clone())
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.bench.d);
        self.bench.d.generation += 1;
    }

    /// A new process: its ledger and its memory are empty.
    pub(super) fn restart(&mut self) {
        (self.ledger, self.since, self.bench.o.schedules.memory) = (None, None, None);
    }
}

#[test]
fn the_whole_life_on_cloud() {
    let mut site = Site::new(Edition::Cloud, vec![nightly(), weekly()]);
    site.settle();
    assert_eq!(site.taken(), ["create Daily 02:00", "create Weekly 05:00 on Sunday"]);
    assert_eq!(
        (site.bench.reason("Ready"), site.bench.reason("Drifted")),
        ("True/InSync".into(), "False/NoDrift".into())
    );
    let told: Vec<_> =
        site.bench.s.schedules.iter().map(|s| (s.name.as_str(), s.definition.as_deref().unwrap())).collect();
    assert_eq!(told, [("nightly", "Daily 02:00, Full"), ("weekly", "Weekly 05:00 on Sunday, Full")]);

    site.edit(|d| d.schedules.all[0].start = Some("03:00".into()));
    site.settle();
    assert_eq!(site.taken(), ["update t1 Daily 03:00"]);
    assert_eq!(site.bench.s.last_drift, None, "an edit is no drift");

    // Another type is another task.
    site.edit(|d| d.schedules.all[0].refresh_type = Some(RefreshType::Incremental));
    site.settle();
    assert_eq!(site.taken(), ["delete t1", "create Daily 03:00"]);

    site.edit(|d| {
        d.schedules.all.remove(1);
    });
    site.settle();
    assert_eq!(site.taken(), ["delete t2"]);
    site.edit(|d| d.schedules.all.clear());
    site.settle();
    assert_eq!(site.taken(), ["delete t3"]);
    let s = &site.bench.s;
    assert!(s.schedules.is_empty() && s.applied_fields.is_empty() && s.foreign_schedules.is_empty());
    assert_eq!(site.bench.reason("Drifted"), "", "nothing to speak of");
}

#[test]
fn on_a_server_shared_schedules_are_used_and_made_and_left() {
    let named = schedule(&json!({"name": "shared", "serverSchedule": "Nightly"}));
    let mut site = Site::new(Edition::Server, vec![named.clone(), nightly()]);
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/ScheduleNotExpressible");
    assert!(site.message("Ready").contains("no schedule `Nightly`"), "{}", site.message("Ready"));
    assert_eq!(
        site.taken(),
        ["make feedwater Daily 02:00", "attach s-feedwater Daily 02:00"],
        "the rest goes on"
    );
    site.administrator_adds("Nightly", None);
    site.read();
    site.settle();
    assert_eq!(site.taken(), ["attach s-Nightly"]);
    assert_eq!(site.bench.reason("Ready"), "True/InSync");

    // Another resource of the same definition uses what is there.
    let mut other = Site::new(Edition::Server, vec![nightly()]);
    other.schedules.clone_from(&site.schedules);
    other.read();
    other.settle();
    assert_eq!(other.taken(), ["attach s-feedwater Daily 02:00"]);

    // A change is another schedule; the one that was left stays, for whoever uses it.
    site.edit(|d| d.schedules.all[1].start = Some("03:00".into()));
    site.settle();
    assert_eq!(
        site.taken(),
        ["make feedwater Daily 03:00", "delete t1", "attach s-feedwater Daily 03:00"],
        "what there is goes on until it can be replaced"
    );
    assert_eq!(site.schedules.len(), 3);
}

#[test]
fn what_the_site_cannot_run_is_refused_and_the_last_good_state_stays() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    site.taken();
    site.edit(|d| d.schedules.all[0].start = Some("02:03".into()));
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/ScheduleNotExpressible");
    assert_eq!(site.bench.reason("Stalled"), "True/ScheduleNotExpressible");
    assert!(site.message("Ready").contains("start could be 02:00"), "{}", site.message("Ready"));
    assert!(site.taken().is_empty());
    site.edit(|d| {
        d.schedules.all =
            vec![nightly(), schedule(&json!({"name": "again", "frequency": "Daily", "start": "02:00"}))];
    });
    site.settle();
    assert!(
        site.message("Ready").contains("`nightly` and `again` are the same"),
        "{}",
        site.message("Ready")
    );
    assert!(site.taken().is_empty());
}

#[test]
fn what_people_change_is_seen_told_and_put_right_by_mode() {
    let by_hand = Timing::declared(&weekly(), Edition::Cloud).unwrap();
    // Mode; what is done about a change; what is done about a deletion; what is told.
    let table: [(DriftMode, &[&str], &[&str], &str); 3] = [
        (DriftMode::Enabled, &["update t1 Daily 02:00"], &["create Daily 02:00"], "False/NoDrift"),
        (DriftMode::Warn, &[], &[], "True/DriftDetected"),
        (DriftMode::Disabled, &[], &[], "False/NoDrift"),
    ];
    for (mode, changed, deleted, told) in table {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.bench.d.schedules.drift = mode;
        site.settle();
        site.taken();
        site.bench.notes.clear();
        site.tasks[0].schedule = TaskSchedule::Own(Some(by_hand.clone()));
        site.read();
        site.settle();
        assert_eq!(
            (site.taken(), site.bench.reason("Drifted")),
            (changed.iter().map(ToString::to_string).collect(), told.to_owned())
        );
        assert_eq!(site.bench.notes.contains(&"DriftDetected"), mode == DriftMode::Enabled);
        assert_eq!(site.bench.s.last_drift.is_some(), mode == DriftMode::Enabled);
        site.tasks.clear();
        site.read();
        site.settle();
        assert_eq!(
            (site.taken(), site.bench.reason("Drifted")),
            (deleted.iter().map(ToString::to_string).collect(), told.to_owned())
        );
        assert_eq!(site.bench.reason("Ready"), "True/InSync");
    }
}

#[test]
fn schedules_of_others_are_listed_adopted_or_removed() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    let same = site.somebody_adds(&nightly());
    site.somebody_adds(&weekly());
    site.read();
    site.settle();
    assert_eq!(site.bench.reason("Ready"), "False/AdoptionRequired");
    assert_eq!(site.bench.reason("Stalled"), "True/AdoptionRequired");
    let foreign: Vec<_> = site.bench.s.foreign_schedules.iter().map(|f| f.definition.as_str()).collect();
    assert_eq!(foreign, ["Daily 02:00, Full", "Weekly 05:00 on Sunday, Full"]);
    assert!(site.taken().is_empty());

    site.edit(|d| d.schedules.adoption = AdoptionPolicy::Adopt);
    site.settle();
    assert!(site.taken().is_empty(), "nothing is written");
    assert_eq!(site.bench.s.schedules[0].task_id.as_deref(), Some(same.as_str()));
    assert_eq!((site.bench.reason("Ready"), site.bench.s.foreign_schedules.len()), ("True/InSync".into(), 1));

    // A duplicate that somebody makes by hand is one of others.
    let twice = site.somebody_adds(&nightly());
    site.read();
    site.settle();
    assert_eq!(site.bench.s.foreign_schedules.len(), 2);
    site.edit(|d| d.schedules.foreign = ForeignSchedules::Remove);
    site.settle();
    let mut calls = site.taken();
    calls.sort();
    assert_eq!(calls, ["delete t2".to_owned(), format!("delete {twice}")]);
    assert!(site.bench.s.foreign_schedules.is_empty());
}

#[test]
fn observe_says_what_would_be_done_and_does_nothing() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.bench.d.schedules.management = ManagementPolicy::Observe;
    site.bench.d.schedules.foreign = ForeignSchedules::Remove;
    site.somebody_adds(&weekly());
    site.read();
    site.settle();
    assert!(site.taken().is_empty());
    assert_eq!(
        site.bench.s.plan,
        [
            "delete foreign schedule: Weekly 05:00 on Sunday, Full",
            "create schedule `nightly`: Daily 02:00, Full"
        ]
    );
    assert_eq!(site.bench.reason("Ready"), "True/Observing");
    site.edit(|d| d.schedules.management = ManagementPolicy::Manage);
    site.settle();
    assert_eq!(site.taken(), ["delete t1", "create Daily 02:00"]);
    assert!(site.bench.s.plan.is_empty());
}

#[test]
fn a_suspended_schedule_is_told_or_made_again_once_a_day() {
    for again in [false, true] {
        let mut site = Site::new(Edition::Cloud, vec![nightly()]);
        site.bench.d.schedules.suspended =
            if again { SuspendedSchedules::Recreate } else { SuspendedSchedules::Report };
        site.settle();
        site.taken();
        site.tasks[0].failures = 4;
        site.read();
        site.settle();
        assert_eq!((site.taken().len(), site.bench.s.schedules[0].consecutive_failed_count), (0, Some(4)));
        (site.tasks[0].failures, site.tasks[0].next_run_at) = (5, None);
        site.read();
        site.settle();
        let expected: &[&str] = if again { &["delete t1", "create Daily 02:00"] } else { &[] };
        assert_eq!(site.taken(), expected);
        assert!(site.bench.notes.contains(&"ScheduleSuspended"));
        assert!(!site.bench.notes.contains(&"DriftDetected"), "our own deletion is none");
        assert_eq!(site.bench.reason("Drifted"), if again { "False/NoDrift" } else { "True/DriftDetected" });
        if again {
            site.tasks[0].next_run_at = None;
            site.read();
            site.settle();
            assert!(site.taken().is_empty(), "not again on the same day");
            assert_eq!(site.bench.reason("Drifted"), "True/DriftDetected");
            site.bench.wait(25 * 3600);
            site.read();
            site.settle();
            assert_eq!(site.taken(), ["delete t2", "create Daily 02:00"]);
        }
    }
}

#[test]
fn a_run_that_contains_nothing_new_costs_no_write() {
    let mut site = Site::new(Edition::Cloud, vec![nightly()]);
    site.settle();
    let before = site.bench.s.clone();
    site.tasks[0].next_run_at = Some(at(90_000));
    site.read();
    assert_eq!(site.pass(), (Step::Rest, false));
    assert_eq!(site.bench.s, before);
    // With another change it is written along.
    site.tasks[0].failures = 1;
    site.read();
    site.settle();
    assert_eq!(site.bench.s.schedules[0].next_run_at, Some(crate::api::Time(at(90_000))));
}
