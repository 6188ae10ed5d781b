//! What is sent and read again is the same definition, however Tableau writes it back.

use super::*;
use crate::api::{Edition, TableauSchedule};
use proptest::prelude::*;

/// Any declaration, legal or not.
fn any_schedule() -> impl Strategy<Value = TableauSchedule> {
    let time = (0..24_u8, 0..60_u8).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    // Cloud takes only such.
    let round = (0..24_u8, 0..12_u8).prop_map(|(hour, five)| format!("{hour:02}:{:02}", five * 5));
    let start = prop_oneof![time, round];
    let end = prop::option::of(prop_oneof![Just(None), (0..24_u8).prop_map(Some)]);
    let hours = prop::option::of(prop::sample::select(vec![1, 1, 1, 2, 4, 6, 8, 12, 24]));
    let minutes = prop::option::weighted(0.2, prop::sample::select(vec![15, 30, 60]));
    let week = prop::option::of(prop::sample::subsequence(WEEK.to_vec(), 1..=7));
    let numbers = prop::collection::btree_set(1..=31, 1..4)
        .prop_map(|days| days.into_iter().map(|d| json!(d)).collect());
    let words = prop::sample::select(vec!["First", "Second", "Third", "Fourth", "Fifth", "LastDay"]);
    let month = prop::option::of(prop_oneof![numbers, words.prop_map(|word| vec![json!(word)])]);
    let frequency = prop::sample::select(vec!["Hourly", "Daily", "Weekly", "Monthly"]);
    (frequency, start, end, hours, minutes, week, month).prop_map(
        |(frequency, start, end, hours, minutes, week, month): (
            _,
            String,
            Option<Option<u8>>,
            _,
            _,
            _,
            Option<Vec<Value>>,
        )| {
            let minute = start[3..].to_owned();
            let end = end.map(|hour| hour.map_or(start.clone(), |hour| format!("{hour:02}:{minute}")));
            let all = json!({
                "name": "x", "frequency": frequency, "start": start, "end": end, "everyHours": hours,
                "everyMinutes": if hours.is_none() { minutes } else { None }, "weekDays": week,
                "monthDays": if frequency == "Monthly" { month } else { None },
            });
            let set = all.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null());
            serde_json::from_value(Value::Object(set.collect())).unwrap()
        },
    )
}

/// How Tableau may write a schedule back.
fn echoed(mut schedule: Map<String, Value>, numbers: bool, reverse: bool, end: bool) -> Value {
    let details = schedule["frequencyDetails"].as_object_mut().unwrap();
    let intervals = details["intervals"]["interval"].as_array_mut().unwrap();
    if reverse {
        intervals.reverse();
    }
    if numbers {
        for interval in intervals.iter_mut() {
            for key in ["hours", "minutes", "monthDay"] {
                if let Some(number) = interval.get(key).and_then(|n| n.as_str()?.parse::<u64>().ok()) {
                    interval[key] = json!(number);
                }
            }
        }
    }
    match intervals.len() {
        0 => details["intervals"] = json!({}),
        1 if reverse => details["intervals"]["interval"] = details["intervals"]["interval"][0].clone(),
        _ => {}
    }
    if end && !details.contains_key("end") {
        let start = details["start"].clone();
        details.insert("end".into(), start);
    }
    Value::Object(schedule)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn every_legal_schedule_is_read_as_it_was_sent(
        declared in any_schedule(), cloud: bool, numbers: bool, reverse: bool, end: bool,
    ) {
        let edition = if cloud { Edition::Cloud } else { Edition::Server };
        if let Ok(wanted) = Timing::declared(&declared, edition) {
            prop_assert_eq!(wanted.clone().normal(), wanted.clone(), "declared is normal");
            let back = timing(&echoed(schedule(&wanted), numbers, reverse, end));
            prop_assert_eq!(back, Some(wanted));
        }
    }
}

