//! docs/trigger.md 4 and 1: edits of the target, another LUID, another site; status never speaks about something else.

use super::*;
use crate::api::{DemandKind, Outcome};

fn refreshed() -> Bench {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.refreshes("job-1");
    assert_eq!(bench.reason("Fresh"), "True/UpToDate");
    bench
}

#[test]
fn a_republished_target_is_refreshed_once_and_an_edited_one_is_not() {
    type Edit = fn(&mut Bench);
    let cases: [(&str, Edit, bool, &str); 6] = [
        ("republished", |b| b.o.target = TargetView::Found(found("luid-2")), true, "Unknown/NotYetRefreshed"),
        (
            "another name",
            |b| {
                b.d.target = named("Finance", "Stock");
                b.o.target = TargetView::Found(Found { name: Some("Stock".into()), ..found("luid-2") });
            },
            false,
            "Unknown/NotYetRefreshed",
        ),
        (
            "moved, same content",
            |b| {
                b.d.target = named("Sales", "Orders");
                b.o.target = TargetView::Found(Found { path: Some("Sales".into()), ..found(LUID) });
            },
            false,
            "True/UpToDate",
        ),
        (
            "another luid in the spec",
            |b| {
                b.d.target = Target::Luid { kind: TargetKind::Datasource, luid: "luid-2".into() };
                b.o.target = TargetView::Found(found("luid-2"));
            },
            false,
            "Unknown/NotYetRefreshed",
        ),
        (
            "another kind of refresh",
            |b| b.d.refresh_type = RefreshMode::Incremental,
            false,
            "Unknown/NotYetRefreshed",
        ),
        ("not found for a moment", |b| b.o.target = TargetView::NotFound, false, "True/UpToDate"),
    ];
    for (what, edit, owed, fresh) in cases {
        let mut bench = refreshed();
        edit(&mut bench);
        bench.rest();
        let demands = bench.s.owed.iter().flat_map(|o| &o.demands).map(|d| d.kind).collect::<Vec<_>>();
        assert_eq!(demands == [DemandKind::Republished], owed, "{what}");
        assert_eq!(bench.owed().len(), 0, "{what}");
        assert_eq!(bench.reason("Fresh"), fresh, "{what}");
    }
}

#[test]
fn a_target_edited_while_its_job_runs_is_refreshed_and_the_old_job_not_credited() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.d.target = named("Finance", "Stock");
    bench.o.target = TargetView::Unread;
    let now = bench.now();
    bench.job("job-1", JobStatus::Success, Some(now));
    bench.rest();
    assert!(bench.s.attempt.is_some(), "not judged before the new target is looked up");
    bench.o.target = TargetView::Found(Found { name: Some("Stock".into()), ..found("luid-2") });
    bench.rest();
    assert_eq!(bench.s.history[0].outcome, Outcome::Superseded);
    assert_eq!(bench.reason("Fresh"), "Unknown/NotYetRefreshed");
    assert_eq!(bench.posts().luid, "luid-2");
}

#[test]
fn an_intent_for_the_old_target_is_never_posted() {
    let edit = |bench: &mut Bench| {
        bench.d.target = named("Finance", "Stock");
        bench.o.target = TargetView::Found(Found { name: Some("Stock".into()), ..found("luid-2") });
    };
    // In the ledger: dropped at once.
    let mut bench = Bench::any();
    bench.completes("a");
    bench.rest();
    edit(&mut bench);
    assert_eq!(bench.posts().luid, "luid-2");

    // Perhaps sent: looked up first, followed for the history if it was.
    let mut bench = Bench::any();
    bench.completes("a");
    bench.posts();
    bench.answered(Answer::Ambiguous);
    edit(&mut bench);
    bench.rest();
    assert_eq!(bench.s.attempt.as_ref().unwrap().luid, LUID);
    let row = bench.row("job-1", JobStatus::Pending, RefreshType::Full);
    bench.list(vec![row]);
    bench.wait(2);
    bench.succeeds("job-1");
    assert_eq!(bench.s.history[0].outcome, Outcome::Superseded);
    assert_eq!(bench.posts().luid, "luid-2");
}

#[test]
fn a_job_on_a_site_that_is_no_longer_meant_is_let_go() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.submits("job-1");
    bench.d.site = ConnectionName::parse("other");
    bench.o.site = SiteView::Ready { luid: "site-2".into() };
    bench.o.target = TargetView::Found(Found { site_luid: "site-2".into(), ..found("luid-7") });
    bench.rest();
    assert_eq!(bench.s.history[0].outcome, Outcome::Superseded);
    assert_eq!(bench.posts().luid, "luid-7");
}

