//! tableauserverclient, signed in with JWTs of a connected app.

use serde_json::{Value, json};
use world::tableau::{Config, Edition, Kind, Outcome, Simulator};

use crate::{Content, VERSIONS, drive};

#[tokio::test]
async fn it_may_do_what_its_token_says_and_no_more() {
    for (environment, _) in VERSIONS {
        let tableau =
            Simulator::start(Config { edition: Edition::Cloud, ..Config::default() }).await.unwrap();
        let content = Content::on(&tableau);
        tableau.add_user("acme", "svc@acme.com");
        tableau.add_connected_app("acme", "app-1", "secret-1", "value-1");
        let arguments = [&tableau.url(), "acme", "app-1", "secret-1", "value-1", "svc@acme.com"];
        let seen = drive(environment, "drive_jwt.py", &arguments).await;
        granted(&seen, &content);
        refused(&seen);
        let refreshes: Vec<_> = tableau
            .truth()
            .refreshes
            .into_iter()
            .map(|refresh| (refresh.content, refresh.kind, refresh.outcome))
            .collect();
        let failed = Outcome::Failed { notes: "Login failed for user.".to_owned() };
        assert_eq!(
            refreshes,
            [
                (content.orders, Kind::Full, Some(Outcome::Success)),
                (content.broken, Kind::Full, Some(failed)),
                (content.slow, Kind::Full, Some(Outcome::Cancelled)),
            ]
        );
    }
}

fn granted(seen: &Value, content: &Content) {
    assert_eq!(seen["user"], "svc@acme.com");
    let names = ["Orders", "Orders", "Broken", "Slow", "Live", "Größe & \"Co\" <1>"];
    assert_eq!(seen["datasources"], json!(names));
    assert_eq!(seen["orders"], json!(content.orders));
    assert_eq!(seen["refreshed"]["returned"]["finishCode"], 0);
    let failed =
        json!({"raised": "JobFailedException", "notes": ["Login failed for user."], "finishCode": 1});
    assert_eq!(seen["failed"], failed);
    assert_eq!(seen["duplicate"], json!({"returned": null}), "the client swallows 409093");
    assert_eq!(seen["besides"], 6);
    assert_eq!(seen["cancelled"]["raised"], "JobCancelledException");
}

fn refused(seen: &Value) {
    assert_eq!(seen["readerLists"], 6);
    // The client calls every 401 so.
    for step in ["readerRefreshes", "readerLooksAtJob", "readerCancels"] {
        assert_eq!(seen[step], json!({"raised": "FailedSignInError", "code": "401002"}), "{step}");
    }
    for step in [
        "usedTwice",
        "wrongSecret",
        "unknownSecret",
        "unknownApp",
        "unknownUser",
        "ended",
        "endsTooLate",
        "forAnother",
    ] {
        assert_eq!(seen[step], json!({"raised": "FailedSignInError", "code": "401001"}), "{step}");
    }
    assert_eq!(seen["signedOut"]["raised"], "NotSignedInError");
}
