//! What `kubectl get` would print, as far as the width of columns goes.

use serde_json::Value;
use std::fmt::Write;

/// Three spaces between columns, as kubectl's tab writer leaves them.
const GAP: usize = 3;

/// Header and rows; a date is shown as `41d`.
pub fn table(crd: &Value, objects: &[&Value]) -> String {
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    // Others show with `-o wide` only.
    let columns: Vec<_> = columns.iter().filter(|column| column["priority"].is_null()).collect();
    let mut header = vec!["NAME".to_owned()];
    header.extend(columns.iter().map(|column| column["name"].as_str().unwrap().to_uppercase()));
    let mut rows = vec![header];
    for object in objects {
        let mut row = vec![object["metadata"]["name"].as_str().unwrap().to_owned()];
        row.extend(columns.iter().map(|column| cell(column, object)));
        rows.push(row);
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i].len()).max().unwrap() + GAP).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn cell(column: &Value, object: &Value) -> String {
    match at(column["jsonPath"].as_str().unwrap(), object) {
        None => "<none>".to_owned(),
        Some(_) if column["type"] == "date" => "41d".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Reads the forms of path our columns use: `.a.b`, `.a[?(@.type=="T")].b`, `.a['b','c']`, the first of these that is there, and `.a..['b','c']`,
/// which looks for them below as well. The API server shows the first of what it finds, as was tried with its own package (client-go's `jsonpath`).
fn at<'a>(path: &str, object: &'a Value) -> Option<&'a Value> {
    if let Some((above, fields)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let below = above.strip_suffix("..");
        let within = at(below.unwrap_or(above), object)?;
        return fields.split("','").find_map(|field| {
            within
                .get(field)
                .or_else(|| below.and_then(|_| within.as_object()?.values().find_map(|v| v.get(field))))
        });
    }
    if let Some((list, rest)) = path.split_once("[?(@.type==\"") {
        let (wanted, field) = rest.split_once("\")].").expect("a path of a form we use");
        let entries = at(list, object)?.as_array()?;
        return entries.iter().find(|entry| entry["type"] == wanted)?.get(field);
    }
    object.pointer(&path.replace('.', "/"))
}
