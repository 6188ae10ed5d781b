//! Every request that the client makes of Tableau is written down in `tableau_requests.http`: it makes exactly those, and the simulator accepts
//! exactly those.

use crate::stub::{Seen, Stub, http, json};
use crate::tableau::{error, server_info, signed_in};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use feedwater::api::{Edition, RefreshType, TableauSchedule, TargetKind};
use feedwater::model::timing::Timing;
use feedwater::tableau::{ConnectedApp, Credential, NewTask, Questions, SCOPES, Tableau, TableauClient};
use regex::Regex;
use ring::hmac;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use world::tableau::{Config, Edition as Simulated, Kind, Script, Simulator, Step, TaskHabits};

const DEADLINE: Duration = Duration::from_secs(3);
const FILE: &str = include_str!("tableau_requests.http");
/// Those of Tableau Server alone; all others are known to Cloud.
const OF_SERVER: [&str; 4] = ["list_schedules", "get_schedule", "create_schedule", "attach"];

/// One golden request. In its texts, `{{name}}` stands for what only Tableau knows.
#[derive(Clone, PartialEq, Eq)]
struct Golden {
    /// As metrics name it.
    operation: String,
    method: String,
    /// Path and query, encoded.
    target: String,
    body: Option<Value>,
}

impl Golden {
    fn all() -> Vec<Self> {
        FILE.split("\n### ").skip(1).map(Self::read).collect()
    }

    fn read(block: &str) -> Self {
        let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
        let (title, request) = head.trim_end().split_once('\n').unwrap();
        let (method, target) = request.split_once(' ').unwrap();
        let operation = title.split(':').next().unwrap().to_owned();
        let body = Some(body.trim()).filter(|body| !body.is_empty());
        let body = body.map(|body| serde_json::from_str(body).unwrap_or_else(|e| panic!("{title}: {e}")));
        Self { operation, method: method.into(), target: target.into(), body }
    }

    fn of(operation: &str, seen: &Seen) -> Self {
        let Seen { method, target, body, headers } = seen;
        let body = Some(body).filter(|body| !body.is_empty());
        let body: Option<Value> = body.map(|body| serde_json::from_str(body).unwrap());
        assert_eq!(headers["accept"], "application/json", "{target}");
        assert_eq!(
            headers.get("content-type").map(String::as_str),
            body.as_ref().map(|_| "application/json")
        );
        assert!(method != "PUT" && method != "POST" || headers.contains_key("content-length"), "{target}");
        let token = (!["server_info", "sign_in"].contains(&operation)).then_some("token");
        assert_eq!(headers.get("x-tableau-auth").map(String::as_str), token, "{target}");
        Self { operation: operation.into(), method: method.clone(), target: target.clone(), body }
    }

    /// The same with these names filled in.
    fn with(&self, values: &[(&str, &str)]) -> Self {
        let fill = |text: &str| {
            values
                .iter()
                .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
        };
        let body = self.body.as_ref().map(|body| serde_json::from_str(&fill(&body.to_string())).unwrap());
        let filled = Self { target: fill(&self.target), body, ..self.clone() };
        assert!(!format!("{filled:?}").contains("{{"), "{filled:?}");
        filled
    }
}

/// As the file has it.
impl fmt::Debug for Golden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "### {}\n{} {}\n", self.operation, self.method, self.target)?;
        self.body.as_ref().map_or(Ok(()), |body| write!(f, "\n{body:#}\n"))
    }
}

