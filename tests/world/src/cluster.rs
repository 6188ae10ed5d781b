//! kubectl: the world's own program, always with an explicit kubeconfig, so that no developer's cluster is ever touched.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// kubectl said no.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// It could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("kubectl {arguments}: {said}")]
    Failed {
        /// What it was asked.
        arguments: String,
        /// What it wrote to stderr.
        said: String,
    },
    /// Its answer is no JSON.
    #[error("kubectl {arguments}: unreadable answer: {source}")]
    Unreadable {
        /// What it was asked.
        arguments: String,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// What was waited for did not come.
    #[error("{what} did not hold within {} s; last seen: {last}", limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was there instead.
        last: String,
    },
}

/// kubectl with one identity.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The program `program` with the identity in `kubeconfig`.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The identity.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same program under another identity.
    #[must_use]
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self::new(&self.program, kubeconfig)
    }

    /// Runs kubectl and returns what it wrote to stdout.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, KubectlError> {
        self.run_with_input(arguments, "").await
    }

    /// Runs kubectl with `input` on stdin and returns what it wrote to stdout.
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String, KubectlError> {
        let start = |source| KubectlError::Start { program: self.program.clone(), source };
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            // Its discovery cache beside the kubeconfig: another world on the same port is another cluster.
            .env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that reads nothing has closed its end; its exit status is what counts.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(start)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(KubectlError::Failed { arguments: arguments.join(" "), said })
        }
    }

    /// Applies manifests: YAML documents or JSON text.
    pub async fn apply(&self, manifests: &str) -> Result<(), KubectlError> {
        self.run_with_input(&["apply", "--server-side", "-f", "-"], manifests).await.map(drop)
    }

    /// `kubectl get ARGUMENTS --output json`.
    pub async fn get(&self, arguments: &[&str]) -> Result<Value, KubectlError> {
        let arguments = [&["get"], arguments, &["--output", "json"]].concat();
        let text = self.run(&arguments).await?;
        serde_json::from_str(&text)
            .map_err(|source| KubectlError::Unreadable { arguments: arguments.join(" "), source })
    }

    /// Gets an object again and again until `holds` says yes of it, and returns it. `what` names the condition in the error.
    pub async fn until(
        &self,
        what: &str,
        arguments: &[&str],
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value, KubectlError> {
        let started = tokio::time::Instant::now();
        loop {
            let seen = self.get(arguments).await;
            match seen {
                Ok(object) if holds(&object) => return Ok(object),
                other if started.elapsed() > limit => {
                    let last = match other {
                        Ok(object) => serde_json::to_string_pretty(&object).unwrap_or_default(),
                        Err(error) => error.to_string(),
                    };
                    return Err(KubectlError::Timeout { what: what.to_owned(), limit, last });
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Makes a token for a service account and writes a kubeconfig with it.
    pub async fn service_account(
        &self,
        namespace: &str,
        name: &str,
        kubeconfig: &Path,
    ) -> Result<Kubectl, KubectlError> {
        let arguments = ["create", "token", name, "--namespace", namespace, "--duration=24h"];
        let token = self.run(&arguments).await?;
        let own = self.run(&["config", "view", "--raw", "--output", "json"]).await?;
        let unreadable = |source| KubectlError::Unreadable { arguments: "config view".to_owned(), source };
        let mut config: Value = serde_json::from_str(&own).map_err(unreadable)?;
        config["users"][0]["user"] = json!({"token": token.trim()});
        std::fs::write(kubeconfig, config.to_string())
            .map_err(|source| KubectlError::Start { program: kubeconfig.to_owned(), source })?;
        Ok(self.with_kubeconfig(kubeconfig))
    }
}

/// Writes a kubeconfig with one cluster and one user (JSON, which is YAML).
pub fn write_kubeconfig(path: &Path, server: &str, authority: &str, user: &Value) -> std::io::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "world",
        "contexts": [{"name": "world", "context": {"cluster": "world", "user": "world"}}],
        "clusters": [{"name": "world", "cluster": {
            "server": server,
            "certificate-authority-data": base64(authority),
        }}],
        "users": [{"name": "world", "user": user}],
    });
    std::fs::write(path, format!("{config:#}"))
}

/// Lets a kubeconfig written by [`write_kubeconfig`] or [`Kubectl::service_account`] name another server of the same authority.
pub fn redirect_kubeconfig(path: &Path, server: &str) -> std::io::Result<()> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    config["clusters"][0]["cluster"]["server"] = server.into();
    std::fs::write(path, config.to_string())
}

/// Base64 of a text, as kubeconfigs and Secrets want it.
pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}
