//! Certificates of a private authority.

use super::Unreachable;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Authorities that are believed in beside those of the system.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// The text holds no certificate, or one that cannot be used.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("there is no usable certificate in PEM")]
pub struct BadCertificate;

impl Authorities {
    /// From a bundle in PEM. Other blocks are passed over.
    ///
    /// # Errors
    /// It holds no certificate, or a broken one.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, BadCertificate> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle).collect();
        let certificates = certificates.map_err(|_| BadCertificate)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|_| BadCertificate)?;
        }
        if certificates.is_empty() { Err(BadCertificate) } else { Ok(Self(certificates)) }
    }

    /// For the HTTP client.
    pub(super) fn for_client(&self) -> Result<Vec<reqwest::Certificate>, Unreachable> {
        let read = |certificate: &CertificateDer| reqwest::Certificate::from_der(certificate);
        self.0.iter().map(read).collect::<Result<_, _>>().map_err(|_| Unreachable::Tls)
    }

    /// For a connection that the HTTP client does not make.
    pub(super) fn for_socket(&self) -> Result<Arc<ClientConfig>, Unreachable> {
        let mut roots = RootCertStore::empty();
        // Some of the system's may be unusable; the others count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.0.iter().cloned());
        let provider = rustls::crypto::CryptoProvider::get_default().cloned().ok_or(Unreachable::Tls)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Unreachable::Tls)?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bad in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(Authorities::from_pem(bad.as_bytes()).err(), Some(BadCertificate), "{bad}");
        }
    }
}
