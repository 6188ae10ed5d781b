//! Filter expressions: `field:op:value[,field:op:value…]`, all of which must hold.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::query::{Field, Row, compare};
use super::refusal::Refusal;

/// The rows for which the expression holds. `known` are the fields that may be named.
///
/// The expression comes decoded, and so it is split at commas that the client encoded too: a value cannot hold a
/// comma, nor an ampersand, as on Tableau.
pub(super) fn apply(expression: &str, known: &[&str], rows: Vec<Row>) -> Result<Vec<Row>, Refusal> {
    let mut terms: Vec<Term<'_>> = Vec::new();
    for part in split(expression) {
        let term = Term::parse(part, known)?;
        // What Tableau makes of two conditions on one field is not known, so no client may count on it.
        if terms.iter().any(|earlier| earlier.field == term.field) {
            return Err(invalid(part));
        }
        terms.push(term);
    }
    let mut kept = Vec::new();
    for row in rows {
        let mut holds = true;
        for term in &terms {
            holds &= term.holds(row.field(term.field))?;
        }
        if holds {
            kept.push(row);
        }
    }
    Ok(kept)
}

/// Splits at the commas that are not within brackets.
fn split(expression: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, character) in expression.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&expression[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&expression[from..]);
    parts
}

struct Term<'a> {
    whole: &'a str,
    field: &'a str,
    test: Test<'a>,
}

enum Test<'a> {
    In(Vec<&'a str>),
    Has(&'a str),
    EqualIgnoringCase(&'a str),
    Ordered(&'a str, fn(Ordering) -> bool),
}

impl<'a> Term<'a> {
    fn parse(whole: &'a str, known: &[&str]) -> Result<Self, Refusal> {
        let mut parts = whole.splitn(3, ':');
        let (Some(field), Some(operator), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid(whole));
        };
        if !known.contains(&field) || value.contains('&') {
            return Err(invalid(whole));
        }
        let test = match operator {
            "in" => {
                let inner = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                Test::In(inner.ok_or_else(|| invalid(whole))?.split(',').collect())
            }
            "has" => Test::Has(value),
            "cieq" => Test::EqualIgnoringCase(value),
            "eq" => Test::Ordered(value, Ordering::is_eq),
            "gt" => Test::Ordered(value, Ordering::is_gt),
            "gte" => Test::Ordered(value, Ordering::is_ge),
            "lt" => Test::Ordered(value, Ordering::is_lt),
            "lte" => Test::Ordered(value, Ordering::is_le),
            _ => return Err(invalid(whole)),
        };
        Ok(Self { whole, field, test })
    }

    /// False for a row that does not have the field.
    fn holds(&self, field: Option<&Field>) -> Result<bool, Refusal> {
        let Some(field) = field else { return Ok(false) };
        match (&self.test, field) {
            (Test::In(values), _) => {
                for value in values {
                    if compare(field, &self.typed(value, field)?) == Some(Ordering::Equal) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Test::Has(value), Field::Text(text)) => Ok(text.contains(value)),
            (Test::EqualIgnoringCase(value), Field::Text(text)) => {
                Ok(text.to_lowercase() == value.to_lowercase())
            }
            (Test::Ordered(value, accept), _) => {
                Ok(compare(field, &self.typed(value, field)?).is_some_and(accept))
            }
            (Test::Has(_) | Test::EqualIgnoringCase(_), _) => Err(invalid(self.whole)),
        }
    }

    /// The value, read as what the field is.
    fn typed(&self, value: &str, like: &Field) -> Result<Field, Refusal> {
        let typed = match like {
            Field::Text(_) => Some(Field::Text(value.to_owned())),
            Field::Number(_) => value.parse().ok().map(Field::Number),
            // tableauserverclient writes `2026-01-01 00:00:00+00:00`, which jiff reads as well as ISO 8601.
            Field::Time(_) => value.parse::<Timestamp>().ok().map(Field::Time),
            Field::Flag(_) => value.parse().ok().map(Field::Flag),
        };
        typed.ok_or_else(|| invalid(self.whole))
    }
}

fn invalid(part: &str) -> Refusal {
    Refusal::bad_request(format!("Invalid filter expression '{part}'."))
}

#[cfg(test)]
mod tests {
    use super::super::element::Element;
    use super::*;

    fn names(expression: &str) -> Result<Vec<String>, &'static str> {
        let rows = [("Sales", 1, "2026-01-01T00:00:00Z"), ("Sub: Sales", 2, "2026-01-02T00:00:00Z")]
            .map(|(name, size, at)| Row {
                element: Element::new("row"),
                fields: vec![
                    ("name", Field::Text(name.to_owned())),
                    ("size", Field::Number(size)),
                    ("createdAt", Field::Time(at.parse().unwrap())),
                    ("hasExtracts", Field::Flag(size == 1)),
                ],
            })
            .into();
        let known = ["name", "size", "createdAt", "hasExtracts", "startedAt"];
        let rows = apply(expression, &known, rows).map_err(|refusal| refusal.code)?;
        let name = |row: &Row| match row.field("name") {
            Some(Field::Text(name)) => name.clone(),
            _ => unreachable!(),
        };
        Ok(rows.iter().map(name).collect())
    }

    #[test]
    fn each_operator() {
        let table = [
            ("name:eq:Sales", 1),
            ("name:eq:sales", 0),
            ("name:cieq:sales", 1),
            ("name:eq:Sub: Sales", 1),
            ("name:has:Sales", 2),
            ("name:in:[Sales,Sub: Sales,x]", 2),
            ("size:gt:1", 1),
            ("size:lte:1,hasExtracts:eq:true", 1),
            ("size:in:[2,3],hasExtracts:eq:true", 0),
            ("createdAt:gte:2026-01-02T00:00:00Z", 1),
            ("createdAt:gt:2026-01-02T00:00:00Z", 0),
            ("createdAt:lt:2026-01-02 01:00:00+00:00", 2),
            ("startedAt:gte:2026-01-01T00:00:00Z", 0),
        ];
        for (expression, expected) in table {
            assert_eq!(names(expression).map(|names| names.len()), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_tableau_cannot_read_is_refused() {
        for expression in [
            "name",
            "name:eq",
            "name:is:x",
            "projectId:eq:x",
            "name:eq:Sales, EMEA",
            "name:eq:R&D",
            "size:gt:big",
            "name:in:Sales",
            "size:has:1",
            "createdAt:gte:yesterday",
            "size:gt:1,size:lt:3",
            "",
        ] {
            assert_eq!(names(expression), Err("400000"), "{expression}");
        }
    }
}
