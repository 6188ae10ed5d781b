//! Sign-in, formats, lists: as the reference tells.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Method;
use serde_json::{Value, json};
use world::tableau::{Config, Edition, Simulator};

use crate::client::{Client, now, start, text};

type Headers<'a> = &'a [(&'a str, &'a str)];

const NOTHING: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn it_says_what_it_is_and_which_version_it_speaks() {
    let tableau = Simulator::start(Config { date_skew: 3600, ..Config::default() }).await.unwrap();
    let home = text(&tableau.url()).await;
    assert!(home.contains("simulator, not Tableau"), "{home}");
    let admin = text(&tableau.admin_url()).await;
    assert!(admin.contains("simulator, not Tableau") && admin.contains("POST /scripts"), "{admin}");

    let client = Client::new(&tableau, "2.4");
    let xml = client.call(Method::GET, "/serverInfo", &[("accept", "*/*")], String::new()).await.unwrap();
    assert_eq!(xml.header("server"), "feedwater-tableau-simulator");
    assert_eq!(xml.header("content-type"), "application/xml;charset=UTF-8");
    assert!(xml.text.starts_with("<?xml") && xml.text.contains("xmlns=\"http://tableau.com/api\""));
    assert!(
        xml.text.contains(
            "<productVersion build=\"20254.25.1215.1100\">2025.3.0</productVersion><restApiVersion>3.27<"
        ),
        "{}",
        xml.text
    );
    let ahead = rfc2822::parse(xml.header("date")).unwrap().timestamp().duration_since(now());
    assert!((3590..=3600).contains(&ahead.as_secs()), "{ahead:?}");

    let json = [("accept", "application/json")];
    let json = client.call(Method::GET, "/serverinfo", &json, String::new()).await.unwrap();
    assert_eq!(json.header("content-type"), "application/json;charset=UTF-8");
    let expected = json!({"serverInfo": {"restApiVersion": "3.27",
        "productVersion": {"value": "2025.3.0", "build": "20254.25.1215.1100"}}});
    assert_eq!(json.json(), expected);

    let newer = Client::new(&tableau, "3.28");
    assert_eq!(newer.json(Method::GET, "/serverinfo", &json!({})).await.code(), "404001");
    assert_eq!(client.json(Method::GET, "/nothing", &json!({})).await.code(), "404003");
    assert_eq!(client.json(Method::GET, "/auth/signin", &json!({})).await.code(), "405000");
}

#[tokio::test]
async fn a_token_is_good_for_one_site_until_the_next_sign_in() {
    let (tableau, client) = start(Config::default()).await;
    assert_eq!(client.token.split('|').nth(2), Some(client.site.as_str()));
    let get = async |token: &str, site: &str| {
        let with = Client { token: token.to_owned(), site: site.to_owned(), ..client.clone() };
        with.get("/datasources").await
    };
    assert_eq!(get(&client.token, &client.site).await.status, 200);
    assert_eq!(get("", &client.site).await.code(), "401000");
    assert_eq!(get("wrong", &client.site).await.code(), "401002");
    assert_eq!(get(&client.token, NOTHING).await.code(), "404000");
    let other = tableau.add_site("other");
    assert_eq!(get(&client.token, &other).await.code(), "401002");

    for (site, name, secret) in
        [("acme", "test", "wrong"), ("acme", "x", "secret"), ("nowhere", "test", "secret")]
    {
        let answer = client.sign_in(site, name, secret).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "401001"), "{site} {name}");
    }
    assert_eq!(get(&client.token, &client.site).await.status, 200, "a failed sign-in ends nothing");
    let second = client.sign_in("acme", "test", "secret").await.json();
    let second = second["credentials"]["token"].as_str().unwrap();
    assert_eq!(get(&client.token, &client.site).await.code(), "401002");
    assert_eq!(get(second, &client.site).await.status, 200);

    let out = Client { token: second.to_owned(), ..client.clone() };
    let out = out.call(Method::POST, "/auth/signout", &[], String::new()).await.unwrap();
    assert_eq!((out.status, out.text.as_str()), (204, ""));
    assert_eq!(get(second, &client.site).await.code(), "401002");
}

