//! docs/security.md names a test for each guard, docs/deletion.md one for each case: they are there.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every function below a folder that a test harness runs.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    let function =
        Regex::new(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)").unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(function.captures_iter(&text).map(|captures| captures[1].to_owned()));
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
    for (page, header) in [("docs/security.md", "| threat"), ("docs/deletion.md", "| what is deleted")] {
        names_tests_that_exist(&fs::read_to_string(root.join(page)).unwrap(), page, header, &all);
    }
}

/// Each row of the page's table names a test in its last cell.
fn names_tests_that_exist(text: &str, page: &str, header: &str, all: &BTreeSet<String>) {
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with(header)).collect();
    assert!(rows.len() >= 10, "{page}: {rows:?}");
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
