//! docs/trigger.md 2 and 7: when a set forms, and from where on completions count.

use super::*;

/// Completions in order; the sets that form, each as the runs it owes right then (merged with what was owed before).
fn sets(bench: &mut Bench, completions: &str) -> Vec<String> {
    let mut sets = Vec::new();
    for name in completions.split_whitespace() {
        if let Ok(seconds) = name.parse() {
            bench.wait(seconds);
            continue;
        }
        let before = bench.owed();
        bench.completes(name);
        bench.rest();
        if bench.owed() != before {
            sets.push(bench.owed().iter().map(|run| run[..1].to_owned()).collect());
        }
    }
    sets
}

#[test]
fn a_set_takes_the_newest_of_each_upstream_that_require_asks_for() {
    let minute = Some(Duration::from_secs(60));
    for (require, within, completions, expected) in [
        (Require::All, None, "a", vec![]),
        (Require::All, None, "a a a a a b", vec!["ab"]),
        (Require::All, None, "a b a", vec!["ab"]),
        (Require::All, None, "a b a b", vec!["ab", "ab"]),
        (Require::Any, None, "a a b", vec!["a", "a", "ab"]),
        (Require::Count(2), None, "a a b", vec!["ab"]),
        (Require::Count(3), None, "a b a b", vec![]),
        (Require::All, minute, "a 61 b", vec![]),
        (Require::All, minute, "a 58 b", vec!["ab"]),
        (Require::All, minute, "a 61 b a", vec!["ab"]),
    ] {
        let mut bench = Bench::new();
        (bench.d.require, bench.d.within) = (require, within);
        assert_eq!(sets(&mut bench, completions), expected, "{require} within {within:?}: {completions}");
    }
}

#[test]
fn one_read_is_replayed_in_order_like_many() {
    let mut bench = Bench::new();
    bench.d.within = Some(Duration::from_secs(60));
    // All at once: the pair is a set, although the later run of `a` stands outside its window.
    bench.completes("a");
    let b = bench.completes("b");
    bench.wait(300);
    bench.completes("a");
    bench.rest();
    assert!(bench.owed().contains(&b));
    assert!(bench.s.marks.iter().find(|m| m.name == "a").unwrap().is_new());
}

#[test]
fn a_completion_that_shows_up_late_takes_its_place_in_the_order() {
    let mut bench = Bench::new();
    bench.d.within = Some(Duration::from_secs(60));
    bench.completes("a");
    let late = bench.read("a").pop().unwrap();
    bench.completes("b");
    bench.wait(300);
    let newer = bench.completes("a");
    bench.rest();
    assert!(bench.owed().is_empty());
    bench.read("a").insert(0, late.clone());
    bench.rest();
    assert!(bench.owed().contains(&late.run.to_string()), "{:?}", bench.owed());
    assert_eq!(bench.s.marks[0].seen.as_ref().unwrap().run_id, newer);
}

#[test]
fn a_persons_refresh_between_two_completions_takes_nothing_from_the_set() {
    let mut bench = Bench::new();
    let a = bench.completes("a");
    bench.rest();
    bench.d.refresh_token = Some("now".into());
    bench.refreshes("job-1");
    assert_eq!(bench.s.owed, None);
    let b = bench.completes("b");
    bench.rest();
    // `a` is contained already; the set is owed for `b`, and both marks moved.
    assert_eq!(bench.owed(), vec![b]);
    assert_ne!(bench.owed(), vec![a]);
    assert!(bench.s.marks.iter().all(|mark| !mark.is_new()));
}

/// The view leaves out what is excluded, as the controller does.
fn exclude(bench: &mut Bench, name: &str) {
    let selection = Selection::new(Parameters::default(), [name.to_owned()]);
    bench.read("a").retain(|seen| selection.counts(seen));
    bench.d.upstreams.iter_mut().find(|upstream| upstream.name == "a").unwrap().selection = selection;
    bench.d.generation += 1;
}

#[test]
fn what_was_seen_before_its_name_was_excluded_makes_no_set_afterwards_and_hides_none() {
    for completed_before in [false, true] {
        let mut bench = Bench::new();
        let counts = completed_before.then(|| bench.completes("a"));
        bench.completes("a");
        bench.read("a").last_mut().unwrap().state_name = "Skipped".into();
        bench.rest();
        assert_eq!(bench.s.marks[0].seen.as_ref().unwrap().state_name.as_deref(), Some("Skipped"));
        exclude(&mut bench, "Skipped");
        bench.rest();
        let b = bench.completes("b");
        bench.rest();
        match counts {
            Some(a) => assert_eq!(bench.owed(), [a, b], "the one before it counts"),
            None => assert_eq!(bench.owed(), Vec::<String>::new()),
        }
    }
}

