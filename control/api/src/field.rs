//! Field errors in Kubernetes' words, and paths to the fields they are about.

use std::fmt;

use serde_json::Value;

use crate::resource::FieldError;

/// `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Clone, Debug)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Path {
        Path(root.to_string())
    }

    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() {
            Path(name.to_string())
        } else {
            Path(format!("{}.{name}", self.0))
        }
    }

    pub fn index(&self, i: usize) -> Path {
        Path(format!("{}[{i}]", self.0))
    }

    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }

    pub fn required(&self, detail: &str) -> FieldError {
        self.error("FieldValueRequired", join("Required value", detail))
    }

    pub fn invalid(&self, value: impl Into<Value>, detail: &str) -> FieldError {
        self.error(
            "FieldValueInvalid",
            join(&format!("Invalid value: {}", shown(&value.into())), detail),
        )
    }

    pub fn duplicate(&self, value: impl Into<Value>) -> FieldError {
        self.error(
            "FieldValueDuplicate",
            format!("Duplicate value: {}", shown(&value.into())),
        )
    }

    pub fn not_found(&self, value: impl Into<Value>) -> FieldError {
        self.error(
            "FieldValueNotFound",
            format!("Not found: {}", shown(&value.into())),
        )
    }

    pub fn not_supported(&self, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let value = shown(&value.into());
        self.error(
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {value}: supported values: {}",
                list.join(", ")
            ),
        )
    }

    pub fn forbidden(&self, detail: &str) -> FieldError {
        self.error("FieldValueForbidden", join("Forbidden", detail))
    }

    pub fn too_long(&self, max: usize) -> FieldError {
        self.error(
            "FieldValueTooLong",
            format!("Too long: may not be more than {max} bytes"),
        )
    }

    pub fn too_many(&self, actual: usize, max: usize) -> FieldError {
        let items = if max == 1 { "item" } else { "items" };
        self.error(
            "FieldValueTooMany",
            format!("Too many: {actual}: must have at most {max} {items}"),
        )
    }

    fn error(&self, reason: &'static str, message: String) -> FieldError {
        FieldError {
            reason,
            field: self.0.clone(),
            message,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The message of an Invalid Status: `Deployment.apps "web" is invalid: spec.x: Required value`.
pub fn invalid_message(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> String {
    let kind = if group.is_empty() {
        kind.to_string()
    } else {
        format!("{kind}.{group}")
    };
    let mut shown: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    match shown.as_slice() {
        [one] => format!("{kind} {name:?} is invalid: {one}"),
        many => format!("{kind} {name:?} is invalid: [{}]", many.join(", ")),
    }
}

fn join(kind: &str, detail: &str) -> String {
    if detail.is_empty() {
        kind.to_string()
    } else {
        format!("{kind}: {detail}")
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_in_kubernetes() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        let table = [
            (path.required(""), "spec.containers[0].name: Required value"),
            (
                path.invalid("A", "bad"),
                "spec.containers[0].name: Invalid value: \"A\": bad",
            ),
            (
                path.invalid(-1, "bad"),
                "spec.containers[0].name: Invalid value: -1: bad",
            ),
            (
                path.not_supported("X", &["A", "B"]),
                "spec.containers[0].name: Unsupported value: \"X\": supported values: \"A\", \"B\"",
            ),
            (
                path.too_long(63),
                "spec.containers[0].name: Too long: may not be more than 63 bytes",
            ),
        ];
        for (error, expected) in table {
            assert_eq!(error.to_string(), expected);
        }
        let errors = [path.required(""), path.duplicate("x")];
        assert_eq!(
            invalid_message("apps", "Deployment", "web", &errors),
            "Deployment.apps \"web\" is invalid: [spec.containers[0].name: Required value, \
             spec.containers[0].name: Duplicate value: \"x\"]"
        );
    }
}
