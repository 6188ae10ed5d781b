//! From "flow completed" in Prefect to the refresh request at Tableau.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use world::operator::{self, NAMESPACE, OperatorOptions};
use world::prefect::Rest;
use world::progress::Progress;
use world::resources::{self, is_true};
use world::tableau::Simulator;
use world::tools::Tools;
use world::{Kubectl, Options, World};

use crate::commands::{Failure, say};

const LIMIT: Duration = Duration::from_secs(60);

pub async fn latency(runs: usize, progress: Progress) -> Result<(), Failure> {
    Tools::check()?;
    let task = progress.task("Building the operator");
    let operator = Some(OperatorOptions::cluster_wide(&operator::build().await?));
    task.done();
    let options =
        Options { prefect: true, tableau: true, operator, progress: progress.clone(), ..Options::default() };
    let world = World::start(options).await?;
    let subject = Subject::install(&world).await?;
    let task = progress.task("Measuring");
    let mut measured = Vec::new();
    for n in 1..=runs {
        measured.push(subject.measure().await?);
        task.note(&format!("{n} of {runs}"));
    }
    task.done();
    world.stop().await;
    measured.sort();
    say::line(&format!(
        "flow completed → refresh requested, {runs} completions: p50 {} ms, p99 {} ms, slowest {} ms",
        percentile(&measured, 50).as_millis(),
        percentile(&measured, 99).as_millis(),
        percentile(&measured, 100).as_millis(),
    ));
    Ok(())
}

/// One flow that feeds one extract.
struct Subject {
    kubectl: Kubectl,
    prefect: Rest,
    deployment: String,
    tableau: Simulator,
    data_source: String,
}

impl Subject {
    async fn install(world: &World) -> Result<Self, Failure> {
        let api_url = world.info().prefect_api_url.as_deref().ok_or("this world has no Prefect")?;
        let tableau = world.tableau().ok_or("this world has no Tableau")?.clone();
        let site = tableau.add_site("bench");
        tableau.add_pat(&site, "feedwater", "bench", "feedwater");
        let data_source = tableau.add_datasource(&site, &["Bench"], "Orders", true);
        let kubectl = world.info().kubectl();
        let mut connection = resources::tableau_site("bench", "tableau", &tableau.url(), "bench", "pat");
        // So that the end of a job is soon seen, and the next completion finds nothing under way. The workspace keeps its
        // default, as what is measured is how soon Prefect's event is heard.
        connection["spec"]["pollInterval"] = "1s".into();
        let objects = resources::list(&[
            resources::namespace("bench"),
            resources::personal_access_token("bench", "pat", "feedwater", "bench"),
            resources::secret_reader("bench", &["pat"], NAMESPACE),
            resources::prefect_workspace("bench", "prefect", api_url),
            connection,
            resources::flow_deployment("bench", "orders", "prefect", "orders"),
            resources::extract_refresh("bench", "orders", "tableau", ("Bench", "Orders"), &["orders"]),
        ]);
        kubectl.apply(&objects.to_string()).await?;
        for kind in ["flowdeployment", "extractrefresh"] {
            let object = [kind, "orders", "--namespace", "bench"];
            kubectl.until("Ready", &object, LIMIT, |object| is_true(object, "Ready")).await?;
        }
        let prefect = Rest::new(api_url)?;
        let deployment = prefect.deployment("orders", "orders").await?.ok_or("the flow is not deployed")?;
        let deployment = deployment["id"].as_str().unwrap_or_default().to_owned();
        Ok(Self { kubectl, prefect, deployment, tableau, data_source })
    }

    /// Completes one run, and takes the time from the state's own timestamp to the creation of the job.
    async fn measure(&self) -> Result<Duration, Failure> {
        let before = self.tableau.truth().refreshes_of(&self.data_source).len();
        let run = self.prefect.complete(&self.deployment).await?;
        let run = self.prefect.until(&run, "COMPLETED", LIMIT).await?;
        let completed: Timestamp = run["state"]["timestamp"].as_str().unwrap_or_default().parse()?;
        // Until the operator, too, knows of the job's end.
        let handled = |object: &Value| {
            let upstream = &object["status"]["upstreams"][0];
            upstream["runId"] == run["id"]
                && resources::condition(object, "Refreshing").is_some_and(|(_, reason)| reason == "UpToDate")
        };
        let extract = ["extractrefresh", "orders", "--namespace", "bench"];
        self.kubectl.until("the refresh", &extract, LIMIT, handled).await?;
        let truth = self.tableau.truth();
        let refresh = *truth.refreshes_of(&self.data_source).get(before).ok_or("nothing was refreshed")?;
        Ok(refresh.created.duration_since(completed).try_into()?)
    }
}

/// The smallest value that at least `percent` of all values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
