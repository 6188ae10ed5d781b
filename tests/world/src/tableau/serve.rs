//! The sockets. Each connection goes through a pump, so that a connection can be reset at any moment, whatever the
//! HTTP server above it is doing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::config::Availability;
use super::shared::Shared;

/// A listener on 127.0.0.1 whose connections end when `stop` is dropped.
pub(super) struct Gate {
    listener: TcpListener,
    stop: watch::Receiver<()>,
    /// Whose availability it is subject to; the admin API is subject to none.
    subject: Option<Arc<Shared>>,
}

impl Gate {
    pub(super) async fn bind(
        port: Option<u16>,
        stop: watch::Receiver<()>,
        subject: Option<Arc<Shared>>,
    ) -> io::Result<(Self, String)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        Ok((Self { listener, stop, subject }, url))
    }

    /// Serves until the task is aborted.
    pub(super) async fn serve(self, router: Router) {
        // axum's server returns only with graceful shutdown, which is not asked for.
        let _ = axum::serve(self, router).await;
    }
}

impl Listener for Gate {
    type Io = DuplexStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (DuplexStream, SocketAddr) {
        loop {
            let Ok((outside, address)) = self.listener.accept().await else {
                // Out of file descriptors, most likely: some are given back as connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Answers are small and are written whole: waiting for more only adds latency.
            let _ = outside.set_nodelay(true);
            let (inside, server) = tokio::io::duplex(64 * 1024);
            tokio::spawn(pump(outside, inside, self.stop.clone(), self.subject.clone()));
            return (server, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn pump(
    mut outside: TcpStream,
    mut inside: DuplexStream,
    mut stop: watch::Receiver<()>,
    subject: Option<Arc<Shared>>,
) {
    let reset = async {
        match &subject {
            Some(shared) => {
                let mut availability = shared.availability.subscribe();
                let _ = availability.wait_for(|now| *now == Availability::Reset).await;
                shared.change(|state, _| state.connections_reset += 1);
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // First, so that a connection made while everything is reset is not read from.
        biased;
        () = reset => {
            // Closing with a zero linger time sends RST in place of FIN.
            let _ = outside.set_zero_linger();
        }
        _ = stop.changed() => {}
        _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
    }
}