#[test]
fn the_usual_name_may_be_excluded_too_and_what_is_owed_stays_owed() {
    let mut bench = Bench::new();
    let a = bench.completes("a");
    let b = bench.completes("b");
    bench.rest();
    bench.completes("a");
    bench.rest();
    exclude(&mut bench, "Completed");
    bench.rest();
    assert_eq!(bench.s.marks[0].seen, None);
    assert_eq!(bench.owed(), [a, b]);
}

#[test]
fn what_cannot_be_read_blocks_all_and_nothing_else() {
    let missing = || UpstreamView::Missing { message: "no b".into(), reference: true };
    let unread = || UpstreamView::Unread { key: None, clock: None, stuck: false };
    for (require, view, formed) in [
        (Require::All, missing(), false),
        (Require::All, unread(), false),
        (Require::Any, missing(), true),
        (Require::Any, unread(), true),
        (Require::Count(1), missing(), true),
    ] {
        let mut bench = Bench::new();
        bench.completes("b");
        bench.rest();
        bench.d.require = require;
        bench.o.upstreams.insert("b".into(), view);
        bench.completes("a");
        bench.rest();
        assert_eq!(!bench.owed().is_empty(), formed, "{require}");
    }
}

#[test]
fn one_deployment_under_two_names_is_one_of_a_count() {
    let mut bench = Bench::new();
    bench.d.require = Require::Count(2);
    bench.completes("a");
    let mut twin = bench.o.upstreams["a"].clone();
    if let UpstreamView::Read { key, .. } = &mut twin {
        *key = key_of("a");
    }
    bench.d.upstreams = vec![upstream("a"), upstream("twin")];
    bench.o.upstreams.insert("twin".into(), twin);
    bench.rest();
    assert!(bench.owed().is_empty());
}

#[test]
fn an_edit_of_the_gate_is_judged_at_once() {
    for edit in [(|d: &mut Desired| d.require = Require::Any) as fn(&mut Desired), |d| {
        d.upstreams.truncate(1);
    }] {
        let mut bench = Bench::new();
        let a = bench.completes("a");
        bench.rest();
        assert!(bench.owed().is_empty());
        edit(&mut bench.d);
        bench.d.generation += 1;
        bench.rest();
        assert_eq!(bench.owed(), vec![a]);
    }
}

#[test]
fn an_upstream_that_comes_back_within_a_day_keeps_its_mark() {
    for (away, kept) in [(23 * 3600, true), (25 * 3600, false)] {
        let mut bench = Bench::new();
        let b = bench.completes("b");
        bench.rest();
        let both = bench.d.upstreams.clone();
        bench.d.upstreams = vec![upstream("a")];
        bench.rest();
        bench.wait(away);
        bench.d.upstreams = both;
        bench.completes("a");
        bench.rest();
        assert_eq!(bench.owed().contains(&b), kept, "away for {away} s");
    }
}

#[test]
fn an_upstream_keeps_its_mark_under_another_name_and_gets_a_new_one_for_another_deployment() {
    let mut bench = Bench::new();
    bench.completes("b");
    bench.rest();
    let view = bench.o.upstreams["b"].clone();
    bench.d.upstreams = vec![upstream("a"), upstream("renamed")];
    bench.o.upstreams.insert("renamed".into(), view);
    bench.rest();
    assert!(bench.s.upstreams.iter().any(|u| u.name == "renamed" && u.new), "{:?}", bench.s.upstreams);

    // `b` is another deployment now; its earlier completions do not count.
    bench.completes("c");
    let mut view = bench.o.upstreams["c"].clone();
    if let UpstreamView::Read { key, .. } = &mut view {
        *key = key_of("c");
    }
    bench.wait(60);
    bench.d.upstreams = vec![upstream("a"), upstream("b")];
    bench.o.upstreams.insert("b".into(), view);
    bench.wait(0);
    bench.completes("a");
    bench.rest();
    assert!(bench.owed().is_empty());
    assert_eq!(bench.s.marks.iter().filter(|m| m.live()).count(), 2);
}

