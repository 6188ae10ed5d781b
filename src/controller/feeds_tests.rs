//! Whose runs are, and with how few questions they are found.

use super::*;
use crate::clock::Clock;
use crate::prefect::StateType;
use crate::prefect::fake::FakePrefect;

fn runs(tags: &[&str], pool: Option<&str>) -> Feed {
    Feed::Runs(Selector::new(tags.iter().copied(), pool).unwrap())
}

fn deployment(flow: &str) -> DeploymentName {
    DeploymentName { flow: flow.into(), deployment: "nightly".into() }
}

fn feeds(all: &[Feed]) -> Feeds {
    let mut feeds = Feeds::default();
    feeds.watch(all.iter());
    for feed in all {
        if let Feed::Deployment(name) = feed {
            feeds.remember_id(name, &DeploymentId::new(format!("id-{}", name.flow)), Moment::default());
        }
    }
    feeds
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn one_selector_is_asked_for_exactly_and_many_with_one_question() {
    let any = RunQuery::default;
    let ids = |all: &[&str]| all.iter().map(|id| DeploymentId::new(format!("id-{id}"))).collect();
    for (all, queries) in [
        (vec![], vec![]),
        (
            vec![runs(&["crm", "prod"], Some("etl"))],
            vec![RunQuery { all_tags: texts(&["crm", "prod"]), work_pools: texts(&["etl"]), ..any() }],
        ),
        (
            // What both have in common would find too much.
            vec![runs(&["a-prod", "crm"], None), runs(&["a-prod", "fin"], Some("etl"))],
            vec![RunQuery { any_tags: texts(&["crm", "fin"]), ..any() }],
        ),
        (
            vec![
                Feed::Deployment(deployment("a")),
                Feed::Deployment(deployment("b")),
                runs(&["crm"], None),
                runs(&[], Some("etl")),
                runs(&[], Some("spark")),
            ],
            vec![
                RunQuery { deployments: ids(&["a", "b"]), ..any() },
                RunQuery { all_tags: texts(&["crm"]), ..any() },
                RunQuery { work_pools: texts(&["etl", "spark"]), ..any() },
            ],
        ),
    ] {
        assert_eq!(feeds(&all).queries(all.iter()), queries, "{all:?}");
    }
    let many: Vec<Feed> = (0..600).map(|n| runs(&[&format!("tag-{n}")], None)).collect();
    assert_eq!(feeds(&many).queries(many.iter()).len(), 2);
}

#[test]
fn every_run_that_a_feed_takes_is_found_by_its_queries() {
    let all =
        [runs(&["x", "y"], None), runs(&["x", "z"], Some("etl")), runs(&["x"], None), runs(&[], Some("etl"))];
    let feeds = feeds(&all);
    let fake = FakePrefect::new(Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap()));
    for tags in [&["x"][..], &["y"], &["z"], &["x", "y"], &["x", "z"], &["y", "z"], &["x", "y", "z"], &[]] {
        for pool in [None, Some("etl"), Some("other")] {
            fake.run_of("flow", tags, pool, StateType::Completed);
        }
    }
    for subset in 0..16_u32 {
        let some: Vec<&Feed> =
            all.iter().enumerate().filter(|(n, _)| subset >> n & 1 == 1).map(|(_, f)| f).collect();
        let queries = feeds.queries(some.iter().copied());
        for run in &fake.state().runs {
            let found = queries.iter().any(|query| FakePrefect::finds(query, run));
            let taken = feeds.of(run).any(|feed| some.contains(&&feed));
            assert!(found || !taken, "{some:?} {run:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_belongs_to_each_feed_that_takes_it_and_one_that_reports_to_none() {
    let fake = FakePrefect::new(Clock::virtual_from("2026-11-24T10:00:00Z".parse().unwrap()));
    for flow in ["orders", reports::FLOW] {
        fake.ensure_flow(flow).await.unwrap();
    }
    let all = [Feed::Deployment(deployment("orders")), runs(&[], Some("etl")), runs(&["crm"], None)];
    let mut feeds = feeds(&all);
    let mark = "feedwater:test/finance/orders";
    let mut marked = fake.run_of("orders", &["crm", mark], Some("etl"), StateType::Completed);
    marked.deployment = Some("id-orders".into());
    let label = Run { reports_refresh: true, ..marked.clone() };
    let report = fake.run_of(reports::FLOW, &["crm"], None, StateType::Completed);
    let other = fake.run_of("other", &["crm"], None, StateType::Completed);
    let of = |feeds: &Feeds, run: &Run| feeds.of(run).collect::<Vec<_>>();
    fake.state().calls.clear();
    let found = [marked.clone(), label.clone(), report.clone(), other.clone()];
    feeds.learn_flows(&fake, &found).await.unwrap();
    assert_eq!(of(&feeds, &marked), all, "the mark that runs inherit says nothing");
    assert_eq!(of(&feeds, &label), []);
    assert_eq!(of(&feeds, &report), [], "without the label, by its flow");
    assert_eq!(of(&feeds, &other), [all[2].clone()]);
    feeds.learn_flows(&fake, &found).await.unwrap();
    assert_eq!(fake.operations(), ["flow"], "asked once for flows that were not met before");
    feeds.watch(all[1..].iter());
    assert_eq!(of(&feeds, &marked), all[1..], "nobody is interested in the deployment any more");
}

#[test]
fn an_event_of_a_run_that_a_selector_may_take_is_worth_a_look() {
    let feeds = feeds(&[runs(&["crm", "prod"], Some("etl")), Feed::Deployment(deployment("orders"))]);
    let event = |deployment: Option<&str>, tags: &[&str], pool: Option<&str>| RunEvent {
        run: "r".into(),
        deployment: deployment.map(Into::into),
        tags: texts(tags),
        work_pool: pool.map(str::to_owned),
    };
    for (event, watched) in [
        (event(None, &["prod", "x", "crm"], Some("etl")), true),
        (event(None, &["prod", "crm"], None), false),
        (event(None, &["crm"], Some("etl")), false),
        (event(Some("id-orders"), &[], None), true),
        (event(Some("id-other"), &[], Some("etl")), false),
    ] {
        assert_eq!(feeds.watches(&event), watched, "{event:?}");
    }
}
