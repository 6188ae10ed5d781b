//! Tableau projects and contents.

use super::ids::{Luid, ProjectId};
use crate::api::TargetKind;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its LUID.
    pub id: ProjectId,
    /// Its own name.
    pub name: String,
    /// The project it lies in; none at the top.
    pub parent: Option<ProjectId>,
}

/// A data source or workbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its LUID: kept when it is overwritten, new when it is deleted and published again.
    pub luid: Luid,
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// Where it lies; none in a personal space.
    pub project: Option<ProjectId>,
    /// Whether it holds an extract; lists may leave it out.
    pub has_extracts: Option<bool>,
    /// Where Tableau shows it (`webpageUrl`).
    pub web_url: Option<String>,
}
