//! What the source as a whole promises (DESIGN 3), and no compiler checks.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the library a module may name. `api ← model ← prefect, tableau ← controller ← cli`.
const ARROWS: [(&str, &[&str]); 12] = [
    ("api", &[]),
    ("guards", &[]),
    ("model", &["api", "guards"]),
    ("clock", &["model"]),
    ("http", &["clock", "model"]),
    ("prefect", &["api", "clock", "http", "model"]),
    ("tableau", &["api", "clock", "http", "model"]),
    ("runtime", &["clock"]),
    ("settings", &["http", "model", "runtime"]),
    ("yaml", &[]),
    ("controller", &["api", "clock", "guards", "http", "model", "prefect", "runtime", "settings", "tableau"]),
    (
        "cli",
        &["api", "clock", "controller", "guards", "http", "model", "prefect", "runtime", "settings", "yaml"],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under a folder of the checkout, with its path from the root; what is built or hidden is left out.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", "__pycache__"].contains(&name.as_str())
                    && (!name.starts_with('.') || name == ".ci" || name == ".cargo")
                {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((relative(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} is empty");
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

fn rust(folder: &str) -> Vec<(String, String)> {
    let mut files = files(folder);
    files.retain(|(path, _)| Path::new(path).extension().is_some_and(|extension| extension == "rs"));
    files
}

/// The part of a file that is not its tests; nothing of a file of tests.
fn shipped<'a>(path: &str, text: &'a str) -> &'a str {
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return "";
    }
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn modules_name_only_what_they_stand_on() {
    let mut faults = Vec::new();
    for (path, text) in rust("src") {
        let module = path
            .trim_start_matches("src/")
            .split('/')
            .next()
            .unwrap()
            .trim_end_matches(".rs")
            .trim_end_matches("_tests");
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            panic!("{path}: say in tests/tidy.rs what `{module}` may name");
        };
        for named in named(&text) {
            if named != module && !allowed.contains(&named.as_str()) {
                faults.push(format!("{path} names crate::{named}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The modules of the crate a text names, by path or within braces.
fn named(text: &str) -> Vec<String> {
    let path = Regex::new(r"\bcrate::([a-z_]+)").unwrap();
    let braces = Regex::new(r"(?s)\bcrate::\{(.*?)\};").unwrap();
    let inner = Regex::new(r"(?:^|,)\s*([a-z_]+)").unwrap();
    let nested = Regex::new(r"\{[^{}]*\}").unwrap();
    let mut names: Vec<_> = path.captures_iter(text).map(|found| found[1].to_owned()).collect();
    for group in braces.captures_iter(text) {
        // Only the first level names modules of the crate.
        let first_level = nested.replace_all(&group[1], "");
        names.extend(inner.captures_iter(&first_level).map(|found| found[1].to_owned()));
    }
    names
}

#[test]
fn names_are_found_by_path_and_within_braces() {
    let text = "use crate::{api::{A, b}, model};\nuse crate::http::X; fn f() { crate::prefect::g() }";
    let mut names = named(text);
    names.sort();
    assert_eq!(names, ["api", "http", "model", "prefect"]);
}

#[test]
fn the_world_shares_nothing_with_the_operator() {
    let manifest = fs::read_to_string(root().join("tests/world/Cargo.toml")).unwrap();
    let dependency = Regex::new(r"(?m)^feedwater\b").unwrap();
    assert!(!dependency.is_match(&manifest), "tests/world depends on feedwater");
    for (path, text) in rust("tests/world") {
        assert!(!text.contains("feedwater::"), "{path} names feedwater");
    }
}

#[test]
fn only_the_clock_reads_time() {
    let wall = ["Timestamp::now(", "Zoned::now(", "SystemTime::now(", "std::time::Instant"];
    let mut faults = Vec::new();
    for (path, text) in rust("src") {
        let text = shipped(&path, &text);
        if path == "src/clock.rs" {
            continue;
        }
        faults.extend(
            wall.iter().filter(|reads| text.contains(**reads)).map(|reads| format!("{path}: {reads}")),
        );
        // The lease measures how long it holds by tokio's monotonic clock alone.
        if !path.starts_with("src/runtime/") && text.contains("Instant::now(") {
            faults.push(format!("{path}: Instant::now("));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_one_module_uses_serde_yaml() {
    let word = Regex::new(r"\bserde_yaml::").unwrap();
    for (path, text) in rust("src").into_iter().chain(rust("tests")) {
        let own = path == "src/yaml.rs" || path.starts_with("tests/world/") || path == "tests/tidy.rs";
        assert!(own || !word.is_match(&text), "{path} uses serde_yaml; use crate::yaml");
    }
}

#[test]
fn files_are_small() {
    for (path, text) in rust("src").into_iter().chain(rust("tests")) {
        let lines = text.lines().count();
        assert!(lines < 500, "{path} has {lines} lines");
    }
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 20, "src/main.rs");
}

/// Where packages come from is the machine's business: its package managers are set up for it.
#[test]
fn no_registry_is_named() {
    let hosts = [
        ["crates", "io"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["proxy", "golang.org"],
        ["sum", "golang.org"],
    ]
    .map(|parts| parts.join("."));
    let own = [PathBuf::from("Cargo.lock")];
    for (path, text) in files("") {
        if own.contains(&PathBuf::from(&path)) {
            continue;
        }
        for host in &hosts {
            assert!(!text.contains(host.as_str()), "{path} names {host}");
        }
    }
}

/// Members take versions and features from the workspace, so that nothing is compiled twice.
#[test]
fn dependencies_come_from_the_workspace_table() {
    for manifest in ["Cargo.toml", "tests/world/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && section != "[workspace.dependencies]" {
                assert!(line.ends_with(".workspace = true"), "{manifest} {section}: {line}");
            }
        }
    }
}
