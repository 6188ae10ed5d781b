//! docs/trigger.md 4: intent, POST, answers, recovery, other jobs, retries, ends.

use super::holding::window;
use super::*;
use crate::api::{JobOrigin, Outcome};
use RefreshType::{Full, Incremental};

fn pending_post() -> Bench {
    let mut bench = Bench::any();
    bench.completes("a");
    bench.posts();
    bench
}

/// A POST whose answer did not come, and the settle time is over.
fn lost() -> Bench {
    let mut bench = pending_post();
    bench.answered(Answer::Ambiguous);
    bench.rest();
    bench
}

fn listed_by(step: &Step) -> bool {
    matches!(step, Step::Look { list: Some(_), .. })
}

#[test]
fn an_intent_is_written_before_and_alone_and_waits_for_its_fence() {
    let mut bench = Bench::any();
    bench.completes("a");
    assert!(matches!(bench.pass(), Step::Intend { .. }));
    assert_eq!(bench.pass(), Step::Rest, "Tableau's clock may not have reached the fence yet");
    bench.wait(1);
    assert!(matches!(bench.rest(), Step::Post { .. }));
}

#[test]
fn a_new_completion_before_the_post_is_named_by_it() {
    let mut bench = Bench::any();
    bench.completes("a");
    assert!(matches!(bench.pass(), Step::Intend { .. }));
    let newer = bench.completes("a");
    let attempt = bench.posts();
    assert_eq!(attempt.seen[0].run_id, newer);
}

#[test]
fn holds_hold_and_drop_nothing() {
    type Hold = Box<dyn Fn(&mut Bench)>;
    let by = || ObjectName { namespace: "finance".into(), name: "older".into() };
    let holds: [(&str, Hold); 11] = [
        ("False/HeldByWindow", Box::new(|b| b.d.windows.push(window("* * * * *", "168h")))),
        ("False/Suspended", Box::new(|b| b.d.suspend = true)),
        ("False/ConnectionUnavailable", Box::new(|b| b.o.site = SiteView::Missing)),
        ("False/ConnectionUnavailable", Box::new(|b| b.o.site = SiteView::NotReady { reason: "TlsFailed" })),
        ("False/ConnectionUnavailable", Box::new(|b| b.o.site = SiteView::NotReady { reason: "Suspended" })),
        ("False/Retrying", Box::new(|b| b.o.target = TargetView::NotFound)),
        ("False/Retrying", Box::new(|b| b.o.target = TargetView::NoExtract(found(LUID)))),
        ("False/Retrying", Box::new(|b| b.o.target = TargetView::Unread)),
        ("False/Retrying", Box::new(|b| b.o.claim = Claim::Unresolved)),
        ("False/Retrying", Box::new(move |b| b.o.claim = Claim::Taken { by: by() })),
        (
            "False/WaitingForOtherJob",
            Box::new(move |b| {
                b.o.claim = Claim::Busy { by: ObjectName { namespace: "f".into(), name: "o".into() } }
            }),
        ),
    ];
    for (reason, hold) in holds {
        for written in [false, true] {
            let mut bench = Bench::any();
            let view = bench.o.clone();
            bench.completes("a");
            if written {
                assert!(matches!(bench.pass(), Step::Intend { .. }));
            }
            hold(&mut bench);
            bench.wait(60);
            assert_eq!(bench.rest(), Step::Rest, "{reason}");
            assert_eq!(bench.reason("Refreshing"), reason);
            assert_eq!(bench.owed().len(), 1, "{reason}");
            bench.d.suspend = false;
            bench.d.windows.clear();
            (bench.o.site, bench.o.target, bench.o.claim) = (view.site, view.target, view.claim);
            bench.posts();
        }
    }
}

