//! Tasks and schedules, as tableauserverclient sees them.

use serde_json::{Value, json};
use world::tableau::{Config, Edition, Kind, RequestedBy, Script, Simulator, Step};

use crate::{VERSIONS, drive};

struct Site {
    tableau: Simulator,
    datasource: String,
    workbook: String,
}

async fn site(edition: Edition) -> Site {
    let script = Script { running: Step::UntilReleased, ..Script::default() };
    let config = Config { edition, default_script: script, ..Config::default() };
    let tableau = Simulator::start(config).await.unwrap();
    let site = tableau.add_site("acme");
    tableau.add_pat(&site, "drive", "secret", "robot");
    let datasource = tableau.add_datasource(&site, &["Finance"], "Orders", true);
    let workbook = tableau.add_workbook(&site, &["Finance"], "Board", true);
    Site { tableau, datasource, workbook }
}

async fn drive_tasks(site: &Site, environment: &str, edition: &str) -> Value {
    let url = site.tableau.url();
    let arguments = [&url, "acme", "drive", "secret", edition, &site.datasource, &site.workbook];
    drive(environment, "drive_tasks.py", &arguments).await
}

fn refused(code: &str) -> Value {
    json!({"raised": "ServerResponseError", "code": code})
}

fn returned(value: &Value) -> Value {
    json!({ "returned": value })
}

#[tokio::test]
async fn on_cloud_tasks_carry_their_schedules() {
    for (environment, version) in VERSIONS {
        let site = site(Edition::Cloud).await;
        let seen = drive_tasks(&site, environment, "Cloud").await;
        assert!(seen["version"].as_str().unwrap().contains(version), "{}", seen["version"]);
        for made in ["daily", "weekly", "monthly", "hourly"] {
            assert_eq!(seen[made], returned(&json!(true)), "{made}");
        }
        assert_eq!(seen["plainDaily"], refused("409004"), "no week day");
        assert_eq!(seen["twoDaysWeekly"], refused("409004"));
        assert_eq!(seen["noSuchTarget"], refused("404004"));
        let week: Vec<Value> = ["Friday", "Monday", "Saturday", "Sunday", "Thursday", "Tuesday", "Wednesday"]
            .iter()
            .map(|day| json!(["weekDay", day]))
            .collect();
        // The client reads the hours of a day as a fraction.
        let daily: Vec<Value> = [json!(["hours", "24.0"])].into_iter().chain(week).collect();
        let task = |kind: &str, target: [&str; 2], interval: &Value| {
            json!({
                "type": kind, "priority": 50, "failed": 0, "target": target, "schedule": null, "state": null,
                "next": true, "interval": interval, "ran": false,
            })
        };
        let data = ["datasource", site.datasource.as_str()];
        let work = ["workbook", site.workbook.as_str()];
        assert_eq!(
            seen["tasks"],
            json!([
                task("extractRefresh", data, &json!(["DailyInterval", "02:00:00", "None", daily])),
                task(
                    "IncrementExtractTask",
                    data,
                    &json!(["WeeklyInterval", "05:00:00", "None", [["weekDay", "Sunday"]]])
                ),
                task(
                    "extractRefresh",
                    work,
                    &json!(["MonthlyInterval", "23:30:00", "None", [["monthDay", "15"]]])
                ),
                task(
                    "extractRefresh",
                    work,
                    &json!([
                        "HourlyInterval",
                        "06:00:00",
                        "20:00:00",
                        [["hours", "1"], ["weekDay", "Monday"]]
                    ])
                ),
            ])
        );
        assert_eq!(seen["one"], seen["tasks"][0]);
        assert_eq!((&seen["ran"], &seen["ranAgain"]), (&returned(&json!(true)), &refused("409093")));
        assert_eq!((&seen["deleted"], &seen["deletedAgain"]), (&returned(&Value::Null), &refused("404018")));
        assert_eq!((&seen["left"], &seen["schedules"]), (&json!(3), &refused("403004")));
        let truth = site.tableau.truth();
        assert_eq!((truth.count("createExtractRefreshTask"), truth.count("unknown")), (7, 0));
        assert_eq!(truth.refreshes.len(), 1);
        assert_eq!(truth.refreshes[0].requested_by, RequestedBy::Api { user: "robot".into() });
        assert_eq!(truth.tasks_of(&site.datasource)[0].kind, Kind::Incremental);
    }
}

#[tokio::test]
async fn on_a_server_content_is_added_to_shared_schedules() {
    for (environment, _) in VERSIONS {
        let site = site(Edition::Server).await;
        let seen = drive_tasks(&site, environment, "Server").await;
        for (step, name) in
            [("daily", "Nightly"), ("hourly", "Often"), ("weekly", "Weekdays"), ("monthly", "Monthly")]
        {
            assert_eq!(seen[step], returned(&json!([name, "Active", 50, "Extract", false])), "{step}");
        }
        assert_eq!(seen["twice"], refused("409021"));
        let names: Vec<Value> = ["Nightly", "Often", "Weekdays", "Monthly"]
            .iter()
            .map(|name| json!([name, "Active", "Extract"]))
            .collect();
        assert_eq!(seen["schedules"], json!(names));
        assert_eq!(
            seen["intervals"],
            json!({
                "Nightly": ["DailyInterval", "02:00:00", "None", []],
                "Often": ["HourlyInterval", "06:00:00", "20:00:00", [["minutes", "30"]]],
                "Weekdays": ["WeeklyInterval", "05:00:00", "None", [["weekDay", "Friday"], ["weekDay", "Monday"]]],
                "Monthly": ["MonthlyInterval", "23:30:00", "None", [["monthDay", "LastDay"]]],
            })
        );
        assert_eq!(seen["added"], json!([[0], [0]]), "nothing to complain of");
        let task = |target: [&str; 2], schedule: &str, state: &str| {
            json!({
                "type": "extractRefresh", "priority": 50, "failed": 0, "target": target, "schedule": schedule,
                "state": state, "next": state == "Active", "interval": null, "ran": false,
            })
        };
        let data = ["datasource", site.datasource.as_str()];
        let work = ["workbook", site.workbook.as_str()];
        assert_eq!(seen["tasks"], json!([task(data, "Nightly", "Active"), task(work, "Often", "Active")]));
        assert_eq!((&seen["extracts"], &seen["suspended"]), (&json!(1), &returned(&json!("Suspended"))));
        assert_eq!(seen["suspendedTask"], task(data, "Nightly", "Suspended"));
        assert_eq!(seen["inUse"], refused("400000"));
        assert_eq!((&seen["deleted"], &seen["removed"]), (&returned(&Value::Null), &returned(&Value::Null)));
        assert_eq!(seen["left"], json!([1, 3]));
        assert_eq!(site.tableau.truth().count("unknown"), 0);
    }
}
