//! `cargo world guards`: takes the operator's safeties away, one at a time, and expects the test that needs it to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::process::Command;
use world::progress::Progress;
use world::{cargo, layout};

use super::{Failure, say, until_interrupted};

#[derive(clap::Args)]
pub struct Arguments {
    /// Guards; all of `tests/guards.txt` when none is named
    names: Vec<String>,
}

/// A test that hangs without its guard proves nothing.
const LIMIT: Duration = Duration::from_secs(300);

/// A line of `tests/guards.txt`.
struct Proof {
    guard: String,
    binary: String,
    test: String,
    says: String,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let progress = Progress::stderr();
    let Some(outcome) = until_interrupted(prove_all(&arguments, &progress)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let verdicts = outcome?;
    let width = verdicts.iter().map(|(proof, _)| proof.guard.len()).max().unwrap_or_default();
    for (Proof { guard, binary, test, says }, verdict) in &verdicts {
        let verdict = verdict.as_deref().unwrap_or("fails without it");
        say::line(&format!("{guard:width$}  {binary} {test}  {verdict}: {says}"));
    }
    let bite = verdicts.iter().all(|(_, verdict)| verdict.is_none());
    Ok(if bite { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each proof, and what is wrong with it.
async fn prove_all(
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Vec<(Proof, Option<String>)>, Failure> {
    let proofs = proofs(&arguments.names)?;
    let task = progress.task("Building with the feature `guards`");
    let wanted: BTreeSet<&str> = proofs.iter().map(|proof| proof.binary.as_str()).collect();
    let binaries = cargo::tests_with(&wanted, "feedwater/guards").await?;
    task.done();
    let mut verdicts = Vec::new();
    for proof in proofs {
        let task = progress.task(&format!("Without {}", proof.guard));
        let verdict = prove(&proof, &binaries).await?;
        task.done();
        verdicts.push((proof, verdict));
    }
    Ok(verdicts)
}

/// `None`: the test passes with the guard, and without it fails by saying what it should.
async fn prove(proof: &Proof, binaries: &BTreeMap<String, PathBuf>) -> Result<Option<String>, Failure> {
    let binary = binaries.get(&proof.binary).ok_or_else(|| format!("there is no test {}", proof.binary))?;
    let (passed, said) = test(binary, &proof.test, None).await?;
    if !said.contains("running 1 test") {
        return Ok(Some("IS NOT THERE".to_owned()));
    }
    if !passed {
        return Ok(Some("FAILS ALSO WITH IT".to_owned()));
    }
    let (passed, said) = test(binary, &proof.test, Some(&proof.guard)).await?;
    Ok(match (passed, said.contains(&proof.says)) {
        (false, true) => None,
        (false, false) => Some(format!("FAILS WITHOUT IT BY ANOTHER ASSERTION ({})", tail(&said))),
        (true, _) => Some("PASSES WITHOUT IT".to_owned()),
    })
}

async fn test(binary: &Path, test: &str, without: Option<&str>) -> Result<(bool, String), Failure> {
    let mut command = Command::new(binary);
    command
        .args(["--exact", test, "--nocapture"])
        .env_remove("FEEDWATER_WITHOUT_GUARD")
        .current_dir(layout::checkout())
        .kill_on_drop(true);
    if let Some(guard) = without {
        command.env("FEEDWATER_WITHOUT_GUARD", guard);
    }
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .map_err(|_| format!("{test} did not end within {} s", LIMIT.as_secs()))??;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), said))
}

fn proofs(names: &[String]) -> Result<Vec<Proof>, Failure> {
    let list = layout::checkout().join("tests/guards.txt");
    let mut proofs = Vec::new();
    for line in std::fs::read_to_string(&list)?.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let fields: Vec<String> = line.split('|').map(|field| field.trim().to_owned()).collect();
        let [guard, binary, test, says] =
            <[String; 4]>::try_from(fields).map_err(|_| format!("{}: {line}", list.display()))?;
        if names.is_empty() || names.contains(&guard) {
            proofs.push(Proof { guard, binary, test, says });
        }
    }
    if proofs.is_empty() {
        return Err(format!("{} names none of these guards", list.display()).into());
    }
    Ok(proofs)
}

/// The panic's message, or the end of what was said.
fn tail(said: &str) -> String {
    let panic = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    panic.or_else(|| said.lines().last()).unwrap_or_default().chars().take(200).collect()
}