#[tokio::test]
async fn the_client_makes_exactly_these_requests() {
    let app = ConnectedApp {
        username: "svc@acme.com".into(),
        client_id: "app-1".into(),
        secret_id: "secret-1".into(),
        secret_value: "value-1".into(),
    };
    let pat = Credential::PersonalAccessToken { name: "feedwater".into(), secret: "secret".into() };
    let mut made = Vec::new();
    for credential in [pat, Credential::ConnectedApp(app)] {
        for method in methods() {
            for request in requests_of(&method, &credential).await {
                if !made.contains(&request) {
                    made.push(request);
                }
            }
        }
    }
    let names = ["site", "datasource", "workbook", "job", "task", "schedule", "warning", "jwt"];
    let values = names.map(|name| (name, name));
    let golden: Vec<_> = Golden::all().iter().map(|golden| golden.with(&values)).collect();
    let absent = |of: &[Golden], from: &[Golden]| -> Vec<_> {
        of.iter().filter(|one| !from.contains(one)).cloned().collect()
    };
    let (surplus, missing) = (absent(&made, &golden), absent(&golden, &made));
    assert!(surplus.is_empty(), "made, and not in tableau_requests.http:\n{surplus:#?}");
    assert!(missing.is_empty(), "in tableau_requests.http, and not made:\n{missing:#?}");
    assert_eq!(golden.len(), made.len(), "one is written down twice");
    let operations: BTreeSet<_> = golden.into_iter().map(|golden| golden.operation).collect();
    assert_eq!(operations, operations_of_the_source());
}

/// The methods of the trait, as its source has them: whoever adds one is asked for its requests.
fn methods() -> Vec<String> {
    let source = include_str!("../../src/tableau/mod.rs");
    let of_trait = source.split_once("pub trait Tableau").unwrap().1.split_once("\n}\n").unwrap().0;
    let found: Vec<String> = Regex::new(r"async fn (\w+)")
        .unwrap()
        .captures_iter(of_trait)
        .map(|found| found[1].to_owned())
        .collect();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The names of all calls in the client's source; an identity provider is not Tableau.
fn operations_of_the_source() -> BTreeSet<String> {
    let names = Regex::new(r#"(?:Call::new|\.list|\.list_at)\(\s*"(\w+)""#).unwrap();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tableau")).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("identity.rs") {
            let source = std::fs::read_to_string(path).unwrap();
            found.extend(names.captures_iter(&source).map(|found| found[1].to_owned()));
        }
    }
    found
}

/// What goes out when a method is called, the sign-in with it.
async fn requests_of(method: &str, credential: &Credential) -> Vec<Golden> {
    // Whatever else is asked is refused: what follows an answer is not the matter here.
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/api/2.4/serverinfo" => server_info("3.30"),
        "/api/3.27/auth/signin" => signed_in("token"),
        target if target.ends_with("/signout") => json(204, &Value::Null),
        _ => error(400, "400000"),
    })
    .await;
    let operations = Arc::new(Mutex::new(Vec::new()));
    let log = operations.clone();
    let client = http("tableau", stub.url.as_str())
        .observed_by(Arc::new(move |record| log.lock().unwrap().push(record.operation)));
    let client = TableauClient::new(client, "acme", credential.clone(), Arc::new(|| true));
    call(&client, method).await;
    let operations = operations.lock().unwrap();
    let seen = stub.seen();
    assert_eq!(seen.len(), operations.len());
    operations
        .iter()
        .zip(seen)
        .map(|(operation, mut seen)| {
            seen.target = seen.target.replace("/site-1/", "/site/");
            let mut golden = Golden::of(operation, &seen);
            if let Some(jwt) = golden.body.as_mut().and_then(|body| body.pointer_mut("/credentials/jwt")) {
                // Its inside is tableau_tokens' business.
                assert_eq!(jwt.as_str().unwrap().split('.').count(), 3);
                *jwt = json!("jwt");
            }
            golden
        })
        .collect()
}

