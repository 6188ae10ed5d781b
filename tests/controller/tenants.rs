//! Connections of the cluster: who may do what through them, and what becomes of it when that is taken away.

use crate::world::{INSTANCE, NAMESPACE, POLL, Process, World};
use feedwater::model::ids::Luid;
use feedwater::prefect::StateType;
use feedwater::settings::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;
use world::resources::{self, condition};

/// Where the operator is.
const HOME: &str = "platform";
pub const WORKSPACES: &str = "clusterprefectworkspaces";
pub const SITES: &str = "clustertableausites";

fn of_team() -> Value {
    json!({"selector": {"matchLabels": {"team": "finance"}}})
}

/// What team finance may do in Prefect, and on the site.
pub fn allowed() -> (Value, Value) {
    let prefect =
        json!([{"name": "finance", "namespaces": of_team(), "flows": ["orders*"], "workPools": ["etl"]}]);
    let tableau = json!([{
        "name": "finance", "namespaces": of_team(), "projects": ["Finance/**"], "kinds": ["Datasource"], "names": ["*"],
    }]);
    (prefect, tableau)
}

/// A cluster whose operator serves all of it, with both connections, whose Secret is beside the operator. Namespace `finance` is team finance's.
pub fn cluster(prefect: &Value, tableau: &Value) -> World {
    let mut world = World::new();
    (world.scope, world.lease_namespace) = (Scope::Cluster, HOME.into());
    world.server.put("namespaces", resources::namespace(HOME)).unwrap();
    label(&world, "finance");
    world.secret(HOME, "tableau", &[("name", "token"), ("secret", "value")]);
    let auth = json!({"personalAccessToken": {"secretRef": {"name": "tableau"}}});
    let poll = format!("{}s", POLL.as_secs());
    let url = "https://tableau.example";
    put(
        &world,
        WORKSPACES,
        "ClusterPrefectWorkspace",
        "prod",
        json!({
            "apiUrl": "https://prefect.example/api", "pollInterval": poll, "allow": prefect,
        }),
    );
    put(
        &world,
        SITES,
        "ClusterTableauSite",
        "acme",
        json!({
            "serverUrl": url, "siteContentUrl": "acme", "auth": auth, "pollInterval": poll, "allow": tableau,
        }),
    );
    world
}

fn put(world: &World, plural: &str, kind: &str, name: &str, mut spec: Value) {
    if spec["allow"].is_null() {
        spec.as_object_mut().unwrap().remove("allow");
    }
    let object = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    world.server.put(plural, object).unwrap();
}

pub fn label(world: &World, team: &str) {
    let mut namespace = resources::namespace(NAMESPACE);
    namespace["metadata"]["labels"] = json!({"team": team});
    world.server.put("namespaces", namespace).unwrap();
}

pub fn rule(world: &World, plural: &str, name: &str, allow: &Value) {
    world.server.merge(plural, "", name, &json!({"spec": {"allow": allow}})).unwrap();
}

pub fn flow(name: &str) -> Value {
    let mut flow = World::flow(name);
    flow["spec"]["workspaceRef"] = json!({"kind": "ClusterPrefectWorkspace", "name": "prod"});
    flow
}

pub fn refresh(name: &str, flows: &[&str]) -> Value {
    let mut refresh = World::refresh(name, flows);
    refresh["spec"]["siteRef"] = json!({"kind": "ClusterTableauSite", "name": "acme"});
    refresh["spec"]["schedules"] = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    refresh
}

/// The flow `orders` and an extract after it, with a schedule.
pub fn team(world: &World) -> Luid {
    let luid = world.publish("orders");
    let edition = json!({"spec": {"edition": "Cloud"}});
    world.server.merge(SITES, "", "acme", &edition).unwrap();
    world.server.put("flowdeployments", flow("orders")).unwrap();
    world.server.put("extractrefreshes", refresh("orders", &["orders"])).unwrap();
    luid
}