#[test]
fn nothing_counts_before_the_baseline_and_everything_after_it() {
    let mut bench = Bench::any();
    bench.s = ExtractRefreshStatus::default();
    bench.o.baseline = None;
    bench.completes("a");
    bench.rest();
    assert_eq!((&bench.s.baseline, bench.s.marks.len()), (&None, 0), "not before the baseline is known");
    bench.o.baseline = Some(bench.now());
    let counted = bench.completes("b");
    bench.rest();
    // `a` completed at the very baseline and counts: one refresh too many rather than one too few.
    assert_eq!(bench.owed().len(), 2);
    assert!(bench.owed().contains(&counted));

    let mut later = Bench::any();
    later.completes("a");
    later.s = ExtractRefreshStatus::default();
    later.wait(100);
    later.o.baseline = Some(at(50));
    later.rest();
    assert!(later.owed().is_empty(), "earlier completions are only seen");
    assert!(later.s.marks[0].seen.is_some());
}

#[test]
fn the_annotation_is_the_baseline_of_a_restored_cluster() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.s = ExtractRefreshStatus::default();
    bench.wait(100);
    bench.o.baseline = Some(bench.now());
    bench.d.baseline_annotation = Some(at(0));
    bench.rest();
    assert_eq!(bench.owed().len(), 1);
}

#[test]
fn an_upstream_added_later_counts_from_then_on() {
    let mut bench = Bench::new();
    bench.d.upstreams = vec![upstream("a")];
    bench.rest();
    bench.completes("c");
    bench.wait(100);
    bench.d.upstreams = vec![upstream("a"), upstream("c")];
    bench.completes("a");
    bench.rest();
    assert!(bench.owed().is_empty(), "c completed before it was an upstream");
    bench.completes("c");
    bench.rest();
    assert_eq!(bench.owed().len(), 2);
}

#[test]
fn an_upstream_of_the_first_spec_counts_from_the_baseline_though_it_was_found_later() {
    let mut bench = Bench::new();
    bench.s = ExtractRefreshStatus::default();
    bench.o.upstreams.insert("b".into(), UpstreamView::Missing { message: "no b".into(), reference: true });
    bench.completes("a");
    bench.rest();
    bench.o.upstreams.remove("b");
    bench.completes("b");
    bench.wait(100);
    bench.rest();
    assert_eq!(bench.owed().len(), 2);
}

#[test]
fn prefects_clock_going_back_is_no_deaf_hour() {
    let mut bench = Bench::any();
    bench.wait(3600);
    bench.completes("a");
    bench.refreshes("job-1");
    let back = |bench: &mut Bench, seconds: u64| {
        for view in bench.o.upstreams.values_mut() {
            if let UpstreamView::Read { clock, .. } = view {
                *clock = Bounds { lower: at(seconds), upper: at(seconds) };
            }
        }
    };
    back(&mut bench, 1000);
    bench.rest();
    assert!(bench.notes.contains(&"ClockWentBack"));
    assert_eq!(bench.s.owed, None, "what was used is not used again");
    let published = bench.moment();
    bench.read("a").push(Seen {
        run: "after".into(),
        state: "s-after".into(),
        state_name: "Completed".into(),
        parameters: Parameters::default(),
        at: at(1010),
        started_at: None,
        published,
    });
    back(&mut bench, 1010);
    bench.rest();
    assert_eq!(bench.owed(), vec!["after"]);
}

/// Status keeps less of it now: the upstream is the same, and what is owed and under way is of it.
#[test]
fn an_upstream_that_an_earlier_build_kept_under_a_long_key_goes_on() {
    let name = || DeploymentName { flow: "a".repeat(255).as_str().into(), deployment: "nightly".into() };
    let (feed, prod) = (Feed::Deployment(name()), ConnectionName::parse("prod"));
    let mut bench = Bench::any();
    let UpstreamView::Read { key, .. } = bench.o.upstreams.get_mut("a").unwrap() else { panic!() };
    *key = Selection::default().key(&prod, &feed);
    let kept = key.clone();
    bench.rest();
    bench.completes("a");
    bench.submits("job-1");
    bench.rest();
    let now = bench.s.clone();
    assert!(now.marks.iter().any(|mark| mark.key == kept && mark.seen.is_some()));
    let whole = feed.key(&prod);
    for mark in bench.s.marks.iter_mut().filter(|mark| mark.key == kept) {
        mark.key.clone_from(&whole);
    }
    bench.s.owed.as_mut().unwrap().occasions[0].key.clone_from(&whole);
    bench.s.attempt.as_mut().unwrap().seen[0].key.clone_from(&whole);
    bench.rest();
    assert_eq!(bench.s, now);
    bench.succeeds("job-1");
    assert_eq!(bench.owed(), [""; 0]);
}
