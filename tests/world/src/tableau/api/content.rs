//! Data sources and workbooks.

use super::super::element::Element;
use super::super::query::{Field, Row};
use super::super::refusal::Refusal;
use super::super::site::{Content, ContentKind, Site};
use super::super::state::State;
use super::auth::Caller;
use super::{Call, Reply};

/// The filter fields of `tableau-rest.md` 3 for which the simulator has values.
const FIELDS: [&str; 9] = [
    "contentUrl",
    "createdAt",
    "description",
    "hasExtracts",
    "name",
    "ownerName",
    "projectName",
    "type",
    "updatedAt",
];

pub(super) fn list(
    state: &State,
    caller: &Caller,
    kind: ContentKind,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let site = site(state, caller)?;
    let lag = call.config.index_lag;
    let rows = site.contents.iter().filter(|content| content.kind == kind).filter_map(|content| {
        let project = content.listed_in(lag, call.now)?;
        Some(row(site, content, project, call))
    });
    let (pagination, page) = call.query.page(&FIELDS, rows.collect())?;
    let name = match kind {
        ContentKind::Datasource => "datasources",
        ContentKind::Workbook => "workbooks",
    };
    Ok(Reply::ok(vec![pagination, Element::list(name, page)]))
}

pub(super) fn get(
    state: &State,
    caller: &Caller,
    kind: ContentKind,
    id: &str,
    call: &Call<'_>,
) -> Result<Reply, Refusal> {
    let site = site(state, caller)?;
    let content = find(site, kind, id)?;
    Ok(Reply::ok(vec![row(site, content, &content.project, call).element]))
}

/// Each workbook has one view here. As TSC's asset `workbook_populate_views.xml` has them; `tabcmd list workbooks --details` asks.
pub(super) fn views(state: &State, caller: &Caller, id: &str) -> Result<Reply, Refusal> {
    let workbook = find(site(state, caller)?, ContentKind::Workbook, id)?;
    let view = Element::new("view")
        .attribute("id", &workbook.luid)
        .attribute("name", "Sheet 1")
        .attribute("contentUrl", format!("{}/sheets/Sheet1", workbook.url_name));
    Ok(Reply::ok(vec![Element::list("views", vec![view])]))
}

/// 404004 or 404006 for what is not on the site.
pub(super) fn find<'a>(site: &'a Site, kind: ContentKind, id: &str) -> Result<&'a Content, Refusal> {
    let found = site.contents.iter().find(|content| content.kind == kind && content.luid == id);
    found.ok_or_else(|| match kind {
        ContentKind::Datasource => Refusal::datasource(id),
        ContentKind::Workbook => Refusal::workbook(id),
    })
}

pub(super) fn site<'a>(state: &'a State, caller: &Caller) -> Result<&'a Site, Refusal> {
    let site = state.sites.iter().find(|site| site.luid == caller.site);
    site.ok_or_else(|| Refusal::site(&caller.site))
}

fn row(site: &Site, content: &Content, project: &str, call: &Call<'_>) -> Row {
    let project = site.projects.iter().find(|known| known.luid == project);
    let (project_luid, project_name) =
        project.map_or(("", ""), |project| (project.luid.as_str(), project.name.as_str()));
    let owner = &site.users[0];
    let element = match content.kind {
        ContentKind::Datasource => datasource(content, call),
        ContentKind::Workbook => workbook(content, call).child(
            Element::new("location")
                .attribute("id", project_luid)
                .attribute("type", "Project")
                .attribute("name", project_name),
        ),
    };
    let element = element
        .child(Element::new("project").attribute("id", project_luid).attribute("name", project_name))
        .child(Element::new("owner").attribute("id", &owner.luid))
        .child(Element::list("tags", Vec::new()));
    let fields = vec![
        ("contentUrl", Field::Text(content.url_name.clone())),
        ("createdAt", Field::Time(call.clock.tableau_time(content.created))),
        ("description", Field::Text(String::new())),
        ("hasExtracts", Field::Flag(content.has_extracts)),
        ("name", Field::Text(content.name.clone())),
        ("ownerName", Field::Text(owner.name.clone())),
        ("projectName", Field::Text(project_name.to_owned())),
        ("type", Field::Text("sqlserver".to_owned())),
        ("updatedAt", Field::Time(call.clock.tableau_time(content.updated))),
    ];
    Row { element, fields }
}

fn datasource(content: &Content, call: &Call<'_>) -> Element {
    begin("datasource", "datasources", content, call)
        .attribute("type", "sqlserver")
        .attribute("encryptExtracts", "false")
        .flag("hasExtracts", content.has_extracts)
        .flag("isCertified", false)
        .flag("useRemoteQueryAgent", false)
        .extra_flag("hasAlert", false)
        .extra_flag("isPublished", true)
        .extra("connectedWorkbooksCount", "0")
        .extra("favoritesTotal", "0")
}

/// The default list says nothing about extracts.
fn workbook(content: &Content, call: &Call<'_>) -> Element {
    begin("workbook", "workbooks", content, call)
        .attribute("showTabs", "false")
        .attribute("encryptExtracts", "false")
        .attribute("defaultViewId", &content.luid)
        .extra_flag("hasExtracts", content.has_extracts)
        .extra("sheetCount", "1")
        .child(Element::new("dataAccelerationConfig"))
}

fn begin(name: &'static str, plural: &str, content: &Content, call: &Call<'_>) -> Element {
    Element::new(name)
        .attribute("id", &content.luid)
        .attribute("name", &content.name)
        .attribute("description", "")
        .attribute("contentUrl", &content.url_name)
        .attribute("webpageUrl", format!("http://{}/#/{plural}/{}", call.host, content.luid))
        .attribute("size", "1")
        .attribute("createdAt", call.clock.body_date(content.created))
        .attribute("updatedAt", call.clock.body_date(content.updated))
}
