//! Tableau's own data quality warning on the data source while its data is stale: set and taken away, ours alone and never a person's.
//!
//! A warning can hold a mark: its text ends with the name of our resource. One that says exactly what we say is ours, whoever has forgotten its
//! id; one that says anything else is somebody's, and stays. It is made write-ahead, since setting it cannot be repeated safely: the intent is in
//! status before it is sent, and is given up only when a read begun long enough after does not show it.

mod fold;
mod parting;
mod plan;

pub use fold::fold_warning;
pub use parting::{part, parted_warning};
pub(super) use plan::{Act, plan};

use super::observed::{IntentView, SiteView};
use super::{Desired, Observed};
use crate::api::{ExtractRefreshStatus, WarningState, WarningStatus};
use crate::model::ids::{Luid, WarningId};
use crate::model::time::Moment;
use crate::model::warnings::DataQualityWarning;
use std::time::Duration;

/// Nothing is done on a look that is older: somebody may have changed it meanwhile.
const FRESH: Duration = Duration::from_secs(60);
/// Whoever waits for a look and is not told of it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After a try that did not succeed.
const FIRST_WAIT: Duration = Duration::from_secs(120);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What is known of our warning.
#[derive(Clone, Debug, PartialEq)]
pub struct Warnings {
    /// The site through which the one in status is set.
    pub site: SiteView,
    /// The warnings on its data source.
    pub view: WarningsView,
    /// What this process knows of its intent.
    pub intent: IntentView,
}

impl Warnings {
    /// Nothing is known, as of a resource without one.
    pub fn nothing() -> Self {
        Self { site: SiteView::Missing, view: WarningsView::Unread, intent: IntentView::None }
    }
}

/// The warnings on one data source, whoever set them.
#[derive(Clone, Debug, PartialEq)]
pub enum WarningsView {
    /// Not read, or not since something was decided about it: an answer is good for one decision.
    Unread,
    /// They could not be read.
    Failed {
        /// Just before the request went out.
        asked: Moment,
        /// What Tableau refuses; none: a matter of time.
        refused: Option<WarningRefusal>,
    },
    /// Read.
    Read {
        /// Just before the request went out.
        asked: Moment,
        /// All.
        all: Vec<DataQualityWarning>,
    },
}

impl WarningsView {
    /// Just before the request went out, if one has.
    pub fn asked(&self) -> Option<Moment> {
        match self {
            Self::Unread => None,
            Self::Failed { asked, .. } | Self::Read { asked, .. } => Some(*asked),
        }
    }
}

/// What Tableau refuses, until somebody changes something there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningRefusal {
    /// 403: the right, or Data Management, is missing.
    Forbidden,
    /// A JWT's scopes do not cover the call.
    MissingScope,
    /// Any other 4xx.
    Rejected,
}

impl WarningRefusal {
    /// `refused` of the status.
    fn reason(self) -> &'static str {
        match self {
            Self::Forbidden => PERMISSION_DENIED,
            Self::MissingScope => MISSING_SCOPE,
            Self::Rejected => "RemoteRejected",
        }
    }
}

const PERMISSION_DENIED: &str = "PermissionDenied";
const MISSING_SCOPE: &str = "MissingScope";

/// One call to Tableau about a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarningWrite {
    /// Set it. By intent.
    Set {
        /// The intent, also in status.
        intent: String,
        /// Name of the `TableauSite`.
        site: String,
        /// The data source.
        luid: Luid,
        /// What it says.
        message: String,
    },
    /// Take it away.
    Clear {
        /// Name of the `TableauSite`.
        site: String,
        /// The data source.
        luid: Luid,
        /// The warning.
        id: WarningId,
    },
}

