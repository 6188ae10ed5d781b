//! The real operator in a real world: one namespace, one simulator and one operator process a test; control plane and Prefect are shared.
//! Run by `cargo world test`. "Nothing happened" is always bounded by a later thing that did happen.

// The whole binary is a test; clippy knows that only of functions marked so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cel;
mod connections;
mod faults;
mod flow_settings;
mod flows;
mod ha;
mod prefect_side;
mod rest;
mod schedules;
mod seen;
mod stage;
mod storms;

mod triggers;
mod triggers_help;
mod triggers_rounds;

use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_and_refuses_what_the_table_says() {
    let (kubectl, kubeconfig) = Stage::cluster();
    cel::cel_tables(&kubectl, &kubeconfig).await;
}
