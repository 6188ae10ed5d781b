//! Jobs as the observer knows them: how far back, for how long, and at which cost. On paused time, which passes by sleeping.

use super::*;
use crate::model::extract::JOBS_EVERY;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// From when on the list was asked for, as often as it was.
fn lists(rig: &Rig) -> Vec<Timestamp> {
    let state = rig.tableau.state();
    state.calls.iter().filter_map(|call| call.strip_prefix("jobs ")?.parse().ok()).collect()
}

fn asked_by_id(rig: &Rig) -> usize {
    rig.tableau.operations().iter().filter(|call| *call == "job").count()
}

/// A refresh of the target, by whomever, that has ended.
fn ended(rig: &Rig) -> JobId {
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    rig.tableau.advance(&job, JobStatus::Success).unwrap();
    job
}

fn rows(rig: &Rig) -> Vec<(JobId, JobStatus)> {
    match &rig.session.snapshot().list {
        JobList::Read { rows, .. } => rows.iter().map(|row| (row.id.clone(), row.status)).collect(),
        other => panic!("{other:?}"),
    }
}

/// One resource looks at what schedules did days ago, now and then; another has an attempt without a job, for which the list is read at every poll.
#[tokio::test(start_paused = true)]
async fn a_list_that_reaches_far_back_is_read_whole_once_and_what_was_asked_of_its_jobs_is_kept() {
    let rig = rig(&[orders()], publish_orders).await;
    let since = rig.clock.now();
    let old = ended(&rig);
    tokio::time::sleep(DAY * 3).await;
    rig.owes(None);
    rig.tableau.state().calls.clear();
    look(&rig, Hint::JobList(since)).await;
    look(&rig, Hint::Jobs([old.clone()].into())).await;
    assert!(lists(&rig)[0] <= since);
    assert_eq!((rows(&rig), asked_by_id(&rig)), (vec![(old.clone(), JobStatus::Success)], 1));
    let luid = rig.tableau.state().contents[1].luid.clone();
    let running = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    for _ in 0..20 {
        tokio::time::sleep(POLL).await;
        assert!(rig.session.snapshot().details.contains_key(&old), "asked for once");
    }
    // Another look of the first: it is there.
    look(&rig, Hint::JobList(since)).await;
    let later = rig.clock.now() - jiff::SignedDuration::from_hours(2);
    assert!(lists(&rig).len() > 20 && lists(&rig)[1..].iter().all(|from| *from > later), "{:?}", lists(&rig));
    let both = |status| vec![(old.clone(), JobStatus::Success), (running.clone(), status)];
    assert_eq!(rows(&rig), both(JobStatus::Pending));

    // It ends long after it was made: until then it is read again and again.
    rig.tableau.advance(&running, JobStatus::InProgress).unwrap();
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    rig.tableau.advance(&running, JobStatus::Success).unwrap();
    tokio::time::sleep(POLL * 2).await;
    assert_eq!(rows(&rig), both(JobStatus::Success));
    // What Tableau does not list any more though it should is dropped; and now and then all of it is read.
    rig.tableau.forget(&running);
    rig.tableau.forget(&old);
    tokio::time::sleep(Duration::from_secs(7 * 3600)).await;
    assert_eq!(rows(&rig), []);
}

#[tokio::test(start_paused = true)]
async fn between_two_looks_of_one_who_waits_for_a_schedule_nothing_is_forgotten() {
    let rig = rig(&[orders()], publish_orders).await;
    let since = rig.clock.now();
    let old = ended(&rig);
    let waits = json!({"owed": {"formedAt": since, "occasions": [], "demands": [], "tries": 0}});
    rig.index.on_refresh(&Event::Apply(extract(0, &orders(), &waits)));
    look(&rig, Hint::JobList(since)).await;
    look(&rig, Hint::Jobs([old.clone()].into())).await;
    for _ in 0..12 {
        tokio::time::sleep(JOBS_EVERY + POLL).await;
        assert!(rig.session.snapshot().details.contains_key(&old));
        look(&rig, Hint::JobList(since)).await;
    }
    assert_eq!(asked_by_id(&rig), 1);
    // It waits no more.
    rig.index.on_refresh(&Event::Apply(extract(0, &orders(), &json!({}))));
    tokio::time::sleep(POLL * 2).await;
    assert_eq!(rig.session.snapshot().list, JobList::Unread);
}

