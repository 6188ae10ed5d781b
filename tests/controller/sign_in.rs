//! What a `TableauSite` signs in with: what its Secrets say at that moment, and nothing else.

use crate::world::{NAMESPACE, POLL, World};
use feedwater::controller::services::{
    PrefectAccess, Services, TableauAccess, TableauCredential, TrustCredential,
};
use feedwater::prefect::fake::FakePrefect;
use feedwater::prefect::{Prefect, PrefectError};
use feedwater::tableau::fake::FakeTableau;
use feedwater::tableau::{Leads, Site, Tableau, TableauError};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::time::sleep;
use world::resources::condition;

/// The fakes, with every access a client was made of.
struct Recorded {
    prefect: Arc<FakePrefect>,
    tableau: Arc<FakeTableau>,
    made: Arc<Mutex<Vec<TableauAccess>>>,
}

impl Services for Recorded {
    fn prefect(&self, _: &PrefectAccess) -> Result<Arc<dyn Prefect>, PrefectError> {
        Ok(self.prefect.clone())
    }
    fn tableau(&self, access: &TableauAccess, _: Leads) -> Result<Arc<dyn Tableau>, TableauError> {
        self.made.lock().unwrap().push(access.clone());
        Ok(self.tableau.clone())
    }
}

fn recorded(world: &World) -> (Arc<Recorded>, Arc<Mutex<Vec<TableauAccess>>>) {
    let made = Arc::<Mutex<Vec<TableauAccess>>>::default();
    let (prefect, tableau) = (world.prefect.clone(), world.tableau.clone());
    (Arc::new(Recorded { prefect, tableau, made: made.clone() }), made)
}

fn site(world: &World) -> Value {
    world.server.object("tableausites", NAMESPACE, "acme").unwrap()
}

