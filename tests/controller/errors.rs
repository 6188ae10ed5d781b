//! Every error of Prefect, from the bytes on the wire to the condition on the resource: real controllers and the real client against a small
//! server, in real time. What is seen is the table of `docs/prefect-errors.md`; `UPDATE=1` writes it.

use crate::stub::{Reply, Seen, Stub, json, text};
use crate::world::{NAMESPACE, World};
use feedwater::clock::Clock;
use feedwater::controller::services::RealServices;
use feedwater::http::{AddressPolicy, Timeouts};
use feedwater::runtime::metrics::Metrics;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use world::resources::{self, condition};

/// Stands in for whatever an answer's body says.
const CANARY: &str = "canary-5b2e";
/// In messages, in place of the small server.
const SHOWN: &str = "https://prefect.acme.example";

/// What happens, and where and how it shows.
struct Case {
    what: &'static str,
    /// Which of the server's answers are the error.
    when: When,
    /// What they are then.
    answer: fn() -> Reply,
    /// The connection's spec, beside or in place of the URL of the server.
    spec: Value,
    /// Status and reason of `Ready`, and what stands beside it.
    ready: (&'static str, &'static str, Option<&'static str>),
}

/// When an error happens.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// From the first call on: it shows on the connection.
    Always,
    /// When it is asked for its version: it shows on the connection.
    Asked,
    /// When the flow of a deployment is made sure of: it shows on its resource.
    Naming,
    /// When a deployment is created: it shows on its resource.
    Creating,
    /// When a schedule is added to a deployment that is there.
    Scheduling,
}

impl When {
    fn plural(self) -> &'static str {
        match self {
            Self::Always | Self::Asked => "prefectworkspaces",
            Self::Naming | Self::Creating | Self::Scheduling => "flowdeployments",
        }
    }

    fn hits(self, seen: &Seen) -> bool {
        match self {
            Self::Always => true,
            Self::Asked => seen.target == "/api/admin/version",
            Self::Naming => seen.method == "POST" && seen.target == "/api/flows/",
            Self::Creating => seen.method == "POST" && seen.target == "/api/deployments/",
            Self::Scheduling => seen.method == "POST" && seen.target.ends_with("/schedules"),
        }
    }
}

/// A Prefect that works, with the deployment of [`World::flow`] already there for `Scheduling`.
fn good(when: When, seen: &Seen) -> Reply {
    let there = when == When::Scheduling;
    let row = json!({"id": "d1", "name": "orders", "flow_id": "f1", "schedules": [], "work_pool_name": "etl",
        "tags": ["feedwater:test/finance/orders"], "entrypoint": "flows/orders.py:orders"});
    match (seen.method.as_str(), seen.target.as_str()) {
        (_, "/api/admin/version") => json(200, &json!("3.9.1")),
        (_, "/api/flows/filter") => json(200, &json!([{"id": "f1", "name": "orders"}])),
        (_, "/api/deployments/filter") if there => json(200, &json!([row])),
        (_, target) if target.ends_with("/filter") => json(200, &json!([])),
        ("POST", _) => json(201, &json!({"id": "made"})),
        (_, target) if target.contains("csrf") => {
            json(422, &json!({"detail": "CSRF protection is disabled."}))
        }
        _ => json(404, &json!({"detail": "Not Found"})),
    }
}

fn refused(status: u16) -> Reply {
    json(status, &json!({"detail": CANARY}))
}

