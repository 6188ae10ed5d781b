//! What is particular to Prefect: where its Cloud is, which headers may be sent along, and which versions are good.

use super::{BadConnection, base_url, is_cloud, poll_interval};
use crate::api::{CaBundleRef, PrefectHosting, PrefectWorkspace, RefreshReports};
use std::time::Duration;

/// The spec of a `PrefectWorkspace`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredWorkspace {
    /// Base URL of the API, without a slash at its end.
    pub api_url: String,
    /// Who runs the server.
    pub hosting: PrefectHosting,
    /// How it signs in.
    pub auth: WorkspaceAuth,
    /// Name of the Secret whose keys are headers.
    pub headers: Option<String>,
    /// Where the certificates of a private authority are.
    pub ca_bundle: Option<CaBundleRef>,
    /// How often it is read.
    pub poll_interval: Duration,
    /// Most writes in flight.
    pub writes: usize,
    /// Nothing is called.
    pub suspend: bool,
    /// Whether refreshes are shown there.
    pub reports: bool,
}

/// How a workspace signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceAuth {
    /// Not at all.
    None,
    /// Secret keys `username`, `password`.
    Basic {
        /// Name of the Secret.
        secret: String,
    },
    /// Secret key `apiKey`.
    ApiKey {
        /// Name of the Secret.
        secret: String,
    },
}

impl WorkspaceAuth {
    /// Name of its Secret.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Basic { secret } | Self::ApiKey { secret } => Some(secret),
        }
    }
}

/// Most writes in flight where the spec is silent.
const WRITES: usize = 4;
/// Where the API of Prefect Cloud is.
const CLOUD: &str = "https://api.prefect.cloud/api";

impl DesiredWorkspace {
    /// Reads the spec.
    ///
    /// # Errors
    /// It declares no usable connection.
    pub fn parse(r: &PrefectWorkspace) -> Result<Self, BadConnection> {
        let auth = match &r.spec.auth {
            None => WorkspaceAuth::None,
            Some(auth) => match (&auth.basic, &auth.api_key) {
                (Some(basic), None) => WorkspaceAuth::Basic { secret: basic.secret_ref.name.clone() },
                (None, Some(key)) => WorkspaceAuth::ApiKey { secret: key.secret_ref.name.clone() },
                (None, None) | (Some(_), Some(_)) => {
                    return Err(BadConnection("spec.auth needs exactly one of basic, apiKey".into()));
                }
            },
        };
        let api_url = match (&r.spec.api_url, &r.spec.cloud) {
            (Some(url), None) => base_url(url, "spec.apiUrl")?,
            (None, Some(cloud)) => {
                let id = |text: &str, field: &str| {
                    let refused = || BadConnection(format!("spec.cloud.{field} must be a UUID"));
                    uuid::Uuid::parse_str(text).map(|id| id.to_string()).map_err(|_| refused())
                };
                let (account, workspace) =
                    (id(&cloud.account_id, "accountId")?, id(&cloud.workspace_id, "workspaceId")?);
                format!("{CLOUD}/accounts/{account}/workspaces/{workspace}")
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(BadConnection("spec needs exactly one of apiUrl, cloud".into()));
            }
        };
        let writes = r.spec.limits.as_ref().and_then(|limits| limits.max_concurrent_writes);
        Ok(Self {
            hosting: hosting(&api_url),
            api_url,
            auth,
            headers: r.spec.headers_secret_ref.as_ref().map(|secret| secret.name.clone()),
            ca_bundle: r.spec.ca_bundle_ref.clone(),
            poll_interval: poll_interval(r.spec.poll_interval.as_ref())?,
            writes: writes.and_then(|most| usize::try_from(most).ok()).unwrap_or(WRITES),
            suspend: r.spec.suspend.unwrap_or(false),
            reports: r.spec.refresh_reports != Some(RefreshReports::Disabled),
        })
    }
}

/// Who runs the API there: Cloud, however it was written down, answers at one host only.
pub fn hosting(api_url: &str) -> PrefectHosting {
    if is_cloud(api_url) { PrefectHosting::Cloud } else { PrefectHosting::SelfHosted }
}

