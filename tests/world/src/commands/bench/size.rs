//! How much memory an operator takes that serves many resources.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use world::operator::{self, NAMESPACE, OperatorOptions};
use world::progress::Progress;
use world::resources::{self, is_true};
use world::tools::Tools;
use world::{Options, World};

use crate::commands::{Failure, say};

const LIMIT: Duration = Duration::from_secs(60);

/// What the kernel says of a process, in MiB.
struct Memory {
    now: u64,
    highest: u64,
}

impl Memory {
    fn of(pid: i32) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
        let read = |name: &str| -> Result<u64, Failure> {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).ok_or("the kernel does not say")?;
            let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kib / 1024)
        };
        Ok(Self { now: read("VmRSS:")?, highest: read("VmHWM:")? })
    }
}

pub async fn size(extracts: usize, progress: Progress) -> Result<(), Failure> {
    Tools::check()?;
    let task = progress.task("Building the operator");
    let operator = Some(OperatorOptions::cluster_wide(&operator::build().await?));
    task.done();
    let options =
        Options { prefect: true, tableau: true, operator, progress: progress.clone(), ..Options::default() };
    let mut world = World::start(options).await?;
    let pid = world.operator().ok_or("this world has no operator")?.pid().load(Ordering::Relaxed);
    let api_url = world.info().prefect_api_url.clone().ok_or("this world has no Prefect")?;
    let tableau = world.tableau().ok_or("this world has no Tableau")?.clone();
    let kubectl = world.info().kubectl();

    let site = tableau.add_site("bench");
    tableau.add_pat(&site, "feedwater", "bench", "feedwater");
    let connections = resources::list(&[
        resources::namespace("bench"),
        resources::personal_access_token("bench", "pat", "feedwater", "bench"),
        resources::secret_reader("bench", &["pat"], NAMESPACE),
        resources::prefect_workspace("bench", "prefect", &api_url),
        resources::tableau_site("bench", "tableau", &tableau.url(), "bench", "pat"),
    ]);
    kubectl.apply(&connections.to_string()).await?;
    for kind in ["prefectworkspace/prefect", "tableausite/tableau"] {
        let object = [kind, "--namespace", "bench"];
        kubectl.until("Ready", &object, LIMIT, |object| is_true(object, "Ready")).await?;
    }
    let empty = Memory::of(pid)?;

    let task = progress.task(&format!("{extracts} flows and extracts"));
    let mut objects = Vec::new();
    for n in 0..extracts {
        let name = format!("orders-of-region-{n:04}");
        tableau.add_datasource(&site, &["Bench"], &name, true);
        objects.push(resources::flow_deployment("bench", &name, "prefect", &name));
        objects.push(resources::extract_refresh("bench", &name, "tableau", ("Bench", &name), &[&name]));
    }
    kubectl.apply(&resources::list(&objects).to_string()).await?;
    let ready = |list: &Value| {
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.len() == extracts && items.iter().all(|object| is_true(object, "Ready"))
    };
    let limit = LIMIT + Duration::from_secs(2) * u32::try_from(extracts)?;
    for kind in ["flowdeployments", "extractrefreshes"] {
        kubectl.until("all are Ready", &[kind, "--namespace", "bench"], limit, ready).await?;
    }
    task.done();
    let full = Memory::of(pid)?;
    world.stop().await;
    say::line(&format!(
        "no resources: {} MiB; {extracts} FlowDeployments and {extracts} ExtractRefreshes: {} MiB, at most {} MiB on the way",
        empty.now, full.now, full.highest,
    ));
    Ok(())
}
