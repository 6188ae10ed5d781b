//! Addresses, limits, and what a failure says about whether the request left.

use crate::stub::{Reply, Stub, http, json, text, with_policy};
use feedwater::http::{
    AddressPolicy, AllowedHost, Call, CallRecord, Failure, Http, MOST_BODY, MOST_ERROR_BODY, Method, Outcome,
    Unreachable, is_public,
};
use serde_json::json;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use url::Url;

fn get(http: &Http) -> Call {
    Call::new("test", Method::GET, http.url(&["x"]).unwrap())
}

fn lookup(answers: &'static [&'static str], count: &Arc<AtomicUsize>) -> feedwater::http::Lookup {
    let count = count.clone();
    Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(answers.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect()) })
    })
}

#[test]
fn public_is_what_the_registries_leave() {
    for ip in [
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "192.0.1.1",
        "223.255.255.1",
    ] {
        assert!(is_public(ip.parse().unwrap()), "{ip}");
    }
    for ip in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "3fff::1",
        "100::1",
        "::10.0.0.1",
    ] {
        assert!(!is_public(ip.parse().unwrap()), "{ip}");
    }
}

#[test]
fn the_list_of_allowed_hosts_is_the_whole_list() {
    let check = |allowed: &[&str], url: &str| {
        let allowed: Vec<AllowedHost> = allowed.iter().map(|a| a.parse().unwrap()).collect();
        AddressPolicy::new(allowed).check(&Url::parse(url).unwrap()).is_ok()
    };
    for (allowed, url, expected) in [
        (&[][..], "https://tableau.example.com", true),
        (&[], "https://8.8.8.8", true),
        (&[], "http://tableau.example.com", false),
        (&[], "https://10.0.0.1", false),
        (&[], "https://0x7f.1", false),
        (&[], "https://2130706433", false),
        (&[], "https://[::1]", false),
        (&[], "https://[::ffff:127.0.0.1]", false),
        (&["a.example"], "http://a.example", true),
        (&["a.example"], "https://A.EXAMPLE.:8443", true),
        (&["a.example"], "https://tableau.example.com", false),
        (&["a.example"], "https://b.a.example", false),
        (&["a.example:443"], "https://a.example", true),
        (&["a.example:443"], "http://a.example", false),
        (&["10.0.0.1:80", "[::1]:4200"], "http://[::1]:4200", true),
        (&["10.0.0.1:80", "::1"], "http://10.0.0.1", true),
        (&["10.0.0.1:80"], "http://10.0.0.1:81", false),
        (&["a.example"], "ftp://a.example", false),
    ] {
        assert_eq!(check(allowed, url), expected, "{allowed:?} {url}");
    }
    for bad in ["", "a:b:c", "a.example:99999", "http://a.example", "a b"] {
        assert!(bad.parse::<AllowedHost>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_not_dialled() {
    let count = Arc::default();
    let policy = AddressPolicy::new([]).with_lookup(lookup(&["10.0.0.1", "::1"], &count));
    let http = with_policy("test", "https://rebound.example", policy);
    let refused = Unreachable::HostNotAllowed("rebound.example".into());
    assert_eq!(http.send(get(&http)).await.err(), Some(Failure::NotSent(refused.clone())));
    let url = Url::parse("https://rebound.example").unwrap();
    assert_eq!(http.dial(&url).await.err(), Some(refused), "the websocket's way");
    assert_eq!(count.load(Ordering::SeqCst), 2, "resolved and vetted, once each");
}

#[tokio::test]
async fn of_mixed_addresses_only_the_public_ones_are_left() {
    let policy = AddressPolicy::new([]).with_lookup(lookup(&["10.0.0.1", "8.8.8.8"], &Arc::default()));
    assert_eq!(policy.resolve("mixed.example", 443).await.unwrap(), ["8.8.8.8:443".parse().unwrap()]);
}

#[tokio::test]
async fn the_vetted_address_is_the_address_dialled() {
    let (stub, count) = (Stub::always(200, json!("ok")).await, Arc::default());
    let policy =
        AddressPolicy::new(["inside.test".parse().unwrap()]).with_lookup(lookup(&["127.0.0.1"], &count));
    let http = with_policy("test", &format!("http://inside.test:{}", stub.port), policy);
    assert_eq!(http.send(get(&http)).await.unwrap().status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 1, "no second look that could give another address");
    assert_eq!(stub.seen()[0].headers["host"], format!("inside.test:{}", stub.port));
}

#[tokio::test]
async fn failures_tell_whether_the_request_left() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        http("test", &format!("http://{}", listener.local_addr().unwrap()))
    };
    assert_eq!(nobody.send(get(&nobody)).await.err(), Some(Failure::NotSent(Unreachable::Connect)));

    let policy = AddressPolicy::new([])
        .with_lookup(Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) })));
    let nameless = with_policy("test", "https://nowhere.example", policy);
    assert_eq!(nameless.send(get(&nameless)).await.err(), Some(Failure::NotSent(Unreachable::Dns)));

    let plain = Stub::always(200, json!(1)).await;
    let no_tls = http("test", &format!("https://127.0.0.1:{}", plain.port));
    assert_eq!(no_tls.send(get(&no_tls)).await.err(), Some(Failure::NotSent(Unreachable::Tls)));

    let reset = Stub::start(|_| Reply::Reset).await;
    let http = reset.http("test", "");
    assert_eq!(http.send(get(&http)).await.err(), Some(Failure::Unanswered));
    assert_eq!(reset.seen().len(), 1, "never repeated");

    let silent = Stub::start(|_| Reply::Silence).await;
    let http = silent.http("test", "");
    let mut call = get(&http);
    call.deadline = Some(Duration::from_millis(100));
    assert_eq!(http.send(call).await.err(), Some(Failure::TimedOut));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let stub = Stub::start(|_| text(307, "").with("location", "/elsewhere")).await;
    let http = stub.http("test", "");
    assert_eq!(http.send(get(&http)).await.unwrap().status, 307);
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn bodies_are_capped() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/most" => text(200, &"x".repeat(MOST_BODY)),
        "/more" => text(200, &"x".repeat(MOST_BODY + 1)),
        _ => text(500, &"x".repeat(MOST_ERROR_BODY + 1)),
    })
    .await;
    let http = stub.http("test", "");
    let call = |path: &str| http.send(Call::new("test", Method::GET, http.url(&[path]).unwrap()));
    assert_eq!(call("most").await.unwrap().body.len(), MOST_BODY);
    assert_eq!(call("more").await.err(), Some(Failure::Unanswered));
    let error = call("error").await.unwrap();
    assert_eq!((error.status.as_u16(), error.body.len()), (500, 0), "the status of an error is kept");
}

