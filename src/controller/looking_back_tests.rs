//! Looking back for completions, beside everything else that is read.

use super::*;
use crate::model::parameters::Parameters;

/// So many runs with this tag that completed two days ago, none of them for the region that is looked for.
fn old_runs(rig: &Rig, tag: &str, count: usize) {
    for _ in 0..count {
        let run = rig.prefect.run_of("x", &[tag], None, StateType::Completed);
        let long_ago = run.state_at - jiff::SignedDuration::from_hours(48);
        let mut state = rig.prefect.state();
        let run = state.runs.last_mut().unwrap();
        (run.state_at, run.ended_at) = (long_ago, Some(long_ago));
        run.parameters = Parameters::of(json!({"region": "us"}).as_object().unwrap());
    }
}

fn looks_for(rig: &Rig, tag: &str) {
    rig.selects(tag, &json!({"tags": [tag], "parameters": {"region": "eu"}}));
}

fn looked_back(rig: &Rig) -> usize {
    rig.prefect.state().calls.iter().filter(|call| *call == "runs completed").count()
}

#[tokio::test(start_paused = true)]
async fn many_feeds_with_a_long_past_keep_nobody_from_being_told_what_is_known() {
    let rig = rig(true, deploy).await;
    let tags: Vec<String> = (0..12).map(|n| format!("tag-{n}")).collect();
    for tag in &tags {
        old_runs(&rig, tag, 600);
        looks_for(&rig, tag);
    }
    let known = rig.prefect.run(&name(), StateType::Completed);
    rig.pass(Duration::from_millis(20)).await;
    assert_eq!(rig.occasions(), [known.id.to_string()], "told with the first reading");
    assert!((12..=22).contains(&looked_back(&rig)), "{} pages before it", looked_back(&rig));
    let settled = |rig: &Rig| {
        let snapshot = rig.session.snapshot();
        let runs = tags.iter().filter_map(|tag| snapshot.runs.get(&selector(&[tag], None)));
        runs.filter(|runs| runs.settled.len() == 1).count()
    };
    assert_eq!(settled(&rig), 0, "each was begun, and none is at its end");
    rig.pass(Duration::from_secs(60)).await;
    assert_eq!(settled(&rig), 12);
}

#[tokio::test(start_paused = true)]
async fn a_past_that_cannot_be_read_keeps_nobody_from_what_was_forced_lately() {
    let rig = rig(true, async |prefect| {
        deploy(prefect).await;
        prefect.run(&name(), StateType::Crashed);
    })
    .await;
    old_runs(&rig, "crm", 600);
    looks_for(&rig, "crm");
    rig.prefect.state().refuses_completed = true;
    for _ in 0..200 {
        rig.prefect.fail("events", PrefectError::Ambiguous);
    }
    rig.pass(Duration::from_secs(3600)).await;
    // A later end takes the cursor past the crash.
    rig.prefect.run(&name(), StateType::Failed);
    rig.pass(POLL * 2).await;
    let health = rig.session.snapshot().health.clone();
    assert!(matches!(health, Health::Connected(_)), "{health:?}");
    let asked = looked_back(&rig);
    assert!((16..=40).contains(&asked), "{asked} tries in an hour, for two feeds");
    let crashed = rig.prefect.state().runs[0].clone();
    rig.prefect.set_state(&crashed.id, StateType::Completed).unwrap();
    rig.pass(Duration::from_secs(700)).await;
    assert_eq!(rig.occasions(), [crashed.id.to_string()]);
}

/// A question that is too slow for the server, for one feed alone, which has its first turn before the other.
#[tokio::test(start_paused = true)]
async fn a_feed_whose_past_cannot_be_read_keeps_no_other_from_its_own_and_is_told_of() {
    let mut rig = rig(true, deploy).await;
    let [bad, good] = ["bad", "good"].map(|tag| {
        old_runs(&rig, tag, 600);
        selector(&[tag], None)
    });
    rig.prefect.state().refuses_tags = BTreeSet::from(["bad".to_owned()]);
    looks_for(&rig, "bad");
    looks_for(&rig, "good");
    let of = |rig: &Rig, feed: &Feed| rig.session.snapshot().runs[feed].clone();
    rig.pass(Duration::from_secs(60)).await;
    assert_eq!((of(&rig, &good).settled.len(), of(&rig, &bad).settled.len()), (1, 0));
    assert!(!of(&rig, &bad).stuck, "it may pass");
    rig.woken();
    let before = looked_back(&rig);
    rig.pass(Duration::from_secs(3600)).await;
    assert!(of(&rig, &bad).stuck && !of(&rig, &good).stuck);
    assert!(rig.woken() > 0, "its resources say so");
    let asked = looked_back(&rig) - before;
    assert!((8..=16).contains(&asked), "{asked} tries in an hour");
    let health = rig.session.snapshot().health.clone();
    assert!(matches!(health, Health::Connected(_)), "{health:?}");

    rig.prefect.state().refuses_tags.clear();
    rig.pass(Duration::from_secs(320)).await;
    assert_eq!((of(&rig, &bad).settled.len(), of(&rig, &bad).stuck), (1, false));
}

/// In the middle of a page, so that the next one, which begins with its last row, does not hold it.
#[tokio::test(start_paused = true)]
async fn a_page_of_which_the_flows_cannot_be_found_out_is_read_again() {
    let rig = rig(true, deploy).await;
    rig.prefect.ensure_flow("y").await.unwrap();
    let mut eu = None;
    for (hours, flow, region) in [(48, "x", "us"), (49, "x", "us"), (50, "y", "eu"), (51, "x", "us")] {
        let run = rig.prefect.run_of(flow, &["crm"], None, StateType::Completed);
        let long_ago = run.state_at - jiff::SignedDuration::from_hours(hours);
        let mut state = rig.prefect.state();
        let old = state.runs.last_mut().unwrap();
        (old.state_at, old.ended_at) = (long_ago, Some(long_ago));
        old.parameters = Parameters::of(json!({"region": region}).as_object().unwrap());
        eu = if region == "eu" { Some(run.id) } else { eu };
    }
    // The newest is known, and its flow.
    rig.selects("any", &json!({"tags": ["crm"]}));
    rig.pass(Duration::from_secs(2)).await;
    assert_eq!(rig.of(&selector(&["crm"], None)).len(), 1);
    rig.prefect.fail("flow", PrefectError::Unavailable);
    looks_for(&rig, "crm");
    rig.pass(Duration::from_secs(20)).await;
    let knows = |rig: &Rig| rig.of(&selector(&["crm"], None)).contains(&eu.as_ref().unwrap().to_string());
    assert!(!knows(&rig), "it may be a report");
    rig.pass(POLL * 3).await;
    assert!(knows(&rig));
}
