//! Which identity providers may get the token of the operator's own `ServiceAccount`, and for whom. Without this list, whoever may write a
//! `TableauSite` could have that token sent to a server of his own.

use std::path::PathBuf;
use std::str::FromStr;

/// One entry of `--service-account-token`: `audience=…,file=…,token-url=…,namespace=…`, `namespace` as often as wanted, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    audience: String,
    /// Where the kubelet keeps the token fresh.
    pub file: PathBuf,
    token_url: String,
    namespaces: Vec<String>,
}

impl TokenGrant {
    /// Whether resources of this namespace may have the token of this audience sent to this URL.
    pub fn covers(&self, namespace: &str, audience: &str, token_url: &str) -> bool {
        let named = |known: &String| known == "*" || known == namespace;
        self.audience == audience && self.token_url == token_url && self.namespaces.iter().any(named)
    }
}

/// Text that is no entry of `--service-account-token`.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error(
    "must be audience=AUDIENCE,file=PATH,token-url=URL,namespace=NAMESPACE, with namespace once or more, `*` for all"
)]
pub struct BadGrant;

impl FromStr for TokenGrant {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        let (mut audience, mut file, mut token_url, mut namespaces) = (None, None, None, Vec::new());
        for part in text.split(',') {
            let (name, value) =
                part.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or(BadGrant)?;
            let once = match name {
                "audience" => &mut audience,
                "file" => &mut file,
                "token-url" => &mut token_url,
                "namespace" => {
                    namespaces.push(value.to_owned());
                    continue;
                }
                _ => return Err(BadGrant),
            };
            if once.replace(value).is_some() {
                return Err(BadGrant);
            }
        }
        // As the spec's URL is read, so that the two are alike.
        let token_url = super::whole_url(token_url.ok_or(BadGrant)?, "token-url").map_err(|_| BadGrant)?;
        if namespaces.is_empty() {
            return Err(BadGrant);
        }
        let (audience, file) = (audience.ok_or(BadGrant)?.to_owned(), file.ok_or(BadGrant)?.into());
        Ok(Self { audience, file, token_url, namespaces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_only_where_and_for_whom_it_is_granted() {
        let text =
            "audience=idp,file=/t,token-url=https://idp.acme.com/token,namespace=finance,namespace=sales";
        let grant: TokenGrant = text.parse().unwrap();
        assert_eq!(grant.file, PathBuf::from("/t"));
        for (namespace, audience, url, expected) in [
            ("finance", "idp", "https://idp.acme.com/token", true),
            ("sales", "idp", "https://idp.acme.com/token", true),
            ("hr", "idp", "https://idp.acme.com/token", false),
            ("finance", "https://kubernetes.default.svc", "https://idp.acme.com/token", false),
            ("finance", "idp", "https://idp.acme.com.evil.example/token", false),
            ("finance", "idp", "https://idp.acme.com/token/x", false),
        ] {
            assert_eq!(grant.covers(namespace, audience, url), expected, "{namespace} {audience} {url}");
        }
        let all: TokenGrant = "audience=a,file=/t,token-url=https://i/t,namespace=*".parse().unwrap();
        assert!(all.covers("hr", "a", "https://i/t"));
        for bad in [
            "",
            "audience=a",
            "audience=a,file=/t,token-url=https://i/t",
            "audience=a,file=/t,token-url=ftp://i/t,namespace=*",
            "audience=,file=/t,token-url=https://i/t,namespace=*",
            "audience=a,audience=b,file=/t,token-url=https://i/t,namespace=*",
            "audience=a,file=/t,token-url=https://i/t,namespaces=*",
        ] {
            assert_eq!(bad.parse::<TokenGrant>(), Err(BadGrant), "{bad}");
        }
    }
}
