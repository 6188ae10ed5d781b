//! The table of accepted and refused objects (`tests/crds/cel.yaml`) against a real API server.

#[path = "../crds/table.rs"]
mod table;

use futures::{StreamExt, stream};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use table::Case;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where the objects that updates start from are kept for a moment.
const NAMESPACE: &str = "cel-tables";

/// The names of a schema's fields, with those below.
pub fn fields<'a>(schema: &'a Value, names: &mut Vec<&'a str>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        names.push(name);
        fields(field, names);
    }
    if schema["items"].is_object() {
        fields(&schema["items"], names);
    }
}

/// Writes every object of the table with `--dry-run=server` and compares the verdicts. The CRDs must be established.
pub async fn cel_tables(kubectl: &Path, kubeconfig: &Path) {
    let api = Kubectl { kubectl, kubeconfig };
    api.run(&["create", "namespace", NAMESPACE], None).await.unwrap();
    let cases = table::cases();
    assert!(cases.len() > 50, "the table was not read whole");
    let wrong: Vec<String> = stream::iter(&cases)
        .map(|case| verdict(&api, case))
        .buffer_unordered(4)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    api.run(&["delete", "namespace", NAMESPACE, "--wait=false"], None).await.unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `None`: as the table says.
async fn verdict(api: &Kubectl<'_>, case: &Case) -> Option<String> {
    let dry_run =
        |verb| [verb, "-f", "-", "-n", NAMESPACE, "--dry-run=server", "--validate=strict", "-o", "name"];
    let answer = match &case.before {
        None => api.run(&dry_run("create"), Some(&case.object)).await,
        Some(before) => {
            if let Err(error) = api.run(&["create", "-f", "-", "-n", NAMESPACE], Some(before)).await {
                return Some(format!("{}: what was before is refused: {error}", case.title));
            }
            api.run(&dry_run("replace"), Some(&case.object)).await
        }
    };
    match (answer, &case.refused) {
        (Ok(()), None) => None,
        (Err(error), Some(refused)) if error.contains(refused) => None,
        (Ok(()), Some(refused)) => Some(format!("{}: accepted, not refused with: {refused}", case.title)),
        (Err(error), _) => Some(format!("{}: refused with: {error}", case.title)),
    }
}

struct Kubectl<'a> {
    kubectl: &'a Path,
    kubeconfig: &'a Path,
}

impl Kubectl<'_> {
    async fn run(&self, args: &[&str], input: Option<&Value>) -> Result<(), String> {
        let mut child = Command::new(self.kubectl)
            .arg("--kubeconfig")
            .arg(self.kubeconfig)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.to_string().as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