#[tokio::test]
async fn tokens_end_by_age_by_hand_and_by_revocation() {
    let (tableau, client) = start(Config::default()).await;
    tableau.end_sessions("acme");
    assert_eq!(client.get("/jobs").await.code(), "401002");
    let site = client.site.clone();
    let client = Client::signed_in(&tableau, &site, "3.27").await;
    assert_eq!(client.get("/jobs").await.status, 200);
    tableau.revoke_pat("acme", "test");
    assert_eq!(client.get("/jobs").await.code(), "401002");
    assert_eq!(client.sign_in("acme", "test", "secret").await.code(), "401001");
    // Healed by a token of the same name with a new secret.
    tableau.add_pat("acme", "test", "new", "tester");
    assert_eq!(client.sign_in("acme", "test", "secret").await.code(), "401001");
    assert_eq!(client.sign_in("acme", "test", "new").await.status, 200);

    let (_old, client) = start(Config { token_lifetime: Duration::ZERO, ..Config::default() }).await;
    assert_eq!(client.get("/jobs").await.code(), "401002");
}

#[tokio::test]
async fn the_format_of_the_body_and_that_of_the_answer_are_chosen_independently() {
    let (tableau, client) = start(Config::default()).await;
    let orders = tableau.add_datasource("acme", &["Finance"], "Orders & \"Co\"", true);
    let path = format!("/sites/{}/datasources/{orders}/refresh", client.site);
    let (xml, json) =
        ("<tsRequest><extractRefresh/></tsRequest>", "{\"extractRefresh\":{\"incremental\":\"false\"}}");
    let (as_xml, as_json) = (("content-type", "text/xml"), ("content-type", "application/json"));
    let want_json = ("accept", "application/json");
    let cases: [(Headers<'_>, &str, u16, &str); 10] = [
        (&[], xml, 202, "<?xml"),
        (&[as_xml], xml, 409, "<?xml"),
        (&[as_json], json, 409, "<?xml"),
        (&[as_xml, want_json], xml, 409, "{"),
        (&[as_json, want_json], json, 409, "{"),
        // A JSON body without a JSON Content-Type, and the reverse.
        (&[want_json], json, 400, "{"),
        (&[as_json], xml, 400, "<?xml"),
        // A body is required, and nothing unknown may be in it.
        (&[as_xml], "", 400, "<?xml"),
        (&[as_xml], "<tsRequest><extractRefresh full=\"true\"/></tsRequest>", 400, "<?xml"),
        (&[as_json], "{\"refresh\":{}}", 400, "<?xml"),
    ];
    for (headers, body, status, begin) in cases {
        let answer = client.call(Method::POST, &path, headers, body.to_owned()).await.unwrap();
        assert_eq!(answer.status, status, "{headers:?} {body}");
        assert!(answer.text.starts_with(begin), "{}", answer.text);
    }
    let conflict = client.call(Method::POST, &path, &[as_xml], xml.to_owned()).await.unwrap();
    let expected = "<error code=\"409093\"><summary>Resource Conflict</summary><detail>Job for &apos;Orders &amp; \
        &quot;Co&quot;&apos; is already queued. Not queuing a duplicate.</detail></error></tsResponse>";
    assert!(conflict.text.ends_with(expected), "{}", conflict.text);
    // A Content-Type on a GET asks for nothing.
    let get = format!("/sites/{}/datasources/{orders}", client.site);
    let answer = client.call(Method::GET, &get, &[as_json], String::new()).await.unwrap();
    assert!(answer.status == 200 && answer.text.starts_with("<?xml"), "{answer:?}");
}

#[tokio::test]
async fn empty_lists_are_empty_objects_and_numbers_are_strings() {
    let (_tableau, client) = start(Config::default()).await;
    let none = json!({"pageNumber": "1", "pageSize": "100", "totalAvailable": "0"});
    for (path, list) in
        [("/datasources", "datasources"), ("/workbooks", "workbooks"), ("/jobs", "backgroundJobs")]
    {
        assert_eq!(client.get(path).await.json(), json!({"pagination": none, list: {}}));
    }
    assert_eq!(client.get("/tasks/extractRefreshes").await.json(), json!({"tasks": {}}));
}

#[tokio::test]
async fn content_is_told_as_tableau_tells_it() {
    let (tableau, client) = start(Config { date_skew: -7200, ..Config::default() }).await;
    let orders = tableau.add_datasource("acme", &["Finance", "Sales"], "Orders", true);
    let board = tableau.add_workbook("acme", &["Finance", "Sales"], "Board", true);
    let sales = tableau.add_project("acme", &["Finance", "Sales"]);
    let row = client.get(&format!("/datasources/{orders}")).await.json()["datasource"].clone();
    assert_eq!(row["project"], json!({"id": sales, "name": "Sales"}));
    assert_eq!(
        (&row["name"], &row["hasExtracts"], &row["size"]),
        (&json!("Orders"), &json!(true), &json!("1"))
    );
    assert_eq!((&row["encryptExtracts"], &row["tags"]), (&json!("false"), &json!({})));
    let created: Timestamp = row["createdAt"].as_str().unwrap().parse().unwrap();
    assert!(row["createdAt"].as_str().unwrap().ends_with('Z') && created.subsec_nanosecond() == 0);
    let behind = now().duration_since(created).as_secs();
    assert!((7200..7210).contains(&behind), "{behind}");

    // Workbooks tell of extracts only when asked.
    let rows = |answer: &Value| answer["workbooks"]["workbook"][0].clone();
    assert_eq!(rows(&client.get("/workbooks").await.json())["hasExtracts"], Value::Null);
    for fields in ["_all_", "_default_,workbook.hasExtracts"] {
        let row = rows(&client.get(&format!("/workbooks?fields={fields}")).await.json());
        assert_eq!((&row["hasExtracts"], &row["id"]), (&json!(true), &json!(board)), "{fields}");
        assert_eq!(row["location"], json!({"id": sales, "type": "Project", "name": "Sales"}));
    }
    let only = rows(&client.get("/workbooks?fields=name").await.json());
    assert_eq!(only, json!({"name": "Board"}));
    assert_eq!(client.get("/workbooks?fields=workbook.nonsense").await.code(), "400000");

    assert_eq!(client.get(&format!("/datasources/{board}")).await.code(), "404004");
    assert_eq!(client.get(&format!("/workbooks/{orders}")).await.code(), "404006");
    assert_eq!(client.get(&format!("/users/{NOTHING}")).await.code(), "404002");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let (tableau, client) = start(Config::default()).await;
    for (path, name) in [(["A", "Sales"], "Orders"), (["B", "Sales"], "Orders"), (["B", "Ops"], "Logs, raw")]
    {
        tableau.add_datasource("acme", &path, name, name != "Logs, raw");
    }
    let names = async |query: &str| {
        let answer = client.get(&format!("/datasources?{query}")).await;
        if answer.status != 200 {
            return Err(answer.code());
        }
        let list = answer.json();
        let rows = list["datasources"]["datasource"].as_array().cloned().unwrap_or_default();
        let names = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        Ok((names.join("|"), list["pagination"]["totalAvailable"].as_str().unwrap().to_owned()))
    };
    let table = [
        ("filter=name:eq:Orders,projectName:eq:Sales", "Orders|Orders", "2"),
        ("filter=name%3Aeq%3AOrders%2CprojectName%3Aeq%3AOps", "", "0"),
        ("filter=hasExtracts:eq:false", "Logs, raw", "1"),
        ("filter=name:in:%5BOrders,x%5D&pageSize=1&pageNumber=2", "Orders", "2"),
        ("filter=name:has:Logs,+raw", "400000", ""),
        ("filter=projectId:eq:x", "400000", ""),
        ("sort=name:asc", "Logs, raw|Orders|Orders", "3"),
        ("sort=projectName:desc,name:asc", "Orders|Orders|Logs, raw", "3"),
        ("sort=nonsense:asc", "400000", ""),
        ("pageSize=2&pageNumber=2", "Logs, raw", "3"),
        ("pageSize=1000&pageNumber=7", "", "3"),
        ("pageSize=1001", "400007", ""),
        ("pageSize=0", "400007", ""),
        ("pageNumber=0", "400006", ""),
    ];
    for (query, expected, total) in table {
        let expected = match total {
            "" => Err(expected.to_owned()),
            total => Ok((expected.to_owned(), total.to_owned())),
        };
        assert_eq!(names(query).await, expected, "{query}");
    }
}

/// Real sites may well ignore some of it; nobody who sends it means nothing by it.
#[tokio::test]
async fn what_an_operation_does_not_know_is_refused() {
    let (tableau, client) = start(Config { edition: Edition::Cloud, ..Config::default() }).await;
    let orders = tableau.add_datasource("acme", &["A"], "Orders", true);
    let job = client.refresh(&orders).await.json()["job"]["id"].as_str().unwrap().to_owned();
    let parameters = [
        "/datasources?pagesize=5",
        "/jobs?limit=5",
        "/tasks/extractRefreshes?pageSize=5",
        &format!("/datasources/{orders}?x"),
    ];
    for path in parameters {
        assert_eq!(client.get(path).await.code(), "400000", "{path}");
    }
    for (method, path) in [(Method::GET, "/datasources".into()), (Method::PUT, format!("/jobs/{job}"))] {
        let path = format!("/sites/{}{path}", client.site);
        assert_eq!(client.json(method, &path, &json!({})).await.code(), "400000", "{path}: a body");
    }
    let refreshes = [json!({"extractRefresh": {"full": "true"}}), json!({"extract": {}})];
    for body in refreshes {
        assert_eq!(
            client.post(&format!("/datasources/{orders}/refresh"), &body).await.code(),
            "400000",
            "{body}"
        );
    }
    let details = json!({"start": "05:00:00", "intervals": {"interval": [{"weekDay": "Monday"}]}});
    let task = |subject: Value| {
        let refresh = json!({"type": "FullRefresh", "datasource": subject});
        json!({"extractRefresh": refresh, "schedule": {"frequency": "Weekly", "frequencyDetails": details}})
    };
    let create = async |subject| client.post("/tasks/extractRefreshes", &task(subject)).await;
    assert_eq!(create(json!({"id": orders, "name": "Orders"})).await.code(), "400000");
    assert_eq!(create(json!({"id": orders})).await.status, 200);
}

#[tokio::test]
async fn a_project_is_found_level_by_level() {
    let (tableau, client) = start(Config::default()).await;
    tableau.add_project("acme", &["Sales"]);
    let sales = tableau.add_project("acme", &["Finance", "Sales"]);
    let finance = tableau.add_project("acme", &["Finance"]);
    let ids = async |filter: &str| {
        let list = client.get(&format!("/projects?filter={filter}")).await.json();
        let rows = list["projects"]["project"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("name:eq:Finance,topLevelProject:eq:true").await, std::slice::from_ref(&finance));
    assert_eq!(ids(&format!("name:eq:Sales,parentProjectId:eq:{finance}")).await, [sales]);
    assert_eq!(ids("name:eq:Sales").await.len(), 2);
    assert_eq!(ids("topLevelProject:eq:true").await.len(), 3);
}

#[tokio::test]
async fn content_can_be_moved_removed_and_made_anew_and_lists_may_lag() {
    let (tableau, client) = start(Config::default()).await;
    let old = tableau.add_datasource("acme", &["A"], "Orders", true);
    tableau.move_content(&old, &["B"]);
    let list = client.get("/datasources?filter=projectName:eq:B").await.json();
    assert_eq!(list["datasources"]["datasource"][0]["id"], json!(old));
    tableau.remove_content(&old);
    assert_eq!(client.get(&format!("/datasources/{old}")).await.code(), "404004");
    assert_ne!(tableau.add_datasource("acme", &["B"], "Orders", true), old);

    let lag = Config { index_lag: Duration::from_secs(3600), ..Config::default() };
    let (tableau, client) = start(lag).await;
    let new = tableau.add_datasource("acme", &["A"], "Orders", true);
    assert_eq!(client.get("/datasources").await.json()["datasources"], json!({}));
    assert_eq!(client.get(&format!("/datasources/{new}")).await.status, 200);
}

#[tokio::test]
async fn schedules_exist_on_tableau_server_only() {
    for (edition, status) in [(Edition::Server, 200), (Edition::Cloud, 403)] {
        let (_tableau, client) = start(Config { edition, ..Config::default() }).await;
        assert_eq!(
            client.call(Method::GET, "/schedules", &[], String::new()).await.unwrap().status,
            status,
            "{edition:?}"
        );
    }
}
