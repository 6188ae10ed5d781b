//! Somebody may write a status, which no role that is shipped lets him: what it says through a connection of the cluster is worth no more for that
//! than what the namespace is allowed there.

use crate::turning::{Attack, to_the_cluster};
use crate::world::{NAMESPACE, POLL, World};
use feedwater::api::{FINALIZER, RefreshType, TargetKind};
use feedwater::tableau::{JobStatus, NewTask, TaskSchedule};
use serde_json::{Value, json};
use tokio::time::sleep;
use world::resources::condition;

/// An extract on the site of the cluster, and a task of others there.
async fn planted(schedules: Value) -> (Attack, String) {
    let attack = Attack::new();
    let mut refresh = World::refresh("orders", &[]);
    refresh["spec"]["siteRef"] = to_the_cluster()["siteRef"].clone();
    refresh["spec"]["schedules"] = schedules;
    refresh["metadata"]["finalizers"] = json!([FINALIZER]);
    attack.world.server.put("extractrefreshes", refresh).unwrap();
    attack.world.settle().await;
    assert_eq!(condition(&attack.world.exr("orders"), "Ready"), Some(("True", "InSync")));
    let salaries = NewTask {
        kind: TargetKind::Datasource,
        luid: attack.salaries.clone(),
        refresh_type: RefreshType::Full,
    };
    let task = attack.world.tableau.state().add_task(&salaries, TaskSchedule::Own(None));
    sleep(POLL * 2).await;
    (attack, task.to_string())
}

fn say(attack: &Attack, status: &Value) {
    let status = json!({ "status": status });
    attack.world.server.merge("extractrefreshes", NAMESPACE, "orders", &status).unwrap();
}

fn changed(attack: &Attack, id: &str) -> Vec<String> {
    attack.named(id).into_iter().filter(|call| call.contains("delete") || call.contains("update")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_status_names_is_touched_only_if_its_content_is_allowed() {
    let nightly = json!([{"name": "nightly", "frequency": "Daily", "start": "02:00"}]);
    for deleted in [true, false] {
        let (attack, id) = planted(nightly.clone()).await;
        let own = attack.world.exr("orders")["status"]["schedules"][0].clone();
        let mut theirs = own.clone();
        (theirs["name"], theirs["taskId"]) = (json!("theirs"), json!(id));
        say(&attack, &json!({"schedules": [own, theirs]}));
        if deleted {
            attack.world.server.remove("extractrefreshes", NAMESPACE, "orders").unwrap();
        } else {
            attack.merge("extractrefreshes", &json!({"schedules": []}));
        }
        sleep(POLL * 6).await;
        assert_eq!(changed(&attack, &id), Vec::<String>::new(), "{deleted}");
        let left =
            attack.world.tableau.state().tasks.iter().map(|task| task.id.to_string()).collect::<Vec<_>>();
        assert_eq!(left, [id], "what is ours goes");
        if deleted {
            assert!(attack.world.server.object("extractrefreshes", NAMESPACE, "orders").is_none());
        } else {
            let told = attack.world.exr("orders");
            assert_eq!(condition(&told, "Ready"), Some(("False", "AccessDenied")), "{told:#}");
        }
    }
}

/// A job that runs may not name its content: it is taken for one of the target if the list of jobs calls it so.
#[tokio::test(start_paused = true)]
async fn a_job_that_a_status_names_is_cancelled_only_if_its_content_is_allowed() {
    for (ours, named) in [(false, true), (false, false), (true, true), (true, false)] {
        let what = format!("ours: {ours}, named: {named}");
        let (attack, _) = planted(json!([])).await;
        attack.world.engine.lock().unwrap().stopped = true;
        let target = attack.world.exr("orders")["status"]["target"].clone();
        let of = if ours { target["luid"].as_str().unwrap().into() } else { attack.salaries.clone() };
        let job = attack.world.tableau.start_elsewhere(&of, RefreshType::Full).unwrap();
        attack.world.tableau.advance(&job, JobStatus::InProgress).unwrap();
        if !named {
            attack.world.tableau.state().jobs[0].job.content = None;
        }
        let attempt = json!({
            "id": "1", "phase": "Submitted", "jobId": job.as_str(), "intendedAt": attack.world.now(),
            "fence": attack.world.now(), "site": "cluster:acme", "siteLuid": target["siteLuid"], "kind": "Datasource",
            "luid": target["luid"], "refreshType": "Full", "origin": "Ours",
        });
        say(&attack, &json!({ "attempt": attempt }));
        attack.merge("extractrefreshes", &json!({"timeout": "5m"}));
        sleep(POLL * 30).await;
        let calls = attack.named(job.as_str());
        assert!(calls.iter().any(|call| call.starts_with("job ")), "it is followed, {what}: {calls:?}");
        assert_eq!(calls.iter().any(|call| call.starts_with("cancel")), ours, "{what}: {calls:?}");
    }
}
