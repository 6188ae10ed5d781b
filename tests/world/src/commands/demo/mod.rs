//! `cargo world demo`.

mod tables;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use world::operator::{self, Operator, OperatorOptions};
use world::prefect::Rest;
use world::process::tail;
use world::progress::Progress;
use world::proxy::Proxy;
use world::tableau::Simulator;
use world::tools::Tools;
use world::{Kubectl, Options, World, audit, layout, overlay, resources};

use super::{Failure, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {}

/// What the examples say; the simulator and the steps below follow them.
mod example {
    pub const NAMESPACE: &str = "finance";
    pub const SITE: &str = "acme";
    pub const TOKEN: (&str, &str) = ("feedwater", "demo");
    pub const DATA_SOURCE: (&[&str], &str) = (&["Finance", "Sales"], "Orders");
    pub const WORKBOOK: (&[&str], &str) = (&["Finance", "Reports"], "Revenue");
    /// The deployments in Prefect, as flow and name.
    pub const ORDERS: (&str, &str) = ("orders", "nightly");
    pub const FX: (&str, &str) = ("fx", "hourly");
    /// The `FlowDeployment`s that declare them.
    pub const FLOW_DEPLOYMENTS: [&str; 2] = ["orders-nightly", "fx-hourly"];
    /// The `ExtractRefresh` that waits for orders, and the one that waits for both.
    pub const AFTER_ORDERS: &str = "orders";
    pub const AFTER_BOTH: &str = "revenue";
}

const LIMIT: Duration = Duration::from_secs(90);

pub async fn run(_arguments: Arguments) -> Result<ExitCode, Failure> {
    match Box::pin(until_interrupted(play(Progress::stderr()))).await {
        Some(outcome) => outcome.map(|()| ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

async fn play(progress: Progress) -> Result<(), Failure> {
    Tools::check()?;
    let task = progress.task("Building the operator");
    let binary = operator::build().await?;
    task.done();
    let parts = Options { prefect: true, worker: true, tableau: true, ..Options::default() };
    let world = World::start(Options { progress: progress.clone(), ..parts }).await?;
    let stage = Stage::build(&world).await?;

    let task = progress.task("Installing and starting the operator");
    operator::install(&stage.kubectl, &layout::manifests().join("base")).await?;
    let options = OperatorOptions::cluster_wide(&binary);
    let operator = Operator::start(&stage.kubectl, &world.info().directory, options).await?;
    task.done();

    let told = stage.tell(&world, &operator, &progress).await;
    if told.is_err() {
        say::line(&format!("The end of the operator's log:\n{}\n", tail(operator.log())));
    }
    let task = progress.task("Stopping everything");
    drop(operator);
    world.stop().await;
    task.done();
    told
}

/// The world with a counter in front of Prefect, and with content on the Tableau site.
struct Stage {
    kubectl: Kubectl,
    prefect: Rest,
    prefect_seen_by_operator: Proxy,
    tableau: Simulator,
}

impl Stage {
    async fn build(world: &World) -> Result<Self, Failure> {
        let api_url = world.info().prefect_api_url.as_deref().ok_or("this world has no Prefect")?;
        let tableau = world.tableau().ok_or("this world has no Tableau")?.clone();
        let site = tableau.add_site(example::SITE);
        tableau.add_pat(&site, example::TOKEN.0, example::TOKEN.1, "feedwater");
        tableau.add_datasource(&site, example::DATA_SOURCE.0, example::DATA_SOURCE.1, true);
        tableau.add_workbook(&site, example::WORKBOOK.0, example::WORKBOOK.1, true);
        Ok(Self {
            kubectl: world.info().kubectl(),
            prefect: Rest::new(api_url)?,
            prefect_seen_by_operator: Proxy::start(api_url).await?,
            tableau,
        })
    }

    /// The main job, and what it looks like.
    async fn tell(&self, world: &World, operator: &Operator, progress: &Progress) -> Result<(), Failure> {
        let task = progress.task("`kubectl apply -k examples`: Feedwater deploys two flows to Prefect");
        self.apply_examples(world).await?;
        task.done();
        let task = progress.task("Flow `orders` is started in Prefect, and the worker runs it");
        self.run(example::ORDERS).await?;
        task.done();
        let task =
            progress.task("Feedwater refreshes the data source `Orders`, and follows the job to its end");
        self.until("extractrefresh", example::AFTER_ORDERS, "Fresh", "UpToDate").await?;
        task.done();
        let task = progress.task("The workbook `Revenue` needs flow `fx`, too, and waits");
        self.until("extractrefresh", example::AFTER_BOTH, "Refreshing", "WaitingForUpstreams").await?;
        task.done();
        let task = progress.task("Flow `fx` runs, and Feedwater refreshes `Revenue`");
        self.run(example::FX).await?;
        self.until("extractrefresh", example::AFTER_BOTH, "Fresh", "UpToDate").await?;
        task.done();
        self.show(world, operator).await
    }

    /// Applies `examples/` as they are, except for the two URLs, and waits until the flows are deployed in Prefect.
    async fn apply_examples(&self, world: &World) -> Result<(), Failure> {
        let directory = world.info().directory.join("demo");
        overlay::write(&directory, self.prefect_seen_by_operator.url(), &self.tableau.url())?;
        self.kubectl.run(&["apply", "--server-side", "-k", &directory.to_string_lossy()]).await?;
        for name in example::FLOW_DEPLOYMENTS {
            self.until("flowdeployment", name, "Ready", "InSync").await?;
        }
        Ok(())
    }

    /// Starts a run as a person would, in Prefect, and waits until the worker has run it.
    async fn run(&self, (flow, name): (&str, &str)) -> Result<(), Failure> {
        let deployment = self.prefect.deployment(flow, name).await?;
        let deployment = deployment.ok_or_else(|| format!("Prefect has no deployment {flow}/{name}"))?;
        let run = self.prefect.run(deployment["id"].as_str().unwrap_or_default()).await?;
        self.prefect.until(&run, "COMPLETED", LIMIT).await?;
        Ok(())
    }

    async fn until(&self, kind: &str, name: &str, condition: &str, reason: &str) -> Result<(), Failure> {
        let what = format!("{condition}/{reason} of {kind}/{name}");
        let object = [kind, name, "--namespace", example::NAMESPACE];
        let holds =
            |object: &Value| resources::condition(object, condition).is_some_and(|(_, now)| now == reason);
        self.kubectl.until(&what, &object, LIMIT, holds).await?;
        Ok(())
    }

    /// What a person sees, and what each system was asked for it.
    async fn show(&self, world: &World, operator: &Operator) -> Result<(), Failure> {
        for command in [
            vec!["get", "flowdeployments,extractrefreshes", "--namespace", example::NAMESPACE],
            vec!["describe", "extractrefresh", example::AFTER_ORDERS, "--namespace", example::NAMESPACE],
        ] {
            say::line(&format!("\n$ kubectl {}", command.join(" ")));
            say::line(&self.kubectl.run(&command).await?);
        }
        let audited = audit::read(&world.info().audit_log)?;
        say::line("What Feedwater asked of each system\n");
        say::line(&tables::kubernetes(&audited, &operator.user()));
        say::line(&tables::prefect(&self.prefect_seen_by_operator.requests()));
        say::line(&tables::tableau(&self.tableau.truth()));
        Ok(())
    }
}
