//! Schedules as both sides write them (prefect-api.md 5.2 and 7).

use super::DesiredSchedule;
use super::diff::same_object;
use crate::model::deployments::{NewSchedule, Schedule};
use crate::model::time::sub;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};
use serde_json::{Map, Value};
use std::time::Duration;

/// What Prefect 3.6.26 and later puts before a rule without a start.
pub(super) const INJECTED_START: &str = "DTSTART:20200101T000000\n";

/// Whether the server's schedule is the declared one.
pub(super) fn same(want: &DesiredSchedule, have: &Schedule) -> bool {
    let parameters = want.parameters.as_ref();
    want.active == have.active
        && same_rule(&want.rule, &have.rule)
        && parameters.is_none_or(|wanted| same_object(wanted, &have.parameters))
        && want.max_scheduled_runs.is_none_or(|most| have.max_scheduled_runs == Some(most))
}

/// The whole schedule to send: what is left out would be cleared, and an interval without an anchor would start anew.
pub(super) fn whole(slug: &str, want: &DesiredSchedule, have: Option<&Schedule>) -> NewSchedule {
    let mut rule = want.rule.clone();
    if rule.contains_key("interval")
        && let Some(anchor) = have.and_then(|h| h.rule.get("anchor_date")).filter(|a| !a.is_null())
    {
        rule.entry("anchor_date").or_insert_with(|| anchor.clone());
    }
    NewSchedule {
        slug: slug.to_owned(),
        active: want.active,
        rule,
        parameters: match (&want.parameters, have) {
            (Some(declared), _) => declared.clone(),
            (None, Some(have)) => have.parameters.clone(),
            (None, None) => Map::new(),
        },
        max_scheduled_runs: want.max_scheduled_runs,
    }
}

/// A new interval that says nothing of its phase begins now, and Prefect counts that very moment as its first time: asked for runs from a little
/// earlier on, it would make one that is due at once. So it is said that the interval began just before.
pub(super) fn anchored(new: &NewSchedule, since: Option<Timestamp>) -> NewSchedule {
    let mut new = new.clone();
    if let Some(since) = since
        && new.rule.contains_key("interval")
    {
        let before = sub(since, Duration::from_secs(1));
        new.rule.entry("anchor_date").or_insert_with(|| before.to_string().into());
    }
    new
}

/// Whether the server's schedule may go on as this one under another slug: it is due at the same times, and what cannot be taken off it is declared.
pub(super) fn goes_on(want: &DesiredSchedule, have: &Schedule) -> bool {
    same_rule(&want.rule, &have.rule)
        && (want.max_scheduled_runs.is_some() || have.max_scheduled_runs.is_none())
}

fn same_rule(want: &Map<String, Value>, have: &Map<String, Value>) -> bool {
    let time_zone = |rule: &Map<String, Value>| text(rule, "timezone").unwrap_or("UTC").to_owned();
    let day_or = |rule: &Map<String, Value>| rule.get("day_or").and_then(Value::as_bool).unwrap_or(true);
    let same_kind = if let Some(cron) = text(want, "cron") {
        text(have, "cron") == Some(cron) && day_or(want) == day_or(have)
    } else if let Some(rrule) = text(want, "rrule") {
        text(have, "rrule").is_some_and(|have| same_rrule(rrule, have))
    } else {
        same_interval(want, have)
    };
    same_kind && time_zone(want) == time_zone(have)
}

fn same_rrule(want: &str, have: &str) -> bool {
    let have =
        if want.contains("DTSTART") { have } else { have.strip_prefix(INJECTED_START).unwrap_or(have) };
    want == have
}

/// An anchor that is not declared is the server's affair.
fn same_interval(want: &Map<String, Value>, have: &Map<String, Value>) -> bool {
    let (Some(wanted), Some(had)) = (seconds(want.get("interval")), seconds(have.get("interval"))) else {
        return false;
    };
    let anchored = match text(want, "anchor_date") {
        None => true,
        Some(wanted) => {
            moment(wanted).is_some() && moment(wanted) == text(have, "anchor_date").and_then(moment)
        }
    };
    (wanted - had).abs() < 0.000_000_5 && anchored
}

