//! A plain HTTP client of the simulator: it knows no more of Tableau than a reader of its documentation.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use world::tableau::{Config, Simulator};

/// An API version and a token to call it with.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub token: String,
    pub site: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Tableau's code, from JSON.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    /// Not signed in.
    pub fn new(tableau: &Simulator, version: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = format!("{}/api/{version}", tableau.url());
        Self { http: reqwest::Client::new(), base, token: String::new(), site: String::new() }
    }

    /// Signed in with a token that is added for it.
    pub async fn signed_in(tableau: &Simulator, site: &str, version: &str) -> Self {
        tableau.add_pat(site, "test", "secret", "tester");
        let mut client = Self::new(tableau, version);
        let content_url = "acme";
        let answer = client.sign_in(content_url, "test", "secret").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let credentials = &answer.json()["credentials"];
        client.token = credentials["token"].as_str().unwrap().into();
        client.site = credentials["site"]["id"].as_str().unwrap().into();
        client
    }

    pub async fn sign_in(&self, content_url: &str, name: &str, secret: &str) -> Answer {
        let body = json!({"credentials": {"personalAccessTokenName": name, "personalAccessTokenSecret": secret,
            "site": {"contentUrl": content_url}}});
        self.json(Method::POST, "/auth/signin", &body).await
    }

    /// GET below the site, with JSON as the answer.
    pub async fn get(&self, path: &str) -> Answer {
        let path = format!("/sites/{}{path}", self.site);
        self.call(Method::GET, &path, &[("accept", "application/json")], String::new()).await.unwrap()
    }

    /// POST below the site, JSON in and out.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, &format!("/sites/{}{path}", self.site), body).await
    }

    /// A full refresh of a data source.
    pub async fn refresh(&self, datasource: &str) -> Answer {
        self.post(&format!("/datasources/{datasource}/refresh"), &json!({})).await
    }

    pub async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("accept", "application/json"), ("content-type", "application/json")];
        self.call(method, path, &headers, body.to_string()).await.unwrap()
    }

    /// Any request; `path` follows the API version.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body);
        if !self.token.is_empty() {
            request = request.header("x-tableau-auth", &self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }
}

/// A simulator with one site, `acme`, and a client that is signed in there.
pub async fn start(config: Config) -> (Simulator, Client) {
    let tableau = Simulator::start(config).await.unwrap();
    let site = tableau.add_site("acme");
    let client = Client::signed_in(&tableau, &site, "3.27").await;
    (tableau, client)
}

/// What a GET of any URL says.
pub async fn text(url: &str) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

// A test stands beside the simulator: the time it compares with is its own.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    Timestamp::now()
}
