//! A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager, without nodes.
//!
//! Started as controller-runtime's envtest does it, with RBAC and an audit log, and with the controllers for
//! namespaces, garbage collection, default service accounts, aggregated roles and quotas, which envtest leaves out.

mod certificates;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::Kubectl;
use crate::ports;
use crate::process::{Process, ProcessError, Spec};
use crate::progress::Progress;
use crate::tools::Tools;
use certificates::Certificates;

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// One of its processes does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The certificates could not be made.
    #[error("certificates of the control plane: {0}")]
    Certificates(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No client could be made to ask whether the servers are ready.
    #[error("client of the control plane: {0}")]
    Client(#[from] reqwest::Error),
    /// The `CustomResourceDefinition`s were not accepted.
    #[error(transparent)]
    Kubectl(#[from] crate::cluster::KubectlError),
}

/// How the control plane is started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether etcd forces its writes to disk: slower, and needed only by tests that kill etcd itself.
    pub durable: bool,
    /// A kustomization of `CustomResourceDefinition`s, applied before the controllers start: the garbage collector learns of later ones
    /// only at its next discovery, up to 30 s after.
    pub crds: Option<PathBuf>,
}

/// A running control plane; dropping it stops it.
pub struct ControlPlane {
    kubectl: Kubectl,
    url: String,
    certificates: PathBuf,
    audit_log: PathBuf,
    again: Box<Again>,
    // In the order in which they stop.
    _controller_manager: Process,
    apiserver: Option<Process>,
    _etcd: Process,
}

/// What it takes to start a part of it once more.
struct Again {
    tools: Tools,
    directory: PathBuf,
    certificates: Certificates,
    etcd_url: String,
}

impl ControlPlane {
    /// Starts one whose files all lie in `directory`.
    pub async fn start(
        tools: &Tools,
        directory: &Path,
        settings: &Settings,
        progress: &Progress,
    ) -> Result<Self, ControlPlaneError> {
        let task = progress.task("Starting the control plane");
        let directory = &directory.join("controlplane");
        std::fs::create_dir_all(directory).map_err(failed(directory))?;
        let certificates = Certificates::make()?;
        certificates.write(directory).map_err(failed(directory))?;
        let starter = Starter { tools, directory, certificates: &certificates };

        task.note("etcd");
        let (etcd, etcd_url) = starter.etcd(settings.durable).await?;
        task.note("kube-apiserver");
        let audit_log = directory.join("audit.log");
        let url = format!("https://127.0.0.1:{}", ports::free());
        let apiserver = starter.apiserver(&etcd_url, &audit_log, &url).await?;
        let kubeconfig = starter.kubeconfig("admin", "admin", &url)?;
        let kubectl = Kubectl::new(&tools.kubectl, &kubeconfig);
        if let Some(crds) = settings.crds.as_deref().filter(|folder| folder.is_dir()) {
            task.note("custom resource definitions");
            kubectl.run(&["apply", "--server-side", "-k", &crds.to_string_lossy()]).await?;
        }
        let controller_manager = starter.controller_manager(&url)?;
        task.done();
        Ok(Self {
            kubectl,
            url,
            certificates: directory.clone(),
            audit_log,
            again: Box::new(Again {
                tools: tools.clone(),
                directory: directory.clone(),
                certificates,
                etcd_url,
            }),
            _controller_manager: controller_manager,
            apiserver: Some(apiserver),
            _etcd: etcd,
        })
    }

    /// Kills the kube-apiserver by SIGKILL. What it knew is in etcd.
    pub fn kill_apiserver(&mut self) {
        if let Some(process) = self.apiserver.take() {
            process.signal(Signal::SIGKILL);
        }
    }

    /// Starts the kube-apiserver again at the same address.
    ///
    /// # Errors
    /// It does not get ready.
    pub async fn start_apiserver(&mut self) -> Result<(), ControlPlaneError> {
        let Again { tools, directory, certificates, etcd_url } = &*self.again;
        let starter = Starter { tools, directory, certificates };
        self.apiserver = Some(starter.apiserver(etcd_url, &self.audit_log, &self.url).await?);
        Ok(())
    }

    /// kubectl as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The kube-apiserver's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate authority of the kube-apiserver, a PEM file.
    pub fn certificate_authority(&self) -> PathBuf {
        self.certificates.join(certificates::SERVING_CA)
    }

    /// The audit log, one JSON object a line: see [`crate::audit`].
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }
}

