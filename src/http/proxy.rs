//! The proxy of the environment: `HTTPS_PROXY`, and `NO_PROXY` for what is called directly.
//!
//! A proxy resolves names by itself, so the address it dials cannot be vetted here. That is why a host is called through it only if
//! `--allowed-hosts` names it (`address`): the proxy must not become a way around that rule.

use super::Unreachable;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::header::HeaderValue;
use std::fmt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// What the environment says about a proxy. May hold a password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySettings {
    https: String,
    no: String,
}

/// An address of a proxy that cannot be used; not shown, since it may hold a password.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("HTTPS_PROXY must be the http:// URL of a proxy, such as http://proxy.acme.internal:3128")]
pub struct BadProxy;

impl ProxySettings {
    /// From the values of `HTTPS_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// The proxy is no `http://` URL with a host.
    pub fn new(https: &str, no: &str) -> Result<Self, BadProxy> {
        // As curl does: without a scheme it is http.
        let https = if https.contains("://") { https.to_owned() } else { format!("http://{https}") };
        let url = Url::parse(&https).map_err(|_| BadProxy)?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(BadProxy);
        }
        Ok(Self { https, no: no.to_owned() })
    }

    /// The proxy that a URL is called through; `None`: directly. Plain http never goes through it.
    pub fn of(&self, url: &Url) -> Option<Through> {
        let uri = url.as_str().parse().ok()?;
        Matcher::builder().https(&self.https).no(&self.no).build().intercept(&uri).map(Through)
    }

    /// The same for the HTTP client, by the same rules.
    pub(super) fn for_client(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        let proxy = reqwest::Proxy::https(&self.https)?;
        Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&self.no)))
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxySettings")
    }
}

/// The proxy a call goes through.
pub struct Through(Intercept);

/// Most bytes of the head of a proxy's answer.
const MOST_HEAD: usize = 8 << 10;

impl Through {
    /// Its host and port.
    pub(super) fn address(&self) -> Option<(&str, u16)> {
        Some((self.0.uri().host()?, self.0.uri().port_u16().unwrap_or(80)))
    }

    /// Has the proxy connect `stream` to a host.
    pub(super) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), Unreachable> {
        let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
        if let Some(auth) = self.0.basic_auth().map(HeaderValue::as_bytes) {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(auth);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await.map_err(|_| Unreachable::Connect)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the head belongs to the far end.
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.map_err(|_| Unreachable::Connect)?;
            answer.push(byte);
            if answer.len() > MOST_HEAD {
                return Err(Unreachable::Connect);
            }
        }
        let accepted = answer.starts_with(b"HTTP/1.1 2") || answer.starts_with(b"HTTP/1.0 2");
        if accepted { Ok(()) } else { Err(Unreachable::Connect) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_the_proxy() {
        let settings =
            ProxySettings::new("http://u:secret@proxy:3128", "acme.internal,.corp, 10.0.0.0/8,1.2.3.4");
        let settings = settings.unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        for (url, expected) in [
            ("https://prefect.example.com/api", true),
            ("http://prefect.example.com/api", false),
            ("https://acme.internal", false),
            ("https://prefect.acme.internal", false),
            ("https://notacme.internal", true),
            ("https://prefect.corp", false),
            ("https://10.9.9.9:8443", false),
            ("https://11.9.9.9", true),
            ("https://1.2.3.4", false),
        ] {
            assert_eq!(settings.of(&Url::parse(url).unwrap()).is_some(), expected, "{url}");
        }
        let through = settings.of(&Url::parse("https://x.example").unwrap()).unwrap();
        assert_eq!(through.address(), Some(("proxy", 3128)));
    }

    #[test]
    fn a_proxy_that_is_none_is_refused_without_being_shown() {
        assert!(ProxySettings::new("proxy.acme.internal:3128", "").is_ok());
        for bad in ["https://u:secret@proxy", "socks5://proxy", "http://", "ftp://x"] {
            let error = ProxySettings::new(bad, "").unwrap_err();
            assert!(!error.to_string().contains("secret"), "{bad}");
        }
    }
}
