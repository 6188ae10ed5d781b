//! Starts whose answers are lost one after the other.

use super::*;

#[test]
fn a_start_that_tableau_never_answers_is_made_less_and_less_often_and_said() {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.o.jobs.list = JobList::NotAllowed;
    let mut starts = Vec::new();
    let end = bench.now + 6 * 3600;
    while bench.now < end {
        bench.wait(1);
        if matches!(bench.rest(), Step::Post { .. }) {
            starts.push(bench.now);
            bench.answered(Answer::Ambiguous);
        }
    }
    let waits: Vec<u64> = starts.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(waits[0] < 60 && waits.windows(2).all(|two| two[0] <= two[1] + 1), "{waits:?}");
    assert!(*waits.last().unwrap() >= 1800 && starts.len() < 22, "{waits:?}");
    assert_eq!(bench.reason("Ready"), "False/RemoteFailed");
    assert_eq!(bench.notes.iter().filter(|note| **note == "RemoteFailed").count(), 1);
    // One that is answered ends that.
    bench.wait(2000);
    bench.posts();
    bench.answered(Answer::Job("j1".into()));
    bench.rest();
    assert_eq!(bench.reason("Ready"), "True/InSync");
    bench.succeeds("j1");
    assert_eq!(bench.s.owed, None);
}

/// Answers that refuse are none that are lost.
#[test]
fn one_lost_answer_after_refusals_is_made_good_at_once() {
    let mut bench = Bench::any();
    bench.o.jobs.list = JobList::NotAllowed;
    bench.completes("a");
    for _ in 0..8 {
        bench.posts();
        bench.answered(Answer::Throttled(Some(Duration::from_secs(10))));
        bench.rest();
        bench.wait(15);
    }
    bench.posts();
    bench.answered(Answer::Ambiguous);
    bench.rest();
    bench.wait(40);
    bench.posts();
    assert_eq!(bench.reason("Ready"), "True/InSync");
}