/// What a kube-apiserver shows to its clients, as PEM files.
pub struct ServingFiles {
    /// The authority.
    pub authority: PathBuf,
    /// The certificate, for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The files of the world whose administrator's kubeconfig this is; they lie beside it.
pub fn serving_files(kubeconfig: &Path) -> ServingFiles {
    let file = |name| kubeconfig.with_file_name(name);
    ServingFiles {
        authority: file(certificates::SERVING_CA),
        certificate: file(certificates::SERVING_CERTIFICATE),
        key: file(certificates::SERVING_KEY),
    }
}

struct Starter<'a> {
    tools: &'a Tools,
    directory: &'a Path,
    certificates: &'a Certificates,
}

impl Starter<'_> {
    async fn etcd(&self, durable: bool) -> Result<(Process, String), ControlPlaneError> {
        let url = format!("http://127.0.0.1:{}", ports::free());
        let mut etcd = self
            .spec("etcd", &self.tools.etcd)
            .arg(format!("--data-dir={}", self.path("etcd")))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{}", ports::free()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--unsafe-no-fsync={}", !durable))
            .start()?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let health = format!("{url}/health");
        etcd.until(Duration::from_secs(60), async || answers(&client, &health).await).await?;
        Ok((etcd, url))
    }

    async fn apiserver(&self, etcd: &str, audit_log: &Path, url: &str) -> Result<Process, ControlPlaneError> {
        let policy = self.directory.join("audit-policy.yaml");
        std::fs::write(&policy, AUDIT_POLICY).map_err(failed(&policy))?;
        let port = url.rsplit(':').next().unwrap_or_default();
        let mut apiserver = self
            .spec("kube-apiserver", &self.tools.apiserver)
            .arg(format!("--etcd-servers={etcd}"))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"])
            .args(["--authorization-mode=RBAC", "--allow-privileged=true"])
            .args(["--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"])
            .arg(format!("--cert-dir={}", self.directory.display()))
            .arg(format!("--tls-cert-file={}", self.path(certificates::SERVING_CERTIFICATE)))
            .arg(format!("--tls-private-key-file={}", self.path(certificates::SERVING_KEY)))
            .arg(format!("--client-ca-file={}", self.path(certificates::CLIENT_CA)))
            .arg(format!("--service-account-issuer={url}/"))
            .arg(format!("--service-account-key-file={}", self.path(certificates::ACCOUNT_PUBLIC_KEY)))
            .arg(format!("--service-account-signing-key-file={}", self.path(certificates::ACCOUNT_KEY)))
            .arg(format!("--audit-policy-file={}", policy.display()))
            .arg(format!("--audit-log-path={}", audit_log.display()))
            // One file for the whole life of a world; the default starts a new one at 100 MB.
            .arg("--audit-log-maxsize=100000")
            .start()?;
        let authority = reqwest::Certificate::from_pem(self.certificates.serving_ca.as_bytes())?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build()?;
        let ready = format!("{url}/readyz");
        apiserver.until(Duration::from_secs(120), async || answers(&client, &ready).await).await?;
        Ok(apiserver)
    }

    fn controller_manager(&self, url: &str) -> Result<Process, ControlPlaneError> {
        let kubeconfig = self.kubeconfig("controller-manager", "system:kube-controller-manager", url)?;
        Ok(self
            .spec("kube-controller-manager", &self.tools.controller_manager)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(
                "--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,\
                 clusterrole-aggregation-controller,resourcequota-controller",
            )
            .args(["--leader-elect=false", "--secure-port=0"])
            .start()?)
    }

    /// Writes a kubeconfig with a fresh client certificate for `user`, who may do anything.
    fn kubeconfig(&self, name: &str, user: &str, url: &str) -> Result<PathBuf, ControlPlaneError> {
        let client = self.certificates.client(user, "system:masters")?;
        let path = self.directory.join(format!("{name}.kubeconfig"));
        let credential = serde_json::json!({
            "client-certificate-data": crate::cluster::base64(&client.certificate),
            "client-key-data": crate::cluster::base64(&client.key),
        });
        crate::cluster::write_kubeconfig(&path, url, &self.certificates.serving_ca, &credential)
            .map_err(failed(&path))?;
        Ok(path)
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    fn spec(&self, name: &str, program: &Path) -> Spec {
        let log = self.directory.join(format!("{name}.log"));
        // Their data goes with the world, so there is nothing to end in good order for.
        Spec::new(name, program, &log).grace(Duration::from_secs(2))
    }
}

async fn answers(client: &reqwest::Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ControlPlaneError {
    let path = path.to_owned();
    |source| ControlPlaneError::File { path, source }
}

/// Who asked for what, of every request; no bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";
