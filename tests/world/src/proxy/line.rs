//! Connections: plain or TLS, to a client or to the server behind the proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A connection, and what has been read from it and not been used.
pub struct Line {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
}

/// Bytes in both directions over one TCP connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// What lies under it.
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Stream for tokio_rustls::client::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Line {
    pub fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: BytesMut::new() }
    }

    /// What has been read and not been used.
    pub fn unused(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Reads once; `false` at the end of the connection.
    pub async fn fill(&mut self) -> std::io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Returns when the other side has closed its end; what it sends meanwhile is kept.
    pub async fn closed(&mut self) {
        while self.fill().await.unwrap_or(false) {}
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes in order: what was sent arrives.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes by RST; what was sent and not yet read is lost.
    pub fn reset(self) {
        let _ = self.stream.tcp().set_zero_linger();
    }

    /// Copies both ways until one side ends.
    pub async fn join(&mut self, other: &mut Line) -> std::io::Result<()> {
        for (from, to) in [(&mut self.buffer, &mut other.stream), (&mut other.buffer, &mut self.stream)] {
            to.write_all(from).await?;
            to.flush().await?;
            from.advance(from.len());
        }
        let (mut mine, mut its) = (BytesMut::new(), BytesMut::new());
        loop {
            // Whatever ends first ends both directions.
            let more = tokio::select! {
                read = self.stream.read_buf(&mut mine) => read? > 0,
                read = other.stream.read_buf(&mut its) => read? > 0,
            };
            if !more {
                return Ok(());
            }
            for (from, to) in [(&mut mine, &mut other.stream), (&mut its, &mut self.stream)] {
                to.write_all(from).await?;
                to.flush().await?;
                from.clear();
            }
        }
    }
}

/// The server behind a proxy.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    /// Set where it talks TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Upstream {
    pub async fn connect(&self) -> std::io::Result<Line> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Line::new(stream)) };
        let name = ServerName::IpAddress(IpAddr::from(self.address.ip()));
        Ok(Line::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }
}

/// Both ends of TLS in front of a world's kube-apiserver, from the files beside its administrator's kubeconfig.
///
/// The proxy shows the server's own certificate: it is valid for every port of 127.0.0.1, and clients trust the authority already.
pub struct Tls {
    pub server: TlsAcceptor,
    pub client: Arc<ClientConfig>,
}

impl Tls {
    /// From PEM files: the authority, a certificate it has signed for 127.0.0.1, and that certificate's key.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> std::io::Result<Self> {
        crate::install_tls_provider();
        let certificates = |path: &Path| -> std::io::Result<Vec<CertificateDer<'static>>> {
            let found = CertificateDer::pem_file_iter(path).map_err(std::io::Error::other)?;
            found.collect::<Result<_, _>>().map_err(std::io::Error::other)
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(authority)?);
        let key = PrivateKeyDer::from_pem_file(key).map_err(std::io::Error::other)?;
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates(certificate)?, key)
            .map_err(std::io::Error::other)?;
        // Without this a client may choose HTTP/2, which is not read here.
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { server: TlsAcceptor::from(Arc::new(server)), client: Arc::new(client) })
    }
}
