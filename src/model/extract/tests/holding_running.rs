//! `trigger.runningUpstreams`: a refresh that is due waits for what runs.

use super::*;
use crate::model::runs::StateType;

const MAX: u64 = 1800;
const DAY: u64 = 24 * 3600;

fn waiting() -> Bench {
    let mut bench = Bench::any();
    bench.d.running = Some(Duration::from_secs(MAX));
    bench
}

impl Bench {
    /// Prefect is asked now, and answers with these runs in progress, by their state and since when.
    fn in_progress(&mut self, name: &str, states: &[(StateType, Timestamp)]) {
        let asked = self.now();
        let unfinished = |(n, (state, since)): (usize, &(StateType, Timestamp))| Unfinished {
            run: format!("{name}-{n}").into(),
            state: *state,
            since: *since,
            parameters: Parameters::default(),
        };
        let runs = states.iter().enumerate().map(unfinished).collect();
        self.answers(name, Some(InProgress { asked, complete: true, runs }));
    }

    fn answers(&mut self, name: &str, answer: Option<InProgress>) {
        match self.o.upstreams.get_mut(name) {
            Some(UpstreamView::Read { running, .. }) => *running = answer,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is in progress, of either.
    fn idle(&mut self) {
        self.in_progress("a", &[]);
        self.in_progress("b", &[]);
    }

    #[track_caller]
    fn held(&mut self) -> String {
        assert_eq!(self.rest(), Step::Rest);
        assert_eq!(self.reason("Refreshing"), "False/UpstreamRunning");
        self.message("Refreshing").to_owned()
    }
}

#[test]
fn it_waits_for_what_runs_and_contains_what_that_delivers() {
    let mut bench = waiting();
    bench.completes("a");
    bench.rest();
    let formed = bench.s.owed.as_ref().unwrap().formed_at.0;
    bench.idle();
    bench.in_progress("b", &[(StateType::Running, at(5))]);
    let message = bench.held();
    assert_eq!(
        message,
        "A refresh is owed; it starts when these have no run in progress any more: `b` (running); after trigger.runningUpstreams.max at the latest"
    );
    let until = add(formed, Duration::from_secs(MAX));
    assert_eq!((bench.again(), bench.s.next_eligible_time), (Some(until), Some(Time(until))));
    bench.wait(600);
    let newer = bench.completes("b");
    bench.idle();
    let sent = bench.posts();
    assert!(sent.seen.iter().any(|c| c.run_id == newer), "one refresh for both");
    assert_eq!(bench.s.next_eligible_time, None);
}

#[test]
fn each_state_in_progress_is_named_and_one_that_is_not_in_progress_is_no_reason() {
    for (states, doing) in [
        (&[StateType::Pending][..], "about to run"),
        (&[StateType::Scheduled], "waiting for its retry"),
        (&[StateType::Cancelling], "being cancelled"),
        (&[StateType::Paused], "paused"),
        (&[StateType::Paused, StateType::Pending, StateType::Running], "running"),
    ] {
        let mut bench = waiting();
        bench.completes("a");
        bench.rest();
        bench.idle();
        let since = bench.now();
        bench.in_progress("a", &states.iter().map(|state| (*state, since)).collect::<Vec<_>>());
        let message = bench.held();
        assert!(message.contains(&format!("`a` ({doing})")), "{message}");
    }
}

#[test]
fn what_prefect_said_before_it_was_owed_does_not_count_and_no_answer_holds_until_max() {
    let mut bench = waiting();
    bench.idle();
    bench.completes("a");
    let message = bench.held();
    assert_eq!(
        message,
        "A refresh is owed; it starts when Prefect has said what runs of `a`, `b` are in progress; after trigger.runningUpstreams.max at the latest"
    );
    bench.in_progress("a", &[]);
    let message = bench.held();
    assert!(message.contains("what runs of `b` are"), "{message}");
    bench.in_progress("a", &[(StateType::Running, bench.now())]);
    assert!(bench.held().ends_with("; not known yet: `b`"), "{}", bench.message("Refreshing"));
    bench.o.upstreams.insert("b".into(), UpstreamView::Unread { key: None, clock: None, stuck: false });
    bench.in_progress("a", &[]);
    bench.held();
    bench.wait(MAX);
    bench.posts();
}

#[test]
fn where_too_many_run_those_that_are_not_known_count_as_running() {
    let mut bench = waiting();
    bench.completes("a");
    bench.rest();
    bench.idle();
    let asked = bench.now();
    bench.answers("b", Some(InProgress { asked, complete: false, runs: Vec::new() }));
    let message = bench.held();
    assert!(message.contains("what runs of `b` are"), "{message}");
}

#[test]
fn it_waits_no_longer_than_max_from_when_it_was_due() {
    let mut bench = waiting();
    bench.completes("a");
    bench.rest();
    for _ in 0..2 {
        bench.wait(MAX / 2 - 10);
        bench.completes("a");
        bench.idle();
        bench.in_progress("b", &[(StateType::Running, bench.now())]);
        bench.held();
    }
    bench.wait(20);
    bench.posts();
}

#[test]
fn a_run_without_progress_for_a_day_is_ignored_and_named() {
    let mut bench = waiting();
    bench.wait(2 * DAY);
    let old = bench.now();
    bench.wait(DAY - 600);
    bench.completes("a");
    bench.rest();
    bench.idle();
    bench.in_progress("b", &[(StateType::Running, old)]);
    bench.held();
    // It is looked at again when that day is over, not when the wait is.
    let over = add(old, Duration::from_secs(DAY));
    assert_eq!(bench.again(), Some(over));
    bench.wait(300);
    let now = bench.now();
    bench.in_progress("a", &[(StateType::Pending, now)]);
    bench.wait(301);
    let message = bench.held();
    assert!(message.contains("`a` (about to run)"), "{message}");
    assert!(message.ends_with("; not waited for, since nothing moves there: `b`"), "{message}");
    bench.in_progress("a", &[]);
    bench.rest();
    assert!(bench.notes.contains(&"UpstreamStuck"), "{:?}", bench.notes);
    bench.posts();
}

#[test]
fn a_run_that_begins_between_the_intent_and_the_post_holds_it() {
    let mut bench = waiting();
    bench.completes("a");
    bench.rest();
    bench.idle();
    bench.rest();
    assert_eq!(bench.phase(), Some(AttemptPhase::Intended));
    bench.in_progress("b", &[(StateType::Running, bench.now())]);
    bench.wait(2);
    bench.held();
    assert_eq!(bench.phase(), None);
    bench.idle();
    bench.posts();
}

#[test]
fn a_request_waits_for_what_runs_as_well_and_what_ignores_it_does_not() {
    let mut bench = waiting();
    bench.d.refresh_token = Some("now".into());
    bench.rest();
    bench.in_progress("b", &[(StateType::Running, bench.now())]);
    bench.held();
    bench.idle();
    bench.posts();
    // It skips what only waits for more: the debounce.
    let mut bench = waiting();
    bench.d.debounce = Some(Debounce { quiet: Duration::from_secs(600), longest: Duration::from_secs(900) });
    bench.completes("a");
    bench.idle();
    bench.d.refresh_token = Some("now".into());
    bench.posts();

    let mut bench = Bench::any();
    bench.completes("a");
    bench.in_progress("b", &[(StateType::Running, bench.now())]);
    bench.posts();
}

#[test]
fn runs_matter_from_when_it_is_owed_until_its_job_is_there() {
    let mut bench = waiting();
    let asks = |bench: &Bench| waits_for_runs(bench.d.running, &bench.s).is_some();
    assert!(!asks(&bench), "at rest");
    bench.completes("a");
    bench.rest();
    assert!(asks(&bench));
    bench.idle();
    bench.posts();
    assert!(asks(&bench), "not sent yet");
    bench.answered(Answer::Job("j1".into()));
    assert!(!asks(&bench));
    bench.succeeds("j1");
    assert!(!asks(&bench));
}
