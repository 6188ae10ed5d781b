//! Data quality warnings, and what people do about them in the browser.

use tokio::time::Instant;

use super::site::{ContentKind, luid};
use super::state::{Missing, State, missing};
use super::truth::WarningTruth;
use super::{Shared, Simulator, must};

/// The types there are.
pub(super) const TYPES: [&str; 5] = ["WARNING", "DEPRECATED", "STALE", "SENSITIVE_DATA", "MAINTENANCE"];

/// A warning on a data source.
#[derive(Clone)]
pub(super) struct Warning {
    pub(super) id: String,
    /// LUIDs.
    pub(super) site: String,
    pub(super) content: String,
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) active: bool,
    pub(super) severe: bool,
    /// Name of the user who set it.
    pub(super) by: String,
    pub(super) created: Instant,
    pub(super) updated: Instant,
}

impl Warning {
    pub(super) fn truth(&self) -> WarningTruth {
        WarningTruth {
            id: self.id.clone(),
            content: self.content.clone(),
            kind: self.kind.clone(),
            message: self.message.clone(),
            active: self.active,
            by: self.by.clone(),
        }
    }
}

impl Simulator {
    /// A person sets a warning on a data source; its id.
    pub fn add_warning(&self, luid: &str, kind: &str, message: &str, by: &str) -> String {
        must(self.shared.add_warning(luid, kind, message, by))
    }

    /// A person changes what a warning says.
    pub fn change_warning(&self, id: &str, kind: &str, message: &str) {
        must(self.shared.change_warning(id, kind, message));
    }

    /// A person removes a warning.
    pub fn remove_warning(&self, id: &str) {
        must(self.shared.remove_warning(id));
    }

    /// Whether the site has Data Management from now on.
    pub fn set_data_management(&self, licensed: bool) {
        self.shared.change(|state, _| state.no_data_management = !licensed);
    }
}

impl State {
    fn warning(&mut self, id: &str) -> Result<usize, Missing> {
        self.warnings.iter().position(|warning| warning.id == id).ok_or_else(|| missing("warning", id))
    }
}

impl Shared {
    pub(super) fn add_warning(
        &self,
        luid_of: &str,
        kind: &str,
        message: &str,
        by: &str,
    ) -> Result<String, Missing> {
        self.change(|state, now| {
            let (site, n) = state.content(luid_of)?;
            if site.contents[n].kind != ContentKind::Datasource {
                return Err(missing("data source", luid_of));
            }
            let warning = Warning {
                id: luid(),
                site: site.luid.clone(),
                content: luid_of.to_owned(),
                kind: kind.to_owned(),
                message: message.to_owned(),
                active: true,
                severe: false,
                by: by.to_owned(),
                created: now,
                updated: now,
            };
            let id = warning.id.clone();
            state.warnings.push(warning);
            Ok(id)
        })
    }

    pub(super) fn change_warning(&self, id: &str, kind: &str, message: &str) -> Result<(), Missing> {
        self.change(|state, now| {
            let n = state.warning(id)?;
            let warning = &mut state.warnings[n];
            (warning.kind, warning.message, warning.updated) = (kind.to_owned(), message.to_owned(), now);
            Ok(())
        })
    }

    pub(super) fn remove_warning(&self, id: &str) -> Result<(), Missing> {
        self.change(|state, _| {
            let n = state.warning(id)?;
            state.warnings.remove(n);
            Ok(())
        })
    }
}
