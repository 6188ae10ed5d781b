//! docs/security.md names a test for each guard, docs/deletion.md one for each case: they are there.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Words of the threats that the page has to speak of, whatever else it does.
const THREATS: [&str; 9] = [
    "confused deputy",
    "SSRF",
    "DNS rebinding",
    "secret exfiltration",
    "leak into logs, status",
    "YAML bomb",
    "regex bomb",
    "hostile answers",
    "starve the others",
];

/// Every function below a folder that a test harness runs; not those that it leaves out.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    let function =
        Regex::new(r"#\[(?:tokio::)?test[^\]]*\]((?:\s*#\[[^\]]*\])*)\s*(?:async )?fn (\w+)").unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let run = function.captures_iter(&text).filter(|captures| !captures[1].contains("ignore"));
            found.extend(run.map(|captures| captures[2].to_owned()));
        }
    }
}

#[test]
fn every_guard_and_every_case_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = BTreeSet::new();
    for folder in ["src", "tests"] {
        tests(&root.join(folder), &mut all);
    }
    let read = |page: &str| fs::read_to_string(root.join(page)).unwrap();
    let (security, deletion) = (read("docs/security.md"), read("docs/deletion.md"));
    let threats = rows(&security, "| threat");
    for word in THREATS {
        let spoken = threats.iter().any(|row| row.split(" | ").next().unwrap().contains(word));
        assert!(spoken, "docs/security.md: no row on {word}");
    }
    names_tests_that_exist(&threats, "docs/security.md", &all);
    let cases = rows(&deletion, "| what is deleted");
    assert!(cases.len() >= 17, "{cases:?}");
    names_tests_that_exist(&cases, "docs/deletion.md", &all);
}

/// The rows of a page's table, without its header.
fn rows<'a>(text: &'a str, header: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with("| ") && !line.starts_with(header)).collect()
}

/// Each row names a test in its last cell.
fn names_tests_that_exist(rows: &[&str], page: &str, all: &BTreeSet<String>) {
    let name = Regex::new(r"`(\w+_\w+)`").unwrap();
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<String> = name.captures_iter(shown).map(|captures| captures[1].to_owned()).collect();
        assert!(!named.is_empty(), "{page}: no test: {row}");
        for test in named {
            assert!(all.contains(&test), "{page} names `{test}`, which is no test: {row}");
        }
    }
}