#[test]
fn what_tableau_answers_decides_what_is_kept() {
    use AttemptPhase::{Intended, Submitted};
    let code = || "400000".to_owned();
    for (answer, phase, refreshing, ready) in [
        (Answer::Job("job-1".into()), Some(Submitted), "True/Queued", "True/InSync"),
        (Answer::AlreadyQueued, Some(Intended), "False/WaitingForOtherJob", "True/InSync"),
        (Answer::Forbidden, Some(Intended), "False/WaitingForOtherJob", "False/PermissionDenied"),
        (Answer::Ambiguous, Some(Intended), "False/Recovering", "True/InSync"),
        (Answer::NoExtract, None, "False/Retrying", "False/NoExtract"),
        (Answer::NotFound, None, "False/Retrying", "False/TargetNotFound"),
        (Answer::Rejected { code: code() }, None, "False/Retrying", "False/RemoteRejected"),
        (Answer::SignInRefused, None, "False/ConnectionUnavailable", "True/InSync"),
        (Answer::NotSent, None, "False/ConnectionUnavailable", "True/InSync"),
        (Answer::Throttled(Some(Duration::from_secs(7))), None, "False/HeldByBudget", "True/InSync"),
    ] {
        let mut bench = pending_post();
        bench.answered(answer.clone());
        let (is_refreshing, is_ready) = (bench.reason("Refreshing"), bench.reason("Ready"));
        assert_eq!((bench.phase(), &*is_refreshing, &*is_ready), (phase, refreshing, ready), "{answer:?}");
        assert_eq!(bench.owed().len(), 1, "{answer:?}");
        assert_eq!(bench.s.owed.as_ref().unwrap().tries, 0, "{answer:?} is no try");
    }
}

#[test]
fn refusals_wait_longer_and_longer_and_429_as_told() {
    let mut bench = pending_post();
    for minutes in [1, 2, 4, 8, 16, 30, 30] {
        bench.answered(Answer::NotFound);
        bench.wait(minutes * 60 - 1);
        assert_eq!(bench.rest(), Step::Rest, "{minutes} min");
        bench.wait(1);
        bench.posts();
    }
    bench.answered(Answer::Throttled(Some(Duration::from_secs(7))));
    bench.wait(6);
    assert_eq!(bench.rest(), Step::Rest);
    bench.wait(1);
    assert!(matches!(bench.pass(), Step::Intend { .. }));
}

#[test]
fn a_refusal_is_asked_again_at_a_new_generation_target_credential_or_token() {
    type Change = fn(&mut Bench);
    let changes: [(&str, Answer, Change); 5] = [
        ("generation", Answer::NotFound, |b| b.d.generation += 1),
        ("target", Answer::NotFound, |b| b.o.target = TargetView::Found(found("luid-2"))),
        ("token", Answer::NotFound, |b| b.d.refresh_token = Some("t".into())),
        ("credential", Answer::NotFound, |b| b.o.credential = Some("second".into())),
        ("connection", Answer::SignInRefused, |b| {
            let ready = std::mem::replace(&mut b.o.site, SiteView::NotReady { reason: "CredentialsInvalid" });
            b.rest();
            b.o.site = ready;
        }),
    ];
    for (what, refusal, change) in changes {
        let mut bench = pending_post();
        bench.answered(refusal);
        assert_eq!(bench.rest(), Step::Rest, "{what}");
        change(&mut bench);
        bench.posts();
    }
}

#[test]
fn a_lost_answer_is_looked_up_and_its_job_followed() {
    let mut bench = lost();
    assert!(listed_by(&bench.rest()));
    let row = bench.row("job-1", JobStatus::Pending, Full);
    bench.list(vec![row]);
    assert!(matches!(bench.rest(), Step::Look { jobs, list: None, .. } if jobs.contains(&"job-1".into())));
    bench.job("job-1", JobStatus::Pending, None);
    bench.rest();
    let attempt = bench.s.attempt.clone().unwrap();
    assert_eq!((attempt.phase, attempt.origin), (AttemptPhase::Submitted, Some(JobOrigin::Recovered)));
    bench.wait(3);
    bench.succeeds("job-1");
    assert_eq!((bench.s.owed.as_ref(), bench.s.history[0].outcome), (None, Outcome::Succeeded));
}

