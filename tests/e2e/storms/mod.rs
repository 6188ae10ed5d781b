//! Storms over the real thing: a service answers badly, slowly or not at all, flows complete meanwhile, then the sky clears. What is wrong
//! is said where people look, nobody is asked in a hot loop, and each completion comes to exactly one refresh.
//!
//! Others of the kind are beside what they are about: a job that vanishes, a job list that may not be read, a revoked token and a minute
//! without Tableau in `faults`.

mod cluster;
mod prefect;
mod tableau;

use crate::stage::{Setting, Stage, is};
use feedwater::api::{FlowDeployment, PrefectWorkspace, TableauSite};
use serde_json::json;
use world::proxy::Proxy;

/// An extract in sync, with a proxy before Prefect and one before Tableau.
struct Storm {
    stage: Stage,
    prefect: Proxy,
    tableau: Proxy,
    /// The extract's LUID.
    orders: String,
    /// Its flow's deployment.
    flow: String,
}

impl Storm {
    async fn over(name: &str) -> Self {
        Self::with(name, Setting::default()).await
    }

    async fn with(name: &str, setting: Setting) -> Self {
        let info = Stage::info();
        let prefect = Proxy::start(info.prefect_api_url.as_deref().unwrap()).await.unwrap();
        let setting = Setting { prefect_url: Some(prefect.url().to_owned()), ..setting };
        let stage = Stage::set_with(name, setting).await;
        let tableau = Proxy::start(&stage.tableau.url()).await.unwrap();
        stage.change::<TableauSite>("acme", json!({"spec": {"serverUrl": tableau.url()}})).await;
        let (orders, flow) = stage.orders().await;
        stage.connected().await;
        Self { stage, prefect, tableau, orders, flow }
    }

    /// Prefect's connection says this reason.
    async fn prefect_is(&self, status: &str, reason: &str) {
        self.stage.until::<PrefectWorkspace>("prod", reason, |w| is(w, "Ready", status, reason)).await;
    }

    /// Tableau's connection says this reason.
    async fn tableau_is(&self, status: &str, reason: &str) {
        self.stage.until::<TableauSite>("acme", reason, |s| is(s, "Ready", status, reason)).await;
    }

    /// The sky is clear: everything is in order again, with this many refreshes in all, and the next round is as ever.
    async fn has_passed(&self, refreshes: usize) {
        let stage = &self.stage;
        stage.connected().await;
        stage.until::<FlowDeployment>("orders", "InSync", |f| is(f, "Ready", "True", "InSync")).await;
        stage.refreshes(&self.orders, refreshes).await;
        stage.fresh("orders").await;
        assert_eq!(stage.refreshed(&self.orders), refreshes, "{}", stage.log_tail());
        stage.one_more("orders", &self.flow, &self.orders, refreshes).await;
        let metrics = stage.operator.metrics().await.unwrap();
        let mut panics = metrics.lines().filter(|line| line.starts_with("feedwater_reconcile_panics_total{"));
        assert!(panics.all(|line| line.ends_with(" 0")), "{metrics}");
    }

    /// The greatest memory the operator has ever had, in MiB.
    fn peak_memory(&self) -> u64 {
        let pid = self.stage.operator.pid().load(std::sync::atomic::Ordering::SeqCst);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}