fn change(world: &World, fields: &Value) {
    let mut site = site(world);
    site["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    world.server.put("tableausites", site).unwrap();
}

/// Secret and value id of a connected app.
fn app_secret(access: &TableauAccess) -> (String, String) {
    let TableauCredential::ConnectedApp(app) = &access.credential else { panic!("{access:?}") };
    (app.secret_id.expose_secret().into(), app.secret_value.expose_secret().into())
}

/// Whoever turns the name, or the address behind it, to a site of theirs: what our status says of contents would be said of strangers there.
#[tokio::test(start_paused = true)]
async fn another_site_behind_the_url_is_told_and_nothing_is_written_there() {
    let world = World::new();
    let luid = world.with_orders();
    change(&world, &json!({"edition": "Cloud"}));
    let operator = world.operator("one");
    world.settle().await;
    operator.kill();
    let other = Site { luid: "site-2".into(), rest_api_version: "3.27".into() };
    world.tableau.state().other_site = Some(other);
    let operator = world.operator("two");
    world.settle().await;
    let told = site(&world);
    assert_eq!(condition(&told, "Ready"), Some(("False", "SiteChanged")));
    assert_eq!(condition(&told, "Stalled"), Some(("True", "SiteChanged")));
    // A completion, and a schedule that is declared: none of it happens there.
    let before = world.tableau.state().calls.len();
    world.complete("orders");
    let schedule = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    world
        .server
        .merge("extractrefreshes", NAMESPACE, "orders", &json!({"spec": {"schedules": schedule}}))
        .unwrap();
    sleep(POLL * 20).await;
    let exr = world.exr("orders");
    assert_eq!(condition(&exr, "Refreshing"), Some(("False", "ConnectionUnavailable")), "{exr:#}");
    assert!(exr["status"]["conditions"].to_string().contains("(SiteChanged)"), "{exr:#}");
    let writes = ["refresh", "create_task", "update_task", "delete_task", "set_warning", "cancel"];
    let calls = world.tableau.state().calls[before..].to_vec();
    let written: Vec<_> = calls.iter().filter(|call| writes.iter().any(|w| call.starts_with(w))).collect();
    assert_eq!((written, world.jobs_of(&luid)), (Vec::<&String>::new(), 0));
    assert_eq!(site(&world)["status"]["siteLuid"], "site-1", "what was known is not forgotten for it");

    // The right one again: what was owed is done.
    operator.kill();
    world.tableau.state().other_site = None;
    let _operator = world.operator("three");
    world.until("it is refreshed", |world| world.jobs_of(&luid) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_rotated_or_broken_stops_no_refresh() {
    let world = World::new();
    let luid = world.with_orders();
    let (services, made) = recorded(&world);
    let keys = |id: &'static str, value: &'static str| {
        [("clientId", "app"), ("secretId", id), ("secretValue", value)]
    };
    world.secret(NAMESPACE, "app", &keys("1", "one"));
    world.secret(NAMESPACE, "headers", &[("X-Proxy", "pass")]);
    let app = json!({"username": "svc", "secretRef": {"name": "app"}});
    change(&world, &json!({"auth": {"connectedApp": app}, "headersSecretRef": {"name": "headers"}}));
    let _operator = world.operator_with("one", "feedwater", Some(services));
    world.settle().await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("True", "Connected")));
    let first = made.lock().unwrap().clone();
    assert_eq!(first.iter().map(app_secret).collect::<Vec<_>>(), [("1".into(), "one".into())]);
    assert!(first[0].headers["x-proxy"].is_sensitive() && first[0].headers["x-proxy"] == "pass");
    assert!(!format!("{first:?}").contains("pass") && !format!("{first:?}").contains("\"one\""));

    // Written again with the same values, and with more keys: the session stays.
    world.secret(NAMESPACE, "app", &[&keys("1", "one")[..], &[("note", "mine")]].concat());
    world.complete("orders");
    world.settle().await;
    assert_eq!((made.lock().unwrap().len(), world.jobs_of(&luid)), (1, 1));

    // Rotated while a refresh is due: sent once, by the new one or the old.
    world.complete("orders");
    world.secret(NAMESPACE, "app", &keys("2", "two"));
    world.settle().await;
    assert_eq!(app_secret(&made.lock().unwrap()[1]), ("2".into(), "two".into()));
    assert_eq!((made.lock().unwrap().len(), world.jobs_of(&luid)), (2, 2));
    let signed_out = || world.tableau.operations().iter().filter(|call| *call == "sign_out").count();
    assert_eq!(signed_out(), 1, "of the session that is not used any more");
    assert_eq!(condition(&world.exr("orders"), "LastRefreshSucceeded"), Some(("True", "Succeeded")));

    // Broken: the site says so, and what is signed in goes on.
    world.secret(NAMESPACE, "app", &keys("3", ""));
    world.settle().await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("False", "SecretKeyMissing")));
    world.complete("orders");
    world.settle().await;
    assert_eq!((made.lock().unwrap().len(), world.jobs_of(&luid)), (2, 3));
    world.secret(NAMESPACE, "app", &keys("3", "three"));
    world.settle().await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("True", "Connected")));
    assert_eq!((made.lock().unwrap().len(), signed_out()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn each_way_takes_its_keys_and_another_way_is_another_session() {
    let world = World::new();
    world.with_orders();
    let (services, made) = recorded(&world);
    world.secret(NAMESPACE, "idp", &[("clientId", "id"), ("clientSecret", "secret")]);
    let _operator = world.operator_with("one", "feedwater", Some(services));
    world.settle().await;
    let trust = |more: Value| {
        let mut trust = json!({"username": "svc", "tokenUrl": "https://idp.example/token/"});
        trust.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"auth": {"oauthTrust": trust}})
    };
    change(&world, &trust(json!({"secretRef": {"name": "idp"}, "scopes": ["api://x/.default"]})));
    world.settle().await;
    change(&world, &trust(json!({"serviceAccountToken": {"audience": "idp", "clientId": "id"}})));
    world.settle().await;
    assert_eq!(condition(&site(&world), "Ready"), Some(("True", "Connected")));
    let made = made.lock().unwrap().clone();
    let [pat, by_secret, by_account] = &made[..] else { panic!("{made:?}") };
    assert!(
        matches!(&pat.credential, TableauCredential::PersonalAccessToken { name, .. } if name.expose_secret() == "token")
    );
    let TableauCredential::OAuthTrust { username, token_url, scopes, client } = &by_secret.credential else {
        panic!("{by_secret:?}")
    };
    assert_eq!((username.as_str(), token_url.as_str()), ("svc", "https://idp.example/token/"));
    assert_eq!(scopes, &["api://x/.default"]);
    let TrustCredential::Secret { id, secret } = client else { panic!("{client:?}") };
    assert_eq!((id.expose_secret(), secret.expose_secret()), ("id", "secret"));
    let TableauCredential::OAuthTrust { client, scopes, .. } = &by_account.credential else {
        panic!("{by_account:?}")
    };
    assert!(scopes.is_empty());
    let TrustCredential::ServiceAccount { namespace, audience, id } = client else { panic!("{client:?}") };
    assert_eq!((namespace.as_str(), audience.as_str(), id.as_deref()), (NAMESPACE, "idp", Some("id")));
}
