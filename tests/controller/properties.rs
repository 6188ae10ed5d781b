//! Worlds at random must hold the laws. `PROPTEST_CASES` sets how many are tried; one that breaks a law is printed as what happened in it.

use crate::reached::Reached;
use crate::script::{Op, ops, skews};
use crate::stage::Stage;
use crate::world::Skews;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::RefCell;

proptest! {
    #![proptest_config(config(24))]
    #[test]
    fn nothing_is_lost_doubled_or_believed_without_proof((skews, ops) in (skews(), ops())) {
        check(skews, &ops)?;
    }
}

fn check(skews: Skews, ops: &[Op]) -> Result<Reached, TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
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
    let config = Config { max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
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

/// Every reason, answer, fault and operation that worlds have to go through. (Reasons that need a world of their own are reached by
/// `tests/laws`, `tests/flow_laws` and `tests/e2e`.)
const ALL: &str = "
Answer/200 Answer/201 Answer/404 Answer/409 Answer/500 Answer/503 Answer/None
ExtractRefresh/Fresh/NotYetRefreshed ExtractRefresh/Fresh/UpToDate
ExtractRefresh/LastRefreshSucceeded/Cancelled ExtractRefresh/LastRefreshSucceeded/Failed
ExtractRefresh/LastRefreshSucceeded/NotYetRefreshed ExtractRefresh/LastRefreshSucceeded/Succeeded
ExtractRefresh/LastRefreshSucceeded/Superseded ExtractRefresh/Ready/ConnectionUnavailable
ExtractRefresh/Ready/DependencyNotFound ExtractRefresh/Ready/InSync ExtractRefresh/Ready/Progressing
ExtractRefresh/Ready/Suspended ExtractRefresh/Ready/TargetConflict ExtractRefresh/Ready/TargetNotFound
ExtractRefresh/Reconciling/ConnectionUnavailable ExtractRefresh/Reconciling/DependencyNotFound
ExtractRefresh/Reconciling/Progressing ExtractRefresh/Refreshing/Cancelled
ExtractRefresh/Refreshing/ConnectionUnavailable ExtractRefresh/Refreshing/JobListUnavailable
ExtractRefresh/Refreshing/Queued ExtractRefresh/Refreshing/Recovering ExtractRefresh/Refreshing/Retrying
ExtractRefresh/Refreshing/Running ExtractRefresh/Refreshing/Suspended ExtractRefresh/Refreshing/UpToDate
ExtractRefresh/Refreshing/WaitingForOtherJob ExtractRefresh/Refreshing/WaitingForUpstreams
ExtractRefresh/Stalled/TargetConflict ExtractRefresh/UpstreamsHealthy/AllHealthy
ExtractRefresh/UpstreamsHealthy/NotObserved ExtractRefresh/UpstreamsHealthy/UpstreamFailing
ExtractRefresh/UpstreamsHealthy/UpstreamNotFound FlowDeployment/Drifted/NoDrift
FlowDeployment/Drifted/NotObserved FlowDeployment/Ready/ConnectionUnavailable FlowDeployment/Ready/Deleting
FlowDeployment/Ready/DeletionBlocked FlowDeployment/Ready/InSync FlowDeployment/Ready/Progressing
FlowDeployment/Reconciling/ConnectionUnavailable FlowDeployment/Reconciling/Progressing
FlowDeployment/pendingWrite Lease/LoseAnswer Lease/Refuse Origin/Ours Origin/Recovered Post/Arrived
Post/NotArrived PrefectRead/DelayAnswer PrefectRead/Empty PrefectRead/Lose PrefectRead/LoseAnswer
PrefectWorkspace/Ready/Connected PrefectWorkspace/Ready/ConnectionLost PrefectWorkspace/Ready/Progressing
PrefectWorkspace/Reconciling/Progressing PrefectWrite/Lose Process/Ended Process/LeaseLost Read/DelayAnswer
Read/Refuse Read/Stale Refresh/Delay Refresh/DelayAnswer Refresh/Late Refresh/Lose Refresh/LoseAnswer
TableauRead/Forbid TableauRead/Lose TableauSite/Ready/Connected TableauSite/Ready/Progressing
TableauSite/Ready/Unreachable TableauSite/Reconciling/Progressing Write/Delay Write/DelayAnswer Write/Lose
Write/LoseAnswer Write/Refuse Op/Wait Op/Complete Op/Fail Op/Force Op/Person Op/JobEnds Op/Engine Op/RemoveJob
Op/Republish Op/ForeignEdit Op/Token Op/Suspend Op/Gate Op/Retarget Op/Incremental Op/Describe Op/Active
Op/Cron Op/DeleteRefresh Op/DeleteFlow Op/Apply Op/Rotate Op/BreakSecret Op/Call Op/Request Op/PrefectDown
Op/TableauDown Op/ServerDown Op/JobsForbidden Op/CutEvents Op/Hold Op/Release Op/Replay Op/Close Op/Expire
Op/Compact Op/Kill Op/Terminate Op/Start Op/StealLease Shown
";
