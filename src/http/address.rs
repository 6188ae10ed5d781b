//! Which hosts and addresses may be dialled (API.md rule 8). The address that was vetted is the address that is dialled.

use super::Unreachable;
use super::proxy::{ProxySettings, Through};
use futures::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use url::{Host, Url};

/// Turns a host name into addresses; the system's resolver unless a test puts another in its place.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The rule for outgoing calls. With no allowed host named: https to public addresses only, and not through a proxy, since the address it dials
/// cannot be vetted. Otherwise: the named hosts only, by http or https and at any address.
#[derive(Clone)]
pub struct AddressPolicy {
    allowed: Arc<[AllowedHost]>,
    proxy: Option<ProxySettings>,
    lookup: Lookup,
}

impl AddressPolicy {
    /// The policy of `--allowed-hosts`.
    pub fn new(allowed: impl IntoIterator<Item = AllowedHost>) -> Self {
        Self { allowed: allowed.into_iter().collect(), proxy: None, lookup: Arc::new(system_lookup) }
    }

    /// The same policy with the environment's proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Option<ProxySettings>) -> Self {
        self.proxy = proxy;
        self
    }

    /// The proxy that a URL is called through; `None`: directly.
    pub(super) fn proxy(&self, url: &Url) -> Option<Through> {
        self.proxy.as_ref()?.of(url)
    }

    pub(super) fn proxy_settings(&self) -> Option<&ProxySettings> {
        self.proxy.as_ref()
    }

    /// The same policy with another resolver.
    #[must_use]
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }

    /// What can be said of a URL without resolving its name. IP literals are decided here: they are never resolved.
    ///
    /// # Errors
    /// The host is not allowed.
    pub fn check(&self, url: &Url) -> Result<(), Unreachable> {
        let refuse = || Unreachable::HostNotAllowed(url.host_str().unwrap_or_default().to_owned());
        let host = url.host().ok_or_else(refuse)?;
        let allowed = match url.scheme() {
            "http" | "https" if !self.allowed.is_empty() => {
                self.allowed.iter().any(|a| a.matches(&host, url.port_or_known_default()))
            }
            "https" if self.proxy(url).is_some() => false,
            "https" => match host {
                Host::Domain(_) => true,
                Host::Ipv4(ip) => is_public(ip.into()),
                Host::Ipv6(ip) => is_public(ip.into()),
            },
            _ => false,
        };
        if allowed { Ok(()) } else { Err(refuse()) }
    }

    /// The addresses of a host that may be dialled; never empty. To be called after [`Self::check`].
    ///
    /// # Errors
    /// The name does not resolve, or to no address that is allowed.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unreachable> {
        let found = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => (self.lookup)(host.to_owned()).await.map_err(|_| Unreachable::Dns)?,
        };
        if found.is_empty() {
            return Err(Unreachable::Dns);
        }
        // A name may resolve anew to a private address after it was checked (rebinding): so each address is vetted here.
        let vetted: Vec<_> = found
            .into_iter()
            .filter(|ip| !self.allowed.is_empty() || is_public(*ip))
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        if vetted.is_empty() { Err(Unreachable::HostNotAllowed(host.to_owned())) } else { Ok(vetted) }
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressPolicy").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl reqwest::dns::Resolve for AddressPolicy {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let policy = self.clone();
        Box::pin(async move {
            // Port 0: reqwest puts the URL's in.
            let vetted = policy.resolve(name.as_str(), 0).await?;
            Ok(Box::new(vetted.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

fn system_lookup(host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|a| a.ip()).collect()) })
}

/// One entry of `--allowed-hosts`: `host` (any port) or `host:port`; IPv6 addresses in brackets when a port follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    host: Host<String>,
    port: Option<u16>,
}

impl AllowedHost {
    fn matches(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        let same = match (&self.host, host) {
            (Host::Domain(ours), Host::Domain(theirs)) => ours == theirs.trim_end_matches('.'),
            (Host::Ipv4(ours), Host::Ipv4(theirs)) => ours == theirs,
            (Host::Ipv6(ours), Host::Ipv6(theirs)) => ours == theirs,
            _ => false,
        };
        same && (self.port.is_none() || self.port == port)
    }
}

/// Text that is no entry of `--allowed-hosts`.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("`{0}` is neither `host` nor `host:port`")]
pub struct BadAllowedHost(String);

impl FromStr for AllowedHost {
    type Err = BadAllowedHost;

    fn from_str(text: &str) -> Result<Self, BadAllowedHost> {
        let bad = || BadAllowedHost(text.to_owned());
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ipv6(ip), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| bad())?)),
            _ => (text, None),
        };
        let host = Host::parse(host.trim_end_matches('.')).map_err(|_| bad())?;
        Ok(Self { host, port })
    }
}

/// Whether an address is on the public internet: not private, local, shared, reserved, for documentation, multicast, nor one of these
/// wrapped in IPv6 (IANA's special-purpose registries).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-mapped, NAT64 and 6to4: as the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Everything else that is global unicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
