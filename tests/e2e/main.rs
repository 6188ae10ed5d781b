//! The real operator in a real world: one namespace, one simulator and one operator process a test; control plane and Prefect are shared.
//! Run by `cargo world test`. "Nothing happened" is always bounded by a later thing that did happen.

// The whole binary is a test; clippy knows that only of functions marked so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cel;
mod chart;
mod connections;
mod deletion;
mod described;
mod faults;
mod flow_semantics;
mod flow_settings;
mod flows;
mod gitops;
mod ha;
mod import;
mod kustomize;
mod owners;
mod people;
mod prefect_fields;
mod prefect_protected;
mod prefect_side;
mod python;
mod reports;
mod rest;
mod rotation;
mod sacred;
mod schedules;
mod seen;
mod sign_in;
mod stage;
mod storms;
mod tenants;

mod triggers;
mod triggers_help;
mod triggers_rounds;
mod triggers_running;
mod triggers_runs;
mod values;
mod warnings;

use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_and_refuses_what_the_table_says() {
    let (kubectl, kubeconfig) = Stage::cluster();
    cel::cel_tables(&kubectl, &kubeconfig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_explains_every_field_of_every_kind() {
    let kubectl = Stage::info().kubectl();
    for crd in feedwater::api::schema::crds().unwrap() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        let told = kubectl.run(&["explain", plural, "--recursive"]).await.unwrap();
        let told: Vec<&str> = told.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let mut fields = Vec::new();
        cel::fields(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut fields);
        assert!(fields.len() > 15, "{plural}: {fields:?}");
        for field in fields {
            assert!(told.contains(&field), "{plural}: {field} is not in {told:?}");
        }
    }
    let told = kubectl.run(&["explain", "fdep.spec.deploymentName"]).await.unwrap();
    assert!(told.contains("Unset: the name of this"), "{told}");
}
