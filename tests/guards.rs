//! Every safety of `src/guards.rs` has a test that fails without it, and what is shipped cannot go without any.
//! `cargo world guards` removes one after the other and expects those tests to fail.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use feedwater::guards::Guard;
use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn every_guard_names_the_test_that_fails_without_it() {
    let listed: BTreeSet<&str> = include_str!("guards.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            assert!(fields.len() == 4 && fields.iter().all(|field| !field.is_empty()), "{line}");
            fields[0]
        })
        .collect();
    let guards: BTreeSet<&str> = Guard::ALL.iter().map(|guard| guard.name()).collect();
    assert_eq!(listed, guards, "tests/guards.txt");
}

#[test]
#[cfg(not(feature = "guards"))]
fn what_is_shipped_cannot_go_without_a_guard() {
    let feedwater = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_feedwater")).args(arguments).output().expect("the binary runs")
    };
    let help = feedwater(&["run", "--help"]);
    assert!(help.status.success());
    assert!(!String::from_utf8_lossy(&help.stdout).contains("guard"));
    let refused = feedwater(&["run", "--without-guard", "settle-time"]);
    assert_eq!(refused.status.code(), Some(2), "clap refuses the flag");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unexpected argument"));
    // Nor by the environment, of which `holds` knows nothing: it is constant.
    const { assert!(feedwater::guards::holds(Guard::SettleTime)) };
}
