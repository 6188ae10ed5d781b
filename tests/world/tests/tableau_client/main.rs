//! The simulator, as Tableau's own clients see it: tabcmd 2.0.21, and tableauserverclient in two versions.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod jwt;
mod tabcmd;
mod tasks;
mod tsc;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use world::python::venv;
use world::tableau::{Outcome, Script, Simulator, Step};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
/// Environments with tableauserverclient, and its version there: tabcmd brings its own.
const VERSIONS: [(&str, &str); 2] = [("tabcmd", "0.41"), ("tsc", "0.42")];
/// A machine that builds beside the tests is slow; a client that hangs is still found.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs of an environment, which is made when it is not there yet.
async fn programs(environment: &str) -> PathBuf {
    let lock = Path::new(PYTHON).join(environment).join("requirements.lock");
    venv(environment, &lock, |line| println!("{line}")).await.unwrap().join("bin")
}

/// What a script of `python/tsc` prints, under the tableauserverclient of an environment.
async fn drive(environment: &str, script: &str, arguments: &[&str]) -> Value {
    let run = Command::new(programs(environment).await.join("python"))
        .arg(Path::new(PYTHON).join("tsc").join(script))
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let out = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let seen = serde_json::from_slice(&out.stdout).unwrap();
    println!("{environment}: {seen:#}");
    seen
}

/// What the clients find on the site `acme`.
struct Content {
    orders: String,
    broken: String,
    slow: String,
    board: String,
}

impl Content {
    fn on(tableau: &Simulator) -> Self {
        let site = tableau.add_site("acme");
        tableau.add_pat(&site, "drive", "secret", "robot");
        // The same name in a project of the same leaf name, earlier in every list.
        tableau.add_datasource(&site, &["Archive", "Sales"], "Orders", true);
        let orders = tableau.add_datasource(&site, &["Finance", "Sales"], "Orders", true);
        let broken = tableau.add_datasource(&site, &["Finance"], "Broken", true);
        let slow = tableau.add_datasource(&site, &["Finance"], "Slow", true);
        tableau.add_datasource(&site, &["Finance"], "Live", false);
        tableau.add_datasource(&site, &[], "Größe & \"Co\" <1>", true);
        tableau.add_workbook(&site, &["Finance"], "Atlas", true);
        let board = tableau.add_workbook(&site, &["Finance"], "Board", true);
        let failed = Outcome::Failed { notes: "Login failed for user.".to_owned() };
        tableau.script(&broken, Script { outcome: failed, ..Script::default() });
        tableau.script(&slow, Script { running: Step::UntilReleased, ..Script::default() });
        Self { orders, broken, slow, board }
    }
}
