//! The operator as users run it: the real binary, under a `ServiceAccount` token, with exactly the shipped RBAC.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cargo::{self, BuildError};
use crate::cluster::{self, Kubectl, KubectlError};
use crate::ports;
use crate::process::{Process, ProcessError, Spec};

/// The namespace of the shipped manifests.
pub const NAMESPACE: &str = "feedwater-system";
/// The `ServiceAccount` of the shipped manifests.
pub const SERVICE_ACCOUNT: &str = "feedwater";

/// Why the operator does not run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The cluster refused what the operator needs.
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    /// The process ended or did not get ready.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The manifests that were to be applied are not there.
    #[error("{} holds no kustomization.yaml", .0.display())]
    NoManifests(PathBuf),
}

/// How an operator is started.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The `feedwater` program: see [`build`].
    pub binary: PathBuf,
    /// `Some`: the operator serves only this namespace, lives in it, and [`install_namespaced`] has given it its rights there.
    /// `None`: it serves the whole cluster and lives in [`NAMESPACE`].
    pub namespace: Option<String>,
    /// `Some`: it serves only this namespace, wherever it lives; its rights there are somebody else's matter.
    pub serves: Option<String>,
    /// The instance's name, `--instance`; part of the marks it leaves.
    pub instance: String,
    /// A name for the log, unique among the operators of one world directory.
    pub name: String,
    /// Where the operator finds the kube-apiserver: the URL of a [`crate::proxy::Proxy`] in front of it; unset: the kube-apiserver itself.
    pub api_server: Option<String>,
    /// More arguments of `feedwater run`.
    pub extra_args: Vec<String>,
    /// How long to wait for `/readyz`, which a standby answers too; `None`: for `/livez` only.
    pub wait_ready: Option<Duration>,
}

impl OperatorOptions {
    /// An operator for the whole cluster, named `operator`, instance `world`.
    pub fn cluster_wide(binary: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            namespace: None,
            serves: None,
            instance: "world".to_owned(),
            name: "operator".to_owned(),
            api_server: None,
            extra_args: Vec::new(),
            wait_ready: Some(Duration::from_secs(60)),
        }
    }

    /// An operator for one namespace, which is also its name and instance.
    pub fn namespaced(binary: &Path, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            instance: namespace.to_owned(),
            name: format!("operator-{namespace}"),
            ..Self::cluster_wide(binary)
        }
    }

    /// The namespace the operator itself lives in, where its Lease and its `ServiceAccount` are.
    pub fn own_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(NAMESPACE)
    }
}

/// A running operator; dropping it stops it.
#[derive(Debug)]
pub struct Operator {
    options: OperatorOptions,
    kubeconfig: PathBuf,
    admin_address: String,
    log: PathBuf,
    process: Option<Process>,
    pid: Arc<AtomicI32>,
}

impl Operator {
    /// Starts an operator whose rights are installed already; its kubeconfig and log lie in `directory`.
    pub async fn start(
        kubectl: &Kubectl,
        directory: &Path,
        options: OperatorOptions,
    ) -> Result<Self, OperatorError> {
        std::fs::create_dir_all(directory).map_err(failed(directory))?;
        let kubeconfig = directory.join(format!("{}.kubeconfig", options.name));
        kubectl.service_account(options.own_namespace(), SERVICE_ACCOUNT, &kubeconfig).await?;
        if let Some(url) = &options.api_server {
            cluster::redirect_kubeconfig(&kubeconfig, url).map_err(failed(&kubeconfig))?;
        }
        Self::start_as(kubeconfig, directory, options).await
    }

    /// Starts an operator with a kubeconfig that is there already.
    pub async fn start_as(
        kubeconfig: PathBuf,
        directory: &Path,
        options: OperatorOptions,
    ) -> Result<Self, OperatorError> {
        let log = directory.join(format!("{}.log", options.name));
        let admin_address = format!("127.0.0.1:{}", ports::free());
        let pid = Arc::default();
        let mut operator = Self { options, kubeconfig, admin_address, log, process: None, pid };
        operator.restart().await?;
        Ok(operator)
    }

