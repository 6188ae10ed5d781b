//! Tableau's own warning on a data source whose data is stale, from the simulator's log of what it was asked.

use crate::stage::{LIMIT, Stage, is, told};
use feedwater::api::{ExtractRefresh, WarningState};
use serde_json::{Value, json};
use std::time::Duration;
use world::tableau::Truth;

/// Data is stale after a minute, the least there is.
const STALE: Duration = Duration::from_secs(120);
const CALLS: [&str; 4] = [
    "queryDataQualityWarnings",
    "addDataQualityWarning",
    "deleteDataQualityWarning",
    "deleteDataQualityWarnings",
];

fn warned(stage: &Stage, name: &str, datasource: &str) -> Value {
    let mut extract = stage.extract_object(name, datasource, &["orders"]);
    extract["spec"]["freshness"] = json!({"failAfter": "1m", "dataQualityWarning": "WhenStale"});
    extract
}

fn state(e: &ExtractRefresh) -> Option<WarningState> {
    e.status.as_ref()?.data_quality_warning.as_ref().map(|w| w.state)
}

fn calls(truth: &Truth) -> Vec<&'static str> {
    truth.requests.iter().map(|request| request.operation).filter(|name| CALLS.contains(name)).collect()
}

/// What the warnings on a data source say.
fn on(truth: &Truth, luid: &str) -> Vec<String> {
    truth.warnings_of(luid).iter().map(|warning| warning.message.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_data_is_shown_in_tableau_and_a_persons_warning_is_left_alone() {
    let stage = Stage::set("warnings").await;
    let (orders, stock) = (stage.datasource("Orders"), stage.datasource("Stock"));
    let flow = stage.flow("orders").await;
    stage.apply(&[warned(&stage, "orders", "Orders"), warned(&stage, "stock", "Stock")]).await;
    for extract in ["orders", "stock"] {
        stage.ready(extract).await;
    }
    stage.prefect.complete(&flow).await.unwrap();
    for extract in ["orders", "stock"] {
        stage.fresh(extract).await;
    }
    let mine = stage.tableau.add_warning(&stock, "MAINTENANCE", "We are moving", "ann");
    assert_eq!(calls(&stage.tableau.truth()), Vec::<&str>::new(), "who is fresh is not asked about");

    let set = |e: &ExtractRefresh| is(e, "Fresh", "False", "Stale") && state(e) == Some(WarningState::Set);
    stage.until_within(STALE, "orders", "shown in Tableau", set).await;
    let truth = stage.tableau.truth();
    let shown = truth.warnings_of(&orders)[0].clone();
    let mark = format!("(Feedwater {0}/{0}/orders)", stage.namespace);
    assert_eq!((shown.kind.as_str(), shown.by.as_str(), shown.active), ("STALE", "feedwater", true));
    assert!(shown.message.ends_with(&mark), "{}", shown.message);
    let theirs = |e: &ExtractRefresh| state(e) == Some(WarningState::Foreign);
    let foreign = stage.until_within(STALE, "stock", "somebody else's", theirs).await;
    assert!(told(&foreign, "Fresh").contains("somebody else's data quality warning"), "{foreign:#?}");
    let asked = calls(&stage.tableau.truth());
    assert_eq!(asked.iter().filter(|call| **call == "addDataQualityWarning").count(), 1, "{asked:?}");

    stage.prefect.complete(&flow).await.unwrap();
    for extract in ["orders", "stock"] {
        stage.fresh(extract).await;
    }
    let gone = |truth: &Truth| truth.warnings_of(&orders).is_empty();
    assert!(stage.tableau.wait_for(LIMIT, gone).await.is_ok(), "{}", stage.log_tail());
    stage.extract("orders", "it is forgotten", |e| state(e).is_none()).await;
    let truth = stage.tableau.truth();
    assert_eq!(truth.warnings.iter().map(|warning| &warning.id).collect::<Vec<_>>(), [&mine]);
    let asked = &calls(&truth)[asked.len()..];
    assert_eq!(asked, ["queryDataQualityWarnings", "deleteDataQualityWarning"]);

    // Stale once more, and gone with its resource.
    stage.tableau.remove_warning(&mine);
    stage.until_within(STALE, "orders", "shown again", set).await;
    stage.delete::<ExtractRefresh>("orders").await;
    assert_eq!(on(&stage.tableau.truth(), &orders), Vec::<String>::new(), "it leaves with its resource");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_data_management_says_so_and_refreshes_go_on() {
    let stage = Stage::set("unlicensed").await;
    stage.tableau.set_data_management(false);
    let orders = stage.datasource("Orders");
    let flow = stage.flow("orders").await;
    stage.apply(&[warned(&stage, "orders", "Orders")]).await;
    stage.ready("orders").await;
    stage.prefect.complete(&flow).await.unwrap();
    stage.fresh("orders").await;
    let refused = |e: &ExtractRefresh| state(e) == Some(WarningState::Refused);
    let refused = stage.until_within(STALE, "orders", "refused", refused).await;
    assert!(
        told(&refused, "Fresh").contains("the site needs Data Management"),
        "{}",
        told(&refused, "Fresh")
    );
    stage.prefect.complete(&flow).await.unwrap();
    stage.refreshes(&orders, 2).await;
    let fresh = stage.fresh("orders").await;
    assert_eq!((state(&fresh), calls(&stage.tableau.truth()).len()), (None, 1));
}