fn case(
    what: &'static str,
    when: When,
    answer: fn() -> Reply,
    ready: (&'static str, &'static str, Option<&'static str>),
) -> Case {
    Case { what, when, answer, spec: json!({}), ready }
}

fn throttled() -> Reply {
    refused(429).with("retry-after", "60")
}

/// What shows on the connection.
fn connection() -> Vec<Case> {
    let declared = |what, spec, ready| Case {
        what,
        when: When::Always,
        answer: || json(200, &json!("3.9.1")),
        spec,
        ready,
    };
    let key = json!({"auth": {"apiKey": {"secretRef": {"name": "prefect"}}}});
    let mut all = vec![
        case("401 without credentials", When::Always, || refused(401), ("False", "CredentialsInvalid", None)),
        Case {
            spec: key,
            ..case(
                "401 with credentials",
                When::Always,
                || refused(401),
                ("False", "CredentialsInvalid", None),
            )
        },
        case("403", When::Always, || refused(403), ("False", "PermissionDenied", None)),
        case("404", When::Always, || refused(404), ("False", "WrongServer", Some("Stalled"))),
        case(
            "another server",
            When::Always,
            || text(200, "<html>Welcome to nginx!</html>"),
            ("False", "WrongServer", Some("Stalled")),
        ),
        case(
            "a server older than 3.2",
            When::Asked,
            || json(200, &json!("3.1.15")),
            ("False", "UnsupportedVersion", Some("Stalled")),
        ),
        case("429", When::Always, throttled, ("False", "RateLimited", None)),
        case("503", When::Always, || refused(503), ("False", "ServiceUnavailable", None)),
        case("another status", When::Always, || refused(500), ("False", "UnexpectedAnswer", None)),
        case("the connection is reset", When::Always, || Reply::Reset, ("False", "ConnectionLost", None)),
        case("no answer in time", When::Always, || Reply::Silence, ("False", "TimedOut", None)),
    ];
    for (what, url, ready) in [
        ("TLS fails", "https://{address}/api", ("False", "TlsFailed", None)),
        ("the name does not resolve", "http://nowhere.test/api", ("False", "DnsFailed", None)),
        ("nothing listens", "http://127.0.0.1:{closed}/api", ("False", "Unreachable", None)),
        (
            "the host may not be called",
            "https://10.11.12.13/api",
            ("False", "HostNotAllowed", Some("Stalled")),
        ),
    ] {
        all.push(declared(what, json!({"apiUrl": url}), ready));
    }
    let bundle =
        |name: &str, key: &str| json!({"caBundleRef": {"kind": "ConfigMap", "name": name, "key": key}});
    all.extend([
        declared(
            "a Secret that is not there",
            json!({"auth": {"apiKey": {"secretRef": {"name": "absent"}}}}),
            ("False", "SecretNotFound", None),
        ),
        declared(
            "a Secret without the key",
            json!({"auth": {"basic": {"secretRef": {"name": "prefect"}}}}),
            ("False", "SecretKeyMissing", None),
        ),
        declared(
            "a header that may not be sent",
            json!({"headersSecretRef": {"name": "headers"}}),
            ("False", "HeaderInvalid", None),
        ),
        declared(
            "a ConfigMap that is not there",
            bundle("absent", "ca.crt"),
            ("False", "ConfigMapNotFound", None),
        ),
        declared(
            "a ConfigMap without the key",
            bundle("corp-ca", "absent"),
            ("False", "ConfigMapKeyMissing", None),
        ),
        declared(
            "a bundle without a certificate",
            bundle("corp-ca", "ca.crt"),
            ("False", "CaBundleInvalid", None),
        ),
    ]);
    all
}

/// What shows on the resource of a deployment.
fn flow() -> Vec<Case> {
    let (creating, scheduling) = (When::Creating, When::Scheduling);
    let waiting = Some("Reconciling");
    let invalid: fn() -> Reply = || {
        let entry = |name: &str| json!({"type": "x", "loc": ["body", name], "msg": CANARY, "input": CANARY});
        let body =
            json!({"exception_detail": [entry("name"), entry("job_variables")], "request_body": CANARY});
        json(422, &body)
    };
    // As Prefect 3.9.1 words them.
    let parameters: fn() -> Reply = || {
        let reason = "Error updating deployment: Validation failed for field 'region'. Failure reason:";
        json(409, &json!({"detail": format!("{reason} '{CANARY}' is not of type 'integer'")}))
    };
    let variables: fn() -> Reply = || {
        let reason = "Error creating deployment: Validation failed for field 'env'. Failure reason:";
        json(422, &json!({"detail": format!("{reason} '{CANARY}' is not of type 'object'")}))
    };
    vec![
        case("the work pool is missing", creating, || refused(404), ("False", "WorkPoolNotFound", None)),
        case("401", creating, || refused(401), ("Unknown", "ConnectionUnavailable", waiting)),
        case("403", creating, || refused(403), ("False", "PermissionDenied", None)),
        case("403 to its flow", When::Naming, || refused(403), ("False", "PermissionDenied", None)),
        case("403 to a schedule", scheduling, || refused(403), ("False", "PermissionDenied", None)),
        case("404", scheduling, || refused(404), ("Unknown", "RemoteNotFound", waiting)),
        case(
            "404 of a proxy in front",
            creating,
            || text(404, "404 page not found"),
            ("Unknown", "ConnectionUnavailable", waiting),
        ),
        case("409 about parameters", creating, parameters, ("False", "ParametersRejected", None)),
        case("422 about job variables", creating, variables, ("False", "RemoteRejected", None)),
        case("409 about anything else", scheduling, || refused(409), ("False", "RemoteConflict", None)),
        case("422", creating, invalid, ("False", "RemoteRejected", None)),
        case("429", creating, throttled, ("Unknown", "RateLimited", waiting)),
        case("503", creating, || refused(503), ("Unknown", "ServiceUnavailable", waiting)),
        case("another status", creating, || refused(500), ("False", "RemoteFailed", None)),
        case("the connection is reset", creating, || Reply::Reset, ("Unknown", "ConnectionLost", waiting)),
        case("no answer in time", creating, || Reply::Silence, ("Unknown", "TimedOut", waiting)),
    ]
}

/// Lets it happen; the message that `Ready` then has, or what was seen instead.
async fn seen(case: &Case) -> Result<String, String> {
    let (when, reply) = (case.when, case.answer);
    let stub = Stub::start(move |seen| if when.hits(seen) { reply() } else { good(when, seen) }).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::new();
    world.secret(NAMESPACE, "prefect", &[("apiKey", CANARY)]);
    world.secret(NAMESPACE, "headers", &[("Host", CANARY)]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corp-ca", "namespace": NAMESPACE},
        "data": {"ca.crt": CANARY}});
    world.server.put("configmaps", map).unwrap();
    let mut workspace = resources::prefect_workspace(NAMESPACE, "prod", "http://{address}/api");
    for (field, value) in case.spec.as_object().into_iter().flatten() {
        workspace["spec"][field] = value.clone();
    }
    let address = format!("127.0.0.1:{}", stub.port);
    let url = workspace["spec"]["apiUrl"].as_str().unwrap();
    let url = url.replace("{address}", &address).replace("{closed}", &closed.to_string());
    workspace["spec"]["apiUrl"] = json!(url);
    workspace["spec"]["pollInterval"] = json!("1s");
    world.server.put("prefectworkspaces", workspace).unwrap();
    let on_flow = case.when.plural() == "flowdeployments";
    let name = if on_flow { "orders" } else { "prod" };
    if on_flow {
        world.server.put("flowdeployments", World::flow("orders")).unwrap();
    }
    let clock = Clock::virtual_from(world.now());
    let nameless: feedwater::http::Lookup =
        Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    let allowed = ["127.0.0.1", "nowhere.test"].map(|host| host.parse().unwrap());
    let services = RealServices {
        policy: AddressPolicy::new(allowed).with_lookup(nameless),
        clock,
        timeouts: Timeouts { connect: Duration::from_millis(500), total: Duration::from_secs(2) },
        metrics: Arc::new(Metrics::default()),
        token_grants: Vec::new(),
    };
    let operator = world.operator_with("one", "feedwater", Some(Arc::new(services)));
    let object = || world.server.object(case.when.plural(), NAMESPACE, name).unwrap();
    let (truth, reason, beside) = case.ready;
    let mut is = false;
    for _ in 0..200 {
        is = condition(&object(), "Ready") == Some((truth, reason));
        if is {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let object = object();
    operator.kill();
    for kind in ["Reconciling", "Stalled"] {
        is = is && (condition(&object, kind).is_some() == (beside == Some(kind)));
    }
    if on_flow {
        // Nothing was compared with what is declared.
        is = is && condition(&object, "Drifted") == Some(("Unknown", "NotObserved"));
    }
    let status = object["status"].to_string();
    if !is || status.contains(CANARY) {
        return Err(format!("{}: expected {truth} {reason}, seen {status}", case.what));
    }
    let conditions = object["status"]["conditions"].as_array().unwrap();
    let message = conditions.iter().find(|c| c["type"] == "Ready").unwrap()["message"].as_str().unwrap();
    let closed = format!("http://127.0.0.1:{closed}");
    Ok([format!("http://{address}"), format!("https://{address}"), closed, "http://nowhere.test".to_owned()]
        .iter()
        .fold(message.to_owned(), |message, url| message.replace(url, SHOWN)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_error_has_its_condition_and_the_page_says_so() {
    let cases: Vec<Case> = connection().into_iter().chain(flow()).collect();
    let mut messages = Vec::new();
    for some in cases.chunks(6) {
        messages.extend(futures::future::join_all(some.iter().map(seen)).await);
    }
    let wrong: Vec<_> = messages.iter().filter_map(|message| message.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let mut page = String::new();
    for (plural, title) in [
        (
            "prefectworkspaces",
            "| on the `PrefectWorkspace` | `Ready` | reason | message |\n|---|---|---|---|\n",
        ),
        (
            "flowdeployments",
            "\n| on the `FlowDeployment` | `Ready` | reason | message |\n|---|---|---|---|\n",
        ),
    ] {
        page += title;
        for (case, message) in cases.iter().zip(&messages).filter(|(case, _)| case.when.plural() == plural) {
            let (truth, reason, beside) = case.ready;
            let beside = if beside == Some("Stalled") { ", `Stalled`" } else { "" };
            let message = message.as_ref().unwrap();
            writeln!(page, "| {} | {truth}{beside} | `{reason}` | {message} |", case.what).unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prefect-errors.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- table -->\n").unwrap();
    let (table, tail) = rest.split_once("<!-- end -->\n").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{head}<!-- table -->\n{page}<!-- end -->\n{tail}")).unwrap();
        return;
    }
    assert_eq!(table, page, "docs/prefect-errors.md is not what is so: UPDATE=1 writes it");
}