#[test]
fn there_is_none_only_by_a_read_after_the_settle_time_of_which_every_row_was_looked_at() {
    let mut bench = lost();
    bench.list(vec![]);
    bench.wait(29);
    assert_eq!(bench.rest(), Step::Rest, "not settled");
    bench.wait(2);
    assert!(listed_by(&bench.rest()), "settled, and read before");
    let stranger = bench.row("job-9", JobStatus::InProgress, Full);
    bench.list(vec![stranger]);
    assert!(matches!(bench.rest(), Step::Look { .. }), "a row that was not looked at");
    bench.job("job-9", JobStatus::InProgress, None);
    let answer = bench.o.jobs.details.get_mut(&JobId::from("job-9")).unwrap();
    answer.job.as_mut().unwrap().content = Some("luid-9".into());
    let first = bench.s.attempt.clone().unwrap();
    let second = bench.posts();
    assert_ne!(first.id, second.id);
}

#[test]
fn rows_of_another_kind_or_from_before_the_fence_are_no_candidates() {
    let mut bench = lost();
    let other_kind = bench.row("job-1", JobStatus::Pending, Incremental);
    let mut older = bench.row("job-2", JobStatus::InProgress, Full);
    older.created_at = Some(at(1));
    bench.wait(31);
    bench.list(vec![other_kind, older]);
    bench.posts();
}

#[test]
fn where_the_list_may_not_be_read_the_settle_time_alone_decides() {
    let mut bench = lost();
    bench.o.jobs.list = JobList::NotAllowed;
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.reason("Refreshing"), "False/JobListUnavailable");
    bench.wait(31);
    bench.posts();
}

#[test]
fn a_written_intent_of_another_process_is_recovered_first() {
    let mut bench = Bench::any();
    bench.completes("a");
    assert!(matches!(bench.pass(), Step::Intend { .. }));
    bench.ledger = None;
    bench.wait(2);
    assert!(listed_by(&bench.rest()));
    assert_eq!(bench.reason("Refreshing"), "False/Recovering");
}

/// Refused because of another job of the target, and the list read since.
fn in_the_way(status: JobStatus, kind: RefreshType, started: Option<Timestamp>) -> Bench {
    let mut bench = pending_post();
    bench.answered(Answer::AlreadyQueued);
    assert!(listed_by(&bench.rest()));
    let mut row = bench.row("other", status, kind);
    row.started_at = started;
    bench.list(vec![row]);
    assert!(matches!(bench.rest(), Step::Look { .. }));
    bench.job("other", status, started);
    bench.rest();
    bench
}

#[test]
fn a_queued_job_of_somebody_else_is_adopted_if_its_kind_suffices() {
    let mut bench = in_the_way(JobStatus::Pending, Full, None);
    assert_eq!(bench.s.attempt.as_ref().unwrap().origin, Some(JobOrigin::Adopted));
    bench.succeeds("other");
    assert_eq!((bench.s.owed.as_ref(), bench.reason("Fresh")), (None, "True/UpToDate".into()));

    let bench = in_the_way(JobStatus::Pending, Incremental, None);
    assert_eq!(bench.s.attempt.as_ref().unwrap().waits_for_job.as_deref(), Some("other"));
    assert_eq!(bench.reason("Refreshing"), "False/WaitingForOtherJob");
}

#[test]
fn a_running_job_that_began_before_is_waited_for_and_then_ours_is_sent() {
    let mut bench = in_the_way(JobStatus::InProgress, Full, Some(at(1)));
    assert_eq!(bench.phase(), Some(AttemptPhase::Intended));
    bench.wait(1000);
    bench.job("other", JobStatus::InProgress, Some(at(1)));
    assert_eq!(bench.rest(), Step::Rest);
    bench.job("other", JobStatus::Success, Some(at(1)));
    bench.posts();
    assert_eq!(bench.owed().len(), 1);
}

#[test]
fn a_job_that_started_after_ends_the_matter_however_busy_the_neighbour() {
    for status in [JobStatus::InProgress, JobStatus::Success] {
        let bench = in_the_way(status, Full, Some(at(100)));
        let adopted = bench.s.attempt.as_ref().is_some_and(|a| a.origin == Some(JobOrigin::Adopted));
        assert!(adopted || bench.s.owed.is_none(), "{status:?}");
    }
}

#[test]
fn an_invisible_job_is_asked_about_again_after_15_s_up_to_5_min() {
    let mut bench = pending_post();
    for wait in [15, 30, 60, 120, 240, 300, 300] {
        bench.answered(Answer::AlreadyQueued);
        bench.rest();
        bench.list(vec![]);
        bench.wait(wait - 1);
        assert_eq!(bench.rest(), Step::Rest, "{wait} s");
        bench.wait(1);
        bench.posts();
    }
}

