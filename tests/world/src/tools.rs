//! Programs that are built from Go modules into the cache: the control plane's (or taken from `KUBEBUILDER_ASSETS`), what GitOps tools make of
//! an object, and `helm`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{self, CacheError};
use crate::layout;
use crate::process::{ProcessError, Spec, tail};
use crate::progress::{Progress, Task};

/// Why the programs of the control plane are missing.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// There is no Go to build with.
    #[error(
        "Go is needed once to build the control plane and what GitOps tools use, and is not on the PATH: install Go 1.21 or newer (for example \
         `apt-get install golang-go`, or the archive of the Go project; newer toolchains are fetched by Go itself), or point \
         KUBEBUILDER_ASSETS at a directory with etcd, kube-apiserver, kube-controller-manager and kubectl"
    )]
    NoGo,
    /// `KUBEBUILDER_ASSETS` is set but incomplete.
    #[error("KUBEBUILDER_ASSETS is {}, which has no {program}", directory.display())]
    NotInAssets {
        /// The variable's value.
        directory: PathBuf,
        /// The missing program.
        program: &'static str,
    },
    /// The build failed.
    #[error(transparent)]
    Build(#[from] ProcessError),
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Where the four programs lie.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `etcd`.
    pub etcd: PathBuf,
    /// `kube-apiserver`.
    pub apiserver: PathBuf,
    /// `kube-controller-manager`.
    pub controller_manager: PathBuf,
    /// `kubectl`.
    pub kubectl: PathBuf,
}

impl Tools {
    /// Finds out at once, before anything slow is begun, whether [`Self::get`] can succeed on this machine.
    pub fn check() -> Result<(), ToolsError> {
        let cached = |module: &Module| cache::has(module.name, &module.definition());
        if assets().is_some() || runs("go") || (cached(&ETCD) && cached(&KUBERNETES_MODULE)) {
            return Ok(());
        }
        Err(ToolsError::NoGo)
    }

    /// Takes the programs from `KUBEBUILDER_ASSETS` where set, else from the cache, building them when they are not there.
    pub async fn get(progress: &Progress) -> Result<Self, ToolsError> {
        if let Some(directory) = assets() {
            let at = |program: &'static str| {
                let path = directory.join(program);
                let missing = || ToolsError::NotInAssets { directory: directory.clone(), program };
                path.is_file().then_some(path).ok_or_else(missing)
            };
            return Ok(Self {
                etcd: at("etcd")?,
                apiserver: at("kube-apiserver")?,
                controller_manager: at("kube-controller-manager")?,
                kubectl: at("kubectl")?,
            });
        }
        let etcd = built(&ETCD, progress).await?;
        let kubernetes = built(&KUBERNETES_MODULE, progress).await?;
        Ok(Self {
            etcd: etcd.join("etcd"),
            apiserver: kubernetes.join("kube-apiserver"),
            controller_manager: kubernetes.join("kube-controller-manager"),
            kubectl: kubernetes.join("kubectl"),
        })
    }
}

/// The program of `tests/world/go/gitops`: kstatus, and Lua as Argo CD runs it.
pub async fn gitops(progress: &Progress) -> Result<PathBuf, ToolsError> {
    Ok(built(&GITOPS, progress).await?.join("gitops"))
}

/// The real `helm`.
pub async fn helm(progress: &Progress) -> Result<PathBuf, ToolsError> {
    Ok(built(&HELM, progress).await?.join("helm"))
}

/// A module of `tests/world`: a wrapper of somebody else's programs, or a program of ours around somebody else's libraries.
struct Module {
    name: &'static str,
    folder: &'static str,
    /// What defines it, beside `go.mod` and `go.sum`.
    sources: &'static [&'static str],
    says: &'static str,
    link: &'static str,
    output: &'static str,
    packages: &'static [&'static str],
}

impl Module {
    fn source(&self) -> PathBuf {
        layout::package().join(self.folder).join(self.name)
    }

    fn definition(&self) -> Vec<PathBuf> {
        ["go.mod", "go.sum"].iter().chain(self.sources).map(|file| self.source().join(file)).collect()
    }
}

const ETCD: Module = Module {
    name: "etcd",
    folder: "controlplane",
    sources: &[],
    says: "Building etcd (first time: a minute)",
    link: "-s -w",
    // One package whose name is no good name for a program: the output is a file.
    output: "etcd",
    packages: &["go.etcd.io/etcd/server/v3"],
};

const KUBERNETES_MODULE: Module = Module {
    name: "kubernetes",
    folder: "controlplane",
    sources: &[],
    says: "Building kube-apiserver, kube-controller-manager, kubectl (first time: 7 min on 2 cores)",
    // The version makes `kubectl version` and discovery tell the truth.
    link: concat!(
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",
        " -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3"
    ),
    output: "",
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kubectl",
    ],
};

const GITOPS: Module = Module {
    name: "gitops",
    folder: "go",
    sources: &["main.go"],
    says: "Building kstatus and gopher-lua (first time: a minute)",
    link: "-s -w",
    output: "gitops",
    packages: &["."],
};

const HELM: Module = Module {
    name: "helm",
    folder: "go",
    sources: &[],
    says: "Building helm (first time: 3 min on 2 cores)",
    link: "-s -w",
    output: "helm",
    packages: &["helm.sh/helm/v4/cmd/helm"],
};

async fn built(module: &Module, progress: &Progress) -> Result<PathBuf, ToolsError> {
    cache::entry(module.name, &module.definition(), async |directory: &Path| {
        let task = progress.task(module.says);
        build(module, directory, &task).await?;
        task.done();
        Ok(())
    })
    .await
}

async fn build(module: &Module, directory: &Path, task: &Task) -> Result<(), ToolsError> {
    if !runs("go") {
        return Err(ToolsError::NoGo);
    }
    let log = directory.join("build.log");
    let objects = directory.join("objects");
    let mut go = Spec::new(&format!("go build of {}", module.name), "nice", &log)
        .args(["go", "build", "-v", "-trimpath", "-ldflags", module.link, "-o"])
        .arg(directory.join(module.output))
        .args(module.packages)
        .current_dir(&module.source())
        .env("CGO_ENABLED", "0");
    if std::env::var_os("FEEDWATER_KEEP_GOCACHE").is_none() {
        // 3 GB of objects that nothing needs afterwards.
        go = go.env("GOCACHE", &objects);
    }
    let mut go = go.start()?;
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            task.note(&format!(
                "{} packages, {}",
                text.lines().count(),
                tail(&log).lines().last().unwrap_or("")
            ));
        }
    };
    tokio::select! {
        _ = go.wait() => {}
        () = watch => {}
    }
    go.succeed().await?;
    let _ = std::fs::remove_dir_all(objects);
    Ok(())
}

/// The directory that `KUBEBUILDER_ASSETS` names.
fn assets() -> Option<PathBuf> {
    std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether the machine has this program.
fn runs(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
