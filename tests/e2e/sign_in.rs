//! Signing in to Tableau in every way, against a real identity provider and with a `ServiceAccount` token of the real cluster.

use crate::stage::{SITE, Setting, Stage, is, told};
use feedwater::api::{ExtractRefresh, TableauSite};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use world::idp::IdentityProvider;
use world::operator::SERVICE_ACCOUNT;
use world::resources;
use world::{Kubectl, Progress};

pub const USER: &str = "svc@acme.com";
const SECRETS: [&str; 4] = ["tableau-pat", "prefect", "app", "idp"];

/// A stage with an identity provider that the simulator's site trusts, as the connected app `app-1`, and an extract.
pub struct Scene {
    pub stage: Stage,
    idp: IdentityProvider,
    /// Where the operator looks for its `ServiceAccount` token.
    token: PathBuf,
    orders: String,
}

impl Scene {
    pub async fn set(name: &str) -> Self {
        let directory = Stage::info().directory;
        let idp = IdentityProvider::start(&directory, &Progress::silent()).await.unwrap();
        let token = directory.join(format!("{name}-token-{}", world::ports::random()));
        let grant = format!(
            "audience={},file={},token-url={},namespace=*",
            idp.issuer,
            token.display(),
            idp.token_url
        );
        let mut setting = Setting::default();
        setting.operator_args.extend(["--service-account-token".into(), grant]);
        let stage = Stage::set_with(name, setting).await;
        let tableau = &stage.tableau;
        tableau.add_user(SITE, USER);
        tableau.add_connected_app(SITE, "app-1", "secret-1", "value-1");
        tableau.register_authorization_server(SITE, &idp.issuer, &idp.jwks_url);
        let orders = stage.datasource("Orders");
        stage.flow("orders").await;
        stage.declare("orders", "Orders", &["orders"]).await;
        let ns = &stage.namespace;
        stage
            .apply(&[
                resources::secret_reader(ns, &SECRETS, ns),
                app(ns, "secret-1", "value-1"),
                idp_client(ns, "s3cret/+ x"),
            ])
            .await;
        Self { stage, idp, token, orders }
    }

    /// How the identity provider is set up; `claims` and more are changed by `with`.
    pub async fn provider(&self, with: Value) {
        let account = format!("system:serviceaccount:{}:{SERVICE_ACCOUNT}", self.stage.namespace);
        let mut setup = json!({
            "clients": [{"id": "feedwater", "secret": "s3cret/+ x"}, {"id": "operator", "serviceAccount": account}],
            "claims": {"sub": USER},
            "cluster": cluster(&self.stage.kubectl).await,
        });
        setup.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        self.idp.set_up(&setup).await.unwrap();
    }

    /// Signs in another way from now on.
    pub async fn sign_in(&self, auth: &Value) {
        let mut all = json!({"personalAccessToken": null, "connectedApp": null, "oauthTrust": null});
        all.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        self.stage.change::<TableauSite>("acme", json!({"spec": {"auth": all}})).await;
    }

    fn trust(&self, more: &Value) -> Value {
        // A merge patch: what was set before goes.
        let mut trust = json!({"username": USER, "tokenUrl": self.idp.token_url, "secretRef": null,
            "serviceAccountToken": null, "scopes": null});
        trust.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "oauthTrust": trust })
    }

    pub fn by_client(&self) -> Value {
        self.trust(&json!({"secretRef": {"name": "idp"}}))
    }

    pub async fn connected(&self) {
        self.stage.until::<TableauSite>("acme", "Ready", |s| is(s, "Ready", "True", "Connected")).await;
    }

    /// Waits until the site says that it fails, and why.
    async fn failed(&self, reason: &str, names: &str) {
        let site = self.stage.until::<TableauSite>("acme", reason, |s| is(s, "Ready", "False", reason)).await;
        assert!(told(&site, "Ready").contains(names), "{}", told(&site, "Ready"));
        let status = serde_json::to_string(&site.status).unwrap();
        assert!(["value-", "s3cret", "eyJ"].iter().all(|secret| !status.contains(secret)), "{status}");
    }

    /// Asks for a refresh, and waits for its good end.
    async fn refresh(&self, token: &str) {
        let before = self.stage.refreshed(&self.orders);
        self.stage.ask("orders", token).await;
        self.stage.refreshes(&self.orders, before + 1).await;
        self.stage
            .extract("orders", "refreshed", |e| {
                is(e, "LastRefreshSucceeded", "True", "Succeeded")
                    && is(e, "Refreshing", "False", "")
                    && handled(e, token)
            })
            .await;
    }
}

fn handled(extract: &ExtractRefresh, token: &str) -> bool {
    extract.status.as_ref().is_some_and(|s| s.last_handled_refresh_token.as_deref() == Some(token))
}

pub fn app(namespace: &str, secret_id: &str, secret_value: &str) -> Value {
    let keys = [("clientId", "app-1"), ("secretId", secret_id), ("secretValue", secret_value)];
    resources::secret(namespace, "app", &keys)
}

