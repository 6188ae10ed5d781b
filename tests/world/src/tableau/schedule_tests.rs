//! What each edition accepts, and expected runs written by hand: nights when clocks change, ends of months.

use super::*;

fn timing(edition: Edition, json: &str) -> Result<Timing, Refusal> {
    let input =
        Input::parse(Some("application/json"), format!("{{\"schedule\":{json}}}").as_bytes()).unwrap();
    Timing::read(input.child("schedule").unwrap(), edition)
}

fn of(frequency: &str, start: &str, end: Option<&str>, intervals: &[&str]) -> String {
    let end = end.map(|end| format!(r#","end":"{end}:00""#)).unwrap_or_default();
    let intervals: Vec<String> = intervals
        .iter()
        .map(|interval| {
            let parts = interval.split(' ').map(|part| {
                let (key, value) = part.split_once('=').unwrap();
                format!(r#""{key}":"{value}""#)
            });
            format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
        })
        .collect();
    format!(
        r#"{{"frequency":"{frequency}","frequencyDetails":{{"start":"{start}:00"{end},"intervals":{{"interval":[{}]}}}}}}"#,
        intervals.join(",")
    )
}

#[test]
fn each_edition_accepts_what_it_can_run() {
    type Case = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);
    // Whether Cloud takes it, whether Server does.
    let table: [(Case, bool, bool); 24] = [
        (("Hourly", "06:00", Some("20:00"), &["hours=1", "weekDay=Monday"]), true, false),
        (("Hourly", "06:00", Some("20:00"), &["minutes=60", "weekDay=Monday"]), true, false),
        (("Hourly", "06:00", Some("20:00"), &["hours=1"]), false, true),
        (("Hourly", "06:00", Some("20:00"), &["minutes=15"]), false, true),
        (("Hourly", "06:00", Some("20:00"), &["minutes=20"]), false, false),
        (("Hourly", "06:00", Some("20:30"), &["hours=1", "weekDay=Monday"]), false, false),
        (("Hourly", "06:00", None, &["hours=1"]), false, false),
        (("Hourly", "06:00", Some("20:00"), &["hours=1", "minutes=60"]), false, false),
        (("Daily", "06:00", None, &["weekDay=Monday"]), true, true),
        (("Daily", "06:00", None, &[]), false, true),
        (("Daily", "06:00", Some("06:00"), &["hours=24", "weekDay=Monday"]), true, true),
        (("Daily", "06:00", Some("18:00"), &["hours=4", "weekDay=Monday"]), true, true),
        (("Daily", "06:00", Some("18:30"), &["hours=4", "weekDay=Monday"]), false, true),
        (("Daily", "06:00", None, &["hours=4", "weekDay=Monday"]), false, false),
        (("Daily", "06:00", Some("18:00"), &["hours=3", "weekDay=Monday"]), false, false),
        (("Daily", "06:02", None, &["weekDay=Monday"]), false, true),
        (("Weekly", "06:00", None, &["weekDay=Monday"]), true, true),
        (("Weekly", "06:00", None, &["weekDay=Monday", "weekDay=Friday"]), false, true),
        (("Weekly", "06:00", None, &[]), false, false),
        (("Monthly", "06:00", None, &["monthDay=1", "monthDay=15", "monthDay=LastDay"]), true, true),
        (("Monthly", "06:00", None, &["monthDay=First weekDay=Monday"]), true, true),
        (("Monthly", "06:00", None, &["monthDay=32"]), false, false),
        (("Monthly", "06:00", None, &[]), false, false),
        (("Yearly", "06:00", None, &["monthDay=1"]), false, false),
    ];
    for ((frequency, start, end, intervals), cloud, server) in table {
        let text = of(frequency, start, end, intervals);
        for (edition, good) in [(Edition::Cloud, cloud), (Edition::Server, server)] {
            match timing(edition, &text) {
                Ok(_) => assert!(good, "{edition:?} accepts {text}"),
                Err(refusal) => assert!(!good && refusal.code == "409004", "{edition:?} {text}: {refusal:?}"),
            }
        }
    }
    let unknown = r#"{"frequency":"Daily","frequencyDetails":{"start":"06:00:00","zone":"UTC"}}"#;
    assert_eq!(timing(Edition::Server, unknown).unwrap_err().code, "400000");
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn runs_are_where_a_calendar_says() {
    use Edition::{Cloud, Server};
    // Edition, zone, definition, after, the runs that follow.
    let table: [(Edition, &str, String, &str, &[&str]); 15] = [
        (
            Cloud,
            "Europe/Berlin",
            of("Daily", "02:30", Some("02:30"), &["hours=24", "weekDay=Saturday", "weekDay=Sunday"]),
            "2026-03-27T12:00:00Z",
            &["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-04-04T00:30:00Z"],
        ),
        (
            Cloud,
            "Europe/Berlin",
            of("Daily", "02:30", Some("02:30"), &["hours=24", "weekDay=Saturday", "weekDay=Sunday"]),
            "2026-10-23T12:00:00Z",
            &["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-31T01:30:00Z"],
        ),
        (
            Cloud,
            "America/New_York",
            of("Weekly", "02:30", None, &["weekDay=Sunday"]),
            "2026-03-01T00:00:00Z",
            &["2026-03-01T07:30:00Z", "2026-03-08T07:30:00Z", "2026-03-15T06:30:00Z"],
        ),
        (
            Cloud,
            "America/New_York",
            of("Weekly", "01:30", None, &["weekDay=Sunday"]),
            "2026-10-31T00:00:00Z",
            &["2026-11-01T05:30:00Z", "2026-11-08T06:30:00Z"],
        ),
        (
            Cloud,
            "Europe/Berlin",
            of("Daily", "06:00", Some("14:00"), &["hours=4", "weekDay=Sunday"]),
            "2026-03-28T20:00:00Z",
            &["2026-03-29T04:00:00Z", "2026-03-29T08:00:00Z", "2026-03-29T12:00:00Z", "2026-04-05T04:00:00Z"],
        ),
        (
            Cloud,
            "America/Los_Angeles",
            of("Daily", "18:20", Some("18:20"), &["hours=24", "weekDay=Tuesday"]),
            "2024-02-20T00:00:00Z",
            &["2024-02-21T02:20:00Z"],
        ),
        // The trap.
        (
            Cloud,
            "UTC",
            of("Daily", "22:00", None, &["weekDay=Monday"]),
            "2026-11-23T21:30:00Z",
            &["2026-11-23T22:00:00Z", "2026-11-23T23:00:00Z", "2026-11-24T00:00:00Z"],
        ),
        (
            Server,
            "UTC",
            of("Daily", "22:00", None, &[]),
            "2026-11-23T21:30:00Z",
            &["2026-11-23T22:00:00Z", "2026-11-24T22:00:00Z"],
        ),
        (
            Server,
            "America/Los_Angeles",
            of("Hourly", "23:00", Some("01:00"), &["hours=2"]),
            "2017-07-12T12:00:00Z",
            &["2017-07-13T06:00:00Z", "2017-07-13T08:00:00Z", "2017-07-14T06:00:00Z"],
        ),
        (
            Server,
            "UTC",
            of("Hourly", "08:00", Some("08:30"), &["minutes=15"]),
            "2026-11-23T08:00:00Z",
            &["2026-11-23T08:15:00Z", "2026-11-23T08:30:00Z", "2026-11-24T08:00:00Z"],
        ),
        (
            Server,
            "UTC",
            of("Weekly", "05:00", None, &["weekDay=Monday", "weekDay=Friday"]),
            "2026-11-25T00:00:00Z",
            &["2026-11-27T05:00:00Z", "2026-11-30T05:00:00Z"],
        ),
        (
            Cloud,
            "UTC",
            of("Monthly", "05:00", None, &["monthDay=LastDay"]),
            "2028-01-31T05:00:00Z",
            &["2028-02-29T05:00:00Z", "2028-03-31T05:00:00Z", "2028-04-30T05:00:00Z"],
        ),
        (
            Cloud,
            "UTC",
            of("Monthly", "05:00", None, &["monthDay=31"]),
            "2026-01-31T05:00:00Z",
            &["2026-03-31T05:00:00Z", "2026-05-31T05:00:00Z"],
        ),
        (
            Cloud,
            "UTC",
            of("Monthly", "05:00", None, &["monthDay=First weekDay=Monday"]),
            "2026-11-25T00:00:00Z",
            &["2026-12-07T05:00:00Z", "2027-01-04T05:00:00Z"],
        ),
        (
            Cloud,
            "UTC",
            of("Monthly", "05:00", None, &["monthDay=LastDay weekDay=Friday"]),
            "2026-11-25T00:00:00Z",
            &["2026-11-27T05:00:00Z", "2026-12-25T05:00:00Z"],
        ),
    ];
    for (edition, zone, definition, after, runs) in table {
        let timing = timing(edition, &definition).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        for run in runs {
            at = timing.next_after(at, &zone, edition).unwrap();
            assert_eq!(at.to_string(), *run, "{timing}");
        }
    }
}
