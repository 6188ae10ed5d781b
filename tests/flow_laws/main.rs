//! Laws of the `FlowDeployment` machine over a model Prefect, with crashes, refusals, hands in Prefect, edits and deletes in any order.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml's leave is for test functions; here everything is test

mod prefect;
mod world;

use feedwater::api::DeletionPolicy;
use feedwater::model::deployments::{Deployment, Schedule, Touched};
use feedwater::model::flow::{Failure, MARK_PREFIX, Step};
use feedwater::model::ids::{DeploymentId, ScheduleId};
use feedwater::model::time::add;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use world::{Away, FLOW, Fault, World, desired, name};

/// A spec that shows itself in one line.
#[derive(Clone)]
struct Spec(Value);

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Apply(usize, Spec),
    Delete(usize),
    Pass(usize, Fault),
    Read,
    Wait(u64),
    Restart,
    Hand(usize, Hand),
    /// A run falls due and no worker takes it.
    Late(usize),
}

/// What people do in Prefect behind our back.
#[derive(Clone, Debug)]
enum Hand {
    Describe,
    Version,
    ClearTags,
    Delete,
    DropSchedule,
    ChangeSchedules,
    AddSchedule,
    /// Makes a deployment of this name, if there is none.
    Make,
}

fn schedule() -> impl Strategy<Value = Value> {
    let rule = select(vec![
        json!({"cron": {"expression": "0 2 * * *"}, "timeZone": "Europe/Berlin"}),
        json!({"cron": {"expression": "@daily", "dayOr": false}}),
        json!({"interval": {"every": "1h30m"}}),
        json!({"interval": {"every": "1h", "anchor": "2026-01-01T00:00:00Z"}}),
        json!({"rrule": {"rule": "FREQ=DAILY;BYHOUR=4"}}),
    ]);
    (rule, prop::option::of(any::<bool>())).prop_map(|(mut rule, active)| {
        if let Some(active) = active {
            rule["active"] = json!(active);
        }
        rule
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let optional = subsequence(
        vec![
            ("description", json!("Loads orders")),
            ("description", json!("")),
            ("path", json!("/opt")),
            ("tags", json!(["finance", "finance"])),
            ("tags", json!([])),
            ("pullSteps", json!([])),
            (
                "pullSteps",
                json!([{"prefect.deployments.steps.set_working_directory": {"directory": "/opt"}}]),
            ),
            ("parameters", json!({"rate": 1, "list": [1.5, {"deep": 2}]})),
            ("parameterOpenApiSchema", json!({})),
        ],
        0..6,
    );
    let schedules = prop::collection::btree_map(select(vec!["a", "b"]), schedule(), 0..3);
    let policy = prop::option::of(select(vec!["Delete", "Delete", "Delete", "Orphan"]));
    (0..2_usize, optional, schedules, policy, prop::bool::weighted(0.1)).prop_map(
        |(n, optional, schedules, policy, suspend)| {
            let mut spec = json!({"workspaceRef": {"name": "prod"}, "flowName": FLOW, "deploymentName": format!("d{n}"),
                "entrypoint": "f.py:f", "workPool": {"name": "etl"}, "suspend": suspend});
            for (field, value) in optional {
                spec[field] = value;
            }
            let listed = schedules.into_iter().map(|(slug, mut s)| {
                s["slug"] = json!(slug);
                s
            });
            spec["schedules"] = listed.collect();
            if let Some(policy) = policy {
                spec["deletionPolicy"] = json!(policy);
            }
            Spec(spec)
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let failure = select(vec![
        Failure::Unavailable,
        Failure::Ambiguous,
        Failure::Rejected(500),
        Failure::NotFound,
        Failure::Conflict,
        Failure::TimedOut,
        Failure::ParametersRejected { fields: vec![] },
        Failure::Throttled(Some(Duration::from_secs(20))),
    ]);
    prop_oneof![
        6 => Just(Fault::None),
        2 => (0..4_usize).prop_map(Fault::Crash),
        2 => (0..4_usize, failure, any::<bool>()).prop_map(|(at, failure, done)| {
            let done = done && failure == Failure::Ambiguous;
            Fault::Fail(at, failure, done)
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let hand = select(vec![
        Hand::Describe,
        Hand::Version,
        Hand::ClearTags,
        Hand::Delete,
        Hand::DropSchedule,
        Hand::ChangeSchedules,
        Hand::AddSchedule,
        Hand::Make,
    ]);
    prop_oneof![
        3 => (0..2_usize, spec()).prop_map(|(n, spec)| Event::Apply(n, spec)),
        1 => (0..2_usize).prop_map(Event::Delete),
        16 => (0..2_usize, fault()).prop_map(|(n, fault)| Event::Pass(n, fault)),
        8 => Just(Event::Read),
        2 => (1..600_u64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
        2 => (0..2_usize, hand).prop_map(|(n, hand)| Event::Hand(n, hand)),
        1 => (0..2_usize).prop_map(Event::Late),
    ]
}

/// What befalls a resource that nobody edits.
#[derive(Clone, Debug)]
enum Still {
    Away(Option<Away>),
    /// The mark of another installation comes and goes.
    Marked(bool),
    Event(Event),
}

const OTHERS_MARK: &str = "feedwater:other/finance/r0";

fn standing_still() -> impl Strategy<Value = Still> {
    let away = select(vec![None, Some(Away::Missing), Some(Away::NotReady), Some(Away::SecretGone)]);
    let event = prop_oneof![
        6 => fault().prop_map(|fault| Event::Pass(0, fault)),
        3 => Just(Event::Read),
        1 => (1..600_u64).prop_map(Event::Wait),
        1 => Just(Event::Restart),
    ];
    prop_oneof![
        1 => away.prop_map(Still::Away),
        1 => any::<bool>().prop_map(Still::Marked),
        6 => event.prop_map(Still::Event),
    ]
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Apply(n, spec) => world.apply(*n, &spec.0),
        Event::Delete(n) => world.delete(*n),
        Event::Pass(n, fault) => {
            world.pass(*n, fault);
        }
        Event::Read => world.read(),
        Event::Wait(seconds) => world.now = add(world.now, Duration::from_secs(*seconds)),
        Event::Restart => world.restart(),
        Event::Hand(n, hand) => by_hand(world, *n, hand),
        Event::Late(n) => {
            let id = world.prefect.named(&name(*n)).map(|there| there.id.clone());
            world.prefect.late.extend(id.map(|id| (id, world.now)));
        }
    }
}

fn by_hand(world: &mut World, n: usize, hand: &Hand) {
    let Some(there) = world.prefect.named_mut(&name(n)) else {
        if matches!(hand, Hand::Make) {
            let id = DeploymentId::new(format!("hand-{}", world.now));
            world.prefect.by_hand.push(id.clone());
            let (tags, fields, schedules) = (vec!["mine".into()], Map::new(), vec![]);
            let (fields, touched) = (fields.into(), Touched::default());
            let made = Deployment {
                id,
                name: name(n),
                tags,
                paused: false,
                fields,
                shares_limit: false,
                schedules,
                touched,
            };
            world.prefect.deployments.push(made);
        }
        return;
    };
    match hand {
        Hand::Describe => drop(there.fields.insert("description".into(), json!("by hand"))),
        Hand::Version => drop(there.fields.insert("version".into(), json!("by hand"))),
        Hand::ClearTags => there.tags.clear(),
        Hand::Delete => {
            let id = there.id.clone();
            world.prefect.forget(&id);
        }
        Hand::DropSchedule => drop(there.schedules.pop()),
        Hand::ChangeSchedules => {
            for schedule in there.schedules.iter_mut().filter(|s| s.slug.as_deref() != Some("hand")) {
                schedule.rule = Map::from_iter([("cron".to_owned(), json!("* * * * *"))]);
                schedule.parameters.insert("x".into(), json!(1));
            }
        }
        Hand::AddSchedule => {
            if there.schedules.iter().all(|s| s.slug.as_deref() != Some("hand")) {
                there.schedules.push(hands_schedule());
            }
        }
        Hand::Make => {}
    }
}

fn hands_schedule() -> Schedule {
    Schedule {
        id: ScheduleId::new("hand"),
        slug: Some("hand".into()),
        active: true,
        rule: Map::from_iter([("cron".to_owned(), json!("5 5 * * *"))]),
        parameters: Map::new(),
        max_scheduled_runs: None,
    }
}

/// Nothing disturbs any more: rounds until two in a row rest, since a wait that time ends writes nothing before it is over. Then rests forever.
fn settle(world: &mut World) {
    let mut rested = false;
    for round in 0.. {
        assert!(round < 60, "does not converge: {:?} {:?}", world.status(0), world.status(1));
        world.now = add(world.now, Duration::from_secs(7200));
        world.read();
        let before = (world.status_writes, world.calls);
        let steps = [world.pass(0, &Fault::None), world.pass(1, &Fault::None)];
        let rests = steps.iter().flatten().all(|s| *s == Step::Rest);
        let rests = rests && before == (world.status_writes, world.calls);
        if rests && rested {
            break;
        }
        rested = rests;
    }
    let before = (world.status_writes, world.calls);
    for _ in 0..3 {
        world.now = add(world.now, Duration::from_secs(30));
        world.read();
        world.pass(0, &Fault::None);
        world.pass(1, &Fault::None);
    }
    world.restart();
    world.pass(0, &Fault::None);
    world.pass(1, &Fault::None);
    assert_eq!(before, (world.status_writes, world.calls), "at rest nothing is written");
}

/// What is so at rest.
fn judge(world: &World) {
    assert!(world.prefect.lost.is_empty(), "lost runs are made good: {:?}", world.prefect.lost);
    assert!(world.prefect.lost_late.is_empty(), "those that are late as well: {:?}", world.prefect.lost_late);
    for n in 0..2 {
        let Some(resource) = &world.resources[n] else { continue };
        let d = desired(&resource.object);
        assert!(d.deleting.is_none(), "a deletion ends");
        let ready = world.ready(n);
        let there = world.prefect.named(&d.deployment);
        let ours = there.filter(|t| t.tags.contains(&d.mark));
        match (ready.as_deref(), ours) {
            (Some("Suspended"), _) if d.suspend => {}
            (Some("InSync"), Some(there)) => {
                as_declared(&d, there);
                let left = there.schedules.iter().filter_map(|s| s.slug.as_deref());
                let left = left.filter(|s| *s != "hand" && !d.schedules.contains_key(*s)).count();
                let inherited = world.handed_over.contains(&there.id) || world.orphaned[n];
                assert!(left == 0 || inherited, "a schedule that left the spec is deleted");
            }
            (Some("TargetConflict"), None) => assert!(world.resources.iter().all(Option::is_some)),
            (Some("AdoptionRequired"), None) => assert!(there.is_some()),
            other => panic!("{n} rests at {other:?}"),
        }
        let needs_finalizer = d.deletion_policy == DeletionPolicy::Delete && ours.is_some() && !d.suspend;
        assert!(d.has_finalizer || !needs_finalizer);
    }
    // Whatever carries a mark is still somebody's: nothing is leaked.
    for there in &world.prefect.deployments {
        for mark in there.tags.iter().filter(|t| t.starts_with(MARK_PREFIX)) {
            let n = usize::from(mark.ends_with("r1"));
            let owner = world.resources[n].as_ref();
            let declares = owner.is_some_and(|r| {
                let d = desired(&r.object);
                // Where it cannot have what it declares now, it keeps what it had.
                let kept = d.place(&world.status(n)).deployment == there.name;
                d.deployment == there.name
                    || d.suspend
                    || (kept && world.ready(n).as_deref() != Some("InSync"))
            });
            assert!(declares || world.orphaned[n], "`{mark}` on {} is leaked", there.name);
        }
    }
}

fn as_declared(d: &feedwater::model::flow::Desired, there: &Deployment) {
    let tags: BTreeSet<String> = there.tags.iter().filter(|t| **t != d.mark).cloned().collect();
    assert!(d.tags.as_ref().is_none_or(|wanted| *wanted == tags));
    for (field, wanted) in d.fields.iter() {
        let had = there.fields.get(field).unwrap_or(&Value::Null);
        let filled = field == "parameter_openapi_schema" && *wanted == json!({});
        assert!(had == wanted || filled, "{field}: {had} for {wanted}");
    }
    for (slug, wanted) in &d.schedules {
        let had = there.schedules.iter().find(|s| s.slug.as_deref() == Some(slug)).expect(slug);
        assert_eq!(had.active, wanted.active);
        for key in ["cron", "day_or", "interval", "anchor_date", "timezone"] {
            if let Some(wanted) = wanted.rule.get(key) {
                assert_eq!(had.rule.get(key), Some(wanted));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_converges_and_rests(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in &events {
            happen(&mut world, event);
        }
        settle(&mut world);
        judge(&world);
    }

    #[test]
    fn what_others_made_stays(spec in spec(), events in prop::collection::vec((0..1_usize, fault()), 1..30), n in 0..3_usize) {
        let mut world = World::new();
        let Spec(mut spec) = spec;
        spec["suspend"] = json!(false);
        spec["deploymentName"] = json!("d0");
        world.apply(0, &spec);
        settle(&mut world);
        by_hand(&mut world, 0, &Hand::AddSchedule);
        by_hand(&mut world, 0, &Hand::Version);
        for (i, (resource, fault)) in events.iter().enumerate() {
            if i % 5 == n {
                by_hand(&mut world, 0, &Hand::Describe);
                spec["schedules"] = json!([{"slug": "a", "cron": {"expression": format!("{i} * * * *")}}]);
                world.apply(0, &spec);
            }
            world.read();
            world.pass(*resource, fault);
        }
        settle(&mut world);
        let there = world.prefect.named(&name(0)).unwrap();
        prop_assert_eq!(&there.fields["version"], "by hand");
        prop_assert!(there.schedules.contains(&hands_schedule()));
    }

    /// Edited by nobody, a resource that was in sync once writes over nothing that people change where its mode leaves it.
    #[test]
    fn what_people_change_stays_where_the_mode_leaves_it(
        spec in spec(),
        mode in select(vec!["Warn", "Disabled"]),
        events in prop::collection::vec(standing_still(), 1..40),
    ) {
        let mut world = World::new();
        let Spec(mut spec) = spec;
        spec["suspend"] = json!(false);
        spec["deploymentName"] = json!("d0");
        spec["description"] = json!("ours");
        spec["driftDetection"] = json!({"mode": mode});
        world.apply(0, &spec);
        settle(&mut world);
        by_hand(&mut world, 0, &Hand::Describe);
        by_hand(&mut world, 0, &Hand::DropSchedule);
        let theirs = world.prefect.named(&name(0)).unwrap().clone();
        for event in &events {
            match event {
                Still::Away(away) => world.away = *away,
                Still::Marked(marked) => {
                    let tags = &mut world.prefect.named_mut(&name(0)).unwrap().tags;
                    tags.retain(|tag| tag != OTHERS_MARK);
                    tags.extend(marked.then(|| OTHERS_MARK.to_owned()));
                }
                Still::Event(event) => happen(&mut world, event),
            }
        }
        world.away = None;
        world.prefect.named_mut(&name(0)).unwrap().tags.retain(|tag| tag != OTHERS_MARK);
        settle(&mut world);
        prop_assert_eq!(world.ready(0), Some("InSync".to_owned()));
        prop_assert_eq!(world.prefect.named(&name(0)), Some(&theirs));
        // An edit says the whole of it again.
        world.apply(0, &spec);
        settle(&mut world);
        as_declared(&desired(&world.resources[0].as_ref().unwrap().object), world.prefect.named(&name(0)).unwrap());
    }

    #[test]
    fn a_deleted_resource_leaves_nothing(spec in spec(), faults in prop::collection::vec(fault(), 0..30), upto in 0..12_usize) {
        let mut world = World::new();
        let Spec(mut spec) = spec;
        spec["deletionPolicy"] = json!("Delete");
        spec["suspend"] = json!(false);
        world.apply(0, &spec);
        for (i, fault) in faults.iter().enumerate() {
            if i == upto {
                world.delete(0);
            }
            world.read();
            world.pass(0, fault);
        }
        world.delete(0);
        settle(&mut world);
        prop_assert!(world.resources[0].is_none());
        prop_assert!(world.prefect.deployments.is_empty());
    }
}
