//! What is told of which status.

use super::*;
use crate::api::{AttemptPhase, Demand, DemandKind, Occasion, Position, TargetStatus, Time};

const JOB: &str = "11111111-2222-4333-8444-555555555555";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn me() -> ObjectName {
    ObjectName { namespace: "finance".into(), name: "orders.v2".into() }
}

fn position(second: i64) -> Position {
    Position { at: Time(at(second)), state_id: Some(format!("state-{second}")), started_at: None }
}

fn mark(name: &str, workspace: &str, completed: i64, covered: Option<i64>) -> Mark {
    Mark {
        name: name.into(),
        key: format!("{workspace}/flow-{name}/nightly"),
        since: Time(at(0)),
        removed_at: None,
        seen: Some(Occasion {
            run_id: format!("run-{name}"),
            state_id: format!("state-{completed}"),
            state_name: None,
            at: Time(at(completed)),
            started_at: None,
            fence: None,
        }),
        mark: position(0),
        covered: covered.map(position),
        refresh_type: None,
    }
}

/// A job that was sent for whatever the marks have seen.
fn submitted(marks: Vec<Mark>) -> ExtractRefreshStatus {
    let seen = marks.iter().filter_map(|mark| {
        let seen = mark.seen.as_ref()?;
        let position = Position { at: seen.at, state_id: Some(seen.state_id.clone()), started_at: None };
        Some(Contained { key: mark.key.clone(), run_id: seen.run_id.clone(), position })
    });
    let attempt = Attempt {
        id: "intent".into(),
        phase: AttemptPhase::Submitted,
        intended_at: Time(at(50)),
        fence: Time(at(51)),
        site: None,
        site_luid: "site".into(),
        kind: TargetKind::Datasource,
        luid: "luid".into(),
        refresh_type: RefreshType::Full,
        seen: seen.collect(),
        demands: Vec::new(),
        job_id: Some(JOB.into()),
        origin: Some(JobOrigin::Ours),
        started_at: None,
        blocked: 0,
        not_before: None,
        waits_for_job: None,
    };
    let target = TargetStatus {
        kind: TargetKind::Datasource,
        site_luid: "site".into(),
        luid: "luid".into(),
        project_path: Some("Finance/Sales".into()),
        name: Some("Orders | all".into()),
        refresh_type: RefreshType::Full,
        full_only: false,
    };
    ExtractRefreshStatus { marks, attempt: Some(attempt), target: Some(target), ..Default::default() }
}

fn named(identity: &str, otherwise: Option<&str>) -> Site {
    Site { identity: identity.to_owned(), otherwise: otherwise.map(str::to_owned) }
}

fn started(mut s: ExtractRefreshStatus) -> ExtractRefreshStatus {
    s.attempt.as_mut().unwrap().started_at = Some(Time(at(60)));
    s
}

fn ended(mut s: ExtractRefreshStatus, outcome: Outcome) -> ExtractRefreshStatus {
    let attempt = s.attempt.take().unwrap();
    s.history.insert(
        0,
        HistoryEntry {
            cause: crate::model::extract::cause(&attempt).into(),
            runs: attempt.seen.iter().map(|c| c.run_id.clone()).collect(),
            run_count: 1,
            job_id: attempt.job_id,
            origin: attempt.origin,
            site: attempt.site,
            luid: attempt.luid,
            refresh_type: attempt.refresh_type,
            started_at: attempt.started_at,
            ended_at: Some(Time(at(152))),
            outcome,
            failure: None,
        },
    );
    s
}

/// Every workspace but `off` is an API of its own; `prod` and `twin` are the same.
fn told(s: &ExtractRefreshStatus, before: &[Report]) -> Vec<Report> {
    told_at(s, before, at(160))
}

fn told_at(s: &ExtractRefreshStatus, before: &[Report], now: Timestamp) -> Vec<Report> {
    let server = |name: &str| match name {
        "off" => None,
        "twin" => Some("https://prod".to_owned()),
        name => Some(format!("https://{name}")),
    };
    reports(&me(), s, before, server, |site| named(site.unwrap_or("acme"), None), now)
}

