//! A company's identity provider: the npm package `oidc-provider`, installed from its lock file, run by Node.js.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{self, CacheError};
use crate::process::{Process, ProcessError, Spec};
use crate::progress::Progress;
use crate::{layout, ports};

/// Why there is no identity provider.
#[derive(Debug, thiserror::Error)]
pub enum IdpError {
    /// There is no Node.js.
    #[error(
        "the identity provider needs Node.js 20 or newer with npm: install it, for example with `apt-get install nodejs npm`"
    )]
    NoNode,
    /// npm or Node.js failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not take what it is set up with.
    #[error("the identity provider cannot be set up: {0}")]
    Setup(#[from] reqwest::Error),
}

/// A running identity provider; dropping it stops it.
#[derive(Debug)]
pub struct IdentityProvider {
    /// Its issuer, as its tokens name it.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_url: String,
    /// Where tokens are asked for.
    pub token_url: String,
    base: String,
    http: reqwest::Client,
    _process: Process,
}

/// What it answers when it has been set up.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    issuer: String,
    jwks_url: String,
    token_url: String,
}

impl IdentityProvider {
    /// Starts one on 127.0.0.1, with its files in `directory`. It has no clients yet.
    pub async fn start(directory: &Path, progress: &Progress) -> Result<Self, IdpError> {
        crate::install_tls_provider();
        let modules = installed(progress).await?.join("node_modules");
        let home = directory.join(format!("idp-{}", ports::random()));
        let at = |path: &Path| {
            let path = path.to_owned();
            |source| IdpError::File { path, source }
        };
        std::fs::create_dir_all(&home).map_err(at(&home))?;
        // Modules are looked for beside the script.
        std::os::unix::fs::symlink(&modules, home.join("node_modules")).map_err(at(&home))?;
        let script = home.join("idp.mjs");
        std::fs::copy(source().join("idp.mjs"), &script).map_err(at(&script))?;
        let port = ports::free();
        let mut process = Spec::new("the identity provider", "node", &home.join("log"))
            .arg(&script)
            .arg(port.to_string())
            .start()?;
        let (http, base) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}"));
        process
            .until(Duration::from_secs(60), async || http.get(format!("{base}/jwks")).send().await.is_ok())
            .await?;
        let ready = set_up(&http, &base, &json!({ "clients": [] })).await?;
        Ok(Self {
            issuer: ready.issuer,
            jwks_url: ready.jwks_url,
            token_url: ready.token_url,
            base,
            http,
            _process: process,
        })
    }

    /// Sets it up anew, as the head of `tests/world/node/idp/idp.mjs` has it.
    pub async fn set_up(&self, setup: &Value) -> Result<(), IdpError> {
        set_up(&self.http, &self.base, setup).await.map(drop)
    }
}

async fn set_up(http: &reqwest::Client, base: &str, setup: &Value) -> Result<Ready, IdpError> {
    let answer = http.put(format!("{base}/setup")).json(setup).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

fn source() -> PathBuf {
    layout::package().join("node/idp")
}

/// Exactly what the lock file names, each package by its hash; its scripts are not run.
async fn installed(progress: &Progress) -> Result<PathBuf, IdpError> {
    let files = ["package.json", "package-lock.json", ".npmrc"];
    let definition = files.map(|name| source().join(name));
    cache::entry("idp", &definition, async |directory: &Path| {
        let task = progress.task("The identity provider from npm");
        for (from, name) in definition.iter().zip(files) {
            let to = directory.join(name);
            std::fs::copy(from, &to).map_err(|source| IdpError::File { path: to, source })?;
        }
        let npm = Spec::new("npm ci", "npm", &directory.join("log")).arg("ci").current_dir(directory);
        let npm = npm.start().map_err(|error| match error {
            ProcessError::Ended { .. } => IdpError::NoNode,
            error => error.into(),
        })?;
        npm.succeed().await?;
        task.done();
        Ok(())
    })
    .await
}
