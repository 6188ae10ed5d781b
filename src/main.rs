//! The operator.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: reqwest and kube take the process's provider. It fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    feedwater::cli::main()
}