#[test]
fn a_403_may_hide_a_queued_job_and_is_a_refusal_if_it_does_not() {
    let mut bench = pending_post();
    bench.answered(Answer::Forbidden);
    assert!(listed_by(&bench.rest()));
    bench.list(vec![]);
    bench.rest();
    assert_eq!((bench.phase(), bench.s.owed.as_ref().unwrap().refusals), (None, 1));
    assert_eq!(bench.reason("Ready"), "False/PermissionDenied");

    let mut hidden = pending_post();
    hidden.answered(Answer::Forbidden);
    let row = hidden.row("other", JobStatus::Pending, Full);
    hidden.list(vec![row]);
    hidden.job("other", JobStatus::Pending, None);
    hidden.rest();
    assert_eq!(hidden.phase(), Some(AttemptPhase::Submitted));
    assert_eq!(hidden.reason("Ready"), "True/InSync");
}

/// Ends of a job, whose it is, and what they come to.
#[test]
fn how_a_job_ends_decides_what_comes_next() {
    use JobOrigin::{Adopted, Ours, Recovered};
    let (retry, cancelled) = (Some((1, None)), Some((0, Some(Stopped::Cancelled))));
    let again = Some((0, None));
    for (origin, status, outcome, owed) in [
        (Ours, Some(JobStatus::Success), Outcome::Succeeded, None),
        (Ours, Some(JobStatus::Failed), Outcome::Failed, retry),
        (Ours, Some(JobStatus::Cancelled), Outcome::Cancelled, cancelled),
        (Ours, None, Outcome::JobVanished, retry),
        (Recovered, Some(JobStatus::Failed), Outcome::Failed, retry),
        (Recovered, Some(JobStatus::Cancelled), Outcome::Cancelled, cancelled),
        (Adopted, Some(JobStatus::Failed), Outcome::Failed, again),
        (Adopted, Some(JobStatus::Cancelled), Outcome::Cancelled, again),
        (Adopted, None, Outcome::JobVanished, again),
    ] {
        let mut bench = pending_post();
        bench.answered(Answer::Job("job-1".into()));
        bench.s.attempt.as_mut().unwrap().origin = Some(origin);
        let started = bench.now();
        bench.job("job-1", status.unwrap_or(JobStatus::Failed), Some(started));
        if status.is_none() {
            bench.o.jobs.details.get_mut(&JobId::from("job-1")).unwrap().job = None;
        }
        bench.pass();
        assert_eq!(bench.s.history[0].outcome, outcome);
        assert_eq!(bench.s.owed.as_ref().map(|o| (o.tries, o.stopped)), owed, "{origin:?} {status:?}");
        assert_eq!(bench.s.attempt, None, "never at once again");
    }
}

#[test]
fn tries_wait_by_the_backoff_within_ten_per_cent_until_they_are_used_up() {
    let mut bench = pending_post();
    for (job, wait) in [("job-1", 60_u64), ("job-2", 120)] {
        bench.answered(Answer::Job(job.into()));
        bench.job(job, JobStatus::Failed, None);
        bench.rest();
        assert_eq!(bench.reason("Refreshing"), "False/Retrying");
        bench.wait(wait * 9 / 10 - 1);
        assert_eq!(bench.rest(), Step::Rest);
        bench.wait(wait * 2 / 10 + 2);
        bench.posts();
    }
    bench.answered(Answer::Job("job-3".into()));
    bench.job("job-3", JobStatus::Failed, None);
    bench.rest();
    assert_eq!(bench.stopped(), Some(Stopped::Exhausted));
    assert_eq!(bench.reason("Refreshing"), "False/RetriesExhausted");
    assert_eq!(bench.reason("LastRefreshSucceeded"), "False/RetriesExhausted");
    bench.wait(86_400);
    assert_eq!(bench.rest(), Step::Rest);
}

