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
    bench.o.budget = BudgetView::Free;
    bench.posts();
}
