use super::*;

fn app(secret: &str) -> ConnectedApp {
    ConnectedApp {
        username: "svc@acme.com".into(),
        client_id: "app-1".into(),
        secret_id: "secret-1".into(),
        secret_value: secret.into(),
    }
}

#[test]
fn a_token_holds_what_tableau_asks_for_and_no_more() {
    let token = app("key").token("2026-11-25T06:00:00.9Z".parse().unwrap(), "id-1");
    let parts: Vec<_> = token.expose_secret().split('.').collect();
    let part = |n: usize| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[n]).unwrap()).unwrap()
    };
    assert_eq!(part(0), json!({"alg": "HS256", "typ": "JWT", "kid": "secret-1", "iss": "app-1"}));
    assert_eq!(
        part(1),
        json!({
            "iss": "app-1", "sub": "svc@acme.com", "aud": "tableau", "jti": "id-1", "exp": 1_795_586_700,
            "scp": ["tableau:content:read", "tableau:jobs:read", "tableau:jobs:update", "tableau:tasks:*"],
        })
    );
    assert_eq!(parts[2], SIGNATURE);
    assert!(!format!("{:?}", app("key")).contains("key"));
}

/// What Python's `hmac` makes of the header and claims above, their members sorted.
const SIGNATURE: &str = "Kw0mUHlkNSZHYli1J_0iTFVZT8xXhqZFTxYPF9Z5Xx8";

fn token(claims: &Value) -> SecretString {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims)).into()
}

#[test]
fn what_an_identity_providers_token_lacks_is_named() {
    let good = json!({"sub": "svc", "aud": "tableau", "exp": 1, "jti": "1",
        "scp": ["tableau:content:read", "tableau:jobs:read", "tableau:tasks:run"]});
    assert_eq!(check(&token(&good), "svc"), Ok(()));
    for (claim, value, expected) in [
        ("aud", json!(["x", "tableau"]), Ok(())),
        ("aud", json!("other"), Err(IdentityError::Claim("aud"))),
        ("aud", Value::Null, Err(IdentityError::Claim("aud"))),
        ("sub", json!("Svc"), Err(IdentityError::Claim("sub"))),
        ("sub", Value::Null, Err(IdentityError::Claim("sub"))),
        ("jti", Value::Null, Err(IdentityError::Claim("jti"))),
        ("exp", Value::Null, Err(IdentityError::Claim("exp"))),
        ("scp", Value::Null, Err(IdentityError::Claim("scp"))),
        (
            "scp",
            json!("tableau:content:read tableau:jobs:read tableau:tasks:run"),
            Err(IdentityError::Claim("scp")),
        ),
        ("scp", json!(["tableau:content:*", "tableau:jobs:*", "tableau:tasks:*"]), Ok(())),
        ("scp", json!(SCOPES), Ok(())),
        ("scp", json!(["tableau:content:read", "tableau:tasks:run"]), Err(IdentityError::MissingScope)),
        (
            "scp",
            json!(["tableau:content:read", "tableau:jobs:read", "tableau:tasksx:*"]),
            Err(IdentityError::MissingScope),
        ),
    ] {
        let mut claims = good.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        assert_eq!(check(&token(&claims), "svc"), expected, "{claims}");
    }
    for bad in ["", "opaque", "a.b", "a.b.c", "a.b.c.d"] {
        assert_eq!(check(&bad.into(), "svc"), Err(IdentityError::NoToken), "{bad}");
    }
}
