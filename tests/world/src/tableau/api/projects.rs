//! Projects.

use super::super::element::Element;
use super::super::query::{Field, Row};
use super::super::refusal::Refusal;
use super::super::site::Project;
use super::super::state::State;
use super::auth::Caller;
use super::{Call, Reply};

const FIELDS: [&str; 7] =
    ["createdAt", "name", "ownerEmail", "ownerName", "parentProjectId", "topLevelProject", "updatedAt"];

pub(super) fn list(state: &State, caller: &Caller, call: &Call<'_>) -> Result<Reply, Refusal> {
    let site = state.sites.iter().find(|site| site.luid == caller.site);
    let site = site.ok_or_else(|| Refusal::site(&caller.site))?;
    let rows = site.projects.iter().map(|project| row(project, &site.users[0].luid, call)).collect();
    let (pagination, page) = call.query.page(&FIELDS, rows)?;
    Ok(Reply::ok(vec![pagination, Element::list("projects", page)]))
}

fn row(project: &Project, owner: &str, call: &Call<'_>) -> Row {
    let Project { luid, name, parent, created } = project;
    let date = call.clock.body_date(*created);
    let mut element =
        Element::new("project").attribute("id", luid).attribute("name", name).attribute("description", "");
    if parent.is_none() {
        element = element.attribute("topLevelProject", "true");
    }
    let element = element
        .attribute("createdAt", &date)
        .attribute("updatedAt", &date)
        .attribute("contentPermissions", "ManagedByOwner")
        .maybe("parentProjectId", parent.clone())
        .child(Element::new("owner").attribute("id", owner));
    let time = Field::Time(call.clock.tableau_time(*created));
    let mut fields = vec![
        ("name", Field::Text(name.clone())),
        ("topLevelProject", Field::Flag(parent.is_none())),
        ("createdAt", time.clone()),
        ("updatedAt", time),
    ];
    fields.extend(parent.clone().map(|parent| ("parentProjectId", Field::Text(parent))));
    Row { element, fields }
}