/// Calls a method in every way in which its requests differ.
async fn call(client: &TableauClient, method: &str) {
    use RefreshType::{Full, Incremental};
    use TargetKind::{Datasource, Workbook};
    let kinds = [(Datasource, "datasource"), (Workbook, "workbook")];
    let new = |n: usize, refresh_type| NewTask { kind: kinds[n].0, luid: kinds[n].1.into(), refresh_type };
    let (task, schedule) = (&"task".into(), &"schedule".into());
    match method {
        "site" => drop(client.site().await),
        "sign_out" => {
            client.site().await.unwrap();
            client.sign_out().await;
        }
        "projects" => drop(client.projects().await),
        "contents" => {
            for (kind, _) in kinds {
                drop(client.contents(kind, &["Orders".into(), "Größe \"A/B\" + 1".into()]).await);
            }
        }
        "all_contents" => {
            for (kind, _) in kinds {
                drop(client.all_contents(kind).await);
            }
        }
        "content" => {
            for (kind, luid) in kinds {
                drop(client.content(kind, &luid.into()).await);
            }
        }
        "jobs" => drop(client.jobs("2026-11-24T09:59:59.9Z".parse().unwrap(), &Questions::default()).await),
        "job" => drop(client.job(&"job".into()).await),
        "tasks" => drop(client.tasks().await),
        "task" => drop(client.task(task).await),
        "create_task" => {
            drop(client.create_task(&new(0, Full), &daily(), DEADLINE).await);
            drop(client.create_task(&new(1, Incremental), &weekly(), DEADLINE).await);
        }
        "update_task" => drop(client.update_task(task, &monthly()).await),
        "delete_task" => drop(client.delete_task(task).await),
        "server_schedules" => drop(client.server_schedules().await),
        "server_schedule" => drop(client.server_schedule(schedule).await),
        "create_server_schedule" => {
            drop(client.create_server_schedule("Often", &every_two_hours()).await);
        }
        "attach" => {
            drop(client.attach(&new(0, Full), schedule, DEADLINE).await);
            drop(client.attach(&new(1, Incremental), schedule, DEADLINE).await);
        }
        "warnings" => drop(client.warnings(&"datasource".into()).await),
        "set_warning" => {
            drop(client.set_warning(&"datasource".into(), "Late since Monday", DEADLINE).await);
        }
        "delete_warning" => drop(client.delete_warning(&"warning".into()).await),
        "refresh" => {
            for (kind, luid) in kinds {
                for refresh_type in [Full, Incremental] {
                    drop(client.refresh(kind, &luid.into(), refresh_type, DEADLINE).await);
                }
            }
        }
        "cancel" => drop(client.cancel(&"job".into()).await),
        other => panic!("say here how {other} is called, and write its requests down"),
    }
}

fn daily() -> Timing {
    timing(&json!({"name": "x", "frequency": "Daily", "start": "02:00"}), Edition::Cloud)
}

fn weekly() -> Timing {
    timing(
        &json!({"name": "x", "frequency": "Weekly", "start": "05:00", "weekDays": ["Monday"]}),
        Edition::Cloud,
    )
}

fn monthly() -> Timing {
    let monthly =
        json!({"name": "x", "frequency": "Monthly", "start": "23:30", "monthDays": [15, "LastDay"]});
    timing(&monthly, Edition::Cloud)
}

fn every_two_hours() -> Timing {
    let hourly =
        json!({"name": "x", "frequency": "Hourly", "start": "06:00", "end": "20:00", "everyHours": 2});
    timing(&hourly, Edition::Server)
}

fn timing(declared: &Value, edition: Edition) -> Timing {
    let declared: TableauSchedule = serde_json::from_value(declared.clone()).unwrap();
    Timing::declared(&declared, edition).unwrap()
}

/// The simulator refuses what it does not know of Tableau: parameters, elements, attributes, bodies where none belong.
#[tokio::test]
async fn the_simulator_accepts_exactly_these_requests() {
    for golden in Golden::all() {
        let site = Site::of(&golden).await;
        let request = golden.with(&site.values());
        for (more, refused) in request.with_more() {
            assert_eq!(
                site.send(&refused).await,
                (400, "400000".into()),
                "{more} is not Tableau's:\n{refused:?}"
            );
        }
        let (status, code) = site.send(&request).await;
        assert!((200..300).contains(&status), "{status} {code}\n{request:?}");
    }
}

impl Golden {
    /// The same with one unknown thing more, in every place where there can be one.
    fn with_more(&self) -> Vec<(String, Self)> {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}surplus=1", self.target);
        let mut all = vec![("a parameter".to_owned(), Self { target, ..self.clone() })];
        let mut places = Vec::new();
        if let Some(body) = &self.body {
            objects(body, String::new(), &mut places);
        }
        for place in places {
            for surplus in [json!("1"), json!({})] {
                let mut more = self.clone();
                let object = more.body.as_mut().and_then(|body| body.pointer_mut(&place)).unwrap();
                object["surplus"] = surplus;
                all.push((format!("in {place:?}"), more));
            }
        }
        if self.body.is_none() {
            all.push(("a body".to_owned(), Self { body: Some(json!({})), ..self.clone() }));
        }
        all
    }
}