#[tokio::test]
async fn date_and_retry_after_are_read_on_the_others_clock() {
    let date = "Tue, 24 Nov 2026 10:00:00 GMT";
    let stub = Stub::start(move |seen| {
        let wait = if seen.target == "/seconds" { "7" } else { "Tue, 24 Nov 2026 10:01:30 GMT" };
        text(429, "").with("date", date).with("retry-after", wait)
    })
    .await;
    let http = stub.http("test", "");
    let call = |path: &str| http.send(Call::new("test", Method::GET, http.url(&[path]).unwrap()));
    assert_eq!(http.reading(), None);
    let before = http.clock().moment();
    assert_eq!(call("seconds").await.unwrap().retry_after, Some(Duration::from_secs(7)));
    let reading = http.reading().unwrap();
    assert_eq!(reading.date, "2026-11-24T10:00:00Z".parse().unwrap());
    assert!(before < reading.sent && reading.sent < reading.received);
    assert_eq!(call("date").await.unwrap().retry_after, Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn every_call_is_told_once() {
    let stub = Stub::start(|seen| match seen.target.as_str() {
        "/ok" => json(200, &json!(1)),
        "/no" => text(404, ""),
        "/slow" => text(429, ""),
        "/bad" => text(500, ""),
        _ => Reply::Reset,
    })
    .await;
    let told = Arc::<Mutex<Vec<CallRecord>>>::default();
    let log = told.clone();
    let http = stub.http("test", "").observed_by(Arc::new(move |record| log.lock().unwrap().push(*record)));
    for path in ["ok", "no", "slow", "bad", "reset"] {
        let _ = http.send(Call::new("op", Method::GET, http.url(&[path]).unwrap())).await;
    }
    let outcomes: Vec<_> = told.lock().unwrap().iter().map(|r| (r.service, r.operation, r.outcome)).collect();
    let of = |outcome| ("test", "op", outcome);
    assert_eq!(
        outcomes,
        [Outcome::Success, Outcome::Refused, Outcome::Throttled, Outcome::ServerError, Outcome::Unanswered]
            .map(of)
    );
}