pub(super) fn exhausted() -> Bench {
    let mut bench = Bench::any();
    bench.d.retry.limit = 0;
    bench.completes("a");
    bench.submits("job-1");
    bench.job("job-1", JobStatus::Failed, None);
    bench.rest();
    assert_eq!(bench.stopped(), Some(Stopped::Exhausted));
    bench
}

#[test]
fn a_person_re_arms_with_a_fresh_count_at_once() {
    for ask in
        [(|d: &mut Desired| d.refresh_token = Some("t".into())) as fn(&mut Desired), |d| d.generation += 1]
    {
        let mut bench = exhausted();
        ask(&mut bench.d);
        bench.posts();
        assert_eq!(bench.s.owed.as_ref().unwrap().tries, 0);
    }
}

#[test]
fn new_data_re_arms_for_one_try_after_the_longest_wait() {
    let mut bench = exhausted();
    bench.d.retry.limit = 2;
    bench.completes("a");
    bench.rest();
    bench.wait(590);
    assert_eq!(bench.rest(), Step::Rest);
    bench.wait(11);
    bench.submits("job-2");
    bench.job("job-2", JobStatus::Failed, None);
    bench.rest();
    assert_eq!(bench.stopped(), Some(Stopped::Exhausted), "one try, whatever the limit");
}

#[test]
fn new_completions_shorten_no_backoff() {
    let mut bench = pending_post();
    bench.answered(Answer::Job("job-1".into()));
    bench.job("job-1", JobStatus::Failed, None);
    bench.rest();
    let (not_before, tries) = bench.s.owed.as_ref().map(|o| (o.not_before, o.tries)).unwrap();
    bench.completes("b");
    bench.rest();
    assert_eq!(bench.s.owed.as_ref().map(|o| (o.not_before, o.tries)), Some((not_before, tries)));
    bench.wait(70);
    assert_eq!(bench.posts().seen.len(), 2, "the retry names the newest");
}

#[test]
fn somebody_elses_job_is_never_cancelled() {
    let mut bench = in_the_way(JobStatus::Pending, Full, None);
    let started = bench.now();
    bench.job("other", JobStatus::InProgress, Some(started));
    bench.wait(100_000);
    assert_eq!(bench.rest(), Step::Rest);
    assert_eq!(bench.phase(), Some(AttemptPhase::Submitted));
}

#[test]
fn resuming_makes_at_most_one_refresh() {
    let mut bench = Bench::any();
    bench.d.suspend = true;
    for _ in 0..5 {
        bench.completes("a");
        bench.rest();
    }
    bench.d.suspend = false;
    bench.d.generation += 1;
    bench.refreshes("job-1");
    assert_eq!((bench.rest(), bench.s.owed.as_ref()), (Step::Rest, None));
}

#[test]
fn an_edit_during_a_post_is_noticed_after_its_answer() {
    let mut bench = pending_post();
    bench.d.generation = 2;
    bench.answered(Answer::NotFound);
    assert_eq!(bench.s.observed_generation, 1);
    bench.posts();
    assert_eq!(bench.s.observed_generation, 2);
}

#[test]
fn an_answer_is_folded_into_whatever_was_written_meanwhile() {
    let mut bench = pending_post();
    let sent = bench.s.attempt.clone().unwrap();
    // Another writer dropped the attempt: the job runs all the same.
    bench.s.attempt = None;
    let folded = fold(&bench.d, &bench.o, &bench.s, &sent, Answer::Job("job-1".into()), bench.now());
    let attempt = folded.status.attempt.unwrap();
    assert_eq!((attempt.phase, attempt.job_id.as_deref()), (AttemptPhase::Submitted, Some("job-1")));
    // A refusal of an attempt that is not there changes nothing.
    let folded = fold(&bench.d, &bench.o, &bench.s, &sent, Answer::NotFound, bench.now());
    assert_eq!((folded.status.attempt, folded.status.owed), (None, bench.s.owed.clone()));
    // Another leader found the job already.
    bench.s.attempt = Some(Attempt { id: "theirs".into(), job_id: Some("job-1".into()), ..sent.clone() });
    let folded = fold(&bench.d, &bench.o, &bench.s, &sent, Answer::Job("job-1".into()), bench.now());
    assert_eq!(folded.status.attempt, bench.s.attempt);
}