pub fn idp_client(namespace: &str, secret: &str) -> Value {
    resources::secret(namespace, "idp", &[("clientId", "feedwater"), ("clientSecret", secret)])
}

pub fn by_app() -> Value {
    json!({"connectedApp": {"username": USER, "secretRef": {"name": "app"}}})
}

/// What an identity provider has to know of a cluster to believe its `ServiceAccount` tokens.
async fn cluster(kubectl: &Kubectl) -> Value {
    let raw = async |path: &str| -> Value {
        serde_json::from_str(&kubectl.run(&["get", "--raw", path]).await.unwrap()).unwrap()
    };
    json!({
        "issuer": raw("/.well-known/openid-configuration").await["issuer"],
        "jwks": raw("/openid/v1/jwks").await,
    })
}

/// Does the kubelet's part: the operator's token for the identity provider, in a file.
async fn project(stage: &Stage, audience: &str, file: &Path) {
    let create = ["create", "token", SERVICE_ACCOUNT, "-n", &stage.namespace, "--audience", audience];
    std::fs::write(file, stage.kubectl.run(&create).await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_signs_in_and_refreshes() {
    let scene = Scene::set("ways").await;
    scene.connected().await;
    scene.refresh("pat").await;

    scene.sign_in(&by_app()).await;
    scene.connected().await;
    scene.refresh("app").await;

    scene.provider(json!({"alg": "RS256"})).await;
    scene.sign_in(&scene.by_client()).await;
    scene.connected().await;
    scene.refresh("client").await;

    // Another key, of another kind: Tableau looks for it.
    scene.provider(json!({"alg": "ES256"})).await;
    scene.stage.tableau.end_sessions(SITE);
    scene.refresh("another-key").await;

    let account = scene.trust(&json!({"serviceAccountToken": {"audience": scene.idp.issuer}}));
    scene.sign_in(&account).await;
    scene.failed("CredentialsInvalid", "mount").await;
    project(&scene.stage, &scene.idp.issuer, &scene.token).await;
    scene.connected().await;
    scene.refresh("account").await;

    // Each refresh was sent as the user of that way, and none was refused.
    let truth = scene.stage.tableau.truth();
    let refused = |r: &&world::tableau::Request| r.operation == "refreshDatasource" && r.status >= 400;
    assert!(
        truth.requests.iter().filter(refused).count() <= 1,
        "the one whose session was ended: {truth:#?}"
    );
    let by: Vec<&str> = truth.refreshes_of(&scene.orders).iter().map(|r| r.by.as_str()).collect();
    assert_eq!(by, ["feedwater", USER, USER, USER, USER]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_token_is_said_and_heals() {
    let scene = Scene::set("tokens").await;
    let ns = &scene.stage.namespace;
    scene.stage.apply(&[app(ns, "secret-1", "value-2")]).await;
    scene.sign_in(&by_app()).await;
    scene.failed("CredentialsInvalid", "secretValue").await;
    scene.stage.apply(&[app(ns, "secret-1", "value-1")]).await;
    scene.connected().await;

    scene.provider(json!({})).await;
    scene.stage.apply(&[idp_client(ns, "s3cret-old")]).await;
    scene.sign_in(&scene.by_client()).await;
    scene.failed("CredentialsInvalid", "clientSecret").await;
    scene.stage.apply(&[idp_client(ns, "s3cret/+ x")]).await;
    scene.connected().await;

    // A new session for each: what was refused is not asked again for a while.
    let other = |n: u8| scene.trust(&json!({"secretRef": {"name": "idp"}, "scopes": [format!("other:{n}")]}));
    scene.provider(json!({"claims": {"sub": USER, "scp": ["tableau:content:read"]}})).await;
    scene.sign_in(&other(1)).await;
    scene.failed("MissingScope", "tableau:tasks:*").await;
    scene.provider(json!({"claims": {"sub": "somebody"}})).await;
    scene.sign_in(&other(2)).await;
    scene.failed("CredentialsInvalid", USER).await;
    // Tableau takes no token that lives longer than ten minutes.
    scene.provider(json!({"seconds": 3600})).await;
    let by_name = ["tableau:content:read", "tableau:jobs:read", "tableau:tasks:*"];
    scene.sign_in(&scene.trust(&json!({"secretRef": {"name": "idp"}, "scopes": by_name}))).await;
    scene.failed("CredentialsInvalid", "ten minutes").await;

    // The operator's own token goes nowhere but where it was started for.
    let elsewhere =
        scene.trust(&json!({"serviceAccountToken": {"audience": "https://kubernetes.default.svc"}}));
    scene.sign_in(&elsewhere).await;
    scene.failed("AccessDenied", "--service-account-token").await;

    scene.provider(json!({})).await;
    scene.sign_in(&scene.by_client()).await;
    scene.connected().await;
    scene.refresh("healed").await;
}
