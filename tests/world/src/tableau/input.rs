//! Request bodies, XML and JSON, as one tree; and the strictness about what may stand in them.

use std::collections::BTreeMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde_json::Value;

use super::refusal::Refusal;

/// One element of a request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Input {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Input>,
}

impl Input {
    /// The `tsRequest` in a body. XML unless the Content-Type says JSON, also when there is no Content-Type.
    pub(super) fn parse(content_type: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body).map_err(|error| malformed(&error.to_string()))?;
        if content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("json")) {
            let value = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
            match value {
                Value::Object(_) => from_json("tsRequest", &value),
                _ => Err(malformed("The request is not an object.")),
            }
        } else if text.trim_start().starts_with('<') {
            from_xml(text)
        } else {
            Err(malformed("Content is not allowed in prolog."))
        }
    }

    /// 400000 unless all of its attributes and children are among the given ones.
    pub(super) fn allow(&self, attributes: &[&str], children: &[&str]) -> Result<(), Refusal> {
        if let Some(name) = self.attributes.keys().find(|name| !attributes.contains(&name.as_str())) {
            return Err(malformed(&format!("Attribute '{name}' is not allowed in element '{}'.", self.name)));
        }
        for (n, child) in self.children.iter().enumerate() {
            if !children.contains(&child.name.as_str()) {
                let detail = format!("Element '{}' is not allowed in element '{}'.", child.name, self.name);
                return Err(malformed(&detail));
            }
            if self.children[..n].iter().any(|earlier| earlier.name == child.name) {
                return Err(malformed(&format!("Element '{}' is given twice.", child.name)));
            }
        }
        Ok(())
    }

    /// As [`allow`](Self::allow), for an element whose children are all of one name.
    pub(super) fn allow_many(&self, attributes: &[&str], child: &str) -> Result<(), Refusal> {
        Self { name: self.name.clone(), attributes: self.attributes.clone(), children: Vec::new() }
            .allow(attributes, &[])?;
        match self.children.iter().find(|other| other.name != child) {
            None => Ok(()),
            Some(other) => Err(malformed(&format!(
                "Element '{}' is not allowed in element '{}'.",
                other.name, self.name
            ))),
        }
    }

    pub(super) fn children(&self) -> &[Input] {
        &self.children
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    pub(super) fn child(&self, name: &str) -> Option<&Input> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn from_json(name: &str, value: &Value) -> Result<Input, Refusal> {
    let Value::Object(object) = value else {
        return Err(malformed(&format!("'{name}' is not an object.")));
    };
    let mut input = Input { name: name.to_owned(), ..Input::default() };
    for (key, value) in object {
        match value {
            Value::Null => return Err(malformed(&format!("'{key}' is null."))),
            Value::Bool(flag) => drop(input.attributes.insert(key.clone(), flag.to_string())),
            Value::Number(number) => drop(input.attributes.insert(key.clone(), number.to_string())),
            Value::String(text) => drop(input.attributes.insert(key.clone(), text.clone())),
            Value::Object(_) => input.children.push(from_json(key, value)?),
            Value::Array(all) => {
                for one in all {
                    input.children.push(from_json(key, one)?);
                }
            }
        }
    }
    Ok(input)
}

fn from_xml(text: &str) -> Result<Input, Refusal> {
    let mut reader = Reader::from_str(text);
    // The elements that are open, outermost first, below one that holds the document.
    let mut open = vec![Input::default()];
    loop {
        match reader.read_event().map_err(|error| malformed(&error.to_string()))? {
            Event::Start(start) => open.push(element(&start)?),
            Event::Empty(start) => close(&mut open, element(&start)?)?,
            Event::End(_) => {
                let done = open.pop().unwrap_or_default();
                close(&mut open, done)?;
            }
            Event::Text(text) if !text.iter().all(u8::is_ascii_whitespace) => {
                return Err(malformed("Text is not allowed in a request."));
            }
            Event::CData(_) | Event::DocType(_) | Event::GeneralRef(_) => {
                return Err(malformed("Only elements and attributes are allowed in a request."));
            }
            Event::Text(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    let (Some(document), true) = (open.pop(), open.is_empty()) else {
        return Err(malformed("An element is not closed."));
    };
    let mut roots = document.children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) if root.name == "tsRequest" => Ok(root),
        _ => Err(malformed("The request is not one element 'tsRequest'.")),
    }
}

fn close(open: &mut [Input], done: Input) -> Result<(), Refusal> {
    let parent = open.last_mut().ok_or_else(|| malformed("An element is closed that is not open."))?;
    parent.children.push(done);
    Ok(())
}

fn element(start: &BytesStart<'_>) -> Result<Input, Refusal> {
    let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
    let mut input = Input { name, ..Input::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| malformed(&error.to_string()))?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = attribute
            .normalized_value(XmlVersion::default())
            .map_err(|error| malformed(&error.to_string()))?;
        match key.as_str() {
            "xmlns" if value != "http://tableau.com/api" => {
                return Err(malformed(&format!("The namespace '{value}' is unknown.")));
            }
            "xmlns" => {}
            other if other.starts_with("xmlns:") || other.starts_with("xsi:") => {}
            _ => drop(input.attributes.insert(key, value.into_owned())),
        }
    }
    Ok(input)
}

fn malformed(detail: &str) -> Refusal {
    Refusal::bad_request(format!("Deserialization problem: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGN_IN: &str = r#"<t:tsRequest xmlns:t="http://tableau.com/api"><t:credentials a="1 &amp; 2"><t:site contentUrl=""/></t:credentials></t:tsRequest>"#;

    #[test]
    fn xml_and_json_make_the_same_tree() {
        let xml = Input::parse(None, SIGN_IN.as_bytes()).unwrap();
        let json = br#"{"credentials":{"a":"1 & 2","site":{"contentUrl":""}}}"#;
        assert_eq!(xml, Input::parse(Some("application/json;charset=UTF-8"), json).unwrap());
        assert_eq!(xml.child("credentials").and_then(|c| c.attribute("a")), Some("1 & 2"));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let xml = [
            "",
            "{}",
            "<tsRequest>",
            "<tsRequest/><tsRequest/>",
            "<other/>",
            "</tsRequest>",
            "<tsRequest>x</tsRequest>",
            r#"<tsRequest xmlns="http://elsewhere"/>"#,
            "<tsRequest a='1' a='2'/>",
            "<!DOCTYPE x><tsRequest/>",
        ];
        for body in xml {
            assert_eq!(Input::parse(Some("text/xml"), body.as_bytes()).unwrap_err().code, "400000", "{body}");
        }
        for body in ["", "[]", "<tsRequest/>", r#"{"a":null}"#, r#"{"a":["b"]}"#] {
            let refusal = Input::parse(Some("application/json"), body.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, "400000", "{body}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let input = Input::parse(None, br#"<tsRequest><a x="1"/></tsRequest>"#).unwrap();
        assert!(input.allow(&[], &["a"]).is_ok());
        assert!(input.allow(&[], &["b"]).is_err());
        assert!(input.child("a").unwrap().allow(&["y"], &[]).is_err());
        let twice = Input::parse(None, b"<tsRequest><a/><a/></tsRequest>").unwrap();
        assert!(twice.allow(&[], &["a"]).is_err());
    }
}
