//! `cargo world demo`.

mod tables;

use std::process::ExitCode;
use std::time::Duration;

use world::operator::{self, Operator, OperatorOptions};
use world::prefect::Rest;
use world::progress::Progress;
use world::proxy::Proxy;
use world::resources::is_true;
use world::tableau::Simulator;
use world::tools::Tools;
use world::{Kubectl, Options, World, audit, layout, overlay};

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
    pub const FLOW: &str = "orders";
    pub const FLOW_DEPLOYMENT: &str = "orders-nightly";
    pub const EXTRACT_REFRESH: &str = "orders";
}

const LIMIT: Duration = Duration::from_secs(90);

pub async fn run(_arguments: Arguments) -> Result<ExitCode, Failure> {
    match until_interrupted(play(Progress::stderr())).await {
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

    stage.apply_examples(&world, &progress).await?;
    stage.flow_runs(&progress).await?;
    stage.extract_is_fresh(&progress).await?;
    stage.show(&world, &operator).await?;
    let task = progress.task("Stopping everything");
    drop(operator);
    world.stop().await;
    task.done();
    Ok(())
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

    /// Applies `examples/` as they are, except for the two URLs, and waits until the flow is deployed in Prefect.
    async fn apply_examples(&self, world: &World, progress: &Progress) -> Result<(), Failure> {
        let task = progress.task("Applying the examples; Feedwater deploys the flow to Prefect");
        let directory = world.info().directory.join("demo");
        overlay::write(&directory, self.prefect_seen_by_operator.url(), &self.tableau.url())?;
        self.kubectl.run(&["apply", "--server-side", "-k", &directory.to_string_lossy()]).await?;
        self.until("flowdeployment", example::FLOW_DEPLOYMENT, "Ready").await?;
        task.done();
        Ok(())
    }

    /// Starts a run as a person would, in Prefect; the real worker runs it.
    async fn flow_runs(&self, progress: &Progress) -> Result<(), Failure> {
        let task = progress.task("A person starts the flow in Prefect; the worker runs it");
        let deployment = self.prefect.deployment(example::FLOW, example::FLOW_DEPLOYMENT).await?;
        let deployment = deployment.ok_or("Prefect has no such deployment")?;
        let run = self.prefect.run(deployment["id"].as_str().unwrap_or_default()).await?;
        self.prefect.until(&run, "COMPLETED", LIMIT).await?;
        task.done();
        Ok(())
    }

    async fn extract_is_fresh(&self, progress: &Progress) -> Result<(), Failure> {
        let task = progress.task("Feedwater refreshes the extract in Tableau");
        self.until("extractrefresh", example::EXTRACT_REFRESH, "Fresh").await?;
        task.done();
        Ok(())
    }

    async fn until(&self, kind: &str, name: &str, condition: &str) -> Result<(), Failure> {
        let what = format!("{condition} of {kind}/{name}");
        let object = [kind, name, "--namespace", example::NAMESPACE];
        self.kubectl.until(&what, &object, LIMIT, |object| is_true(object, condition)).await?;
        Ok(())
    }

    /// What a person sees, and what each system was asked for it.
    async fn show(&self, world: &World, operator: &Operator) -> Result<(), Failure> {
        for command in [
            vec!["get", "flowdeployments,extractrefreshes", "--namespace", example::NAMESPACE],
            vec!["describe", "extractrefresh", example::EXTRACT_REFRESH, "--namespace", example::NAMESPACE],
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