/// How many of the generated are legal, so that the property above speaks about enough of them.
#[test]
fn enough_of_what_is_generated_is_legal() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut legal = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let declared = any_schedule().new_tree(&mut runner).unwrap().current();
        for edition in [Edition::Cloud, Edition::Server] {
            if let Ok(timing) = Timing::declared(&declared, edition) {
                *legal.entry((format!("{edition:?}"), timing.frequency)).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(legal.len(), 8, "{legal:?}");
    assert!(legal.values().all(|count| *count >= 5), "{legal:?}");
}

fn task(row: &Value) -> Option<Task> {
    serde_json::from_value::<TaskRow>(row.clone()).unwrap().into_model()
}

#[test]
fn tasks_of_both_editions_are_read() {
    let cloud = json!({"extractRefresh": {
        "id": "12b07582", "priority": "50", "consecutiveFailedCount": "2", "type": "RefreshExtractTask",
        "schedule": {"frequency": "Daily", "nextRunAt": "2024-02-21T02:20:00Z", "frequencyDetails": {
            "start": "18:20:00", "end": "18:20:00",
            "intervals": {"interval": [{"hours": "24"}, {"weekDay": "Tuesday"}]}}},
        "datasource": {"id": "e4de0575"}}});
    let read = task(&cloud).unwrap();
    assert_eq!((read.id.as_str(), read.failures, read.refresh_type), ("12b07582", 2, RefreshType::Full));
    assert_eq!(read.content.unwrap().as_str(), "e4de0575");
    assert_eq!(read.next_run_at, at("2024-02-21T02:20:00Z"));
    let TaskSchedule::Own(Some(timing)) = read.schedule else { panic!("{:?}", read.schedule) };
    assert_eq!(timing.to_string(), "Daily 18:20 on Tuesday");

    let server = json!({"extractRefresh": {
        "id": "f84901ac", "consecutiveFailedCount": "0", "type": "IncrementExtractTask",
        "schedule": {"id": "b60b4efd", "name": "Nightly", "state": "Suspended", "type": "Extract", "frequency": "Daily"},
        "workbook": {"id": "c7a9327e"}}});
    let read = task(&server).unwrap();
    let shared = TaskSchedule::Shared { id: "b60b4efd".into(), name: "Nightly".into(), active: false };
    assert_eq!((read.refresh_type, read.schedule), (RefreshType::Incremental, shared));

    // Content that is not to be seen, no schedule, the other word for incremental, another kind of task.
    let bare =
        task(&json!({"extractRefresh": {"id": "t", "type": "RefreshExtractTask", "incremental": true}}))
            .unwrap();
    assert_eq!((bare.content, bare.refresh_type), (None, RefreshType::Incremental));
    assert_eq!(bare.schedule, TaskSchedule::Own(None));
    assert_eq!(task(&json!({"flowRun": {"id": "t"}})), None);
}

#[test]
fn what_is_not_understood_is_no_definition() {
    let of = |schedule: &Value| timing(schedule).is_some();
    let details = json!({"start": "18:20:00", "intervals": {"interval": [{"weekDay": "Tuesday"}]}});
    assert!(of(&json!({"frequency": "Weekly", "frequencyDetails": details})));
    assert!(!of(&json!({"frequency": "Yearly", "frequencyDetails": details})));
    assert!(!of(&json!({"frequency": "Weekly"})));
    assert!(!of(&json!({"frequency": "Weekly", "frequencyDetails": {"intervals": {}}})));
    let odd = json!({"start": "18:20:00", "intervals": {"interval": [{"fortnight": "2"}]}});
    assert!(!of(&json!({"frequency": "Weekly", "frequencyDetails": odd})));
    let customized = json!({"start": "18:20:00", "intervals": {"interval": [{"monthDay": "Customized Monthly"}, {"monthDay": "3"}]}});
    assert!(of(&json!({"frequency": "Monthly", "frequencyDetails": customized})));
    // A Server that keeps the first Monday to itself: what is known of it is not what is declared.
    for days in [
        json!({"monthDay": "Customized Monthly"}),
        json!({"monthDay": "Customized Monthly", "weekDay": "Monday"}),
    ] {
        let told = json!({"frequency": "Monthly", "frequencyDetails": {"start": "18:20:00", "intervals": {"interval": [days]}}});
        let first = json!({"name": "x", "frequency": "Monthly", "start": "18:20", "monthDays": ["First"], "weekDays": ["Monday"]});
        let first = Timing::declared(&serde_json::from_value(first).unwrap(), Edition::Server).unwrap();
        assert_eq!((timing(&told), timing(&told) == Some(first.clone())), (first.untold(), false));
    }
}
