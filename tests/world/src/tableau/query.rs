//! Paging, sorting and choosing of fields (`tableau-rest.md` 3); filters have their own module.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::element::Element;
use super::filter;
use super::refusal::Refusal;

/// One row of a list: what is shown, and what filters and sorting look at.
pub(super) struct Row {
    pub(super) element: Element,
    pub(super) fields: Vec<(&'static str, Field)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Text(String),
    Number(i64),
    Time(Timestamp),
    Flag(bool),
}

impl Row {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }
}

/// The parameters of a request, decoded. Of repeated ones the last counts.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(raw: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// 400000 when there is a parameter that is none of `known`. Tableau may well ignore it; who sends it means something by it.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Refusal::bad_request(format!("Parameter '{name}' is not allowed here."))),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The pagination element and the elements of the page that was asked for. `known` are the fields that may be
    /// filtered and sorted by, also when no row has them.
    pub(super) fn page(
        &self,
        known: &[&str],
        mut rows: Vec<Row>,
    ) -> Result<(Element, Vec<Element>), Refusal> {
        let number = self.number("pageNumber", 1, usize::MAX, Refusal::bad_page_number)?.unwrap_or(1);
        let size = self.number("pageSize", 1, 1000, Refusal::bad_page_size)?.unwrap_or(100);
        let fields = Fields::parse(self.get("fields"), rows.first().map(|row| &row.element))?;
        if let Some(expression) = self.get("filter") {
            rows = filter::apply(expression, known, rows)?;
        }
        for (field, descending) in self.sort(known)?.into_iter().rev() {
            rows.sort_by(|a, b| {
                let order = a.field(field).cmp(&b.field(field));
                if descending { order.reverse() } else { order }
            });
        }
        let pagination = Element::new("pagination")
            .attribute("pageNumber", number.to_string())
            .attribute("pageSize", size.to_string())
            .attribute("totalAvailable", rows.len().to_string());
        let page = rows.into_iter().skip((number - 1).saturating_mul(size)).take(size);
        Ok((pagination, page.map(|row| row.element.select(&fields)).collect()))
    }

    fn number(
        &self,
        name: &str,
        least: usize,
        most: usize,
        refuse: fn(&str) -> Refusal,
    ) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| refuse(text))
    }

    /// Most important first, with whether it is descending.
    fn sort(&self, known: &[&str]) -> Result<Vec<(&str, bool)>, Refusal> {
        let Some(text) = self.get("sort") else { return Ok(Vec::new()) };
        let parts = text.split(',').map(|part| {
            let (field, direction) = part.split_once(':').unwrap_or((part, "asc"));
            match direction {
                _ if !known.contains(&field) => {
                    Err(Refusal::bad_request(format!("Cannot sort by '{field}'.")))
                }
                "asc" => Ok((field, false)),
                "desc" => Ok((field, true)),
                _ => Err(Refusal::bad_request(format!("Invalid sort direction '{direction}'."))),
            }
        });
        parts.collect()
    }
}

/// Which attributes and children rows are to have.
pub(super) enum Fields {
    /// All that there are.
    All,
    /// The default ones, if `true`, and the named ones.
    Some(bool, Vec<String>),
}

impl Fields {
    /// `fields=_all_`, `fields=_default_,datasource.hasExtracts`. Names that the rows do not have are refused.
    fn parse(text: Option<&str>, example: Option<&Element>) -> Result<Self, Refusal> {
        let Some(text) = text else { return Ok(Self::Some(true, Vec::new())) };
        let (mut default, mut names) = (false, Vec::new());
        for part in text.split(',') {
            // `datasource.hasExtracts` and `hasExtracts` are the same; `project.name` asks for the child `project`.
            let name = match part.split_once('.') {
                Some(("datasource" | "workbook" | "job" | "backgroundJob", name)) => name,
                Some((child, _)) => child,
                None => part,
            };
            match name {
                "_all_" => return Ok(Self::All),
                "_default_" => default = true,
                name if example.is_some_and(|row| !row.has(name)) => {
                    return Err(Refusal::bad_request(format!("Invalid field '{part}' in 'fields'.")));
                }
                name => names.push(name.to_owned()),
            }
        }
        Ok(Self::Some(default, names))
    }

    pub(super) fn wants(&self, name: &str, default: bool) -> bool {
        match self {
            Self::All => true,
            Self::Some(defaults, names) => {
                (*defaults && default) || names.iter().any(|wanted| wanted == name)
            }
        }
    }
}

/// For fields of one kind; `None` for fields that cannot be compared.
pub(super) fn compare(a: &Field, b: &Field) -> Option<Ordering> {
    (std::mem::discriminant(a) == std::mem::discriminant(b)).then(|| a.cmp(b))
}
