//! Cargo, started by a program that cargo has started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use crate::{cache, layout};

/// Cargo could not build what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("cargo could not build {what}: {said}")]
pub struct BuildError {
    what: String,
    said: String,
}

/// Hides from `command` what `cargo run` has put into this program's environment.
///
/// Build scripts such as ring's look at these variables, and a cargo under a cargo would compile all that depends on
/// them again, each time.
pub fn forget_outer_cargo(command: &mut Command) -> &mut Command {
    const OF_A_PACKAGE: [&str; 5] =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if OF_A_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Builds a program of the checkout with the features and the profile of everything else, and returns its path.
pub async fn build(program: &str) -> Result<PathBuf, BuildError> {
    let built = executables(&["build", "--bin", program], program).await?;
    built
        .into_iter()
        .find_map(|(name, path)| (name == program).then_some(path))
        .ok_or_else(|| BuildError { what: program.to_owned(), said: "cargo named no program".to_owned() })
}

/// Builds these integration tests with one more feature (`package/feature`), and returns their paths by name.
pub async fn tests_with(
    tests: &BTreeSet<&str>,
    feature: &str,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let mut arguments = vec!["test", "--no-run", "--workspace", "--features", feature];
    for test in tests {
        arguments.extend(["--test", test]);
    }
    Ok(executables(&arguments, feature).await?.into_iter().collect())
}

/// Builds the `feedwater` program of another revision of the checkout, once: it is kept in the cache under the revision's hash.
pub async fn build_revision(revision: &str) -> Result<PathBuf, BuildError> {
    let failed = |said: String| BuildError { what: format!("revision {revision}"), said };
    let hash = output(Command::new("git").args(["rev-parse", "--verify", &format!("{revision}^{{commit}}")]))
        .await
        .map_err(failed)?;
    let folder = cache::directory().join(format!("revision-{}", hash.trim().get(..12).unwrap_or_default()));
    let (source, target) = (folder.join("source"), folder.join("target"));
    let program = target.join("debug/feedwater");
    if !program.is_file() {
        std::fs::create_dir_all(&source).map_err(|error| failed(error.to_string()))?;
        let archive = folder.join("source.tar");
        output(Command::new("git").args(["archive", "--output"]).arg(&archive).arg(hash.trim()))
            .await
            .map_err(failed)?;
        output(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source)).await.map_err(failed)?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        forget_outer_cargo(&mut cargo)
            .args(["build", "--locked", "--bin", "feedwater"])
            .env("CARGO_TARGET_DIR", &target)
            .current_dir(&source);
        output(&mut cargo).await.map_err(failed)?;
    }
    Ok(program)
}

/// What a command wrote; its complaint, if it failed.
async fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().await.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What cargo built, by the names of the targets.
async fn executables(arguments: &[&str], what: &str) -> Result<Vec<(String, PathBuf)>, BuildError> {
    let failed = |said: String| BuildError { what: what.to_owned(), said };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = forget_outer_cargo(&mut cargo)
        .args(arguments)
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .current_dir(layout::checkout())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = |message: Value| {
        let path = message["executable"].as_str().map(PathBuf::from)?;
        Some((message["target"]["name"].as_str()?.to_owned(), path))
    };
    Ok(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).filter_map(executable).collect())
}
