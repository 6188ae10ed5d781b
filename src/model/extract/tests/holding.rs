//! What holds a start and drops nothing: windows and the budget.

use super::*;
use crate::api::Time;
use crate::model::budget::Limit;
use crate::model::windows::Window;
use serde_json::json;

pub(super) fn window(schedule: &str, duration: &str) -> Window {
    let declared = json!({"name": "quiet", "policy": "Deny", "schedule": schedule, "duration": duration});
    Window::parse(&serde_json::from_value(declared).unwrap()).unwrap()
}

#[test]
fn a_window_says_when_and_a_request_does_not_pass_it() {
    let mut bench = Bench::any();
    bench.d.windows.push(window("0 0 * * *", "1h"));
    bench.completes("a");
    bench.d.refresh_token = Some("now".into());
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Refreshing"), "False/HeldByWindow");
    assert_eq!(bench.s.next_eligible_time, Some(Time(at(3600))));
    bench.d.windows = vec![window("0 0 * * *", "30m")];
    bench.d.generation += 1;
    bench.rest();
    assert_eq!(bench.s.next_eligible_time, Some(Time(at(1800))), "an edit opens it earlier");
    bench.wait(3600);
    assert_eq!(bench.posts().demands.len(), 1);
    assert_eq!(bench.s.next_eligible_time, None);
}

#[test]
fn the_budget_says_about_when_and_a_better_guess_is_no_write() {
    let mut bench = Bench::any();
    bench.completes("a");
    let held = |seconds| BudgetView::Held { by: Limit::PerHour, until: Some(at(seconds)) };
    for (until, now_told) in [(500, 500), (400, 500), (450, 500)] {
        bench.o.budget = held(until);
        assert_eq!(bench.rest(), Step::Rest);
        assert_eq!(bench.reason("Refreshing"), "False/HeldByBudget");
        assert_eq!(bench.s.next_eligible_time, Some(Time(at(now_told))), "{until}");
    }
    bench.wait(600);
    bench.o.budget = held(900);
    bench.rest();
    assert_eq!(bench.s.next_eligible_time, Some(Time(at(900))), "the time told has passed");
    bench.o.budget = BudgetView::Held { by: Limit::Running, until: None };
    bench.wait(600);
    bench.rest();
    assert_eq!(bench.s.next_eligible_time, None, "nobody knows");
    assert_eq!(
        bench.again(),
        Some(add(bench.now(), Duration::from_secs(60))),
        "whoever has the place may be gone"
    );
    bench.o.budget = BudgetView::Free;
    bench.posts();
}

#[test]
fn what_waited_is_held_while_no_more_may_be_asked_about_jobs() {
    let mut bench = Bench::any();
    bench.d.suspend = true;
    bench.completes("a");
    bench.rest();
    bench.wait(60);
    bench.d.suspend = false;
    bench.d.generation += 1;
    bench.o.jobs.used_up = Some(at(7200));
    bench.pass();
    let step = bench.pass();
    assert!(matches!(step, Step::Look { list: Some(_), waited_for: false, .. }), "{step:?}");
    assert_eq!(bench.reason("Refreshing"), "False/HeldByBudget");
    assert_eq!((bench.s.next_eligible_time, bench.again()), (Some(Time(at(7200))), Some(at(7200))));
    bench.o.jobs.used_up = None;
    assert!(matches!(bench.pass(), Step::Look { list: Some(_), waited_for: true, .. }));
    bench.posts();
}

fn debounced() -> Bench {
    let mut bench = Bench::any();
    let seconds = Duration::from_secs;
    bench.d.debounce = Some(Debounce { quiet: seconds(120), longest: seconds(300) });
    bench
}

#[test]
fn it_waits_for_more_until_it_is_quiet() {
    let mut bench = debounced();
    bench.completes("a");
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Refreshing"), "False/Debouncing");
    let due = bench.again().unwrap();
    assert_eq!(bench.s.next_eligible_time, Some(Time(due)));
    bench.wait(100);
    let newer = bench.completes("b");
    bench.rest();
    assert_eq!(bench.again(), Some(add(due, Duration::from_secs(101))), "quiet begins anew");
    bench.wait(120);
    let sent = bench.posts();
    assert!(sent.seen.iter().any(|c| c.run_id == newer), "one refresh for both");
}

#[test]
fn it_waits_no_longer_than_max() {
    let mut bench = debounced();
    bench.completes("a");
    bench.rest();
    let formed = bench.s.owed.as_ref().unwrap().formed_at;
    for _ in 0..2 {
        bench.wait(110);
        bench.completes("a");
        assert_eq!(bench.rest(), Step::Rest);
    }
    assert_eq!(bench.again(), Some(add(formed.0, Duration::from_secs(300))));
    bench.wait(80);
    bench.posts();
}

#[test]
fn quiet_goes_by_the_clock_of_prefect() {
    let mut bench = debounced();
    bench.completes("a");
    let behind = Bounds { lower: at(0), upper: at(1) };
    match bench.o.upstreams.get_mut("a") {
        Some(UpstreamView::Read { clock, .. }) => *clock = behind,
        other => panic!("{other:?}"),
    }
    bench.rest();
    let run_at = bench.s.marks[0].seen.as_ref().unwrap().at.0;
    let left = Duration::from_secs(120) + run_at.duration_since(at(0)).unsigned_abs();
    assert_eq!(bench.again(), Some(add(bench.now(), left)));
}

#[test]
fn a_request_does_not_wait_for_quiet() {
    let mut bench = debounced();
    bench.completes("a");
    bench.rest();
    bench.d.refresh_token = Some("now".into());
    bench.posts();
}

/// Nobody says how the job stands: its look is asked for again and again.
#[test]
fn a_job_that_is_not_answered_for_keeps_no_warning_waiting() {
    let mut shown = warning::Shown::fresh();
    shown.bench.completes("a");
    shown.bench.completes("b");
    shown.bench.submits("job-2");
    shown.bench.wait(1300);
    assert!(matches!(shown.bench.pass(), Step::Rest), "what it says itself comes first");
    shown.settle();
    assert_eq!((shown.state(), shown.on(LUID).len()), (Some(crate::api::WarningState::Set), 1));
    assert!(matches!(shown.bench.pass(), Step::Look { jobs, .. } if jobs.contains(&"job-2".into())));
}