pub async fn working() -> (World, Process, Luid) {
    let (prefect, tableau) = allowed();
    let world = cluster(&prefect, &tableau);
    let luid = team(&world);
    let operator = world.operator("one");
    world.settle().await;
    assert_eq!(state(&world), IN_SYNC, "{:#} {:#}", world.flow_object("orders"), world.exr("orders"));
    (world, operator, luid)
}

/// `Ready`, of two.
pub type State = [(&'static str, &'static str); 2];
pub const IN_SYNC: State = [("True", "InSync"), ("True", "InSync")];
pub const DENIED: State = [("False", "AccessDenied"), ("False", "AccessDenied")];

/// `Ready` of the flow and of the extract.
pub fn state(world: &World) -> State {
    [world.flow_object("orders"), world.exr("orders")]
        .map(|object| condition(&object, "Ready").map_or(("", ""), known))
}

/// One of the texts that tests compare with.
fn known((status, reason): (&str, &str)) -> (&'static str, &'static str) {
    const ALL: [(&str, &str); 9] = [
        ("True", "InSync"),
        ("False", "AccessDenied"),
        ("Unknown", "DependencyNotFound"),
        ("Unknown", "Progressing"),
        ("Unknown", "ConnectionUnavailable"),
        ("False", "DependencyNotFound"),
        ("False", "TargetConflict"),
        ("True", "AllHealthy"),
        ("Unknown", "NotObserved"),
    ];
    let found = ALL.into_iter().find(|one| *one == (status, reason));
    found.unwrap_or_else(|| panic!("{status}/{reason}"))
}