impl WarningWrite {
    /// The intent it spends.
    pub fn intent(&self) -> Option<&str> {
        match self {
            Self::Set { intent, .. } => Some(intent),
            Self::Clear { .. } => None,
        }
    }
    /// The data source.
    pub fn luid(&self) -> &Luid {
        match self {
            Self::Set { luid, .. } | Self::Clear { luid, .. } => luid,
        }
    }
    /// Name of the `TableauSite`.
    pub fn site(&self) -> &str {
        match self {
            Self::Set { site, .. } | Self::Clear { site, .. } => site,
        }
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarningAck {
    /// Acknowledged; the new warning, where the answer names it.
    Done(Option<WarningId>),
    /// Not done, and not to be asked for again.
    Refused(WarningRefusal),
    /// 409: one is there already.
    Exists,
    /// 404.
    NotFound,
    /// 429, and how long to wait if it said so.
    Throttled(Option<Duration>),
    /// It did not leave this process, or nobody let it in.
    NotSent,
    /// It may or may not have been done.
    Ambiguous,
}

impl WarningStatus {
    /// Whether it may be in Tableau, so that it has to be taken away.
    pub fn may_be_there(&self) -> bool {
        match self.state {
            WarningState::Setting | WarningState::Set => true,
            WarningState::Waiting | WarningState::Foreign | WarningState::Refused => false,
        }
    }
}

const WORDS: &str = "The data is older than was promised: it has not been refreshed with newer data.";

/// What ours says. Without numbers and times: it is proof of whose it is, and stays while the data grows older. With the installation: two clusters may
/// have resources of one name.
fn text(d: &Desired, o: &Observed) -> String {
    format!("{WORDS} (Feedwater {}/{})", o.instance, d.name)
}

/// Ours, of which `w` is known, are those that say exactly that: one that a person has edited is that person's.
fn is_ours(warning: &DataQualityWarning, d: &Desired, o: &Observed, w: &WarningStatus) -> bool {
    warning.says(&text(d, o)) || is_ours_of_before(warning, d, o, w)
}

/// Earlier builds did not name the installation, and it may have had another name: only what status knows of is ours, by its id, or by an intent that was not of this process.
fn is_ours_of_before(warning: &DataQualityWarning, d: &Desired, o: &Observed, w: &WarningStatus) -> bool {
    let known = w.id.as_deref() == Some(warning.id.as_str());
    // The installation has another name since: a cluster that was made anew and has its statuses from a backup.
    let renamed = warning.says_between(&format!("{WORDS} (Feedwater "), &format!("/{})", d.name));
    if known && renamed {
        return true;
    }
    let sent = w.state == WarningState::Setting && matches!(o.warnings.intent, IntentView::MaybeSent { .. });
    (known || sent) && warning.says(&format!("{WORDS} (Feedwater {})", d.name))
}

/// The sentence to what Tableau refuses, and what to do.
fn refusal(refused: Option<&str>) -> &'static str {
    match refused {
        Some(MISSING_SCOPE) => {
            "Tableau takes no data quality warning from a token with these scopes: sign in with a personal access token, or set freshness.dataQualityWarning to Never"
        }
        Some(PERMISSION_DENIED) => {
            "Tableau takes no data quality warning from this account: the site needs Data Management, and the account the right to set warnings on the data source"
        }
        Some(_) | None => "Tableau refuses the data quality warning",
    }
}

/// What `Fresh` says of it beside: only what is not as it should be.
pub(super) fn clause(s: &ExtractRefreshStatus, stale: bool) -> Option<String> {
    let w = s.data_quality_warning.as_ref()?;
    match w.state {
        WarningState::Foreign if stale => {
            Some("somebody else's data quality warning is on the data source, so that none of ours is set".into())
        }
        WarningState::Refused if stale => Some(refusal(w.refused.as_deref()).into()),
        WarningState::Setting | WarningState::Set if w.refused.is_some() && !stale => {
            Some("Tableau refuses to take away the data quality warning that Feedwater set: remove it there, or give the account the right to".into())
        }
        WarningState::Waiting
        | WarningState::Setting
        | WarningState::Set
        | WarningState::Foreign
        | WarningState::Refused => None,
    }
}
