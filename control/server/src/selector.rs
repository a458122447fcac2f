//! Label and field selectors, as query strings carry them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::status::{Result, Status};

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
    Greater(String, i64),
    Less(String, i64),
}

/// All requirements must hold; none at all selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    pub fn parse(text: &str) -> Result<LabelSelector> {
        let requirements = split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                requirement(part).ok_or_else(|| {
                    Status::bad_request(format!(
                        "unable to parse requirement: {part:?} is no label requirement"
                    ))
                })
            })
            .collect::<Result<_>>()?;
        Ok(LabelSelector(requirements))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| {
            object["metadata"]["labels"]
                .get(key)
                .and_then(Value::as_str)
        };
        let number = |key: &str| label(key).and_then(|value| value.parse::<i64>().ok());
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
            Requirement::Greater(key, bound) => number(key).is_some_and(|value| value > *bound),
            Requirement::Less(key, bound) => number(key).is_some_and(|value| value < *bound),
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let key_ok = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    let key = |key: &str| {
        Some(key.trim())
            .filter(|key| key_ok(key))
            .map(str::to_owned)
    };
    if let Some(rest) = part.strip_prefix('!') {
        return Some(Requirement::Absent(key(rest)?));
    }
    if let Some((head, set)) = part.split_once('(') {
        let values = set
            .strip_suffix(')')?
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        let name = key(words.next()?)?;
        return match (words.next()?, words.next()) {
            ("in", None) => Some(Requirement::In(name, values)),
            ("notin", None) => Some(Requirement::NotIn(name, values)),
            _ => None,
        };
    }
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((name, value)) = part.split_once(operator) {
            let name = key(name)?;
            return Some(match negated {
                true => Requirement::NotIn(name, one(value)),
                false => Requirement::In(name, one(value)),
            });
        }
    }
    if let Some((name, bound)) = part.split_once('>') {
        return Some(Requirement::Greater(key(name)?, bound.trim().parse().ok()?));
    }
    if let Some((name, bound)) = part.split_once('<') {
        return Some(Requirement::Less(key(name)?, bound.trim().parse().ok()?));
    }
    Some(Requirement::Exists(key(part)?))
}

/// `key=value` and `key!=value` terms on the fields a kind offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    pub fn parse(text: &str) -> Result<FieldSelector> {
        let terms = text
            .split(',')
            .map(str::trim)
            .filter(|term| !term.is_empty())
            .map(|term| {
                for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
                    if let Some((key, value)) = term.split_once(operator) {
                        return Ok((key.to_owned(), equal, value.to_owned()));
                    }
                }
                Err(Status::bad_request(format!(
                    "invalid selector: '{term}'; can't understand '{term}'"
                )))
            })
            .collect::<Result<_>>()?;
        Ok(FieldSelector(terms))
    }

    /// Of terms taken apart already: field, whether it is to be equal, value.
    pub fn of(terms: Vec<(String, bool, String)>) -> FieldSelector {
        FieldSelector(terms)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name the selector pins down, if it does: then one key is read, not all.
    pub fn name(&self) -> Option<&str> {
        self.pinned("metadata.name")
    }

    /// The value every selected object has in this field, if the selector demands one.
    pub fn pinned(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, equal, _)| *equal && key == field)
            .map(|(_, _, value)| value.as_str())
    }

    /// Refuses fields the kind does not offer; `offered` are the kind's own.
    pub fn check(&self, offered: &[(&'static str, String)]) -> Result<()> {
        for (key, ..) in &self.0 {
            let known = key == "metadata.name"
                || key == "metadata.namespace"
                || offered.iter().any(|(field, _)| field == key);
            if !known {
                return Err(Status::bad_request(format!(
                    "field label not supported: {key}"
                )));
            }
        }
        Ok(())
    }

    pub fn matches(
        &self,
        object: &Value,
        fields: impl Fn(&Value) -> Vec<(&'static str, String)>,
    ) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let own = fields(object);
        self.0.iter().all(|(key, equal, wanted)| {
            let value = match key.as_str() {
                "metadata.name" => object["metadata"]["name"].as_str().unwrap_or_default(),
                "metadata.namespace" => {
                    object["metadata"]["namespace"].as_str().unwrap_or_default()
                }
                _ => own
                    .iter()
                    .find(|(field, _)| field == key)
                    .map_or("", |(_, value)| value.as_str()),
            };
            (value == wanted) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "n": "5"}}});
        for (selector, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web, db)", true),
            ("app notin (web)", false),
            ("app", true),
            ("!app", false),
            ("!other,tier in (front)", true),
            ("n>4,n<6", true),
            ("n>5", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&object), selected, "{selector}");
        }
        for wrong in ["app in web", "a b", "=x", "app in (a", "n>x"] {
            assert!(LabelSelector::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn field_selectors() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}});
        let fields = |object: &Value| {
            vec![(
                "spec.nodeName",
                object["spec"]["nodeName"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )]
        };
        for (selector, selected) in [
            ("metadata.name=a", true),
            ("metadata.name=b", false),
            ("spec.nodeName=n1,metadata.name==a", true),
            ("spec.nodeName!=n1", false),
            ("spec.nodeName!=", true),
        ] {
            assert_eq!(
                FieldSelector::parse(selector)
                    .unwrap()
                    .matches(&object, fields),
                selected,
                "{selector}"
            );
        }
        assert!(
            FieldSelector::parse("spec.foo=1")
                .unwrap()
                .check(&fields(&object))
                .is_err()
        );
        assert!(FieldSelector::parse("spec").is_err());
    }
}