fn one(s: &ExtractRefreshStatus) -> Report {
    let mut all = told(s, &[]);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn placed(report: &Report) -> Vec<(&str, Option<&str>)> {
    report.places.iter().map(|p| (p.workspace.as_str(), p.parent.as_ref().map(RunId::as_str))).collect()
}

#[test]
fn it_is_told_once_tableau_has_a_job_and_for_a_while_after_its_end() {
    let mut s = submitted(vec![mark("a", "prod", 10, None)]);
    s.attempt.as_mut().unwrap().job_id = None;
    assert_eq!(told(&s, &[]), []);
    let s = submitted(vec![mark("a", "prod", 10, None)]);
    assert_eq!(one(&s).phase(), Phase::Queued);
    assert_eq!(one(&started(s.clone())).phase(), Phase::Running);
    let s = ended(started(s), Outcome::Succeeded);
    assert_eq!(one(&s).phase(), Phase::Ended);
    assert_eq!(told_at(&s, &[], add(at(152), KEPT)), [], "long ago");
}

#[test]
fn what_ended_keeps_what_was_known_of_it_while_it_ran() {
    let running = started(submitted(vec![mark("a", "prod", 10, None)]));
    let before = told(&running, &[]);
    let mut s = ended(running, Outcome::Succeeded);
    // Another run completes meanwhile: the history's run is nobody's newest any more.
    s.marks[0].seen.as_mut().unwrap().run_id = "run-later".into();
    let known = told(&s, &before).remove(0);
    assert_eq!((known.runs[0].run.as_str(), placed(&known)), ("run-a", vec![("prod", Some("run-a"))]));
    // A process that has not seen it run knows less, and tells it all the same, where it was told.
    assert_eq!((one(&s).runs.len(), placed(&one(&s))), (0, vec![("prod", None)]));
    assert_eq!(one(&s).job, known.job);
}

/// It was told in the Prefect of the run, which is not the one of the first upstream: a second one there would be about nothing.
#[test]
fn whoever_does_not_know_the_run_of_a_refresh_tells_it_only_where_it_was_told() {
    let of = |first: &str, second: &str, seen: &str| {
        let running = started(submitted(vec![mark("a", first, 10, Some(10)), mark("b", second, 20, None)]));
        let mut s = ended(running, Outcome::Succeeded);
        s.history[0].runs = vec!["run-b".into()];
        s.marks[1].seen.as_mut().unwrap().run_id = seen.into();
        told(&s, &[])
    };
    assert_eq!(placed(&of("prod", "other", "run-b")[0]), [("other", Some("run-b"))]);
    assert_eq!(of("prod", "other", "run-later"), []);
    assert_eq!(of("prod", "off", "run-later"), [], "it was not wanted there");
    assert_eq!(placed(&of("prod", "twin", "run-later")[0]), [("prod", None)], "there is only one");
}

#[test]
fn a_retry_and_the_failure_before_it_are_two() {
    let mut s = ended(started(submitted(vec![mark("a", "prod", 10, None)])), Outcome::Failed);
    s.attempt = submitted(vec![mark("a", "prod", 10, None)]).attempt;
    s.attempt.as_mut().unwrap().job_id = Some("job-2".into());
    let all = told(&s, &[]);
    let shown: Vec<_> = all.iter().map(|report| (report.job.as_str(), report.phase())).collect();
    assert_eq!(shown, [(JOB, Phase::Ended), ("job-2", Phase::Queued)]);
}

#[test]
fn each_prefect_is_told_once_under_the_newest_run_that_caused_it() {
    for (what, marks, places) in [
        ("the newest", vec![("a", "prod", 10, None), ("b", "prod", 20, None)], vec![("prod", Some("run-b"))]),
        (
            "contained before",
            vec![("a", "prod", 10, None), ("b", "prod", 20, Some(20))],
            vec![("prod", Some("run-a"))],
        ),
        (
            "two names, one API",
            vec![("a", "prod", 10, None), ("b", "twin", 20, None)],
            vec![("twin", Some("run-b"))],
        ),
        (
            "two workspaces",
            vec![("a", "prod", 10, None), ("b", "other", 20, None)],
            vec![("other", Some("run-b")), ("prod", Some("run-a"))],
        ),
        (
            "not wanted in one",
            vec![("a", "off", 20, None), ("b", "prod", 10, None)],
            vec![("prod", Some("run-b"))],
        ),
        ("no new run", vec![("a", "prod", 10, Some(10)), ("b", "other", 20, Some(20))], vec![("prod", None)]),
    ] {
        let marks =
            marks.into_iter().map(|(name, workspace, at, covered)| mark(name, workspace, at, covered));
        assert_eq!(placed(&one(&submitted(marks.collect()))), places, "{what}");
    }
    assert_eq!(told(&submitted(Vec::new()), &[]), [], "no upstream: nowhere");
    assert_eq!(told(&submitted(vec![mark("a", "off", 10, None)]), &[]), [], "not wanted");
}

#[test]
fn where_it_was_told_it_is_told_to_the_end() {
    let asked = submitted(vec![mark("a", "prod", 10, Some(10)), mark("b", "other", 20, Some(20))]);
    let before = told(&asked, &[]);
    // A run of the other workspace completes while the job is queued.
    let later = submitted(vec![mark("a", "prod", 10, Some(10)), mark("b", "other", 30, Some(20))]);
    let places = |reports: &[Report]| -> Vec<String> {
        placed(&reports[0]).iter().map(|(workspace, parent)| format!("{workspace} {parent:?}")).collect()
    };
    assert_eq!(places(&told(&later, &before)), ["prod None", "other Some(\"run-b\")"]);
}

/// What is left, in order: a capital is the state of a phase, a small letter its log lines.
fn steps(report: &Report, told: Phase, logged: Option<Phase>) -> String {
    let letter = |phase| match phase {
        Phase::Queued => "Qq",
        Phase::Running => "Rr",
        Phase::Ended => "Ee",
    };
    let of =
        |step: Step| [(step.state, 0), (step.lines, 1)].map(|(is, n)| is.then(|| &letter(step.phase)[n..=n]));
    report.steps(told, logged).into_iter().flat_map(of).flatten().collect()
}

#[test]
fn states_go_only_forward_and_lines_that_are_missing_come_in_their_order() {
    use Phase::{Ended, Queued, Running};
    let queued = one(&submitted(vec![mark("a", "prod", 10, None)]));
    let running = one(&started(submitted(vec![mark("a", "prod", 10, None)])));
    let done = one(&ended(started(submitted(vec![mark("a", "prod", 10, None)])), Outcome::Succeeded));
    let unstarted = one(&ended(submitted(vec![mark("a", "prod", 10, None)]), Outcome::Cancelled));
    for (report, told, logged, left) in [
        (&queued, Queued, None, "q"),
        (&queued, Queued, Some(Queued), ""),
        // Somebody else has ended it.
        (&queued, Ended, None, "q"),
        (&running, Queued, None, "qRr"),
        (&running, Queued, Some(Queued), "Rr"),
        (&running, Running, Some(Queued), "r"),
        (&running, Running, None, "qr"),
        (&running, Running, Some(Running), ""),
        (&running, Ended, Some(Ended), ""),
        (&done, Queued, None, "qRrEe"),
        (&done, Running, Some(Queued), "rEe"),
        (&done, Running, Some(Running), "Ee"),
        (&done, Ended, Some(Running), "e"),
        (&done, Ended, Some(Ended), ""),
        // Lines that later ones have followed are not sent after them; nor are those of a state that was set back.
        (&done, Running, Some(Ended), "E"),
        (&unstarted, Queued, Some(Queued), "Ee"),
        (&unstarted, Ended, Some(Queued), "e"),
    ] {
        assert_eq!(steps(report, told, logged), left, "{:?} after {told:?}, {logged:?}", report.phase());
    }
    assert_eq!(queued.abandoned().unwrap().phase(), Ended);
    assert_eq!(done.abandoned(), None);
}

#[test]
fn what_was_logged_is_told_by_the_logger_whatever_the_lines_say() {
    let done = one(&ended(started(submitted(vec![mark("a", "prod", 10, None)])), Outcome::Succeeded));
    let of = |phase| done.lines(phase).iter().map(|line| line.logger.to_owned()).collect::<Vec<_>>();
    for phase in [Phase::Queued, Phase::Running, Phase::Ended] {
        assert_eq!(Phase::logged(&of(phase), Phase::Queued), Some(phase));
    }
    assert_eq!(Phase::logged(&[], Phase::Ended), None);
    assert_eq!(Phase::logged(&["prefect.flow_runs".into()], Phase::Ended), None);
    // By a version that did not say which.
    assert_eq!(Phase::logged(&["feedwater".into()], Phase::Running), Some(Phase::Running));
    assert_eq!(
        Phase::logged(&["feedwater.running".into(), "feedwater".into()], Phase::Queued),
        Some(Phase::Running)
    );
}

#[test]
fn a_run_that_was_made_when_its_site_was_called_otherwise_is_ones_own_and_that_of_others_is_not() {
    let report = one(&submitted(vec![mark("a", "prod", 10, None)]));
    // Begun where the connection was let in; after a restart it is refused there.
    let report = Report { site: named("finance/acme", Some("https://tableau.acme.example")), ..report };
    let run = |site: &str, refresh: &str| Whose { site: Some(site.into()), refresh: Some(refresh.into()) };
    for (whose, ours) in [
        (run("finance/acme", "finance/orders.v2"), true),
        (run("https://tableau.acme.example", "finance/orders.v2"), true),
        // Two resources may follow one job; but who is refused at a site is not told of what others do there.
        (run("finance/acme", "finance/fx"), true),
        (run("https://tableau.acme.example", "finance/fx"), false),
        (run("https://evil.example", "finance/orders.v2"), false),
        (Whose::default(), true),
    ] {
        assert_eq!(report.is_of(&whose), ours, "{whose:?}");
    }
    let said = Whose::of(&report.new_run(None).labels);
    assert_eq!(said, run("finance/acme", "finance/orders.v2"));
}

#[test]
fn each_end_is_a_state_of_prefects_and_an_event_where_it_is_known() {
    let outside = Outside {
        server_url: "https://tableau.acme.example".into(),
        site: String::new(),
        web_url: Some("https://tableau.acme.example/#/datasources/7".into()),
    };
    let event = |report: &Report| report.asset(&outside, at(999), vec![]).map(|event| event.event);
    let (made, not_made) =
        (Some("prefect.asset.materialization.succeeded"), Some("prefect.asset.materialization.failed"));
    for (outcome, state, name, told) in [
        (Outcome::Succeeded, StateType::Completed, None, made),
        (Outcome::Failed, StateType::Failed, None, not_made),
        (Outcome::TimedOut, StateType::Failed, Some("TimedOut"), not_made),
        (Outcome::Cancelled, StateType::Cancelled, None, not_made),
        (Outcome::Superseded, StateType::Cancelled, None, None),
        (Outcome::JobVanished, StateType::Crashed, None, None),
    ] {
        let report = one(&ended(started(submitted(vec![mark("a", "prod", 10, None)])), outcome));
        let shown = report.state(Phase::Ended);
        assert_eq!((shown.state_type, shown.name, event(&report)), (state, name, told), "{outcome:?}");
        assert!(!shown.message.is_empty() && !shown.message.ends_with('.'), "{}", shown.message);
        let level = if outcome == Outcome::Succeeded { 20 } else { 40 };
        assert_eq!(report.lines(Phase::Ended)[0].level, level, "{outcome:?}");
    }
    let gone = one(&submitted(vec![mark("a", "prod", 10, None)])).abandoned().unwrap();
    assert_eq!((gone.state(Phase::Ended).state_type, event(&gone)), (StateType::Crashed, None));
}

#[test]
fn what_is_written_says_what_why_how_long_and_where() {
    let mut s = started(submitted(vec![mark("a", "prod", 10, None), mark("b", "prod", 20, None)]));
    let demand = Demand { kind: DemandKind::Requested, token: Some("secret-token".into()), fence: None };
    s.attempt.as_mut().unwrap().demands.push(demand);
    let report = one(&ended(s, Outcome::Succeeded));
    assert_eq!(report.name(), "Finance/Sales/Orders | all");
    let run = report.new_run(None);
    assert_eq!((run.idempotency_key.as_str(), run.labels[LABEL].as_str()), (JOB, Some("finance/orders.v2")));
    let outside = Outside {
        server_url: "https://Tableau.acme.example:8443".into(),
        site: "acme sales".into(),
        web_url: Some("https://tableau.acme.example/#/site/acme/datasources/7".into()),
    };
    let artifact = report.artifact(&outside);
    assert_eq!(artifact.key, "tableau-finance-orders-v2");
    let text = format!("{artifact:?} {:?} {run:?}", report.lines(Phase::Queued));
    for part in [
        r"data source **Finance/Sales/Orders \\| all**",
        "| Took | 1 min 32 s |",
        "somebody asked for it; it contains 2 new completions",
        "run run-a",
        "run run-b",
        "[Open in Tableau](https://tableau.acme.example/#/site/acme/datasources/7)",
        JOB,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("secret-token"), "{text}");
    let event = report.asset(&outside, at(0), vec!["postgres://prod/orders".into()]).unwrap();
    assert_eq!(event.asset, "tableau://Tableau.acme.example:8443/acme-sales/datasources/luid");
    assert_eq!((event.id.as_str(), event.occurred, event.parents.len()), (JOB, at(152), 1));
    // A link that would end early, or is none, is not one.
    for bad in ["javascript:alert(1)", "https://x/) [y](https://z", "https://x y"] {
        let outside = Outside { web_url: Some(bad.into()), ..outside.clone() };
        assert!(report.artifact(&outside).markdown.contains("(https://Tableau.acme.example:8443)"), "{bad}");
    }
}
