//! Who may do what through a connection of the cluster. Nobody may anything that no entry of its `allow` says; one entry has to allow all that is asked
//! for at once, since what two teams may together is nobody's right.

use super::extract::ProjectPath;
use super::feeds::Feed;
use super::globs::{Glob, PathGlob};
use super::ids::ConnectionName;
use crate::api::{AllowedNamespaces, LabelExpression, PrefectAllow, TableauAllow, TargetKind};
use std::collections::BTreeMap;

/// Labels of a Namespace.
pub type Labels = BTreeMap<String, String>;

/// Whether something may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Allowed,
    /// The labels of the Namespace are not read yet, or the connection with its rules is not there.
    Unknown,
    /// It may not: what is wrong and what to do, in one sentence.
    Denied(String),
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Tenant<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Its labels; none: not read yet.
    pub labels: Option<&'a Labels>,
}

/// What a connection allows.
#[derive(Debug)]
pub enum Rules<'a, E> {
    /// The connection is not there (yet, or any more), so nobody knows.
    Missing,
    /// What its `allow` says, which is nothing where there is none.
    Are(&'a [E]),
}

impl<E> Clone for Rules<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Rules<'_, E> {}

impl<'a, E> Rules<'a, E> {
    /// Those of a connection, if it is there.
    pub fn of(connection: Option<Option<&'a [E]>>) -> Self {
        connection.map_or(Self::Missing, |allow| Self::Are(allow.unwrap_or_default()))
    }
}

/// What an `ExtractRefresh` asks of a site.
#[derive(Clone, Debug)]
pub struct ExtractRequest<'a> {
    /// Of its target.
    pub kind: TargetKind,
    /// Where the target lies and what it is called, by what the spec says or by where its LUID was found; none: not found yet.
    pub target: Option<(Option<ProjectPath>, &'a str)>,
    /// The spec has only its LUID: where it lies and what it is called is not for a refusal to tell.
    pub by_luid: bool,
    /// Shared schedules that it names.
    pub server_schedules: Vec<&'a str>,
}

/// One thing that is asked for: how it is called in a refusal, and whether an entry allows it.
struct Ask<'a, E> {
    what: String,
    allows: Box<dyn Fn(&E) -> bool + 'a>,
}

/// Whether a flow may be deployed to run in a work pool.
pub fn flow(rules: Rules<PrefectAllow>, at: &ConnectionName, who: Tenant, flow: &str, pool: &str) -> Access {
    let asks = [
        Ask {
            what: format!("flow `{flow}`"),
            allows: Box::new(|e: &PrefectAllow| names(e.flows.as_ref(), flow)),
        },
        Ask {
            what: format!("work pool `{pool}`"),
            allows: Box::new(|e: &PrefectAllow| names(e.work_pools.as_ref(), pool)),
        },
    ];
    judge(rules, &at.workspace(), who, |e| &e.namespaces, &asks)
}

/// Whether runs may be seen.
pub fn upstream(rules: Rules<PrefectAllow>, at: &ConnectionName, who: Tenant, feed: &Feed) -> Access {
    let globs = |e: &PrefectAllow| -> Vec<PathGlob> {
        e.upstreams.iter().flatten().filter_map(|text| PathGlob::parse(text).ok()).collect()
    };
    let ask = match feed {
        Feed::Deployment(name) => Ask {
            what: format!("upstream `{name}`"),
            allows: Box::new(move |e: &PrefectAllow| {
                globs(e).iter().any(|glob| glob.matches(&[&*name.flow, &*name.deployment]))
            }) as Box<dyn Fn(&PrefectAllow) -> bool>,
        },
        // A selector may take any run.
        Feed::Runs(_) => Ask {
            what: "every upstream (`**`), which prefectRuns needs".to_owned(),
            allows: Box::new(move |e: &PrefectAllow| globs(e).iter().any(PathGlob::is_everything)),
        },
    };
    judge(rules, &at.workspace(), who, |e| &e.namespaces, &[ask])
}

/// Whether an extract may be refreshed.
pub fn extract(
    rules: Rules<TableauAllow>,
    at: &ConnectionName,
    who: Tenant,
    request: &ExtractRequest,
) -> Access {
    let mut asks: Vec<Ask<TableauAllow>> = vec![Ask {
        what: format!("kind {:?}", request.kind),
        allows: Box::new(|e: &TableauAllow| e.kinds.iter().flatten().any(|kind| *kind == request.kind)),
    }];
    if let Some((path, name)) = &request.target {
        let what = match path {
            Some(_) if request.by_luid => "the project of the content with this LUID".to_owned(),
            Some(path) => format!("project `{path}`"),
            None => "where the target lies, which is no project that the account sees".to_owned(),
        };
        asks.push(Ask {
            what,
            allows: Box::new(move |e: &TableauAllow| {
                let Some(path) = path else { return false };
                let path: Vec<&str> = path.0.iter().map(String::as_str).collect();
                let globs = e.projects.iter().flatten().filter_map(|text| PathGlob::parse(text).ok());
                globs.into_iter().any(|glob| glob.matches(&path))
            }),
        });
        asks.push(Ask {
            what: if request.by_luid {
                "the name of the content with this LUID".to_owned()
            } else {
                format!("name `{name}`")
            },
            allows: Box::new(move |e: &TableauAllow| names(e.names.as_ref(), name)),
        });
    }
    for schedule in request.server_schedules.iter().copied() {
        asks.push(Ask {
            what: format!("server schedule `{schedule}`"),
            allows: Box::new(move |e: &TableauAllow| names(e.server_schedules.as_ref(), schedule)),
        });
    }
    judge(rules, &at.site(), who, |e| &e.namespaces, &asks)
}

