//! Answers as one tree, written as XML or, by the mapping of `tableau-rest.md` 2.4, as JSON.

use std::fmt::Write as _;

use quick_xml::escape::escape;
use serde_json::{Map, Value};

use super::query::Fields;

/// One element of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<Attribute>,
    text: Option<String>,
    children: Vec<Element>,
    /// The children are repetitions of one element: in JSON an array under their name, and `{}` when there are none.
    list: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Attribute {
    name: &'static str,
    value: Scalar,
    /// Whether lists carry it without being asked by `fields`.
    default: bool,
}

/// Numbers are `Text`: they are strings in Tableau's JSON.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Text(String),
    Flag(bool),
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: None, children: Vec::new(), list: false }
    }

    /// `<name>text</name>`; a plain string in JSON, `value` when attributes are added.
    pub(super) fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::new(name) }
    }

    pub(super) fn list(name: &'static str, children: Vec<Element>) -> Self {
        Self { children, list: true, ..Self::new(name) }
    }

    pub(super) fn attribute(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(name, Scalar::Text(value.into()), true)
    }

    /// The attribute, when there is a value.
    pub(super) fn maybe(self, name: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    /// An `xs:boolean`: a real boolean in JSON.
    pub(super) fn flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, Scalar::Flag(value), true)
    }

    /// An attribute that lists leave out unless `fields` asks for it.
    pub(super) fn extra(self, name: &'static str, value: impl Into<String>) -> Self {
        self.with(name, Scalar::Text(value.into()), false)
    }

    /// As [`extra`](Self::extra), an `xs:boolean`.
    pub(super) fn extra_flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, Scalar::Flag(value), false)
    }

    pub(super) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    fn with(mut self, name: &'static str, value: Scalar, default: bool) -> Self {
        self.attributes.push(Attribute { name, value, default });
        self
    }

    /// Only what `fields` asks for.
    pub(super) fn select(mut self, fields: &Fields) -> Self {
        self.attributes.retain(|attribute| fields.wants(attribute.name, attribute.default));
        self.children.retain(|child| fields.wants(child.name, true));
        self
    }

    /// Whether `fields` may name this attribute or child.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.name == name)
            || self.children.iter().any(|child| child.name == name)
    }

    fn write_xml(&self, out: &mut String) {
        let _ = write!(out, "<{}", self.name);
        for Attribute { name, value, .. } in &self.attributes {
            let _ = match value {
                Scalar::Text(text) => write!(out, " {name}=\"{}\"", escape(text)),
                Scalar::Flag(flag) => write!(out, " {name}=\"{flag}\""),
            };
        }
        if self.text.is_none() && self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        out.push_str(&escape(self.text.as_deref().unwrap_or_default()));
        self.children.iter().for_each(|child| child.write_xml(out));
        let _ = write!(out, "</{}>", self.name);
    }

    fn json(&self) -> Value {
        if let (Some(text), true) = (&self.text, self.attributes.is_empty()) {
            return Value::String(text.clone());
        }
        let mut object = Map::new();
        for Attribute { name, value, .. } in &self.attributes {
            let value = match value {
                Scalar::Text(text) => Value::String(text.clone()),
                Scalar::Flag(flag) => Value::Bool(*flag),
            };
            object.insert((*name).to_owned(), value);
        }
        if let Some(text) = &self.text {
            object.insert("value".to_owned(), Value::String(text.clone()));
        }
        if self.list {
            if let Some(first) = self.children.first() {
                let all = self.children.iter().map(Element::json).collect();
                object.insert(first.name.to_owned(), Value::Array(all));
            }
        } else {
            object.extend(self.children.iter().map(|child| (child.name.to_owned(), child.json())));
        }
        Value::Object(object)
    }
}

/// The whole answer as XML. `version` is the newest API version, which names the schema.
pub(super) fn xml(elements: &[Element], version: &str) -> String {
    let mut out = format!(
        "<?xml version='1.0' encoding='UTF-8'?><tsResponse xmlns=\"http://tableau.com/api\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"http://tableau.com/api \
         https://help.tableau.com/samples/en-us/rest_api/ts-api_{}.xsd\">",
        version.replace('.', "_")
    );
    for element in elements {
        element.write_xml(&mut out);
    }
    out.push_str("</tsResponse>");
    out
}

/// The whole answer as JSON.
pub(super) fn json(elements: &[Element]) -> String {
    let object: Map<_, _> =
        elements.iter().map(|element| (element.name.to_owned(), element.json())).collect();
    Value::Object(object).to_string()
}