/// Whether a header of `headersSecretRef` may be sent: those that Feedwater or HTTP itself needs may not be overwritten.
pub fn may_send(header: &str, signs_in: bool) -> bool {
    const OURS: [&str; 14] = [
        "accept",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "prefect-csrf-client",
        "prefect-csrf-token",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-tableau-auth",
    ];
    let header = header.to_ascii_lowercase();
    let ours = OURS.contains(&header.as_str()) || header.starts_with("sec-websocket-");
    !ours && (header != "authorization" || !signs_in)
}

/// The oldest version that is supported: before it schedules had no slugs (reference 18).
pub const OLDEST: &str = "3.2.0";
/// The oldest version that is tested; between the two it works as far as is known.
pub const TESTED: &str = "3.4.8";

/// What a server's version means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It lacks what is needed.
    Refused,
    /// It should be upgraded.
    Old,
    /// Good.
    Good,
}

/// What a server's version means. One that is not understood, of a build of one's own for example, is taken as good.
pub fn support(version: &str) -> Support {
    match (numbers(version), numbers(OLDEST), numbers(TESTED)) {
        (Some(version), Some(oldest), _) if version < oldest => Support::Refused,
        (Some(version), _, Some(tested)) if version < tested => Support::Old,
        _ => Support::Good,
    }
}

/// The leading numbers: `3.4.8rc1+local` is 3.4.8.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn workspace(spec: &Value) -> Result<DesiredWorkspace, BadConnection> {
        let object = json!({"apiVersion": "feedwater.dev/v1alpha1", "kind": "PrefectWorkspace", "metadata": {}, "spec": spec});
        DesiredWorkspace::parse(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_workspace_is_self_hosted_or_of_the_cloud() {
        let (account, id) = ("9b649228-0419-40e1-9e0d-44954b5c0ab6", "d137367a-5055-44ff-b91c-6f7366c9e4c4");
        let cloud = json!({"accountId": account, "workspaceId": id});
        let there = workspace(&json!({"cloud": &cloud, "limits": {"maxConcurrentWrites": 2}})).unwrap();
        let url = format!("https://api.prefect.cloud/api/accounts/{account}/workspaces/{id}");
        assert_eq!((there.api_url.as_str(), there.hosting), (url.as_str(), PrefectHosting::Cloud));
        assert_eq!((there.writes, there.suspend), (2, false));
        let url = json!({"apiUrl": url});
        assert_eq!(workspace(&url).unwrap().hosting, PrefectHosting::Cloud, "written out");
        let own = workspace(&json!({"apiUrl": "https://api.prefect.cloud.example.com/api"})).unwrap();
        assert_eq!((own.hosting, own.writes), (PrefectHosting::SelfHosted, 4));
        for bad in [
            json!({}),
            json!({"apiUrl": "https://prefect.example.com/api", "cloud": &cloud}),
            json!({"cloud": {"accountId": account, "workspaceId": "../other"}}),
        ] {
            assert!(workspace(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, expected) in [
            ("2.20.27", Support::Refused),
            ("3.1.15", Support::Refused),
            ("3.2.0", Support::Old),
            ("3.2", Support::Old),
            ("3.4.7", Support::Old),
            ("3.4.8", Support::Good),
            ("3.10.0", Support::Good),
            ("3.9.1+2.gabc", Support::Good),
            ("3.2.0rc1", Support::Old),
            ("4.0.0.dev1", Support::Good),
            ("main", Support::Good),
        ] {
            assert_eq!(support(version), expected, "{version}");
        }
    }

    #[test]
    fn a_proxys_headers_do_not_take_the_place_of_ours() {
        for (header, signs_in, expected) in [
            ("CF-Access-Client-Id", true, true),
            ("authorization", false, true),
            ("Authorization", true, false),
            ("HOST", false, false),
            ("Sec-WebSocket-Key", false, false),
            ("Prefect-Csrf-Token", false, false),
        ] {
            assert_eq!(may_send(header, signs_in), expected, "{header}");
        }
    }
}