#[test]
fn paths_are_split_at_slashes_that_are_not_escaped() {
    for (text, parts) in [
        ("Finance/Sales", Some(vec!["Finance", "Sales"])),
        (r"A\/B/C", Some(vec!["A/B", "C"])),
        (r"A\\/C", Some(vec![r"A\", "C"])),
        ("A//B", None),
        ("/A", None),
    ] {
        let parsed = ProjectPath::parse(text);
        assert_eq!(parsed.as_ref().map(|p| p.0.iter().map(String::as_str).collect()), parts, "{text}");
        if let Some(path) = parsed {
            assert_eq!(ProjectPath::parse(&path.to_string()), Some(path), "{text}");
        }
    }
}

#[test]
fn everything_wrong_with_a_target_has_its_reason_and_says_what_to_do() {
    let at = |path: Option<&str>, name: &str| {
        TargetView::Elsewhere(Found { path: path.map(Into::into), name: Some(name.into()), ..found(LUID) })
    };
    let several = || TargetView::Ambiguous(vec![LUID.into(), "luid-2".into()]);
    for (view, reason, words) in [
        (
            TargetView::NotFound,
            "TargetNotFound",
            ["data source `Finance/Orders`", "any more", "publish it again"],
        ),
        (
            at(Some("Archive"), "Orders"),
            "TargetNotFound",
            ["`Finance/Orders`", "moved to project `Archive`", "spec.target.projectPath"],
        ),
        (
            at(Some("Finance"), "Old"),
            "TargetNotFound",
            ["`Finance/Orders`", "renamed to `Old`", "spec.target.name"],
        ),
        (
            at(Some("Archive"), "Old"),
            "TargetNotFound",
            ["`Finance/Orders`", "moved and renamed to `Archive/Old`", "spec.target"],
        ),
        (at(None, "Orders"), "TargetNotFound", ["`Finance/Orders`", "sees no project", "put it back"]),
        (several(), "TargetAmbiguous", ["`Finance/Orders`", "`luid-1`, `luid-2`", "spec.target.luid"]),
        (
            TargetView::Forbidden,
            "PermissionDenied",
            ["`Finance/Orders`", "does not let this account see", "grant"],
        ),
        (
            TargetView::NoExtract(found(LUID)),
            "NoExtract",
            ["`Finance/Orders`", "live connection", "publish it with one"],
        ),
    ] {
        let mut bench = refreshed();
        let before = bench.s.clone();
        bench.o.target = view.clone();
        bench.rest();
        assert_eq!(bench.reason("Ready"), format!("False/{reason}"), "{view:?}");
        for word in words {
            assert!(bench.message("Ready").contains(word), "{word}: {}", bench.message("Ready"));
        }
        assert_eq!(bench.reason("Fresh"), "True/UpToDate");
        assert_eq!((&bench.s.marks, &bench.s.target), (&before.marks, &before.target), "{view:?}");
        // What completes meanwhile is owed, and says what it waits for.
        bench.completes("a");
        assert_eq!(bench.rest(), Step::Rest);
        assert_eq!((bench.owed().len(), bench.reason("Refreshing")), (1, "False/Retrying".into()));
        assert!(bench.message("Refreshing").contains("Ready says"), "{}", bench.message("Refreshing"));
        bench.o.target = TargetView::Found(found(LUID));
        bench.posts();
    }
}

#[test]
fn where_a_target_went_is_an_event_of_its_own() {
    let elsewhere = |name: &str| Found { name: Some(name.into()), ..found(LUID) };
    let mut bench = refreshed();
    bench.o.target = TargetView::Elsewhere(elsewhere("Old"));
    bench.rest();
    assert_eq!(bench.notes.iter().filter(|note| **note == "TargetMoved").count(), 1);

    // To a LUID it is all the same.
    let mut bench = refreshed();
    bench.d.target = Target::Luid { kind: TargetKind::Datasource, luid: LUID.into() };
    bench.d.generation += 1;
    bench.rest();
    assert!(!bench.notes.contains(&"TargetMoved"));
    bench.o.target = TargetView::Found(elsewhere("Old"));
    bench.rest();
    assert_eq!(bench.notes.iter().filter(|note| **note == "TargetMoved").count(), 1);
    assert_eq!(
        (bench.reason("Ready"), bench.reason("Fresh")),
        ("True/InSync".into(), "True/UpToDate".into())
    );
    assert_eq!(bench.s.target.as_ref().unwrap().name.as_deref(), Some("Old"));
}

#[test]
fn what_was_never_there_is_no_loss() {
    let mut bench = Bench::new();
    bench.s = ExtractRefreshStatus::default();
    bench.o.target = TargetView::NotFound;
    bench.rest();
    assert!(bench.message("Ready").starts_with("No data source `Finance/Orders` is on the site"));
    // What was found by other names before says nothing about these.
    let mut bench = refreshed();
    bench.d.target = named("Finance", "Stock");
    bench.o.target = TargetView::NotFound;
    bench.rest();
    assert!(bench.message("Ready").starts_with("No data source `Finance/Stock`"));
    assert_eq!(found_before(&bench.d.target, Some(&bench.s)), None);
    assert_eq!(found_before(&named("Finance", "Orders"), Some(&bench.s)), Some(LUID.into()));
    let by_luid = Target::Luid { kind: TargetKind::Datasource, luid: LUID.into() };
    assert_eq!(found_before(&by_luid, Some(&bench.s)), None, "it is asked for anyway");
}

#[test]
fn what_is_seen_of_the_target_is_newer_than_what_its_refresh_was_refused_for() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.posts();
    bench.answered(Answer::NotFound);
    assert!(bench.message("Ready").contains("asked again later"), "{}", bench.message("Ready"));
    bench.o.target = TargetView::Elsewhere(Found { path: Some("Archive".into()), ..found(LUID) });
    bench.rest();
    assert!(bench.message("Ready").contains("moved to project `Archive`"), "{}", bench.message("Ready"));
}