    /// Starts the operator again after [`Self::kill`] or [`Self::terminate`]: same identity, same addresses, same log.
    pub async fn restart(&mut self) -> Result<(), OperatorError> {
        // The old one first: two of one identity is another test.
        self.process = None;
        let mut run = Spec::new(&self.options.name, &self.options.binary, &self.log)
            .arg("run")
            .args(["--instance", &self.options.instance])
            .args(["--allowed-hosts", "127.0.0.1"])
            .args(["--admin-address", &self.admin_address])
            .args(["--lease-namespace", self.options.own_namespace()])
            .args(["--log-format", "json"])
            .hide_env("FEEDWATER_")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("NO_PROXY", "127.0.0.1,localhost");
        if let Some(namespace) = self.options.serves.as_ref().or(self.options.namespace.as_ref()) {
            run = run.args(["--namespace", namespace]);
        }
        let mut process = run.args(&self.options.extra_args).start()?;
        self.pid.store(process.pid().unwrap_or_default(), Ordering::SeqCst);
        let client = client();
        let (path, limit) = match self.options.wait_ready {
            Some(limit) => ("readyz", limit),
            None => ("livez", Duration::from_secs(60)),
        };
        let url = format!("http://{}/{path}", self.admin_address);
        process.until(limit, async || answers(client.as_ref(), &url).await).await?;
        self.process = Some(process);
        Ok(())
    }

    /// From the next start on another `feedwater` program runs, as after an upgrade.
    pub fn upgrade(&mut self, binary: &Path) {
        binary.clone_into(&mut self.options.binary);
    }

    /// The present process, from the moment it is started on; 0 while there is none. It follows the operator over its restarts.
    pub fn pid(&self) -> Arc<AtomicI32> {
        Arc::clone(&self.pid)
    }

    /// SIGKILL: the operator ends between two instructions. Returns when it is gone.
    pub async fn kill(&mut self) {
        self.end(Signal::SIGKILL).await;
    }

    /// SIGTERM, and waits for the operator to end as it does in a rollout.
    pub async fn terminate(&mut self) {
        self.end(Signal::SIGTERM).await;
    }

    /// Waits until the operator ends by itself, as it does when its lease is lost.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        let status = match &mut self.process {
            Some(process) => Some(process.wait().await),
            None => None,
        };
        self.process = None;
        self.pid.store(0, Ordering::SeqCst);
        status
    }

    async fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.signal(signal);
            process.wait().await;
        }
        self.pid.store(0, Ordering::SeqCst);
    }

    /// SIGSTOP: the operator stands still, as on a node that has lost its breath.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: the end of [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// The file with everything it wrote, over all restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The log's lines that are JSON objects.
    pub fn log_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The URL of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.admin_address)
    }

    /// Its metrics in text form.
    pub async fn metrics(&self) -> Result<String, reqwest::Error> {
        let client = client()?;
        client.get(self.metrics_url()).send().await?.error_for_status()?.text().await
    }

    /// The user that the audit log shows for it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{SERVICE_ACCOUNT}", self.options.own_namespace())
    }
}

/// Applies the kustomization in `directory`, such as `manifests/base`. The Deployment in it never runs: no node does.
pub async fn install(kubectl: &Kubectl, directory: &Path) -> Result<(), OperatorError> {
    if !directory.join("kustomization.yaml").is_file() {
        return Err(OperatorError::NoManifests(directory.to_owned()));
    }
    kubectl.run(&["apply", "--server-side", "-k", &directory.to_string_lossy()]).await?;
    Ok(())
}

/// Applies the kustomization in `directory` with every namespaced object moved to `namespace`, which is made first.
pub async fn install_namespaced(
    kubectl: &Kubectl,
    directory: &Path,
    namespace: &str,
) -> Result<(), OperatorError> {
    let scratch = tempfile::Builder::new()
        .prefix(".overlay-")
        // kustomize takes bases only by relative paths.
        .tempdir_in(directory.parent().unwrap_or(directory))
        .map_err(failed(directory))?;
    let base = directory.file_name().unwrap_or_default().to_string_lossy();
    let overlay = serde_json::json!({"namespace": namespace, "resources": [format!("../{base}")]});
    let file = scratch.path().join("kustomization.yaml");
    std::fs::write(&file, overlay.to_string()).map_err(failed(&file))?;
    let made = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    kubectl.apply(&made.to_string()).await?;
    install(kubectl, scratch.path()).await
}

/// Builds the operator.
pub async fn build() -> Result<PathBuf, OperatorError> {
    Ok(cargo::build("feedwater").await?)
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    crate::install_tls_provider();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()
}

async fn answers(client: Result<&reqwest::Client, &reqwest::Error>, url: &str) -> bool {
    match client {
        Ok(client) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
        Err(_) => false,
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> OperatorError {
    let path = path.to_owned();
    |source| OperatorError::File { path, source }
}
