//! Reads a whole server, for `feedwater import`. The operator itself reads only what it was told of.

use super::PrefectError;
use super::client::PrefectClient;
use super::wire::{DeploymentRow, FlowRow};
use crate::model::deployments::Found;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Which deployments; an empty list: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Of a flow of one of these names.
    pub flows: Vec<String>,
    /// Of one of these names.
    pub names: Vec<String>,
    /// In one of these work pools.
    pub work_pools: Vec<String>,
}

impl Filter {
    fn body(&self) -> Value {
        let mut body = Map::new();
        let mut deployments = Map::new();
        let any = |names: &[String]| json!({"name": {"any_": names}});
        if !self.tags.is_empty() {
            deployments.insert("tags".into(), json!({"all_": self.tags}));
        }
        if !self.names.is_empty() {
            deployments.insert("name".into(), json!({"any_": self.names}));
        }
        if !deployments.is_empty() {
            body.insert("deployments".into(), deployments.into());
        }
        if !self.flows.is_empty() {
            body.insert("flows".into(), any(&self.flows));
        }
        if !self.work_pools.is_empty() {
            body.insert("work_pools".into(), any(&self.work_pools));
        }
        body.into()
    }
}

impl PrefectClient {
    /// Every deployment that the filter takes, in no order.
    ///
    /// # Errors
    /// A page could not be read, or a deployment's flow was not among the flows: it was made or deleted meanwhile ([`PrefectError::Conflict`]).
    pub async fn find(&self, filter: &Filter) -> Result<Vec<Found>, PrefectError> {
        let filter = filter.body();
        let rows: Vec<DeploymentRow> =
            self.all("list_deployments", &["deployments", "filter"], &filter).await?;
        let flows: Vec<FlowRow> = self.all("list_flows", &["flows", "filter"], &filter).await?;
        let flows: HashMap<String, String> = flows.into_iter().map(|flow| (flow.id, flow.name)).collect();
        let mut found = HashMap::new();
        for row in rows {
            let flow = flows.get(&row.flow_id).ok_or(PrefectError::Conflict)?;
            let beyond = row.beyond();
            let deployment = row.into_model(flow);
            // A page that shifts while it is read shows a row twice.
            found.insert(deployment.id.clone(), Found { deployment, beyond });
        }
        Ok(found.into_values().collect())
    }
}