/// Pointers to every object of a body.
fn objects(of: &Value, at: String, found: &mut Vec<String>) {
    match of {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| objects(value, format!("{at}/{name}"), found));
            found.push(at);
        }
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(n, value)| objects(value, format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

/// A simulated site on which a golden request makes sense, and a sign-in there that owes nothing to the client.
struct Site {
    tableau: Simulator,
    http: reqwest::Client,
    token: String,
    jwt: String,
    luid: String,
    content: [String; 2],
    job: String,
    task: String,
    schedule: String,
    warning: String,
}

impl Site {
    async fn of(golden: &Golden) -> Self {
        let server = OF_SERVER.contains(&golden.operation.as_str());
        let edition = if server { Simulated::Server } else { Simulated::Cloud };
        let mut config = Config { edition, ..Config::default() };
        // Which of two names is Tableau's is not settled, so that the client knows both.
        if format!("{golden:?}").contains("IncrementalExtract") {
            config.tasks = TaskHabits::other();
        }
        let tableau = Simulator::start(config).await.unwrap();
        let luid = tableau.add_site("acme");
        tableau.add_pat("acme", "feedwater", "secret", "svc@acme.com");
        tableau.add_connected_app("acme", "app-1", "secret-1", "value-1");
        let content = [
            tableau.add_datasource("acme", &["Finance"], "Orders", true),
            tableau.add_workbook("acme", &["Finance"], "Board", true),
        ];
        // Neither is in the way of a new one.
        let other = tableau.add_datasource("acme", &["Finance"], "Other", true);
        tableau.script(&other, Script { running: Step::UntilReleased, ..Script::default() });
        let job = tableau.start_refresh(&other, Kind::Full, "ann").unwrap();
        let warning = tableau.add_warning(&other, "WARNING", "Mind the gap", "ann");
        let weekly = json!({"frequency": "Weekly",
            "frequencyDetails": {"start": "05:00:00", "intervals": {"interval": [{"weekDay": "Sunday"}]}}});
        let (task, schedule) = if server {
            (String::new(), tableau.add_schedule("Weekly", &weekly))
        } else {
            (tableau.add_task(&other, Kind::Full, &weekly), String::new())
        };
        // Only the first installation counts.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (http, token, jwt) = (reqwest::Client::new(), String::new(), jwt());
        let mut all = Self { tableau, http, token, jwt, luid, content, job, task, schedule, warning };
        let pat = json!({"personalAccessTokenName": "feedwater", "personalAccessTokenSecret": "secret", "site": {"contentUrl": "acme"}});
        let sign_in = Golden {
            operation: String::new(),
            method: "POST".into(),
            target: "/api/3.27/auth/signin".into(),
            body: Some(json!({ "credentials": pat })),
        };
        let answer: Value = all.answer(&sign_in).await.json().await.unwrap();
        all.token = answer["credentials"]["token"].as_str().unwrap().into();
        all
    }

    fn values(&self) -> [(&str, &str); 8] {
        [
            ("site", &self.luid),
            ("datasource", &self.content[0]),
            ("workbook", &self.content[1]),
            ("job", &self.job),
            ("task", &self.task),
            ("schedule", &self.schedule),
            ("warning", &self.warning),
            ("jwt", &self.jwt),
        ]
    }

    /// The status, and Tableau's code if it refuses.
    async fn send(&self, request: &Golden) -> (u16, String) {
        let answer = self.answer(request).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    async fn answer(&self, request: &Golden) -> reqwest::Response {
        let method = request.method.parse().unwrap();
        let sent = self
            .http
            .request(method, format!("{}{}", self.tableau.url(), request.target))
            .header("accept", "application/json")
            .header("x-tableau-auth", &self.token);
        let sent = match &request.body {
            Some(body) => sent.json(body),
            None => sent,
        };
        sent.send().await.unwrap()
    }
}

#[allow(clippy::disallowed_methods)] // the simulator's clock is this machine's
fn jwt() -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "app-1", "sub": "svc@acme.com", "aud": "tableau", "jti": "1", "scp": SCOPES,
        "exp": jiff::Timestamp::now().as_second() + 300});
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "secret-1"})), part(&claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"value-1"), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}
