//! Credentials are replaced, and the old ones refused, while flows keep completing: nothing fails, nothing is lost, nothing is done twice.

use crate::sign_in::{Scene, USER, app, by_app, idp_client};
use crate::stage::{LIMIT, SITE, Stage, is};
use crate::triggers_help::status;
use feedwater::api::{ExtractRefresh, Outcome};
use futures::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use world::resources;
use world::tableau::Truth;

/// Extracts, each after a flow of its own: together they start about a refresh a second and more.
const EXTRACTS: usize = 4;
/// How often a credential is replaced.
const ROUNDS: usize = 3;
/// Refreshes that are started under each of them before it is replaced.
const EACH: usize = 6;
const PATIENCE: Duration = Duration::from_secs(120);

/// What keeps completing, until it is told to stop.
struct Load<'a> {
    stage: &'a Stage,
    /// Extract, LUID of its data source, id of its deployment.
    extracts: Vec<(String, String, String)>,
    stop: AtomicBool,
    completed: AtomicUsize,
}

impl<'a> Load<'a> {
    async fn on(stage: &'a Stage) -> Self {
        let mut extracts = Vec::new();
        for n in 0..EXTRACTS {
            let name = format!("load-{n}");
            let (luid, flow) = (stage.datasource(&name), stage.flow(&name).await);
            stage.declare(&name, &name, &[&name]).await;
            extracts.push((name, luid, flow));
        }
        Self { stage, extracts, stop: AtomicBool::new(false), completed: AtomicUsize::new(0) }
    }

    /// Replaces a credential round after round under the load; then all that completed has been refreshed once.
    async fn bear(self, rotate: impl AsyncFn(usize)) {
        let pid = self.stage.operator.pid().load(Ordering::SeqCst);
        let rounds = async {
            for round in 0..ROUNDS {
                self.go_on().await;
                rotate(round).await;
            }
            self.go_on().await;
            self.stop.store(true, Ordering::SeqCst);
        };
        let flows = join_all(self.extracts.iter().map(|(name, _, flow)| self.run(name, flow)));
        let (counts, ()) = tokio::join!(flows, rounds);

        let truth = self.stage.tableau.truth();
        for ((name, luid, _), completions) in self.extracts.iter().zip(counts) {
            let jobs = truth.refreshes_of(luid);
            assert_eq!(
                jobs.len(),
                completions,
                "{name}: a refresh for each completion\n{}",
                self.stage.log_tail()
            );
            let extract = self.stage.fresh(name).await;
            let failed: Vec<_> =
                status(&extract).history.iter().filter(|entry| entry.outcome != Outcome::Succeeded).collect();
            assert!(failed.is_empty(), "{failed:#?}");
        }
        assert_eq!(self.stage.operator.pid().load(Ordering::SeqCst), pid, "nothing was restarted");
    }

    /// One completion after another, each as soon as the one before was refreshed; how many there were.
    async fn run(&self, name: &str, flow: &str) -> usize {
        let mut count = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let run = self.stage.prefect.complete(flow).await.unwrap();
            count += 1;
            let refreshed = |e: &ExtractRefresh| {
                let status = status(e);
                let newest = status.history.first().is_some_and(|entry| entry.runs.contains(&run));
                newest && status.owed.is_none() && status.attempt.is_none()
            };
            self.stage
                .until_within::<ExtractRefresh>(PATIENCE, name, "its run is refreshed", refreshed)
                .await;
            self.completed.fetch_add(1, Ordering::SeqCst);
        }
        count
    }

    /// Until so many more were refreshed.
    async fn go_on(&self) {
        let (before, started) = (self.completed.load(Ordering::SeqCst), tokio::time::Instant::now());
        while self.completed.load(Ordering::SeqCst) < before + EACH {
            assert!(started.elapsed() < PATIENCE, "it stands still\n{}", self.stage.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn count(truth: &Truth, operation: &str, good: bool) -> usize {
    let wanted = |r: &&world::tableau::Request| r.operation == operation && (r.status < 400) == good;
    truth.requests.iter().filter(wanted).count()
}

/// Writes the new credential, and returns when it has signed in.
async fn replaced(stage: &Stage, secret: serde_json::Value) {
    let before = count(&stage.tableau.truth(), "signIn", true);
    stage.apply(&[secret]).await;
    let signed_in = |truth: &Truth| count(truth, "signIn", true) > before;
    assert!(stage.tableau.wait_for(LIMIT, signed_in).await.is_ok(), "the new one is not used");
}

/// The old token is revoked when the new one has signed in; every other time before it is even written, as where there is room for one only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_personal_access_token_rotates_under_load() {
    let stage = Stage::set("rotate-pat").await;
    stage.connected().await;
    let load = Load::on(&stage).await;
    let name = |round: usize| format!("token-{round}");
    let refused = || count(&stage.tableau.truth(), "signIn", false);
    load.bear(async |round| {
        let (old, new) = (if round == 0 { "feedwater".into() } else { name(round - 1) }, name(round));
        stage.tableau.add_pat(SITE, &new, "another-secret", "feedwater");
        let secret =
            resources::personal_access_token(&stage.namespace, "tableau-pat", &new, "another-secret");
        if round % 2 == 0 {
            let before = refused();
            replaced(&stage, secret).await;
            stage.tableau.revoke_pat(SITE, &old);
            assert_eq!(refused(), before, "the old one is not used any more");
        } else {
            stage.tableau.revoke_pat(SITE, &old);
            replaced(&stage, secret).await;
        }
    })
    .await;
    // Each session that was left was signed out, where it was not ended before.
    let out = |truth: &Truth| count(truth, "signOut", true) + count(truth, "signOut", false) >= ROUNDS / 2;
    assert!(stage.tableau.wait_for(LIMIT, out).await.is_ok(), "sessions are left behind");
}

/// The hardest case of each: what the old secret has signed in ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_a_connected_app_rotates_under_load() {
    let scene = Scene::set("rotate-app").await;
    let stage = &scene.stage;
    scene.sign_in(&by_app()).await;
    scene.connected().await;
    let load = Load::on(stage).await;
    load.bear(async |round| {
        let (old, new) = (format!("secret-{}", round + 1), format!("secret-{}", round + 2));
        stage.tableau.add_connected_app(SITE, "app-1", &new, "another-value");
        replaced(stage, app(&stage.namespace, &new, "another-value")).await;
        stage.tableau.remove_app_secret(SITE, "app-1", &old);
        stage.tableau.end_sessions(SITE);
    })
    .await;
    assert_eq!(count(&stage.tableau.truth(), "signIn", false), 0, "the old secret was not used any more");
}

/// The provider knows one secret at a time: the old one is refused before the new one is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_secret_of_an_identity_provider_rotates_under_load() {
    let scene = Scene::set("rotate-idp").await;
    let stage = &scene.stage;
    scene.provider(json!({})).await;
    scene.sign_in(&scene.by_client()).await;
    scene.connected().await;
    let load = Load::on(stage).await;
    load.bear(async |round| {
        let secret = format!("another-{round}/+ x");
        let clients = json!([{"id": "feedwater", "secret": secret}]);
        // Every other time with another key: Tableau looks for it.
        scene.provider(json!({"clients": clients, "claims": {"sub": USER}, "newKey": round % 2 == 1})).await;
        replaced(stage, idp_client(&stage.namespace, &secret)).await;
        stage.tableau.end_sessions(SITE);
    })
    .await;
    let site =
        stage.until("acme", "Ready", |s: &feedwater::api::TableauSite| is(s, "Ready", "True", "Connected"));
    assert!(site.await.status.unwrap().signed_in_with.is_some());
}