/// What an operator of one namespace says to a connection of the cluster; `at`: kind and name of it.
pub fn not_served(at: &str) -> Access {
    Access::Denied(format!(
        "{at} cannot be used: this operator serves one namespace only (--namespace), and connections of the cluster need one that serves all; name a \
         connection of this namespace"
    ))
}

fn names(globs: Option<&Vec<String>>, name: &str) -> bool {
    globs.into_iter().flatten().any(|glob| Glob::new(glob).matches(name))
}

/// Whether an entry speaks about this namespace; none: its labels have to be known.
fn speaks(namespaces: &AllowedNamespaces, who: Tenant) -> Option<bool> {
    let listed = |all: &Vec<String>| all.iter().any(|name| name == who.namespace);
    match (&namespaces.names, &namespaces.selector) {
        (None, None) => Some(false),
        (Some(all), _) if !listed(all) => Some(false),
        (_, None) => Some(true),
        (_, Some(selector)) => {
            let labels = who.labels?;
            let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
            let all = selector.match_labels.as_ref();
            let holds =
                |expression: &LabelExpression| Condition::of(expression).is_ok_and(|one| one.holds(labels));
            let more = selector.match_expressions.as_deref().unwrap_or_default();
            // One that asks for nothing chooses nothing.
            let asks = !more.is_empty() || all.is_some_and(|all| !all.is_empty());
            Some(asks && all.into_iter().flatten().all(has) && more.iter().all(holds))
        }
    }
}

/// What has to hold of one label.
enum Condition<'a> {
    In(&'a str, &'a [String]),
    NotIn(&'a str, &'a [String]),
    Exists(&'a str),
    DoesNotExist(&'a str),
}

impl<'a> Condition<'a> {
    /// As it was written; else what is wrong with it.
    fn of(written: &'a LabelExpression) -> Result<Self, &'static str> {
        let key = written.key.as_str();
        match (written.operator.as_str(), written.values.as_deref()) {
            ("In", Some(values @ [_, ..])) => Ok(Self::In(key, values)),
            ("NotIn", Some(values @ [_, ..])) => Ok(Self::NotIn(key, values)),
            ("Exists", None) => Ok(Self::Exists(key)),
            ("DoesNotExist", None) => Ok(Self::DoesNotExist(key)),
            ("In" | "NotIn", _) => Err("needs values"),
            ("Exists" | "DoesNotExist", Some(_)) => Err("takes no values"),
            (_, _) => Err("has an operator that is none of In, NotIn, Exists and DoesNotExist"),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(*key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(*key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(*key),
            Self::DoesNotExist(key) => !labels.contains_key(*key),
        }
    }
}

fn judge<E>(
    rules: Rules<E>,
    at: &str,
    who: Tenant,
    namespaces: impl Fn(&E) -> &AllowedNamespaces,
    asks: &[Ask<E>],
) -> Access {
    let Rules::Are(allow) = rules else { return Access::Unknown };
    let (mut entries, mut unread) = (Vec::new(), false);
    for entry in allow {
        match speaks(namespaces(entry), who) {
            Some(true) => entries.push(entry),
            Some(false) => {}
            // It is waited for only if it would make a difference.
            None => unread |= asks.iter().all(|ask| (ask.allows)(entry)),
        }
    }
    if entries.iter().any(|entry| asks.iter().all(|ask| (ask.allows)(entry))) {
        return Access::Allowed;
    }
    if unread {
        return Access::Unknown;
    }
    let namespace = who.namespace;
    if entries.is_empty() {
        return Access::Denied(format!(
            "{at} allows nothing to namespace `{namespace}`: ask whoever keeps it for an entry in its spec.allow"
        ));
    }
    let never: Vec<&str> = asks
        .iter()
        .filter(|ask| !entries.iter().any(|entry| (ask.allows)(entry)))
        .map(|ask| ask.what.as_str())
        .collect();
    let what = if never.is_empty() {
        let all: Vec<&str> = asks.iter().map(|ask| ask.what.as_str()).collect();
        format!("{} together", all.join(", "))
    } else {
        never.join(", ")
    };
    Access::Denied(format!(
        "{at} does not allow to namespace `{namespace}`: {what}; ask for what it allows, or ask whoever keeps it for an entry in its spec.allow"
    ))
}

/// Whether the patterns and selectors of an `allow` list are some.
///
/// # Errors
/// One is none: what is wrong, with its place.
pub fn check_prefect(allow: Option<&[PrefectAllow]>) -> Result<(), String> {
    for entry in allow.into_iter().flatten() {
        check_selector(&entry.name, &entry.namespaces)?;
        check(&entry.name, "upstreams", entry.upstreams.as_ref())?;
    }
    Ok(())
}

/// The same, of a site.
///
/// # Errors
/// One is none: what is wrong, with its place.
pub fn check_tableau(allow: Option<&[TableauAllow]>) -> Result<(), String> {
    for entry in allow.into_iter().flatten() {
        check_selector(&entry.name, &entry.namespaces)?;
        check(&entry.name, "projects", entry.projects.as_ref())?;
    }
    Ok(())
}

fn check_selector(entry: &str, namespaces: &AllowedNamespaces) -> Result<(), String> {
    let selector = namespaces.selector.iter();
    for expression in selector.flat_map(|selector| selector.match_expressions.iter().flatten()) {
        let key = &expression.key;
        Condition::of(expression).map_err(|why| {
            format!("spec.allow `{entry}`: namespaces.selector.matchExpressions `{key}` {why}")
        })?;
    }
    Ok(())
}

fn check(entry: &str, field: &str, globs: Option<&Vec<String>>) -> Result<(), String> {
    for glob in globs.into_iter().flatten() {
        PathGlob::parse(glob).map_err(|why| format!("spec.allow `{entry}`: {field} `{glob}` {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "tenancy_tests.rs"]
mod tests;