/// Seconds, from a number or an ISO 8601 duration.
pub(super) fn seconds(interval: Option<&Value>) -> Option<f64> {
    match interval? {
        Value::Number(number) => number.as_f64(),
        Value::String(iso) => {
            let span: Span = iso.parse().ok()?;
            Some(span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.as_secs_f64())
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Microseconds since the epoch (Prefect keeps no more); a time without offset is UTC.
pub(super) fn moment(anchor: &str) -> Option<i64> {
    let at = anchor.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = anchor.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(at.as_microsecond())
}

/// A schedule in a few words, for people.
pub(super) fn told(rule: &Map<String, Value>) -> String {
    let zone = text(rule, "timezone").unwrap_or("UTC");
    match (text(rule, "cron"), text(rule, "rrule"), seconds(rule.get("interval"))) {
        (Some(cron), _, _) => format!("cron {cron}, {zone}"),
        (_, Some(recurrence), _) => format!("rrule {}, {zone}", recurrence.replace('\n', " ")),
        (_, _, Some(seconds)) => format!("every {seconds} s, {zone}"),
        (None, None, None) => "of an unknown kind".into(),
    }
}

fn text<'a>(rule: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    rule.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ScheduleId;
    use serde_json::json;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }
    fn have(rule: &Value) -> Schedule {
        Schedule {
            id: ScheduleId::new("s"),
            slug: Some("a".into()),
            active: true,
            rule: map(rule),
            parameters: map(&json!({"x": 2})),
            max_scheduled_runs: Some(5),
        }
    }
    fn want(rule: &Value) -> DesiredSchedule {
        DesiredSchedule { rule: map(rule), active: true, parameters: None, max_scheduled_runs: None }
    }

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let cron = json!({"cron": "0  6 * * *", "day_or": true, "timezone": "UTC"});
        let hour = json!({"interval": 3600.0, "timezone": "UTC"});
        let anchored = json!({"interval": 3600.0, "timezone": "UTC", "anchor_date": "2026-01-01T00:00:00Z"});
        let rrule = json!({"rrule": "FREQ=DAILY;BYHOUR=4", "timezone": "UTC"});
        let started = json!({"rrule": "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY", "timezone": "UTC"});
        let table = [
            (&cron, json!({"cron": "0  6 * * *", "timezone": null, "day_or": true}), true),
            (&cron, json!({"cron": "0  6 * * *"}), true),
            (&cron, json!({"cron": "0 6 * * *", "timezone": null, "day_or": true}), false),
            (&cron, json!({"cron": "0  6 * * *", "timezone": "UTC", "day_or": false}), false),
            (&cron, json!({"cron": "0  6 * * *", "timezone": "Europe/Berlin", "day_or": true}), false),
            (&cron, json!({"interval": 3600.0, "timezone": "UTC"}), false),
            (
                &hour,
                json!({"interval": 3600, "anchor_date": "2026-11-24T16:07:54.212524Z", "timezone": "UTC"}),
                true,
            ),
            (&hour, json!({"interval": "PT1H", "anchor_date": "2026-11-24T16:07:54Z"}), true),
            (&hour, json!({"interval": 3600.5, "timezone": "UTC"}), false),
            (&hour, json!({"cron": "0 * * * *", "timezone": "UTC", "day_or": true}), false),
            (&anchored, json!({"interval": 3600.0, "anchor_date": "2026-01-01T01:00:00+01:00"}), true),
            (&anchored, json!({"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00"}), true),
            (&anchored, json!({"interval": 3600.0, "anchor_date": "2026-01-01T00:30:00Z"}), false),
            (
                &rrule,
                json!({"rrule": "DTSTART:20200101T000000\nFREQ=DAILY;BYHOUR=4", "timezone": "UTC"}),
                true,
            ),
            (&rrule, json!({"rrule": "FREQ=DAILY;BYHOUR=4"}), true),
            (&rrule, json!({"rrule": "DTSTART:20210101T000000\nFREQ=DAILY;BYHOUR=4"}), false),
            (&started, json!({"rrule": "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY"}), true),
            (&started, json!({"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY"}), false),
        ];
        for (wanted, had, expected) in table {
            assert_eq!(same(&want(wanted), &have(&had)), expected, "{wanted} against {had}");
        }
    }

    #[test]
    fn a_paused_schedule_is_a_difference() {
        let rule = json!({"cron": "0 6 * * *", "timezone": "UTC"});
        let mut paused = have(&rule);
        paused.active = false;
        assert!(!same(&want(&rule), &paused));
    }

    #[test]
    fn a_new_interval_is_not_due_at_once() {
        let since: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let anchor = |rule: &Value, since| {
            let new = anchored(&whole("a", &want(rule), None), since);
            new.rule.get("anchor_date").and_then(Value::as_str).map(str::to_owned)
        };
        let hour = json!({"interval": 3600.0, "timezone": "UTC"});
        assert_eq!(anchor(&hour, Some(since)).as_deref(), Some("2026-11-24T09:59:59Z"));
        assert_eq!(anchor(&hour, None), None);
        let declared = json!({"interval": 3600.0, "timezone": "UTC", "anchor_date": "2026-01-01T00:00:00Z"});
        assert_eq!(anchor(&declared, Some(since)).as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(anchor(&json!({"cron": "0 6 * * *", "timezone": "UTC"}), Some(since)), None);
    }

    #[test]
    fn a_replacement_keeps_parameters_and_the_phase_of_an_interval() {
        let had = have(&json!({"interval": 60.0, "anchor_date": "2026-11-24T16:07:54Z", "timezone": "UTC"}));
        let sent = whole("a", &want(&json!({"interval": 90.0, "timezone": "UTC"})), Some(&had));
        assert_eq!(sent.parameters, had.parameters);
        assert_eq!(sent.rule["anchor_date"], "2026-11-24T16:07:54Z");
        let declared = json!({"interval": 90.0, "timezone": "UTC", "anchor_date": "2026-01-01T00:00:00Z"});
        assert_eq!(whole("a", &want(&declared), Some(&had)).rule["anchor_date"], "2026-01-01T00:00:00Z");
        let cron = whole("a", &want(&json!({"cron": "0 6 * * *", "timezone": "UTC"})), Some(&had));
        assert!(!cron.rule.contains_key("anchor_date"));
    }
}
