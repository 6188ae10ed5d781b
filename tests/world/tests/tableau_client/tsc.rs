//! tableauserverclient, signed in with a personal access token.

use serde_json::{Value, json};
use world::tableau::{Config, Kind, Outcome, RequestedBy, Simulator};

use crate::{Content, VERSIONS, drive};

#[tokio::test]
async fn it_is_served_as_by_tableau() {
    for (environment, version) in VERSIONS {
        let tableau = Simulator::start(Config::default()).await.unwrap();
        let content = Content::on(&tableau);
        let seen = drive(environment, "drive.py", &[&tableau.url(), "acme", "drive", "secret"]).await;
        signed_in(&seen);
        lists(&seen);
        refreshes(&seen, &content);
        jobs(&seen);
        the_truth_agrees(&tableau, &content, version);
    }
}

fn signed_in(seen: &Value) {
    assert_eq!(seen["signInBeforeDiscovery"]["raised"], "NotSignedInError");
    assert_eq!(seen["version"], "3.27");
    assert_eq!(seen["wrongSecret"], json!({"raised": "FailedSignInError", "code": "401001"}));
    assert_eq!(seen["user"], "robot");
    assert_eq!(seen["firstAfterSecond"]["code"], "401002");
    assert_eq!(seen["second"], 6);
}

fn lists(seen: &Value) {
    assert_eq!(
        seen["datasources"],
        json!([
            ["Orders", "Sales", true],
            ["Orders", "Sales", true],
            ["Broken", "Finance", true],
            ["Slow", "Finance", true],
            ["Live", "Finance", false],
            ["Größe & \"Co\" <1>", "default", true],
        ])
    );
    assert_eq!(seen["workbooks"], json!(["Atlas", "Board"]));
    assert_eq!(seen["sorted"], json!(["Board", "Atlas"]));
    let projects =
        [("default", true), ("Archive", true), ("Sales", false), ("Finance", true), ("Sales", false)];
    assert_eq!(seen["projects"], json!(projects));
    assert_eq!(seen["page"], json!([2, 3, 6, 3]));
}

fn refreshes(seen: &Value, content: &Content) {
    assert_eq!(seen["orders"], json!(content.orders));
    let success = json!({
        "id": seen["refreshed"]["returned"]["id"], "type": "RefreshExtract", "finishCode": 0, "progress": "100",
        "notes": ["Finished refresh of extracts for 'Orders'"], "datasource": content.orders, "workbook": null,
        "completed": true,
    });
    assert_eq!(seen["refreshed"]["returned"], success);
    assert_eq!(seen["incremental"]["returned"]["finishCode"], 0);
    assert_eq!(seen["workbook"]["returned"]["workbook"], json!(content.board));
    let failed =
        json!({"raised": "JobFailedException", "notes": ["Login failed for user."], "finishCode": 1});
    assert_eq!(seen["failed"], failed);
    assert_eq!(seen["noExtract"], json!({"raised": "ServerResponseError", "code": "409090"}));
    assert_eq!(seen["running"]["returned"]["finishCode"], -1);
    assert_eq!(seen["running"]["returned"]["completed"], false);
    // The client swallows 409093: nothing but a line of its log tells of it.
    assert_eq!(seen["duplicate"], json!({"returned": null}));
    let warning = "Resource Conflict Job for 'Slow' is already queued. Not queuing a duplicate.";
    assert_eq!(seen["duplicateWarning"], json!([warning]));
    assert_eq!(seen["waitedTooShort"]["raised"], "TimeoutError");
    assert_eq!(seen["cancelled"]["raised"], "JobCancelledException");
    assert_eq!(seen["cancelled"]["finishCode"], 2);
}

fn jobs(seen: &Value) {
    assert_eq!(
        seen["jobs"],
        json!([
            ["refresh_extracts", "Success", "Orders"],
            ["increment_extracts", "Success", "Orders"],
            ["refresh_extracts", "Success", "Board"],
            ["refresh_extracts", "Failed", "Broken"],
            ["refresh_extracts", "Cancelled", "Slow"],
        ])
    );
    assert_eq!(seen["fullSinceFirst"], json!(["Orders", "Board", "Broken", "Slow"]));
    assert_eq!(seen["fullSinceTomorrow"], json!([]));
    assert_eq!(seen["tasks"], json!([]));
    assert_eq!(seen["unknownJob"]["code"], "400031");
    assert_eq!(seen["unknownDatasource"]["code"], "404004");
    assert_eq!(seen["unknownWorkbook"]["code"], "404006");
}

/// What the simulator says it was asked is what the client did.
fn the_truth_agrees(tableau: &Simulator, content: &Content, version: &str) {
    let truth = tableau.truth();
    let counts = [
        ("serverInfo", 1),
        ("signIn", 3),
        ("signOut", 1),
        ("queryUser", 1),
        ("refreshDatasource", 7),
        ("refreshWorkbook", 2),
        ("cancelJob", 1),
        ("queryJobs", 3),
        ("queryExtractRefreshTasks", 1),
        ("unknown", 0),
    ];
    for (operation, count) in counts {
        assert_eq!(truth.count(operation), count, "{operation}");
    }
    let agent = format!("Tableau Server Client/{version}");
    for request in &truth.requests {
        let told = request.user_agent.as_deref().unwrap_or_default();
        // 0.41 signs in without any of its headers.
        let bare = version == "0.41" && request.operation == "signIn" && told.starts_with("python-requests/");
        assert!(told == agent || bare, "{request:?}");
    }
    let refreshes: Vec<_> = truth
        .refreshes
        .iter()
        .map(|refresh| (refresh.content.as_str(), refresh.kind, refresh.outcome.as_ref()))
        .collect();
    let failed = Outcome::Failed { notes: "Login failed for user.".to_owned() };
    assert_eq!(
        refreshes,
        [
            (content.orders.as_str(), Kind::Full, Some(&Outcome::Success)),
            (content.orders.as_str(), Kind::Incremental, Some(&Outcome::Success)),
            (content.board.as_str(), Kind::Full, Some(&Outcome::Success)),
            (content.broken.as_str(), Kind::Full, Some(&failed)),
            (content.slow.as_str(), Kind::Full, Some(&Outcome::Cancelled)),
        ]
    );
    let robot = RequestedBy::Api { user: "robot".to_owned() };
    assert!(truth.refreshes.iter().all(|refresh| refresh.requested_by == robot));
}
