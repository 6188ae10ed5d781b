//! How `feedwater import` reaches a Prefect: with the operator's own client, by what the command line, files and the environment say.

use crate::clock::Clock;
use crate::controller::services::{PrefectAccess, PrefectCredential, RealServices};
use crate::http::{
    AddressPolicy, AllowedHost, Authorities, BadCertificate, BadProxy, HeaderMap, Timeouts, secret_header,
};
use crate::model::connection::{BadConnection, base_url, hosting, may_send};
use crate::prefect::{PrefectClient, PrefectError};
use crate::settings;
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};
use url::Url;

/// What is secret comes from files and the environment, never from the command line, which everybody on the machine may read.
#[derive(clap::Args, Clone, Debug)]
pub struct ReachArgs {
    /// Base URL of the API, such as <https://prefect.example.com/api>. Its https is called through the proxy of `HTTPS_PROXY`, unless `NO_PROXY` names it
    #[arg(long, env = "PREFECT_API_URL", value_name = "URL")]
    pub(super) api_url: Url,
    /// Certificates of a private authority, in PEM; believed in beside those of the system
    #[arg(long, env = "PREFECT_API_SSL_CERT_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Headers for a proxy in front of Prefect, sent with every request: a line `Name: value` each. May be given more than once
    #[arg(long = "header-file", value_name = "FILE")]
    header_files: Vec<PathBuf>,
}

/// Why nothing was asked. No values.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The URL is none of an API.
    #[error(transparent)]
    Url(#[from] BadConnection),
    /// Both kinds of credentials are in the environment.
    #[error("PREFECT_API_KEY and PREFECT_API_AUTH_STRING are both set; unset one of them")]
    TwoCredentials,
    /// The auth string is none.
    #[error("PREFECT_API_AUTH_STRING must be user:password")]
    BadAuthString,
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file of certificates.
    #[error("{}: {error}", file.display())]
    Authority {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        error: BadCertificate,
    },
    /// A line of a file of headers.
    #[error("{}, line {line}: must be `Name: value`, of a header that neither HTTP nor Feedwater itself sets", file.display())]
    Header {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The proxy of the environment.
    #[error(transparent)]
    Proxy(#[from] BadProxy),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] PrefectError),
}

/// The client. The one host that was named is the one that may be called, wherever it is.
pub fn client(
    args: &ReachArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<PrefectClient, ReachError> {
    let api_url = base_url(args.api_url.as_str(), "--api-url")?;
    let host: Option<AllowedHost> = args.api_url.host_str().and_then(|host| host.parse().ok());
    let credential = credential(&environment)?;
    let signs_in = !matches!(credential, PrefectCredential::None);
    let services = RealServices {
        policy: AddressPolicy::new(host).with_proxy(settings::proxy(&environment)?),
        clock: Clock::system(),
        timeouts: Timeouts::default(),
        metrics: Arc::default(),
        token_grants: Vec::new(),
    };
    let access = PrefectAccess {
        hosting: hosting(&api_url),
        api_url,
        credential,
        headers: headers(&args.header_files, signs_in)?,
        authorities: args.ca_file.as_deref().map(authorities).transpose()?,
    };
    Ok(services.prefect_client(&access)?)
}

/// As Prefect's own client takes it.
fn credential(environment: &impl Fn(&str) -> Option<String>) -> Result<PrefectCredential, ReachError> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(SecretString::from);
    match (set("PREFECT_API_KEY"), set("PREFECT_API_AUTH_STRING")) {
        (Some(_), Some(_)) => Err(ReachError::TwoCredentials),
        (Some(key), None) => Ok(PrefectCredential::ApiKey(key)),
        (None, Some(text)) => {
            let (username, password) =
                text.expose_secret().split_once(':').ok_or(ReachError::BadAuthString)?;
            Ok(PrefectCredential::Basic { username: username.into(), password: password.into() })
        }
        (None, None) => Ok(PrefectCredential::None),
    }
}

fn authorities(file: &Path) -> Result<Authorities, ReachError> {
    let text = fs::read(file).map_err(|error| ReachError::Read { file: file.to_owned(), error })?;
    Authorities::from_pem(&text).map_err(|error| ReachError::Authority { file: file.to_owned(), error })
}

/// Empty lines and those that begin with `#` say nothing.
fn headers(files: &[PathBuf], signs_in: bool) -> Result<HeaderMap, ReachError> {
    let mut headers = HeaderMap::new();
    for file in files {
        let text =
            fs::read_to_string(file).map_err(|error| ReachError::Read { file: file.clone(), error })?;
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let header = line.split_once(':').and_then(|(name, value)| secret_header(name.trim(), value));
            let Some((name, value)) = header.filter(|(name, _)| may_send(name.as_str(), signs_in)) else {
                return Err(ReachError::Header { file: file.clone(), line: index + 1 });
            };
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_come_from_the_environment() {
        let url = Url::parse("http://127.0.0.1:1/api").unwrap();
        let args =
            |api_url: &Url| ReachArgs { api_url: api_url.clone(), ca_file: None, header_files: vec![] };
        let with = |set: &'static [(&'static str, &'static str)]| {
            let environment =
                move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            client(&args(&url), environment).map(drop)
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert!(with(&[]).is_ok() && with(&[("PREFECT_API_KEY", "k")]).is_ok());
        assert!(with(&[("PREFECT_API_AUTH_STRING", "user:pa:ss")]).is_ok());
        assert!(matches!(with(&[("PREFECT_API_AUTH_STRING", "user")]), Err(ReachError::BadAuthString)));
        assert!(matches!(
            with(&[("PREFECT_API_KEY", "k"), ("PREFECT_API_AUTH_STRING", "a:b")]),
            Err(ReachError::TwoCredentials)
        ));
        assert!(matches!(with(&[("HTTPS_PROXY", "socks5://u:hunter2@p")]), Err(ReachError::Proxy(_))));
        let told = client(&args(&Url::parse("https://u:hunter2@p/api").unwrap()), |_| None).unwrap_err();
        assert!(matches!(&told, ReachError::Url(_)) && !told.to_string().contains("hunter2"), "{told}");
    }
}