/// What is owed is looked at before it starts; nobody follows a job.
fn owes_and_waits(rig: &Rig) {
    let owed = json!({"owed": {"formedAt": rig.clock.now(), "occasions": [], "demands": [], "tries": 0}});
    rig.index.on_refresh(&Event::Apply(extract(0, &orders(), &owed)));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_when_questions_are_used_up_is_asked_when_there_are_again() {
    let limits = Limits { per_hour: None, running: 10, queries_per_day: 10 };
    let mut rig = rig_within(limits, &[orders()], publish_orders).await;
    let since = rig.clock.now();
    let old = ended(&rig);
    owes_and_waits(&rig);
    for _ in 0..9 {
        look(&rig, Hint::JobList(since)).await;
    }
    look(&rig, Hint::Jobs([old.clone()].into())).await;
    assert_eq!((lists(&rig).len(), asked_by_id(&rig)), (9, 1));
    look(&rig, Hint::JobList(since)).await;
    look(&rig, Hint::Ends(Looks { jobs: [old.clone()].into(), list: Some(since) })).await;
    tokio::time::sleep(DAY.saturating_sub(POLL * 2)).await;
    assert_eq!((lists(&rig).len(), asked_by_id(&rig)), (9, 1));
    assert_eq!(rows(&rig), [(old, JobStatus::Success)], "what is known stays");
    rig.woken();
    tokio::time::sleep(POLL * 4).await;
    assert_eq!((lists(&rig).len(), asked_by_id(&rig)), (10, 2), "each once");
    assert!(rig.woken() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_keeps_no_job_from_being_followed() {
    let rig = rig(&[orders()], publish_orders).await;
    let luid = rig.tableau.state().contents[0].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    for _ in 0..1000 {
        rig.tableau.fail("jobs", TableauError::Ambiguous);
    }
    rig.owes(Some(&job));
    // Another has an attempt without a job.
    let now = rig.clock.now();
    let attempt = json!({
        "id": "j", "phase": "Intended", "intendedAt": now, "fence": now, "siteLuid": "site-1",
        "kind": "Datasource", "luid": "content-2", "refreshType": "Full"
    });
    rig.index.on_refresh(&Event::Apply(extract(1, &orders(), &json!({"attempt": attempt}))));
    let status =
        |rig: &Rig| rig.session.snapshot().details.get(&job).and_then(|d| Some(d.job.as_ref()?.status));
    tokio::time::sleep(POLL * 4).await;
    assert_eq!(status(&rig), Some(JobStatus::Pending));
    rig.tableau.advance(&job, JobStatus::Success).unwrap();
    tokio::time::sleep(POLL * 4).await;
    assert_eq!(status(&rig), Some(JobStatus::Success));
    assert!(
        matches!(rig.session.snapshot().health, Health::Failed(TableauError::Ambiguous, _)),
        "the other waits for it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_look_that_nobody_waits_for_rests_when_it_fails_and_fails_nothing_else() {
    let rig = rig(&[orders()], publish_orders).await;
    let since = rig.clock.now();
    let old = ended(&rig);
    owes_and_waits(&rig);
    let ends = || Hint::Ends(Looks { list: Some(since), ..Looks::default() });
    rig.tableau.fail("jobs", TableauError::Ambiguous);
    for _ in 0..3 {
        look(&rig, ends()).await;
    }
    assert!(matches!(rig.session.snapshot().health, Health::Connected(_)));
    assert_eq!(lists(&rig).len(), 1, "it rests");
    tokio::time::sleep(JOBS_EVERY + POLL).await;
    assert_eq!(
        (lists(&rig).len(), rows(&rig)),
        (2, vec![(old, JobStatus::Success)]),
        "without being asked again"
    );
    rig.tableau.fail("jobs", TableauError::SignInRefused);
    look(&rig, ends()).await;
    assert!(matches!(rig.session.snapshot().health, Health::Failed(TableauError::SignInRefused, _)));
}

#[tokio::test(start_paused = true)]
async fn every_page_of_the_list_counts_as_a_question() {
    let limits = Limits { per_hour: None, running: 10, queries_per_day: 10 };
    let rig = rig_within(limits, &[orders()], publish_orders).await;
    let job = ended(&rig);
    {
        let mut state = rig.tableau.state();
        for n in 0..2499 {
            let mut copy = state.jobs[0].clone();
            copy.job.id = format!("{job}-{n}").as_str().into();
            state.jobs.push(copy);
        }
    }
    rig.owes(None);
    let since = rig.clock.now();
    for _ in 0..10 {
        look(&rig, Hint::JobList(since)).await;
    }
    assert_eq!(lists(&rig).len(), 4, "three pages each, ten questions a day");
    assert_eq!(rows(&rig).len(), 2500);
}

#[tokio::test(start_paused = true)]
async fn so_does_every_page_of_one_that_fails() {
    let limits = Limits { per_hour: None, running: 10, queries_per_day: 20 };
    let rig = rig_within(limits, &[orders()], publish_orders).await;
    owes_and_waits(&rig);
    rig.tableau.state().pages_before_failure = 4;
    for _ in 0..5 {
        rig.tableau.fail("jobs", TableauError::Ambiguous);
    }
    let since = rig.clock.now();
    look(&rig, Hint::JobList(since)).await;
    tokio::time::sleep(POLL * 20).await;
    assert_eq!(
        lists(&rig).len(),
        2,
        "five pages each: then half of the day's questions are used, and the rest is for those who are followed"
    );
}

/// A refresh of a content, by whomever, that runs.
fn runs(rig: &Rig, content: usize) -> JobId {
    let luid = rig.tableau.state().contents[content].luid.clone();
    let job = rig.tableau.start_elsewhere(&luid, RefreshType::Full).unwrap();
    rig.tableau.advance(&job, JobStatus::InProgress).unwrap();
    job
}

#[tokio::test(start_paused = true)]
async fn one_that_runs_for_days_stays_in_view_though_the_list_is_not_read_back_to_it() {
    let rig = rig(&[orders()], publish_orders).await;
    let (running, gone) = (runs(&rig, 0), runs(&rig, 1));
    rig.owes(None);
    for _ in 0..3 {
        tokio::time::sleep(DAY).await;
        // Another attempt: what it needs of the list is not so old.
        rig.owes(None);
        assert_eq!(
            rows(&rig),
            [(running.clone(), JobStatus::InProgress), (gone.clone(), JobStatus::InProgress)]
        );
    }
    tokio::time::sleep(DAY).await;
    rig.tableau.state().calls.clear();
    tokio::time::sleep(POLL * 4).await;
    let day_ago = rig.clock.now() - jiff::SignedDuration::from_hours(49);
    assert!(!lists(&rig).is_empty() && lists(&rig).iter().all(|from| *from > day_ago), "{:?}", lists(&rig));
    assert!(asked_by_id(&rig) <= 2, "each every five minutes, however often the list is read");
    tokio::time::sleep(JOBS_EVERY * 3).await;
    assert!((6..=8).contains(&asked_by_id(&rig)), "{}", asked_by_id(&rig));
    // It may not be read by its id: then by the list.
    rig.tableau.fail("job", TableauError::Forbidden("403004".into()));
    rig.tableau.advance(&running, JobStatus::Success).unwrap();
    rig.tableau.forget(&gone);
    tokio::time::sleep(JOBS_EVERY + POLL * 2).await;
    assert_eq!(rows(&rig), [(running.clone(), JobStatus::Success)]);
    rig.tableau.state().calls.clear();
    tokio::time::sleep(JOBS_EVERY * 2).await;
    assert_eq!(asked_by_id(&rig), 0, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn one_who_needs_little_of_the_list_does_not_take_it_from_one_who_needs_more() {
    let rig = rig(&[orders()], publish_orders).await;
    let since = rig.clock.now();
    let old = ended(&rig);
    tokio::time::sleep(DAY * 5).await;
    rig.owes(None);
    rig.tableau.state().calls.clear();
    // It looks now and then, the other at every poll.
    for _ in 0..150 {
        look(&rig, Hint::Ends(Looks { list: Some(since), ..Looks::default() })).await;
        tokio::time::sleep(JOBS_EVERY).await;
        assert_eq!(rows(&rig), [(old.clone(), JobStatus::Success)]);
    }
    let whole = lists(&rig).iter().filter(|from| **from <= since).count();
    assert!((2..=4).contains(&whole), "{whole}: in half a day");
}
