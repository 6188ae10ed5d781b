//! Many objects at once.

use crate::server::{Server, refused, version, word};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| word(&item["metadata"]["name"])).collect()
}

pub async fn a_list_has_a_version_to_watch_from(server: &Server) {
    let empty = server.get(&server.all()).await.unwrap();
    assert_eq!((&empty["kind"], names(&empty).len()), (&json!("ExtractRefreshList"), 0));
    server.created("b").await;
    let last = server.created("a").await;
    let filled = server.get(&server.all()).await.unwrap();
    assert_eq!(names(&filled), ["a", "b"], "in the order of their names");
    assert!(version(&filled) >= version(&last));
    let everywhere = server.get("/apis/feedwater.dev/v1alpha1/extractrefreshes").await.unwrap();
    assert!(names(&everywhere).len() >= 2);
}

pub async fn pages_show_one_moment(server: &Server) {
    for name in ["a", "b", "c"] {
        server.created(name).await;
    }
    let first = server.get(&format!("{}?limit=2", server.all())).await.unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    let token = word(&first["metadata"]["continue"]);
    assert!(!token.is_empty());
    // What comes later is not on the next page.
    server.created("d").await;
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", "2")
        .append_pair("continue", &token)
        .finish();
    let second = server.get(&format!("{}?{query}", server.all())).await.unwrap();
    assert_eq!(names(&second), ["c"]);
    assert_eq!(version(&second), version(&first));
    assert_eq!(word(&second["metadata"]["continue"]), "");
}

pub async fn one_object_is_selected_by_name(server: &Server) {
    server.created("a").await;
    server.created("b").await;
    let list = server.get(&format!("{}?fieldSelector=metadata.name%3Db", server.all())).await.unwrap();
    assert_eq!(names(&list), ["b"]);
}

pub async fn secrets_are_kept_as_they_are(server: &Server) {
    let secrets = server.in_namespace("api/v1", "secrets");
    let data = json!({"token": BASE64_STANDARD.encode("value")});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pat"}, "data": data});
    server.post(&secrets, &secret).await.unwrap();
    let kept = server.get(&format!("{secrets}/pat")).await.unwrap();
    assert_eq!(kept["data"], data);
    assert_eq!(server.get(&format!("{secrets}/other")).await, refused(404, "NotFound"));
}
