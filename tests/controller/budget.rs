//! The budget of a site: how many refreshes start, whose turn it is, and what a restart knows of it.

use crate::remote::Trouble;
use crate::world::{NAMESPACE, POLL, World};
use feedwater::clock::Clock;
use feedwater::controller::services::{
    PrefectAccess, PrefectCredential, Services, TableauAccess, TableauCredential,
};
use feedwater::prefect::fake::FakePrefect;
use feedwater::prefect::{Prefect, PrefectError};
use feedwater::settings::Scope;
use feedwater::tableau::fake::FakeTableau;
use feedwater::tableau::{Leads, Tableau, TableauError};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use world::resources::{self, condition};

/// A site in a namespace, with these limits.
fn site(world: &World, namespace: &str, limits: &Value) {
    world.secret(namespace, "tableau", &[("name", "token"), ("secret", "value")]);
    let mut site = resources::tableau_site(namespace, "acme", "https://tableau.example", "acme", "tableau");
    site["spec"]["pollInterval"] = json!("30s");
    site["spec"]["limits"] = limits.clone();
    world.server.put("tableausites", site).unwrap();
}

/// A data source that is to be refreshed once.
fn demand(world: &World, namespace: &str, name: &str) {
    world.publish(name);
    let mut refresh = resources::extract_refresh(namespace, name, "acme", ("Finance", name), &[]);
    refresh["metadata"]["annotations"] = json!({"feedwater.dev/refresh-requested": "once"});
    world.server.put("extractrefreshes", refresh).unwrap();
}

fn waiting(world: &World) -> Vec<Value> {
    let all = world.server.objects("extractrefreshes");
    all.into_iter().filter(|exr| exr["status"]["owed"].is_object()).collect()
}

fn refreshing(exr: &Value) -> &Value {
    let conditions = exr["status"]["conditions"].as_array().unwrap();
    &conditions.iter().find(|c| c["type"] == "Refreshing").unwrap()["reason"]
}

