//! Contents of a Tableau site, as the observer looks them up: by name in one list a kind, by LUID a few one by one and many by a list.

use super::site::{Contents, Lookup, Placed};
use super::site_observer::{Interest, Observer};
use crate::api::TargetKind;
use crate::model::contents::{Content, Project};
use crate::model::extract::ProjectPath;
use crate::model::ids::{Luid, ProjectId};
use crate::tableau::TableauError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// So many contents are read one by one; with more the whole list is cheaper.
const FEW: usize = 4;

impl Observer {
    pub(super) fn is_new(&self, interest: &Interest) -> bool {
        interest.names.iter().any(|(kind, names)| {
            names.iter().any(|name| !self.contents.by_name.contains_key(&(*kind, name.clone())))
        }) || interest.luids.iter().any(|(kind, luids)| {
            luids.iter().any(|luid| !self.contents.by_luid.contains_key(&(*kind, luid.clone())))
        })
    }

    pub(super) async fn read_contents(&mut self, interest: &Interest) -> Result<(), TableauError> {
        if interest.names.is_empty() && interest.luids.is_empty() {
            self.contents = Arc::default();
            return Ok(());
        }
        let paths = paths(&self.client.projects().await?);
        let place = |content: Content| Placed {
            path: content.project.as_ref().and_then(|id| paths.get(id)).cloned(),
            content,
        };
        let mut next = Contents::default();
        for (kind, names) in &interest.names {
            for name in names {
                next.by_name.insert((*kind, name.clone()), Vec::new());
            }
            let names: Vec<String> = names.iter().cloned().collect();
            for content in self.client.contents(*kind, &names).await? {
                if let Some(list) = next.by_name.get_mut(&(*kind, content.name.clone())) {
                    list.push(place(content));
                }
            }
        }
        for list in next.by_name.values_mut() {
            list.sort_by(|a, b| a.content.luid.cmp(&b.content.luid));
        }
        let mut luids = interest.luids.clone();
        for (kind, lost) in lost(interest, &next) {
            luids.entry(kind).or_default().extend(lost);
        }
        for (kind, luids) in &luids {
            for (luid, found) in self.read_by_luid(*kind, luids).await? {
                next.by_luid.insert((*kind, luid), found.map(place));
            }
        }
        if *self.contents != next {
            self.contents = Arc::new(next);
        }
        Ok(())
    }

    /// A few by a call each, many by the list of all: no call per resource.
    async fn read_by_luid(
        &self,
        kind: TargetKind,
        luids: &BTreeSet<Luid>,
    ) -> Result<Vec<(Luid, Lookup<Content>)>, TableauError> {
        let mut found = Vec::new();
        if luids.len() > FEW {
            let mut all: HashMap<Luid, Content> =
                self.client.all_contents(kind).await?.into_iter().map(|c| (c.luid.clone(), c)).collect();
            // The list leaves out what is gone and what is hidden alike.
            found.extend(luids.iter().map(|luid| (luid.clone(), all.remove(luid).into())));
            return Ok(found);
        }
        for luid in luids {
            let content = match self.client.content(kind, luid).await {
                Ok(content) => content.into(),
                // One content that may not be seen is no concern of the others.
                Err(TableauError::Forbidden(code)) => {
                    tracing::debug!(%luid, code, "a content may not be seen");
                    Lookup::Forbidden
                }
                Err(TableauError::Rejected(code)) => {
                    tracing::debug!(%luid, code, "a content may not be read");
                    Lookup::Gone
                }
                Err(error) => return Err(error),
            };
            found.push((luid.clone(), content));
        }
        Ok(found)
    }
}

/// What resources had found by a name and no list of names holds any more: it may have been renamed, or be missing from the list only, which
/// lags behind. Reading it by its LUID tells which.
fn lost(interest: &Interest, next: &Contents) -> BTreeMap<TargetKind, BTreeSet<Luid>> {
    let listed: BTreeSet<&Luid> =
        next.by_name.values().flatten().map(|placed| &placed.content.luid).collect();
    let mut lost: BTreeMap<TargetKind, BTreeSet<Luid>> = BTreeMap::new();
    for (kind, luid) in interest.found.iter().filter(|(_, luid)| !listed.contains(luid)) {
        lost.entry(*kind).or_default().insert(luid.clone());
    }
    lost
}

/// Path of every project. A project whose parent is not visible has none: nothing can be said about where it lies.
pub(super) fn paths(projects: &[Project]) -> HashMap<ProjectId, ProjectPath> {
    let by_id: HashMap<&ProjectId, &Project> = projects.iter().map(|p| (&p.id, p)).collect();
    projects
        .iter()
        .filter_map(|project| {
            let mut names = vec![project.name.clone()];
            let mut parent = project.parent.as_ref();
            while let Some(id) = parent {
                let above = by_id.get(id)?;
                names.push(above.name.clone());
                // Tableau has no cycles; an answer that has one must not hang us.
                if names.len() > projects.len() {
                    return None;
                }
                parent = above.parent.as_ref();
            }
            names.reverse();
            Some((project.id.clone(), ProjectPath(names)))
        })
        .collect()
}
