//! What both clients share: vetted addresses, timeouts, capped bodies, redaction.

/// The request was not sent, and why.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// The host is not allowed: https to public addresses only, others by `--allowed-hosts`.
    #[error("host `{0}` is not allowed; add it to the operator's --allowed-hosts")]
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