fn said(object: &Value, kind: &str) -> String {
    let all = object["status"]["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind).unwrap();
    found["message"].as_str().unwrap().to_owned()
}

/// How much there is of ours in Prefect and in Tableau.
pub fn made(world: &World) -> (usize, usize) {
    (world.prefect.state().deployments.len(), world.tableau.state().tasks.len())
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_is_done_by_a_secret_that_only_the_operators_namespace_has() {
    let (world, _operator, luid) = working().await;
    assert_eq!(made(&world), (1, 1));
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
    for (plural, name) in [(WORKSPACES, "prod"), (SITES, "acme")] {
        let connection = world.server.object(plural, "", name).unwrap();
        assert_eq!(condition(&connection, "Ready"), Some(("True", "Connected")), "{connection:#}");
        assert_eq!(connection["metadata"]["finalizers"], json!(["feedwater.dev/in-use"]));
    }
    let status = &world.flow_object("orders")["status"];
    assert_eq!(status["workspace"], "cluster:prod");
    let secrets = world.server.log().into_iter().filter(|(call, _)| call.plural == "secrets");
    let places: Vec<String> = secrets.map(|(call, _)| call.namespace).collect();
    assert!(!places.is_empty() && places.iter().all(|namespace| namespace == HOME), "{places:?}");
    world.settle().await;
    let written = world.writes().len();
    sleep(POLL * 20).await;
    assert_eq!(world.writes().len(), written, "at rest nothing is written");
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_nobody_is_allowed_anything() {
    let world = cluster(&json!(null), &json!([]));
    team(&world);
    let _operator = world.operator("one");
    sleep(POLL * 4).await;
    world.complete("orders");
    sleep(POLL * 4).await;
    assert_eq!(state(&world), DENIED);
    assert_eq!((made(&world), world.jobs().len()), ((0, 0), 0));
    for object in [world.flow_object("orders"), world.exr("orders")] {
        assert_eq!(condition(&object, "Stalled"), Some(("True", "AccessDenied")));
        assert!(said(&object, "Ready").contains("allows nothing to namespace `finance`"), "{object:#}");
    }
    assert!(world.exr("orders")["status"]["target"].is_null(), "nothing is told of what is there");
    assert!(world.troubles.writes() == 0, "nothing is written anywhere");
}

#[tokio::test(start_paused = true)]
async fn a_label_that_is_taken_away_revokes_and_everything_stays_as_it_is() {
    let (world, _operator, luid) = working().await;
    let (there, wrote) = (made(&world), world.troubles.writes());
    label(&world, "sales");
    world.until("it is revoked", |world| state(world) == DENIED).await;
    // What happens meanwhile: a completion, and a change in Prefect and in Git.
    world.complete("orders");
    let change = json!({"spec": {"description": "changed"}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &change).unwrap();
    sleep(POLL * 10).await;
    assert_eq!(state(&world), DENIED);
    assert_eq!((made(&world), world.troubles.writes(), world.jobs_of(&luid)), (there, wrote, 0));

    label(&world, "finance");
    world.settle().await;
    assert_eq!(state(&world), IN_SYNC);
    assert_eq!((made(&world), world.jobs_of(&luid)), (there, 1), "what was owed is made good, once");
    let prefect = world.prefect.state();
    assert!(prefect.deployments.values().all(|d| d.fields.get("description") == Some(&json!("changed"))));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_changed_revokes_and_a_refresh_that_runs_is_followed_to_its_end() {
    let (world, _operator, luid) = working().await;
    let (prefect, tableau) = allowed();
    world.complete("orders");
    world
        .until("it runs", |world| condition(&world.exr("orders"), "Refreshing") == Some(("True", "Running")))
        .await;
    for (plural, name) in [(WORKSPACES, "prod"), (SITES, "acme")] {
        rule(&world, plural, name, &json!([]));
    }
    world.until("it is revoked", |world| state(world) == DENIED).await;
    world.until("the refresh has ended", |world| !world.exr("orders")["status"]["attempt"].is_object()).await;
    assert_eq!(condition(&world.exr("orders"), "LastRefreshSucceeded"), Some(("True", "Succeeded")));
    world.complete("orders");
    sleep(POLL * 10).await;
    assert_eq!((state(&world), made(&world), world.jobs_of(&luid)), (DENIED, (1, 1), 1));

    rule(&world, WORKSPACES, "prod", &prefect);
    rule(&world, SITES, "acme", &tableau);
    world.settle().await;
    assert_eq!((state(&world), world.jobs_of(&luid)), (IN_SYNC, 2));
}

#[tokio::test(start_paused = true)]
async fn a_work_pool_is_the_right_to_run_code_in_it() {
    let (world, _operator, _) = working().await;
    world.prefect.state().work_pools.insert("gpu".into());
    let other = json!({"spec": {"workPool": {"name": "gpu"}}});
    world.server.merge("flowdeployments", NAMESPACE, "orders", &other).unwrap();
    world.until("it is refused", |world| state(world)[0] == DENIED[0]).await;
    let message = said(&world.flow_object("orders"), "Ready");
    assert!(message.contains("work pool `gpu`") && !message.contains("flow `orders`"), "{message}");
    sleep(POLL * 4).await;
    let pool = |world: &World| {
        let prefect = world.prefect.state();
        prefect.deployments.values().map(|d| d.fields.get("work_pool_name").cloned()).collect::<Vec<_>>()
    };
    assert_eq!(pool(&world), [Some(json!("etl"))]);
    let (mut prefect, _) = allowed();
    prefect[0]["workPools"] = json!(["etl", "g*"]);
    rule(&world, WORKSPACES, "prod", &prefect);
    world.settle().await;
    assert_eq!((state(&world), pool(&world)), (IN_SYNC, vec![Some(json!("gpu"))]));
}

#[tokio::test(start_paused = true)]
async fn a_luid_is_judged_by_where_it_lies_also_after_it_was_moved() {
    let (prefect, tableau) = allowed();
    let world = cluster(&prefect, &tableau);
    let luid = team(&world);
    let mut by_luid = refresh("orders", &["orders"]);
    by_luid["spec"]["target"] = json!({"kind": "Datasource", "luid": luid.to_string()});
    world.server.put("extractrefreshes", by_luid).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    assert_eq!(state(&world), IN_SYNC);
    let secret = world.tableau.project("HR", None);
    let put_into = |project| world.tableau.state().contents[0].project = Some(project);
    let finance = world.tableau.state().projects[0].id.clone();
    put_into(secret);
    world.until("it is seen to have moved", |world| state(world)[1] == DENIED[1]).await;
    let exr = world.exr("orders");
    assert!(said(&exr, "Ready").contains("the project of the content with this LUID"), "{exr:#}");
    assert!(!exr["status"].to_string().contains("HR"), "where it went is nothing that it may know: {exr:#}");
    assert_eq!(exr["status"]["target"]["projectPath"], "Finance", "of what is there nothing more is told");
    world.complete("orders");
    sleep(POLL * 4).await;
    assert_eq!((made(&world), world.jobs_of(&luid)), ((1, 1), 0));
    put_into(finance);
    world.settle().await;
    assert_eq!((state(&world), world.jobs_of(&luid)), (IN_SYNC, 1));
}

#[tokio::test(start_paused = true)]
async fn runs_of_others_are_seen_only_as_upstreams_that_are_allowed() {
    let (world, _operator, luid) = working().await;
    let at = json!({"kind": "ClusterPrefectWorkspace", "name": "prod"});
    let crm = json!({"name": "crm", "prefectDeployment": {"workspaceRef": at, "flowName": "crm", "deploymentName": "crm"}});
    let runs = json!({"name": "runs", "prefectRuns": {"workspaceRef": at, "tags": ["crm"]}});
    let mut more = refresh("orders", &["orders"]);
    more["spec"]["upstreams"].as_array_mut().unwrap().extend([crm, runs]);
    more["spec"]["trigger"] = json!({"require": "Any"});
    let mut theirs = World::flow("crm");
    theirs["metadata"]["namespace"] = json!(HOME);
    theirs["spec"]["workspaceRef"] = at.clone();
    let (mut prefect, _) = allowed();
    let platform =
        json!({"name": "platform", "namespaces": {"names": [HOME]}, "flows": ["*"], "workPools": ["*"]});
    prefect.as_array_mut().unwrap().push(platform);
    rule(&world, WORKSPACES, "prod", &prefect);
    world.server.put("flowdeployments", theirs).unwrap();
    world.server.put("extractrefreshes", more).unwrap();
    world.settle().await;
    let healthy = |world: &World| {
        let exr = world.exr("orders");
        (condition(&exr, "UpstreamsHealthy").map(known).unwrap(), said(&exr, "UpstreamsHealthy"))
    };
    let (told, message) = healthy(&world);
    assert_eq!(told, ("False", "AccessDenied"));
    assert!(message.contains("crm may not be seen") && message.contains("upstream `crm/crm`"), "{message}");
    world.prefect.run(&World::deployment("crm"), StateType::Completed);
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 0, "nobody tells it");

    prefect[0]["upstreams"] = json!(["crm/*"]);
    rule(&world, WORKSPACES, "prod", &prefect);
    world.until("the next is refused", |world| healthy(world).1.contains("runs may not be seen")).await;
    assert!(healthy(&world).1.contains("`**`"), "{}", healthy(&world).1);
    world.prefect.run(&World::deployment("crm"), StateType::Completed);
    world.settle().await;
    assert!(world.jobs_of(&luid) >= 1);
    prefect[0]["upstreams"] = json!(["**"]);
    rule(&world, WORKSPACES, "prod", &prefect);
    world.settle().await;
    assert_eq!(healthy(&world).0, ("True", "AllHealthy"));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_allowed_stands_in_nobodys_way() {
    let (prefect, tableau) = allowed();
    let world = cluster(&prefect, &tableau);
    // Older, of another namespace that nobody allowed anything.
    world.server.put("namespaces", resources::namespace("sales")).unwrap();
    for (plural, mut object) in
        [("flowdeployments", flow("orders")), ("extractrefreshes", refresh("orders", &[]))]
    {
        object["metadata"]["namespace"] = json!("sales");
        world.server.put(plural, object).unwrap();
    }
    let _operator = world.operator("one");
    sleep(POLL * 2).await;
    let luid = team(&world);
    world.settle().await;
    assert_eq!(state(&world), IN_SYNC);
    for plural in ["flowdeployments", "extractrefreshes"] {
        let theirs = world.server.object(plural, "sales", "orders").unwrap();
        assert_eq!(condition(&theirs, "Ready"), Some(DENIED[0]), "{theirs:#}");
    }
    world.complete("orders");
    world.settle().await;
    assert_eq!(world.jobs_of(&luid), 1);
    let mark = format!("feedwater:{INSTANCE}/finance/orders");
    assert!(world.prefect.state().deployments.values().all(|d| d.tags.contains(&mark)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_deleted_waits_for_its_users_in_every_namespace() {
    let (mut prefect, tableau) = allowed();
    let sales = json!({"name": "sales", "namespaces": {"names": ["sales"]}, "flows": ["sales"], "workPools": ["etl"]});
    prefect.as_array_mut().unwrap().push(sales);
    let world = cluster(&prefect, &tableau);
    world.server.put("namespaces", resources::namespace("sales")).unwrap();
    team(&world);
    let mut theirs = flow("sales");
    theirs["metadata"]["namespace"] = json!("sales");
    world.server.put("flowdeployments", theirs).unwrap();
    let _operator = world.operator("one");
    world.settle().await;
    assert_eq!(made(&world), (2, 1));
    assert!(!world.server.remove(WORKSPACES, "", "prod").unwrap());
    sleep(POLL * 4).await;
    let kept = world.server.object(WORKSPACES, "", "prod").unwrap();
    assert_eq!(condition(&kept, "Ready"), Some(("False", "InUse")));
    let message = said(&kept, "Ready");
    assert!(
        message.contains("FlowDeployment `finance/orders` and FlowDeployment `sales/sales`"),
        "{message}"
    );
    // Also one that is not allowed any more takes away what it made.
    label(&world, "nobody");
    world.server.remove("flowdeployments", NAMESPACE, "orders").unwrap();
    sleep(POLL * 4).await;
    assert_eq!(made(&world).0, 1);
    world.server.remove("flowdeployments", "sales", "sales").unwrap();
    world.until("it goes", |world| world.server.object(WORKSPACES, "", "prod").is_none()).await;
    assert_eq!(made(&world).0, 0);
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_one_namespace_says_that_it_cannot() {
    let (prefect, tableau) = allowed();
    let mut world = cluster(&prefect, &tableau);
    world.scope = Scope::Namespace(NAMESPACE.into());
    team(&world);
    let _operator = world.operator("one");
    world.until("both are refused", |world| state(world) == DENIED).await;
    for object in [world.flow_object("orders"), world.exr("orders")] {
        assert!(said(&object, "Ready").contains("serves one namespace only (--namespace)"), "{object:#}");
    }
    let asked = world.server.count(|call| call.plural.starts_with("cluster") || call.plural == "namespaces");
    assert_eq!(asked, 0, "it has no right to");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_missing_is_waited_for_as_any_other() {
    let world = cluster(&allowed().0, &allowed().1);
    world.server.remove(WORKSPACES, "", "prod").unwrap();
    world.server.remove(SITES, "", "acme").unwrap();
    world.publish("orders");
    world.server.put("flowdeployments", flow("orders")).unwrap();
    world.server.put("extractrefreshes", refresh("orders", &["orders"])).unwrap();
    let _operator = world.operator("one");
    sleep(POLL).await;
    assert_eq!(state(&world), [("Unknown", "DependencyNotFound"), ("Unknown", "DependencyNotFound")]);
    let message = said(&world.flow_object("orders"), "Ready");
    assert!(message.contains("ClusterPrefectWorkspace `prod` does not exist; create it"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_in_a_prefect_that_a_resource_may_not_see() {
    let (world, _operator, luid) = working().await;
    world.complete("orders");
    world.settle().await;
    let told = |world: &World| world.prefect.state().told.runs.len();
    assert_eq!((world.jobs_of(&luid), told(&world)), (1, 1), "while it may");
    // The extract's site stays allowed; Prefect does not.
    rule(&world, WORKSPACES, "prod", &json!([]));
    world.until("it is seen", |world| state(world)[0] == DENIED[0]).await;
    let asked = json!({"metadata": {"annotations": {"feedwater.dev/refresh-requested": "t1"}}});
    world.server.merge("extractrefreshes", NAMESPACE, "orders", &asked).unwrap();
    world.settle().await;
    assert_eq!((world.jobs_of(&luid), told(&world)), (2, 1), "refreshed, and not told there");
}
