//! Prefect's own tools, as the people use them who do not have Feedwater yet.

use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;
use world::{layout, python};

/// A folder with the flows of the world, and Prefect on the path.
pub struct Environment {
    folder: TempDir,
    path: String,
    api_url: String,
}

/// A new one; its Prefect talks to this server.
pub async fn environment(api_url: &str) -> Environment {
    let lock = layout::package().join("python/prefect/requirements.lock");
    let venv = python::venv("prefect", &lock, |_| {}).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("flows")).unwrap();
    for file in std::fs::read_dir(layout::package().join("flows")).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::copy(&file, folder.path().join("flows").join(file.file_name().unwrap())).unwrap();
        }
    }
    let path = format!("{}:{}", venv.join("bin").display(), std::env::var("PATH").unwrap());
    Environment { folder, path, api_url: api_url.to_owned() }
}

impl Environment {
    /// Where commands run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command line; what it prints.
    pub async fn shell(&self, command: &str) -> String {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(self.folder())
            .env("PATH", &self.path)
            .env("PREFECT_HOME", self.folder().join("home"))
            .env("PREFECT_API_URL", &self.api_url)
            .env("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
            .env("DO_NOT_TRACK", "1")
            .env("NO_COLOR", "1")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{command}\n{out}\n{err}");
        out
    }
}
