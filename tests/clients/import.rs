//! `feedwater import prefect` goes the operator's ways: a private authority, headers for a proxy in front, the environment's proxy. What is
//! secret comes from files and the environment, and is told nowhere.

use crate::prefect::CANARY;
use crate::prefect_reached::{forward_proxy, private};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

/// A file in a folder that is gone at the end of the test.
fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Runs it with this environment and no other; whether it succeeded, and everything it said.
async fn import(environment: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_feedwater"))
        .args(["import", "prefect", "--workspace", "prod"])
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(!said.contains(CANARY), "{said}");
    (output.status.success(), said)
}

#[tokio::test]
async fn the_import_goes_through_the_proxy_with_its_headers_and_believes_the_authority_it_is_given() {
    let (port, authority, heads) = private("[]").await;
    let (proxy, asked) = forward_proxy(port).await;
    let files = TempDir::new().unwrap();
    let ca = write(&files, "ca.pem", &authority);
    let one = write(&files, "one", &format!("# for the proxy in front\n\nX-Proxy-Key:  {CANARY}\r\n"));
    let two = write(&files, "two", "X-Team: bi:data\n");
    let proxied = format!("http://who:{CANARY}@127.0.0.1:{proxy}");
    let environment = [("HTTPS_PROXY", &*proxied), ("NO_PROXY", "127.0.0.1"), ("PREFECT_API_KEY", CANARY)];
    let inside = ["--api-url", "https://inside.test/api"];

    let (done, said) = import(&environment, &inside).await;
    assert!(!done && said.contains("TLS"), "{said}");
    assert_eq!(heads.lock().unwrap().len(), 0);

    let all = [&inside[..], &["--ca-file", &ca, "--header-file", &one, "--header-file", &two]].concat();
    let (done, said) = import(&environment, &all).await;
    assert!(done && said.contains("feedwater: 0 deployments: 0 imported"), "{said}");
    let sent = std::mem::take(&mut *heads.lock().unwrap());
    assert!(!sent.is_empty());
    for head in sent {
        for header in [&*format!("x-proxy-key: {CANARY}\r\n"), "x-team: bi:data\r\n"] {
            assert!(head.contains(header), "{head}");
        }
        assert!(head.contains(&format!("authorization: bearer {CANARY}\r\n")), "{head}");
    }
    let through = std::mem::take(&mut *asked.lock().unwrap());
    for head in &through {
        assert!(head.starts_with("CONNECT inside.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("proxy-authorization: basic "), "{head}");
    }

    // NO_PROXY: directly. The authority may be given as Prefect's own client takes it.
    let here = format!("https://127.0.0.1:{port}/api");
    let environment = [&environment[..], &[("PREFECT_API_SSL_CERT_FILE", &*ca), ("PREFECT_API_URL", &*here)]];
    let (done, said) = import(&environment.concat(), &[]).await;
    assert!(done, "{said}");
    assert!(!heads.lock().unwrap().is_empty() && asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_is_no_good_is_named_with_its_line_and_nothing_is_asked() {
    let (port, _, heads) = private("[]").await;
    let here = format!("https://127.0.0.1:{port}/api");
    let files = TempDir::new().unwrap();
    let missing = files.path().join("missing").to_str().unwrap().to_owned();
    for (option, text, told) in [
        ("--header-file", "X-Good: yes\nno colon\n", "line 2: must be `Name: value`"),
        ("--header-file", &*format!("Host: {CANARY}\n"), "line 1: must be"),
        ("--header-file", &*format!("Authorization: {CANARY}\n"), "line 1: must be"),
        ("--ca-file", CANARY, "there is no usable certificate"),
    ] {
        let file = write(&files, "file", text);
        let arguments = ["--api-url", &here, option, &file];
        let (done, said) = import(&[("PREFECT_API_AUTH_STRING", "user:password")], &arguments).await;
        assert!(!done && said.contains(told) && said.contains(&file), "{said}");
    }
    for option in ["--header-file", "--ca-file"] {
        let (done, said) = import(&[], &["--api-url", &here, option, &missing]).await;
        assert!(!done && said.contains(&format!("cannot read {missing}")), "{said}");
    }
    assert_eq!(heads.lock().unwrap().len(), 0);
}
