//! Flags and environment, turned into one typed value at the start.

use crate::http::{AllowedHost, BadProxy, ProxySettings};
use crate::model::connection::TokenGrant;
use crate::model::time::parse_duration;
use crate::runtime::telemetry::LogFormat;
use std::net::SocketAddr;
use std::time::Duration;

/// How this operator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which namespaces it serves.
    pub scope: Scope,
    /// Name of the installation in the marks it puts on Prefect deployments; `None`: the UID of the `kube-system` Namespace.
    pub instance: Option<String>,
    /// The hosts it may call; empty: any public host by https.
    pub allowed_hosts: Vec<AllowedHost>,
    /// The proxy that public hosts are called through.
    pub proxy: Option<ProxySettings>,
    /// Which identity providers may get the token of the operator's `ServiceAccount`.
    pub service_account_tokens: Vec<TokenGrant>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin_address: SocketAddr,
    /// The lease that makes one replica act.
    pub lease: LeaseSettings,
    /// How long the absence of a job in Tableau's list is not trusted after a lost answer.
    pub settle: Duration,
    /// How long a deletion waits for a service that cannot be reached before it leaves the object behind.
    pub cleanup_deadline: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// How long what is in flight may go on after SIGTERM.
    pub shutdown_grace: Duration,
}

/// Which namespaces are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Cluster,
    /// Exactly this one.
    Namespace(String),
}

/// Which lease, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are; differs from start to start unless given.
    pub identity: String,
}

/// The flags of `feedwater run`.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// Serve this namespace only. Unset: the whole cluster
    #[arg(long, env = "FEEDWATER_NAMESPACE", value_name = "NAMESPACE", value_parser = dns_label)]
    namespace: Option<String>,
    /// Name of this installation in the marks on Prefect deployments; must differ between clusters that share a workspace, and must not
    /// change. Unset: UID of the `kube-system` Namespace
    #[arg(long, env = "FEEDWATER_INSTANCE", value_name = "NAME", value_parser = dns_label)]
    instance: Option<String>,
    /// The only hosts that may be called, also by http or at private addresses. Unset: any public host, by https
    #[arg(long, env = "FEEDWATER_ALLOWED_HOSTS", value_name = "HOST[:PORT],…", value_delimiter = ',')]
    allowed_hosts: Vec<AllowedHost>,
    /// A token of this operator's service account, in a file of a projected volume, for sites that sign in by
    /// `oauthTrust.serviceAccountToken`: its audience, the identity provider it may be sent to, and the namespaces that may ask for it (`*`: all).
    /// May be given more than once, in the variable separated by semicolons
    #[arg(
        long = "service-account-token",
        env = "FEEDWATER_SERVICE_ACCOUNT_TOKEN",
        value_name = "audience=AUDIENCE,file=PATH,token-url=URL,namespace=NAMESPACE",
        value_delimiter = ';'
    )]
    service_account_tokens: Vec<TokenGrant>,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "FEEDWATER_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,
    /// Namespace of the Lease that makes one replica act, and of the Secrets and `ConfigMaps` that cluster connections name. Unset:
    /// `$POD_NAMESPACE`, else the namespace served
    #[arg(long, env = "FEEDWATER_LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = dns_label)]
    lease_namespace: Option<String>,
    /// Name of that Lease
    #[arg(long, env = "FEEDWATER_LEASE_NAME", value_name = "NAME", default_value = "feedwater", value_parser = dns_label)]
    lease_name: String,
    /// Who this process is to the Lease; must be unique. Unset: `$POD_NAME`, else the host name, and a random part
    #[arg(long, env = "FEEDWATER_IDENTITY", value_name = "NAME")]
    identity: Option<String>,
    /// How long a job missing from Tableau's list is not believed missing after an answer was lost
    #[arg(long, env = "FEEDWATER_SETTLE", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    settle: Duration,
    /// How long the deletion of a resource waits for a service that cannot be reached, before its object there is left behind
    #[arg(long, env = "FEEDWATER_CLEANUP_DEADLINE", value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    cleanup_deadline: Duration,
    /// How log lines look
    #[arg(long, env = "FEEDWATER_LOG_FORMAT", value_name = "FORMAT", default_value = "json", value_enum)]
    log_format: LogFormat,
    /// Which log lines there are, for example info,feedwater=debug. Unset: `$RUST_LOG`, else info
    #[arg(long, env = "FEEDWATER_LOG_FILTER", value_name = "FILTER")]
    log_filter: Option<String>,
    /// How long what is in flight may go on after SIGTERM
    #[arg(long, env = "FEEDWATER_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    shutdown_grace: Duration,
}

impl RunArgs {
    /// The settings; what is not given is looked up in the environment of the process (`POD_NAME`, `POD_NAMESPACE`, `HOSTNAME`, `RUST_LOG`),
    /// and the proxy only there (`HTTPS_PROXY`, `NO_PROXY`, or in small letters).
    ///
    /// # Errors
    /// There is no namespace for the lease, or the proxy cannot be used.
    pub fn settle(self, environment: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingsError> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let lease_namespace = self
            .lease_namespace
            .or_else(|| set("POD_NAMESPACE"))
            .or_else(|| self.namespace.clone())
            .ok_or(SettingsError::NoLeaseNamespace)?;
        let identity = self.identity.unwrap_or_else(|| {
            let host = set("POD_NAME").or_else(|| set("HOSTNAME")).unwrap_or_else(|| "feedwater".to_owned());
            format!("{host}_{}", uuid::Uuid::new_v4().simple())
        });
        Ok(Settings {
            proxy: proxy(&environment)?,
            service_account_tokens: self.service_account_tokens,
            scope: self.namespace.map_or(Scope::Cluster, Scope::Namespace),
            instance: self.instance,
            allowed_hosts: self.allowed_hosts,
            admin_address: self.admin_address,
            lease: LeaseSettings { namespace: lease_namespace, name: self.lease_name, identity },
            settle: self.settle,
            cleanup_deadline: self.cleanup_deadline,
            log_format: self.log_format,
            log_filter: self.log_filter.or_else(|| set("RUST_LOG")).unwrap_or_else(|| "info".to_owned()),
            shutdown_grace: self.shutdown_grace,
        })
    }
}

/// The proxy of the environment: `HTTPS_PROXY` and `NO_PROXY`, or in small letters.
///
/// # Errors
/// It cannot be used.
pub fn proxy(environment: impl Fn(&str) -> Option<String>) -> Result<Option<ProxySettings>, BadProxy> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let either = |name: &str| set(name).or_else(|| set(&name.to_ascii_lowercase()));
    let no_proxy = either("NO_PROXY").unwrap_or_default();
    either("HTTPS_PROXY").map(|proxy| ProxySettings::new(&proxy, &no_proxy)).transpose()
}

/// Settings that do not fit together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Nothing says where the lease lives.
    #[error("nothing says where the Lease lives: set --lease-namespace, $POD_NAMESPACE or --namespace")]
    NoLeaseNamespace,
    /// The proxy of the environment.
    #[error(transparent)]
    Proxy(#[from] BadProxy),
}

/// A DNS label (or UUID): also what may stand between slashes in a mark.
pub(crate) fn dns_label(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 63
        || !text.chars().all(fits)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err("must be at most 63 of a-z, 0-9 and -, and neither begin nor end with -".to_owned());
    }
    Ok(text.to_owned())
}

/// What Kubernetes takes for the name of an object.
pub(crate) fn object_name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err("must be a name that Kubernetes takes: at most 253 of a-z, 0-9, - and ., and what is between dots neither begins nor ends with -".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
