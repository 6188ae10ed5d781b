//! Whoever reads a reason in `kubectl describe` finds it in docs/troubleshooting.md.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where conditions and Events are decided.
const DECIDED: [&str; 2] = ["src/model", "src/controller"];

/// Words in CamelCase there that are no reasons: kinds, types of conditions, values of fields, labels of metrics, words of a report.
const NO_REASONS: &str = "DoesNotExist Exists In NotIn 
Adopt All Any AwaitingRetry CancelNew Cause Cloud Cluster Completed ConfigMap Drifted Ended Enqueue Extract ExtractRefresh False Fifth
First FlowDeployment Fourth Fresh Full Incremental LastDay LastRefreshSucceeded None NotFound Outcome Prefect Ready Reconciling Refresh Refreshing Requested Resource Second Secret Stalled Started Tableau Third Took True Unknown
Unread Upstreams UpstreamsHealthy ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !name.contains("tests") {
            found.push(path);
        }
    }
}

/// Literals of one word in CamelCase, outside of comments and of the tests at the end of a file.
fn literals(text: &str) -> BTreeSet<String> {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let is_reason = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    quoted.filter(is_reason).map(str::to_owned).collect()
}

/// What the page has an entry for: the first cell of a row, or the list of the Events that only tell what was done. A mention elsewhere explains
/// nothing.
fn entries(page: &str) -> BTreeSet<String> {
    let cells = page.lines().filter(|line| line.starts_with("| ")).filter_map(|row| row.split(" | ").next());
    let done = page.split("\n## Events\n").nth(1).and_then(|events| events.split("\n|").next()).unwrap();
    let all = cells.chain([done]).flat_map(|text| text.split('`').skip(1).step_by(2));
    all.map(str::to_owned).collect()
}

#[test]
fn every_reason_has_its_entry() {
    let mut files = Vec::new();
    for folder in DECIDED {
        sources(&root().join(folder), &mut files);
    }
    let found: BTreeSet<String> =
        files.iter().flat_map(|file| literals(&fs::read_to_string(file).unwrap())).collect();
    assert!(
        found.contains("WorkPoolNotFound") && found.contains("RefreshStarted"),
        "the sources are elsewhere"
    );
    let others: BTreeSet<String> = NO_REASONS.split_whitespace().map(str::to_owned).collect();
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let explained = entries(&page);
    let missing: Vec<_> = found.difference(&others).filter(|reason| !explained.contains(*reason)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "explain them in docs/troubleshooting.md");
    // And neither list keeps what is gone.
    assert_eq!(others.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new(), "no such word any more");
}
