//! What is certainly wrong with the schedules of a `FlowDeployment`, before Prefect is asked. Prefect reads cron expressions with croniter and rrules
//! with dateutil, which take more than is written anywhere: what is not known here to be refused there is left to Prefect.

use serde_json::Value;
use std::ops::RangeInclusive;

/// The first fault of each schedule.
pub(super) fn faults(document: &Value) -> Result<(), String> {
    for schedule in document["spec"]["schedules"].as_array().into_iter().flatten() {
        let slug = schedule["slug"].as_str().unwrap_or_default();
        let wrong = |what: String| format!("schedule `{slug}`: {what}");
        if let Some(text) = schedule["cron"]["expression"].as_str() {
            cron(text).map_err(|why| wrong(format!("cron `{text}`: {why}")))?;
        }
        if let Some(text) = schedule["rrule"]["rule"].as_str() {
            rrule(text).map_err(|why| wrong(format!("rrule `{text}`: {why}")))?;
        }
        if let Some(zone) = schedule["timeZone"].as_str()
            && jiff::tz::TimeZone::get(zone).is_err()
        {
            let told = "is no IANA time zone; one is for example `Europe/Berlin`";
            return Err(wrong(format!("timeZone `{zone}` {told}")));
        }
    }
    Ok(())
}

/// A field of a cron expression.
struct Field {
    name: &'static str,
    range: RangeInclusive<u64>,
    words: &'static [&'static str],
}

