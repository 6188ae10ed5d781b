//! The real operator in a real world: one namespace, one simulator and one operator process a test; control plane and Prefect are shared.
//! Run by `cargo world test`. "Nothing happened" is always bounded by a later thing that did happen.

mod cel;
mod stage;

mod faults;
mod triggers;
mod triggers_help;
mod triggers_retry;
mod triggers_targets;

use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_and_refuses_what_the_table_says() {
    let (kubectl, kubeconfig) = Stage::cluster();
    cel::cel_tables(&kubectl, &kubeconfig).await;
}
