//! What tasks start, over months, in no time.

use std::time::Duration;

use serde_json::json;

use super::super::config::{Script, Step};
use super::super::input::Input;
use super::super::jobs::Job;
use super::super::site::ContentKind;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Bench {
    state: State,
    config: Config,
    clock: Clock,
    start: Instant,
    content: String,
}

/// One data source with a daily task on Cloud.
fn bench(script: Script) -> Bench {
    let config = Config { edition: Edition::Cloud, default_script: script, ..Config::default() };
    let (clock, start) = (Clock::start(0), Instant::now());
    let mut state = State::default();
    let site = state.add_site("acme", start);
    let content =
        state.site(&site).unwrap().add_content(ContentKind::Datasource, &["p"], "Orders", true, start);
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let mut intervals: Vec<_> = days.iter().map(|day| json!({"weekDay": day})).collect();
    intervals.push(json!({"hours": "24"}));
    let details = json!({"start": "05:00:00", "end": "05:00:00", "intervals": {"interval": intervals}});
    let body = json!({"schedule": {"frequency": "Daily", "frequencyDetails": details}}).to_string();
    let input = Input::parse(Some("application/json"), body.as_bytes()).unwrap();
    let timing = Timing::read(input.child("schedule").unwrap(), Edition::Cloud).unwrap();
    let now = clock.tableau_time(start);
    state.add_task(&site, &content, Kind::Full, When::Own(timing), &config, now);
    Bench { state, config, clock, start, content }
}

impl Bench {
    fn pass(&mut self, days: u32) {
        self.state.advance(self.start + DAY * days, &self.config, &self.clock);
    }
    fn refreshes(&self) -> usize {
        self.state.jobs.all().len()
    }
}

fn running(running: Step, outcome: Outcome) -> Script {
    Script { queued: Step::For(Duration::ZERO), running, outcome }
}

#[test]
fn a_quarter_of_daily_runs_is_seen_by_one_late_look() {
    let mut bench = bench(running(Step::For(Duration::from_secs(60)), Outcome::Success));
    bench.pass(90);
    assert_eq!(bench.refreshes(), 90);
    let task = &bench.state.tasks.all[0];
    assert_eq!((task.failures, task.suspended), (0, false));
    let jobs = bench.state.jobs.all();
    assert!(jobs.iter().all(|job| job.requested_by == RequestedBy::Task { task: task.id.clone() }));
    assert!(jobs.iter().all(Job::has_ended), "each has run its minute");
}

#[test]
fn five_failures_suspend_and_a_success_of_anybody_counts_anew() {
    let failed = Outcome::Failed { notes: String::new() };
    let mut bench = bench(running(Step::For(Duration::from_secs(60)), failed));
    bench.pass(4);
    assert_eq!(bench.state.tasks.all[0].failures, 4);
    let well = running(Step::For(Duration::from_secs(1)), Outcome::Success);
    bench.state.add_script(&bench.content, well).unwrap();
    let at = bench.start + DAY * 4 + Duration::from_secs(120);
    let content = bench.content.clone();
    bench.state.start_refresh(&content, Kind::Full, RequestedBy::Person, "ada", &bench.config, at).unwrap();
    bench.state.advance(at + Duration::from_secs(2), &bench.config, &bench.clock);
    assert_eq!(bench.state.tasks.all[0].failures, 0);
    let badly = running(Step::For(Duration::from_secs(1)), Outcome::Failed { notes: String::new() });
    bench.state.add_script(&bench.content, badly).unwrap();
    bench.pass(60);
    let task = &bench.state.tasks.all[0];
    assert_eq!((task.failures, task.suspended, task.next), (5, true, None));
    assert_eq!(bench.refreshes(), 4 + 1 + 5);
}

#[test]
fn a_run_whose_time_comes_while_one_runs_is_left_out() {
    let mut bench = bench(running(Step::UntilReleased, Outcome::Success));
    bench.pass(10);
    assert_eq!(bench.refreshes(), 1);
}
