//! Why there is no answer: not sent at all, or perhaps sent.

use std::error::Error;
use std::io;

/// The request was not sent, and why.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// The host is not allowed: https to public addresses and past the proxy only, others by `--allowed-hosts`.
    #[error(
        "host `{0}` is not allowed; name it, and every other host that is called, in the operator's --allowed-hosts"
    )]
    HostNotAllowed(String),
    /// The name does not resolve.
    #[error("the host name does not resolve")]
    Dns,
    /// TLS failed: untrusted or wrong certificate.
    #[error("the TLS handshake failed")]
    Tls,
    /// No connection.
    #[error("the connection was refused or timed out")]
    Connect,
}

/// There is no whole answer.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request left.
    #[error(transparent)]
    NotSent(#[from] Unreachable),
    /// The request may or may not have arrived: the connection ended, or the answer is cut off or too long.
    #[error("no answer came")]
    Unanswered,
    /// The request may or may not have arrived: no whole answer came in time.
    #[error("no answer came in time")]
    TimedOut,
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let causes = || causes(&error);
        if let Some(ours) = causes().find_map(|e| e.downcast_ref::<Unreachable>()) {
            return Self::NotSent(ours.clone());
        }
        if error.is_dns() {
            return Self::NotSent(Unreachable::Dns);
        }
        if error.is_connect() {
            return Self::NotSent(if causes().any(is_tls) { Unreachable::Tls } else { Unreachable::Connect });
        }
        if error.is_builder() {
            return Self::NotSent(Unreachable::Connect);
        }
        if error.is_timeout() { Self::TimedOut } else { Self::Unanswered }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn Error + 'static)| (*e).source())
}

/// rustls hides in `io::Error`, whose `source` skips what it wraps.
pub(crate) fn is_tls(error: &(dyn Error + 'static)) -> bool {
    error.is::<rustls::Error>()
        || error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).is_some_and(|inner| is_tls(inner))
}
