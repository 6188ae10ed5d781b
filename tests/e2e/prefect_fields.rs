//! What the real Prefect takes for a deployment, field by field, and what it makes of a flow's parameters.

#[path = "../crds/prefect_fields.rs"]
mod table;

use crate::python;
use crate::stage::Stage;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The reviewed list (`docs/prefect-fields.md`) against the server's own `OpenAPI`: whatever Prefect adds or takes away fails here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_that_prefect_takes_is_managed_or_left_out_for_a_reason() {
    let api = Stage::info().prefect_api_url.unwrap();
    let url = format!("{}/openapi.json", api.strip_suffix("/api").unwrap());
    let openapi: Value = reqwest::get(url).await.unwrap().error_for_status().unwrap().json().await.unwrap();
    let schemas = &openapi["components"]["schemas"];
    let mut looked_at = BTreeSet::new();
    for schema in table::SCHEMAS.iter().flat_map(|(schemas, _)| *schemas) {
        let fields = schemas[schema]["properties"].as_object();
        let fields = fields.unwrap_or_else(|| panic!("Prefect has no {schema} any more"));
        let there: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        let (managed, left_out) = table::of_schema(schema);
        let known: BTreeSet<&str> = managed.iter().chain(&left_out).copied().collect();
        assert_eq!(there, known, "{schema}: of the server, and of tests/crds/prefect_fields.rs");
        assert_eq!(known.len(), managed.len() + left_out.len(), "{schema}: a field is listed twice");
        looked_at.insert((*schema).to_owned());
    }
    // A schema that these refer to and nobody has looked at would be a hole.
    for schema in looked_at.clone() {
        for named in references(&schemas[&schema]) {
            let is_enum = schemas[&named]["enum"].is_array();
            assert!(
                is_enum || looked_at.contains(&named),
                "{schema} refers to {named}, which is not looked at"
            );
        }
    }
}

fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// What `docs/prefect-fields.md` tells people to run, for an entrypoint; run as it stands there.
fn command(entrypoint: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prefect-fields.md"))
        .unwrap();
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [command] = blocks.as_slice() else { panic!("one command is shown: {blocks:?}") };
    assert!(command.contains("flows/orders.py:orders"), "{command}");
    command.replace("flows/orders.py:orders", entrypoint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_of_the_page_prints_what_prefect_deploy_sends_and_the_examples_have() {
    let stage = Stage::info();
    let api = stage.prefect_api_url.unwrap();
    let python = python::environment(&api).await;
    std::fs::write(python.folder().join("flows/typed.py"), TYPED).unwrap();
    let rest = world::prefect::Rest::new(&api).unwrap();
    for (flow, entrypoint) in [("orders", "flows/orders.py:orders"), ("typed", "flows/typed.py:typed")] {
        let printed: Value = serde_json::from_str(&python.shell(&command(entrypoint)).await).unwrap();
        let name = format!("schema-of-{flow}");
        python.shell(&format!("prefect --no-prompt deploy {entrypoint} --name {name} --pool etl")).await;
        let there = rest.deployment(flow, &name).await.unwrap().unwrap();
        assert_eq!(printed, there["parameter_openapi_schema"], "{entrypoint}");
        let path = format!("/deployments/{}", there["id"].as_str().unwrap());
        rest.call(reqwest::Method::DELETE, &path, None).await.unwrap();
    }

    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/finance/flow-deployments.yaml");
    let mut shown = 0;
    for example in feedwater::yaml::documents(&std::fs::read_to_string(examples).unwrap()).unwrap() {
        let declared = &example["spec"]["parameterOpenApiSchema"];
        let entrypoint = example["spec"]["entrypoint"].as_str().unwrap();
        let printed: Value = serde_json::from_str(&python.shell(&command(entrypoint)).await).unwrap();
        assert_eq!(*declared, printed, "{entrypoint}");
        shown += 1;
    }
    assert!(shown >= 2);
}

/// Whatever a signature can hold.
const TYPED: &str = r#"
from datetime import date
from enum import Enum
from typing import Optional
from prefect import flow
from pydantic import BaseModel


class Region(Enum):
    EU = "eu"
    US = "us"


class Range(BaseModel):
    first: date
    last: Optional[date] = None


@flow(name="typed")
def typed(days: Range, region: Region = Region.EU, names: list[str] = [], limit: Optional[int] = None) -> None:
    """Loads.

    Args:
        days: Which days
        limit: How many
    """
"#;
