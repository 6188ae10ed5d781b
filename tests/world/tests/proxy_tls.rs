//! The fault proxy in front of a server that talks TLS, as the kube-apiserver does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use world::proxy::{Action, Answer, Proxy, Rule};

#[tokio::test]
async fn tls_is_terminated_by_the_worlds_authority_and_the_token_passes() {
    world::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let authority = certificates(folder.path());
    let url = server(folder.path()).await;
    let kubeconfig = folder.path().join("admin.kubeconfig");
    world::cluster::write_kubeconfig(&kubeconfig, &url, &authority, &serde_json::json!({})).unwrap();
    let proxy = Proxy::of_cluster(&kubeconfig).await.unwrap();
    assert!(proxy.url().starts_with("https://127.0.0.1:") && proxy.url() != url);

    let claims = serde_json::json!({"sub": "system:serviceaccount:finance:feedwater"}).to_string();
    let token = format!("e30.{}.sig", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let trusted = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let get = async || {
        let answer = client.get(format!("{}/version", proxy.url())).bearer_auth(&token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get().await, (200, format!("Bearer {token}")));
    assert_eq!(proxy.journal()[0].user, "system:serviceaccount:finance:feedwater");
    let limit = Answer::status(429).header("Retry-After", "1");
    proxy.add(Rule::on("GET", "/version", Action::Answer(limit)).times(1));
    assert_eq!(get().await.0, 429);
    assert_eq!(get().await.0, 200);
}

/// Writes what a world has beside its kubeconfig, and returns the authority.
fn certificates(folder: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    for (file, text) in [
        ("serving-ca.crt", &authority),
        ("apiserver.crt", &certificate),
        ("apiserver.key", &key.serialize_pem()),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    authority
}

/// A server that answers with the token it is shown.
async fn server(folder: &Path) -> String {
    let certificates = CertificateDer::pem_file_iter(folder.join("apiserver.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("apiserver.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let mut request = String::new();
                let mut buffer = [0; 4096];
                while !request.ends_with("\r\n\r\n") {
                    let read = stream.read(&mut buffer).await.unwrap();
                    request += std::str::from_utf8(&buffer[..read]).unwrap();
                }
                let token = request.lines().find_map(|l| l.strip_prefix("authorization: ")).unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    token.len()
                );
                stream.write_all(format!("{head}{token}").as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    url
}
