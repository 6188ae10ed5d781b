//! Worlds at random must hold the laws. `PROPTEST_CASES` sets how many are tried; one that breaks a law is printed as what happened in it.

use crate::reached::Reached;
use crate::script::{Op, ops, skews};
use crate::stage::Stage;
use crate::world::Skews;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::RefCell;

proptest! {
    #![proptest_config(config(40))]
    #[test]
    fn nothing_is_lost_doubled_or_believed_without_proof((skews, ops) in (skews(), ops())) {
        check(skews, &ops)?;
    }
}

fn check(skews: Skews, ops: &[Op]) -> Result<Reached, TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    if std::env::var_os("SHOW").is_some() {
        eprintln!("CASE {skews:?} {ops:?}");
    }
    runtime.block_on(async {
        let mut stage = Stage::new(skews).await;
        for op in ops {
            stage.apply(op).await;
        }
        let calm = stage.calm().await;
        let judged = match calm {
            Ok(()) => stage.judge().await,
            broken => broken,
        };
        judged.map_err(|broken| TestCaseError::fail(broken.0))?;
        Ok(stage.take_reached())
    })
}

fn config(cases: u32) -> Config {
    // A failing world is printed whole; a file of seeds beside the test would say less.
    let config = Config { max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { Config { cases, ..config } }
}

/// The same worlds every time; together they reach everything there is to reach, or the laws prove less than they seem to.
#[test]
fn everything_that_can_happen_happens() {
    let reached = RefCell::new(Reached::default());
    let config = Config { cases: 100, ..config(100) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&(skews(), ops()), |(skews, ops)| {
        reached.borrow_mut().add(check(skews, &ops)?);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let reached = reached.into_inner();
    println!("{reached}");
    assert_eq!(reached.never(ALL), Vec::<String>::new());
}

const ALL: &str = "
";