#[tokio::test(start_paused = true)]
async fn starts_of_an_hour_are_counted_over_a_restart_and_what_waits_says_so() {
    let world = World::new();
    site(&world, NAMESPACE, &json!({"refreshesPerHour": 3}));
    for n in 0..5 {
        demand(&world, NAMESPACE, &format!("extract-{n}"));
    }
    let first = world.operator("one");
    world.until("three end", |world| waiting(world).len() == 2).await;
    let began = world.now();
    let written = world.writes().len();
    sleep(POLL * 10).await;
    let more = &world.writes()[written..];
    assert!(more.is_empty(), "waiting costs nothing: {more:#?} {:#?}", waiting(&world));
    for exr in waiting(&world) {
        assert_eq!(refreshing(&exr), "HeldByBudget");
        let told: Timestamp = exr["status"]["nextEligibleTime"].as_str().unwrap().parse().unwrap();
        let wait = told.duration_since(began);
        assert!(wait > SignedDuration::from_mins(55) && wait <= SignedDuration::from_mins(60), "{wait:?}");
    }
    first.kill();
    let second = world.operator("two");
    sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(world.jobs().len(), 3, "the second counts what the first started");
    world.until("the rest ends", |world| waiting(world).is_empty()).await;
    assert_eq!(world.jobs().len(), 5);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn where_jobs_may_not_be_listed_a_restart_counts_by_status() {
    let world = World::new();
    world.troubles.on_call(|call| if call.operation == "jobs" { Trouble::Forbid } else { Trouble::None });
    site(&world, NAMESPACE, &json!({"refreshesPerHour": 2}));
    for n in 0..3 {
        demand(&world, NAMESPACE, &format!("extract-{n}"));
    }
    let first = world.operator("one");
    world.until("two end", |world| waiting(world).len() == 1).await;
    first.kill();
    let _second = world.operator("two");
    sleep(Duration::from_secs(40 * 60)).await;
    assert_eq!(world.jobs().len(), 2);
    world.until("the rest ends", |world| waiting(world).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_the_limit() {
    let world = World::new();
    site(&world, NAMESPACE, &json!({"maxConcurrentRefreshes": 2}));
    for n in 0..7 {
        demand(&world, NAMESPACE, &format!("extract-{n}"));
    }
    let _operator = world.operator("one");
    world
        .until("all end", |world| {
            let running = world.jobs().iter().filter(|job| job.job.completed_at.is_none()).count();
            assert!(running <= 2, "{running}");
            world.jobs().len() == 7 && waiting(world).is_empty()
        })
        .await;
}

/// Two hundred of one namespace wait for one place, and two of another join them, by a connection of their own with another limit.
#[tokio::test(start_paused = true)]
async fn two_beside_two_hundred_start_within_four_places() {
    const MANY: usize = 200;
    let mut world = World::new();
    world.scope = Scope::Cluster;
    world.server.put("namespaces", resources::namespace("small")).unwrap();
    site(&world, NAMESPACE, &json!({"maxConcurrentRefreshes": 1}));
    site(&world, "small", &json!({"maxConcurrentRefreshes": 9}));
    for n in 0..MANY {
        demand(&world, NAMESPACE, &format!("many-{n}"));
    }
    let _operator = world.operator("one");
    world.until("all wait", |world| waiting(world).len() == MANY && world.jobs().len() == 1).await;
    demand(&world, "small", "few-0");
    demand(&world, "small", "few-1");
    let before = world.jobs().len();
    world.until("six start", |world| world.jobs().len() >= before + 6).await;
    let names: BTreeMap<_, _> =
        world.tableau.state().contents.iter().map(|c| (c.luid.clone(), c.name.clone())).collect();
    let started: Vec<String> =
        world.jobs()[before..].iter().map(|job| names[job.job.content.as_ref().unwrap()].clone()).collect();
    let few: Vec<usize> = (0..started.len()).filter(|n| started[*n].starts_with("few")).collect();
    // One place may have been given before they came.
    assert!(few.len() == 2 && few[1] < 5, "{started:?}");
}

/// One Tableau for whoever has the right token, and none for anybody else; one Prefect for whoever has no key.
pub struct Guarded(pub Arc<FakePrefect>, pub Arc<FakeTableau>);

impl Services for Guarded {
    fn prefect(&self, access: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError> {
        if matches!(access.credential, PrefectCredential::None) {
            return Ok(self.0.clone());
        }
        let shut = FakePrefect::new(Clock::virtual_from(Timestamp::UNIX_EPOCH));
        (0..1000).for_each(|_| shut.fail("probe", PrefectError::Unauthorized));
        Ok(Arc::new(shut))
    }
    fn tableau(&self, access: &TableauAccess, _: Leads) -> Result<Arc<dyn Tableau>, TableauError> {
        let TableauCredential::PersonalAccessToken { secret, .. } = &access.credential else { panic!() };
        if secret.expose_secret() == "value" {
            return Ok(self.1.clone());
        }
        let shut = FakeTableau::new(Clock::virtual_from(Timestamp::UNIX_EPOCH));
        (0..1000).for_each(|_| shut.fail("site", TableauError::SignInRefused));
        Ok(Arc::new(shut))
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_limits_nobody_and_who_is_does() {
    let mut world = World::new();
    world.scope = Scope::Cluster;
    world.server.put("namespaces", resources::namespace("small")).unwrap();
    site(&world, NAMESPACE, &json!({"maxConcurrentRefreshes": 4}));
    site(&world, "small", &json!({"maxConcurrentRefreshes": 1}));
    world.secret("small", "tableau", &[("name", "token"), ("secret", "guessed")]);
    let services = Arc::new(Guarded(world.prefect.clone(), world.tableau.clone()));
    let _operator = world.operator_with("one", "feedwater", Some(services));
    let ready = |world: &World, namespace: &str| {
        let site = world.server.object("tableausites", namespace, "acme").unwrap();
        condition(&site, "Ready").map(|(_, reason)| reason.to_owned())
    };
    world
        .until("it is refused", |world| ready(world, "small").as_deref() == Some("CredentialsInvalid"))
        .await;
    world.engine.lock().unwrap().stopped = true;
    let unfinished = |world: &World| world.jobs().iter().filter(|job| job.job.completed_at.is_none()).count();
    for n in 0..8 {
        demand(&world, NAMESPACE, &format!("extract-{n}"));
    }
    world.until("four run at once", |world| unfinished(world) == 4).await;
    // It is let in: from then on its limit counts.
    world.secret("small", "tableau", &[("name", "token"), ("secret", "value")]);
    world.until("it is let in", |world| ready(world, "small").as_deref() == Some("Connected")).await;
    world.engine.lock().unwrap().stopped = false;
    world.until("those end", |world| world.jobs().len() > 4).await;
    world
        .until("all end", |world| {
            let running = unfinished(world);
            assert!(running <= 1, "{running}");
            world.jobs().len() == 8 && waiting(world).is_empty()
        })
        .await;
}

/// Status is the word of whoever may write it: it uses up what others share only through a connection that is let in.
#[tokio::test(start_paused = true)]
async fn what_is_told_by_who_is_not_let_in_uses_up_nothing() {
    for (token, counts) in [("guessed", false), ("value", true)] {
        let mut world = World::new();
        world.scope = Scope::Cluster;
        (0..1000).for_each(|_| world.tableau.fail("jobs", TableauError::Forbidden("403070".into())));
        world.server.put("namespaces", resources::namespace("small")).unwrap();
        site(&world, NAMESPACE, &json!({"refreshesPerHour": 3}));
        site(&world, "small", &json!({"refreshesPerHour": 3}));
        world.secret("small", "tableau", &[("name", "token"), ("secret", token)]);
        demand(&world, "small", "theirs");
        let started = json!({
            "cause": "Upstreams", "runCount": 0, "jobId": "j", "origin": "Ours", "site": "acme", "luid": "l",
            "refreshType": "Full", "startedAt": world.now(), "endedAt": world.now(), "outcome": "Succeeded",
        });
        let history = json!({"status": {"history": vec![started; 10]}});
        world.server.merge("extractrefreshes", "small", "theirs", &history).unwrap();
        demand(&world, NAMESPACE, "ours");
        let services = Arc::new(Guarded(world.prefect.clone(), world.tableau.clone()));
        let _operator = world.operator_with("one", "feedwater", Some(services));
        sleep(POLL * 10).await;
        assert_eq!(world.exr("ours")["status"]["history"].is_array(), !counts, "{:#}", world.exr("ours"));
    }
}

/// A status says that something is under way, and a finalizer of their own keeps what they have deleted: it takes nobody the place.
#[tokio::test(start_paused = true)]
async fn what_is_deleted_and_stays_keeps_no_place() {
    for token in ["guessed", "value"] {
        let mut world = World::new();
        world.scope = Scope::Cluster;
        world.server.put("namespaces", resources::namespace("small")).unwrap();
        site(&world, NAMESPACE, &json!({"maxConcurrentRefreshes": 1}));
        site(&world, "small", &json!({}));
        world.secret("small", "tableau", &[("name", "token"), ("secret", token)]);
        world.publish("theirs");
        let mut theirs = resources::extract_refresh("small", "theirs", "acme", ("Finance", "theirs"), &[]);
        theirs["metadata"]["finalizers"] = json!(["example.com/theirs"]);
        world.server.put("extractrefreshes", theirs).unwrap();
        let attempt = json!({
            "id": "1", "phase": "Submitted", "jobId": "long", "intendedAt": world.now(), "fence": world.now(),
            "site": "acme", "siteLuid": "s", "kind": "Datasource", "luid": "l", "refreshType": "Full",
        });
        let says = json!({"status": {"attempt": attempt}});
        world.server.merge("extractrefreshes", "small", "theirs", &says).unwrap();
        let services = Arc::new(Guarded(world.prefect.clone(), world.tableau.clone()));
        assert!(!world.server.remove("extractrefreshes", "small", "theirs").unwrap(), "it stays");
        let _operator = world.operator_with("one", "feedwater", Some(services));
        demand(&world, NAMESPACE, "ours");
        sleep(POLL * 10).await;
        assert!(world.exr("ours")["status"]["history"].is_array(), "{token}: {:#}", world.exr("ours"));
    }
}

/// A start that Tableau refuses has used nothing up.
#[tokio::test(start_paused = true)]
async fn what_was_refused_leaves_its_place_to_others() {
    let world = World::new();
    let (tableau, gone) = (world.tableau.clone(), std::cell::Cell::new(false));
    world.troubles.on_call(move |call| {
        // It goes away between being found and being refreshed.
        if call.operation == "refresh" && !gone.replace(true) {
            tableau.state().contents.clear();
        }
        Trouble::None
    });
    site(&world, NAMESPACE, &json!({"refreshesPerHour": 1}));
    demand(&world, NAMESPACE, "gone");
    let _operator = world.operator("one");
    let refused = |world: &World| world.exr("gone")["status"]["owed"]["refused"].is_string();
    world.until("it is refused", refused).await;
    let began = world.now();
    demand(&world, NAMESPACE, "stays");
    world.until("the other is refreshed", |world| world.exr("stays")["status"]["history"].is_array()).await;
    assert!(world.now().duration_since(began) < SignedDuration::from_mins(10));
}

/// What is asked for then is not forgotten: nobody else asks again.
#[tokio::test(start_paused = true)]
async fn when_no_more_may_be_asked_about_jobs_what_waited_says_so_and_starts_when_it_may() {
    const HOUR: Duration = Duration::from_secs(3600);
    let world = World::new();
    world.engine.lock().unwrap().stopped = true;
    site(&world, NAMESPACE, &json!({"jobQueriesPerDay": 100}));
    demand(&world, NAMESPACE, "first");
    let _operator = world.operator("one");
    sleep(HOUR * 13).await;
    assert_eq!(world.jobs().len(), 1, "it waits in the queue, and is asked about until no more may be");
    world.server.remove("extractrefreshes", NAMESPACE, "first").unwrap();
    demand(&world, NAMESPACE, "held");
    let suspend = |suspend: bool| {
        let patch = json!({"spec": {"suspend": suspend}});
        world.server.merge("extractrefreshes", NAMESPACE, "held", &patch).unwrap();
    };
    suspend(true);
    sleep(POLL * 4).await;
    suspend(false);
    sleep(POLL * 4).await;
    let exr = world.exr("held");
    assert_eq!(refreshing(&exr), "HeldByBudget");
    let told: Timestamp = exr["status"]["nextEligibleTime"].as_str().unwrap().parse().unwrap();
    let wait = told.duration_since(world.now());
    assert!(wait > SignedDuration::from_hours(10) && wait < SignedDuration::from_hours(11), "{wait:?}");
    let written = world.writes().len();
    sleep(HOUR * 10).await;
    assert_eq!((world.writes().len(), world.jobs().len()), (written, 1), "waiting costs nothing");
    sleep(HOUR).await;
    assert_eq!(world.jobs().len(), 2);
}
