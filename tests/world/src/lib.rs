//! The world Feedwater is developed against: a real control plane, a real Prefect, a Tableau simulator, the operator itself.
//!
//! [`World::start`] starts the parts that [`Options`] name and stops all of them when the value is dropped. The
//! program `world` (`cargo world`) is a thin layer over this library, and so are the end-to-end tests. Nothing here
//! knows a type of the `feedwater` library: what is proved is proved from outside.

pub mod apiserver;
pub mod audit;
pub mod cache;
pub mod cargo;
pub mod clock;
pub mod cluster;
pub mod controlplane;
pub mod faults;
pub mod idp;
pub mod info;
pub mod layout;
pub mod operator;
pub mod overlay;
pub mod ports;
pub mod prefect;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod python;
pub mod resources;
pub mod running;
pub mod supervise;
pub mod tableau;
pub mod tools;

pub use cluster::Kubectl;
pub use controlplane::ControlPlane;
pub use info::Info;
pub use operator::{Operator, OperatorOptions};
pub use progress::Progress;
pub use running::{Options, World, WorldError};

/// Makes ring the TLS provider of this process; does nothing when one is installed already.
///
/// reqwest is built without a provider, so this comes before the first client.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
