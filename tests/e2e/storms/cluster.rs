//! The API server.

use super::Storm;
use crate::stage::{Setting, Stage, is};
use feedwater::api::ExtractRefresh;
use std::time::Duration;
use world::proxy::{Action, Proxy, Rule};
use world::{Options, World};

/// Killed, and started again a while later; what it knew is in etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_killed_and_started_again() {
    let mut world = World::start(Options::default()).await.unwrap();
    let mut info = world.info().clone();
    info.prefect_api_url = Stage::info().prefect_api_url;
    let mut stage = Stage::set_in(info, "apiserver", Setting::default()).await;
    let (orders, flow) = stage.orders().await;
    world.control_plane_mut().kill_apiserver();
    stage.prefect.complete(&flow).await.unwrap();
    // Without the API server it cannot renew its lease, and ends as it must; Kubernetes starts it again.
    stage.operator.ended().await;
    world.control_plane_mut().start_apiserver().await.unwrap();
    stage.operator.restart().await.unwrap();
    stage.fresh("orders").await;
    assert_eq!(stage.refreshed(&orders), 1);
    stage.one_more("orders", &flow, &orders, 1).await;
}

/// Each answer takes two seconds: slower than any pass, and faster than the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_slow() {
    let proxy = Proxy::of_cluster(&Stage::info().kubeconfig).await.unwrap();
    let setting = Setting { api_server: Some(proxy.url().to_owned()), ..Setting::default() };
    let storm = Storm::with("slow", setting).await;
    let slow = proxy.add(Rule::on("*", "/**", Action::Delay(Duration::from_secs(2))).when(|e| !e.is_watch()));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    let covered = |e: &ExtractRefresh| is(e, "Fresh", "True", "UpToDate");
    storm.stage.extract("orders", "Fresh", covered).await;
    slow.remove();
    storm.has_passed(1).await;
}

/// Slower than the lease allows: who cannot renew must not act, and whatever was under way is found again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_too_slow_for_the_lease() {
    let proxy = Proxy::of_cluster(&Stage::info().kubeconfig).await.unwrap();
    let setting = Setting { api_server: Some(proxy.url().to_owned()), ..Setting::default() };
    let mut storm = Storm::with("too-slow", setting).await;
    let slow =
        proxy.add(Rule::on("*", "/**", Action::Delay(Duration::from_secs(20))).when(|e| !e.is_watch()));
    storm.stage.prefect.complete(&storm.flow).await.unwrap();
    storm.stage.operator.ended().await;
    slow.remove();
    storm.stage.operator.restart().await.unwrap();
    storm.has_passed(1).await;
}
