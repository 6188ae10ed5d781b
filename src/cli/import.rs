//! `feedwater import prefect`: what a server has, as resources for Git. It reads only.

use super::check;
use super::reach::{ReachArgs, ReachError, client};
use crate::model::deployments::Found;
use crate::model::flow::{ImportInto, Imported, import, is_marked};
use crate::prefect::{Filter, PrefectError};
use crate::settings::{dns_label, object_name};
use crate::yaml::{self, YamlError};
use std::io::Write;

/// What to read, and what to make of it.
#[derive(clap::Args, Clone, Debug)]
pub struct ImportArgs {
    #[command(flatten)]
    reach: ReachArgs,
    /// Name of the `PrefectWorkspace` the resources are to refer to
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    workspace: String,
    /// Namespace of the resources. Unset: they name none, and go where they are applied
    #[arg(long, value_name = "NAMESPACE", value_parser = dns_label)]
    namespace: Option<String>,
    /// Only deployments with this tag; several: with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only deployments of this flow; several: of any of them
    #[arg(long = "flow", value_name = "NAME")]
    flows: Vec<String>,
    /// Only deployments of this name; several: of any of them
    #[arg(long = "deployment", value_name = "NAME")]
    names: Vec<String>,
    /// Only deployments in this work pool; several: in any of them
    #[arg(long = "work-pool", value_name = "NAME")]
    work_pools: Vec<String>,
    /// Also those that a Feedwater keeps already
    #[arg(long)]
    marked: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nothing could be asked.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// There is something else at this address.
    #[error(
        "PREFECT_API_URL ({url}) is no Prefect API: of a server it ends with /api, of the Cloud with the workspace's id"
    )]
    NoPrefect {
        /// Without credentials.
        url: String,
    },
    /// Prefect does not answer as it should, or not at all.
    #[error("{url}: {error}")]
    Prefect {
        /// Without credentials.
        url: String,
        /// What it answers.
        error: PrefectError,
    },
    /// No deployment is what was asked for. An empty file would be taken for an answer.
    #[error("no deployment in Prefect has these --tag, --flow, --deployment and --work-pool")]
    Nothing,
    /// The text cannot be written.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// Output failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes the resources to `out`, and to `told` what they do not say.
///
/// # Errors
/// The server cannot be read, or the output not be written.
pub async fn run(
    args: &ImportArgs,
    environment: impl Fn(&str) -> Option<String>,
    out: &mut impl Write,
    told: &mut impl Write,
) -> Result<(), ImportError> {
    let filter = Filter {
        tags: args.tags.clone(),
        flows: args.flows.clone(),
        names: args.names.clone(),
        work_pools: args.work_pools.clone(),
    };
    let client = client(&args.reach, environment)?;
    // Also what is not imported has names, or gives some at another time.
    let server = client.find(&Filter::default()).await.map_err(|error| at(args, error))?;
    let mut found = if filter == Filter::default() {
        server.clone()
    } else {
        client.find(&filter).await.map_err(|error| at(args, error))?
    };
    let all = found.len();
    if all == 0 && filter != Filter::default() {
        return Err(ImportError::Nothing);
    }
    if !args.marked {
        found.retain(|one| !is_marked(&one.deployment));
    }
    let kept = all - found.len();
    let into = ImportInto { namespace: args.namespace.clone(), workspace: args.workspace.clone() };
    let imported = render(&found, &server, &into, out, told)?;
    writeln!(
        told,
        "feedwater: {all} deployments: {imported} imported, {} not, {kept} passed over that a Feedwater keeps already",
        all - kept - imported
    )?;
    Ok(())
}

/// What went wrong, and where: a wrong address is the first mistake that is made.
fn at(args: &ImportArgs, error: PrefectError) -> ImportError {
    let url = args.reach.api_url.to_string();
    match error {
        PrefectError::NotFound | PrefectError::WrongServer => ImportError::NoPrefect { url },
        error => ImportError::Prefect { url, error },
    }
}

/// How many became resources.
fn render(
    found: &[Found],
    server: &[Found],
    into: &ImportInto,
    out: &mut impl Write,
    told: &mut impl Write,
) -> Result<usize, ImportError> {
    writeln!(
        out,
        "# Written by `feedwater import prefect`. Applied, each takes over the deployment that is there, and changes nothing but its mark."
    )?;
    let mut count = 0;
    for one in import(found, server, into) {
        let Imported { deployment, resource, mut notes } = one;
        let deployment = line(&deployment);
        let text = resource.as_ref().map(yaml::document);
        let faults =
            text.as_deref().map(check::check).transpose()?.map(|report| report.faults).unwrap_or_default();
        let text = text.filter(|_| faults.is_empty());
        // What the API server would refuse is no resource.
        notes.extend(faults);
        for note in &notes {
            writeln!(told, "feedwater: {deployment}: {}", line(note))?;
        }
        writeln!(out, "---")?;
        let (head, rest) = match (&text, notes.as_slice()) {
            (None, notes) => (Some(format!("Not imported: {deployment}")), notes),
            (Some(_), notes) => (None, notes),
        };
        for text in head.iter().chain(rest) {
            writeln!(out, "# {}", line(text))?;
        }
        if let Some(text) = text {
            write!(out, "{text}")?;
            count += 1;
        }
    }
    Ok(count)
}

/// Names are Prefect's users': none of them may end a comment.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::deployments::{Deployment, Fields};
    use crate::model::ids::{DeploymentId, DeploymentName};
    use serde_json::{Value, json};

    fn found(name: &str, fields: &Value) -> Found {
        let deployment = Deployment {
            id: DeploymentId::new(name),
            name: DeploymentName { flow: "orders".into(), deployment: name.into() },
            tags: vec![],
            paused: false,
            fields: Fields::from(fields.as_object().unwrap().clone()),
            schedules: vec![],
            shares_limit: false,
            touched: crate::model::deployments::Touched::default(),
        };
        Found { deployment, beyond: vec!["storage_document_id"] }
    }

    #[test]
    fn what_is_not_imported_stands_as_a_comment_and_is_told() {
        let good = json!({"entrypoint": "f.py:f", "work_pool_name": "etl", "description": "a\n---\nb"});
        let long = json!({"entrypoint": "f.py:f", "work_pool_name": "etl", "description": "x".repeat(9000)});
        let all = [found("a", &good), found("b\nkind: Secret", &json!({})), found("c", &long)];
        let (mut out, mut told) = (Vec::new(), Vec::new());
        let into = ImportInto { namespace: None, workspace: "prod".into() };
        assert_eq!(render(&all, &all, &into, &mut out, &mut told).unwrap(), 1);
        let (out, told) = (String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap());
        let documents = yaml::documents(&out).unwrap();
        assert_eq!(documents.len(), 1, "{out}");
        assert_eq!(documents[0]["spec"]["description"], "a\n---\nb");
        assert!(check::check(&out).unwrap().faults.is_empty());
        for note in [
            "orders/b kind: Secret: it has no work pool",
            "orders/c: FlowDeployment orders-c: spec.description",
            "orders/a: Prefect's storage_document_id",
        ] {
            assert!(told.contains(note), "{note}: {told}");
        }
        assert!(out.contains("# Not imported: orders/b kind: Secret\n"), "{out}");
    }
}