const FIELDS: [Field; 7] = [
    Field { name: "minute", range: 0..=59, words: &[] },
    Field { name: "hour", range: 0..=23, words: &[] },
    Field { name: "day of the month", range: 1..=31, words: &["l"] },
    Field { name: "month", range: 1..=12, words: &MONTHS },
    // 7 is Sunday too.
    Field { name: "day of the week", range: 0..=7, words: &DAYS },
    Field { name: "second", range: 0..=59, words: &[] },
    Field { name: "year", range: 1970..=2099, words: &[] },
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "l"];
const ALIASES: [&str; 7] = ["@midnight", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"];

fn cron(text: &str) -> Result<(), String> {
    let text = text.to_lowercase();
    if ALIASES.contains(&&*text) {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if !(5..=FIELDS.len()).contains(&fields.len()) {
        let count = fields.len();
        let aliases = ALIASES.join(", ");
        return Err(format!(
            "has {count} fields; it needs five, or six with seconds last, or is one of {aliases}"
        ));
    }
    for (field, text) in FIELDS.iter().zip(&fields) {
        if ["h", "r"].contains(text) {
            return Err(format!("Prefect takes no random `{text}` as {}", field.name));
        }
        for part in text.split(',') {
            field.judge(part, fields.len())?;
        }
    }
    Ok(())
}

impl Field {
    /// One of the parts between commas: a value, a span, either with a step.
    fn judge(&self, part: &str, fields: usize) -> Result<(), String> {
        let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
        if step.is_some_and(|step| number(step) == Some(0)) {
            return Err(format!("`{part}` as {} has a step of 0", self.name));
        }
        if span.is_empty() {
            return Err(format!("`{part}` as {} names no value", self.name));
        }
        let bounds: Vec<&str> = span.split('-').collect();
        for bound in &bounds {
            // With letters and digits mixed, or other signs, it is one of croniter's extensions, or none.
            let word = !bound.is_empty() && bound.chars().all(|c| c.is_ascii_lowercase());
            // What croniter hashes.
            let hashed = ["h", "r"].contains(bound);
            if word && !hashed && !self.words.contains(bound) {
                return Err(format!("`{bound}` is no {}", self.name));
            }
            let Some(value) = number(bound) else { continue };
            // Of spans only the end is judged; a day 0 of an expression with seconds is the first.
            let below = value < *self.range.start()
                && (bounds.len() == 1 && step.is_none())
                && (fields == 5 || self.name == "month");
            if value > *self.range.end() || below {
                let (from, to) = (self.range.start(), self.range.end());
                return Err(format!("`{bound}` is no {}: those are {from} to {to}", self.name));
            }
        }
        Ok(())
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const FREQUENCIES: [&str; 7] = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"];
const PARTS: [&str; 16] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "WKST",
    "BYSETPOS",
    "BYMONTH",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYEASTER",
    "BYWEEKNO",
    "BYWEEKDAY",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
];

/// Of a rule of one line, with or without `RRULE:`; sets of rules are left to Prefect.
fn rrule(text: &str) -> Result<(), String> {
    let text = text.to_uppercase();
    let mut lines = text.split_whitespace();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Ok(()) };
    let rule = line.strip_prefix("RRULE:").unwrap_or(line);
    if rule.contains(':') {
        return Ok(());
    }
    let mut frequency = None;
    for part in rule.split(';') {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("`{part}` is no NAME=VALUE"));
        };
        if !PARTS.contains(&name) {
            return Err(format!("`{name}` is no part of a rule; those are {}", PARTS.join(", ")));
        }
        if name == "FREQ" {
            frequency = Some(value);
        }
    }
    let known = FREQUENCIES.join(", ");
    match frequency {
        None => Err(format!("it needs a FREQ, one of {known}")),
        Some(frequency) if !FREQUENCIES.contains(&frequency) => {
            Err(format!("FREQ `{frequency}` is none of {known}"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_croniter_takes_is_in_order() {
        for text in [
            "0 2 * * *",
            "0  6 * * *",
            "*/7 * * * *",
            "0 6 * * * *",
            "0 6 * * * 0 2030",
            "@daily",
            "@ANNUALLY",
            "0 0 * * 7",
            "0 0 * * sun-7",
            "0 0 l * *",
            "0 0 1-L * *",
            "0 0 * JAN,jun-Feb MON-fri",
            "0 0 * * mon#1,tue#2",
            "0 0 * * l5",
            "0 0 ? * ?",
            "5/10 * * * *",
            "*/90 * * * *",
            "0 0 0 * * 0",
            "59 23 31 12 6",
            "h(0-2)/2 * * * *",
        ] {
            assert_eq!(cron(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_croniter_certainly_refuses_is_a_fault() {
        for (text, why) in [
            ("", "has 0 fields"),
            ("0 2 * *", "has 4 fields"),
            ("0 0 2 * * * 2030 *", "has 8 fields"),
            ("@nightly", "has 1 fields"),
            (" @daily", "has 1 fields"),
            ("60 2 * * *", "`60` is no minute: those are 0 to 59"),
            ("0 24 * * *", "`24` is no hour"),
            ("0 9-25/2 * * *", "`25` is no hour"),
            ("0 2 0 * *", "`0` is no day of the month"),
            ("0 2 32 * *", "`32` is no day of the month"),
            ("0 2 * 0 *", "`0` is no month"),
            ("0 2 * 13 *", "`13` is no month"),
            ("0 2 * * 8", "`8` is no day of the week"),
            ("0 2 * * 1,monday", "`monday` is no day of the week"),
            ("0 noon * * *", "`noon` is no hour"),
            ("0 2 * * * 60", "`60` is no second"),
            ("0 2 * * * 0 2100", "`2100` is no year"),
            ("*/0 * * * *", "has a step of 0"),
            ("1,,2 * * * *", "names no value"),
            ("H 2 * * *", "no random `h` as minute"),
        ] {
            let found = cron(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn a_rule_needs_a_frequency_and_known_parts() {
        for text in [
            "FREQ=HOURLY;INTERVAL=2",
            "rrule:freq=daily;byday=MO,TU",
            "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;COUNT=3",
            "RDATE:20260101T000000Z",
            "",
        ] {
            assert_eq!(rrule(text), Ok(()), "{text}");
        }
        for (text, why) in [
            ("INTERVAL=2", "it needs a FREQ, one of YEARLY"),
            ("FREQ=NIGHTLY", "FREQ `NIGHTLY` is none of"),
            ("FREQ=DAILY;", "`` is no NAME=VALUE"),
            ("FREQ=DAILY;EVERY=2", "`EVERY` is no part of a rule"),
            ("0 2 * * *", ""),
        ] {
            match rrule(text) {
                Err(found) => assert!(!why.is_empty() && found.contains(why), "{text}: {found}"),
                Ok(()) => assert!(why.is_empty(), "{text}"),
            }
        }
    }
}
