//! What the access reviews ask, taken apart.

use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec,
};
use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::FieldError;
use vetch_identity::User;
use vetch_server::guard::{Action, FieldSelector};

/// An action on a resource or on a path; exactly one of them once [`Asked::invalid`] finds nothing.
pub struct Asked {
    pub resource: Option<ResourceAttributes>,
    pub path: Option<NonResourceAttributes>,
}

impl Asked {
    pub fn invalid(&self) -> Vec<FieldError> {
        let spec = Path::new("spec");
        match (&self.resource, &self.path) {
            (Some(_), Some(path)) => vec![spec.child("nonResourceAttributes").invalid(
                json!(path),
                "cannot be specified in combination with resourceAttributes",
            )],
            (None, None) => vec![spec.child("resourceAttributes").invalid(
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )],
            _ => Vec::new(),
        }
    }

    /// For a review that lives in a namespace.
    pub fn invalid_in(&self, namespace: &str) -> Vec<FieldError> {
        let mut errors = self.invalid();
        let asked = self.resource.as_ref().map(|it| text(&it.namespace));
        if let Some(asked) = asked.filter(|asked| *asked != namespace) {
            let path = Path::new("spec").child("resourceAttributes");
            errors.push(
                path.child("namespace")
                    .invalid(asked, "must match metadata.namespace"),
            );
        }
        if let Some(path) = &self.path {
            let at = Path::new("spec").child("nonResourceAttributes");
            errors.push(at.invalid(json!(path), "disallowed on this kind of request"));
        }
        errors
    }

    /// What a list is narrowed to, and why that cannot be told where it cannot.
    pub fn fields(&self) -> (Option<FieldSelector>, Option<String>) {
        let asked = self
            .resource
            .as_ref()
            .and_then(|it| it.field_selector.as_ref());
        match asked.map(selector) {
            None => (None, None),
            Some(Ok(fields)) => (Some(fields), None),
            Some(Err(why)) => (None, Some(why)),
        }
    }

    pub fn action<'a>(&'a self, fields: Option<&'a FieldSelector>) -> Action<'a> {
        let mut action = Action {
            verb: "",
            group: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            fields,
            path: "",
        };
        if let Some(resource) = &self.resource {
            action.verb = text(&resource.verb);
            action.group = text(&resource.group);
            action.resource = text(&resource.resource);
            action.subresource = text(&resource.subresource);
            action.namespace = text(&resource.namespace);
            action.name = text(&resource.name);
        }
        if let Some(path) = &self.path {
            action.verb = text(&path.verb);
            action.path = text(&path.path);
        }
        action
    }
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn selector(asked: &FieldSelectorAttributes) -> Result<FieldSelector, String> {
    let requirements = asked.requirements.as_deref().unwrap_or_default();
    if requirements.is_empty() {
        return FieldSelector::parse(text(&asked.raw_selector)).map_err(|status| status.message);
    }
    let terms = requirements.iter().map(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        match (requirement.operator.as_str(), values) {
            ("In", [value]) => Ok((requirement.key.clone(), true, value.clone())),
            ("NotIn", [value]) => Ok((requirement.key.clone(), false, value.clone())),
            (operator @ ("In" | "NotIn"), _) => Err(format!(
                "fieldSelectors do not yet support multiple values: {operator} {values:?}"
            )),
            (operator, _) => Err(format!(
                "{operator:?} is not a valid field selector operator"
            )),
        }
    });
    Ok(FieldSelector::of(terms.collect::<Result<_, _>>()?))
}

pub fn subject(spec: &SubjectAccessReviewSpec) -> User {
    User {
        name: text(&spec.user).to_owned(),
        uid: text(&spec.uid).to_owned(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    }
}

/// A subject is a user or a group.
pub fn invalid_subject(spec: &SubjectAccessReviewSpec) -> Vec<FieldError> {
    let nobody =
        text(&spec.user).is_empty() && spec.groups.as_ref().is_none_or(|all| all.is_empty());
    match nobody {
        true => {
            let path = Path::new("spec").child("user");
            vec![path.invalid("", "at least one of user or group must be specified")]
        }
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(spec: Value) -> Asked {
        let spec: SubjectAccessReviewSpec = serde_json::from_value(spec).unwrap();
        Asked {
            resource: spec.resource_attributes,
            path: spec.non_resource_attributes,
        }
    }

    #[test]
    fn exactly_one_thing_is_asked() {
        let (resource, path) = (json!({"resource": "pods"}), json!({"path": "/x"}));
        for (spec, field) in [
            (json!({"resourceAttributes": resource}), None),
            (json!({"nonResourceAttributes": path}), None),
            (json!({}), Some("spec.resourceAttributes")),
            (
                json!({"resourceAttributes": resource, "nonResourceAttributes": path}),
                Some("spec.nonResourceAttributes"),
            ),
        ] {
            let errors = asked(spec.clone()).invalid();
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, field.into_iter().collect::<Vec<_>>(), "{spec}");
        }
    }

    #[test]
    fn a_local_review_stays_in_its_namespace() {
        let within = |namespace: &str| {
            asked(json!({"resourceAttributes": {"resource": "pods", "namespace": namespace}}))
        };
        assert!(within("a").invalid_in("a").is_empty());
        assert_eq!(
            within("b").invalid_in("a")[0].to_string(),
            "spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace"
        );
        let path = asked(json!({"nonResourceAttributes": {"path": "/x"}}));
        assert_eq!(path.invalid_in("a").len(), 1);
    }

    #[test]
    fn a_list_may_be_narrowed() {
        let raw = json!({"rawSelector": "spec.nodeName=a"});
        let one =
            json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]});
        for selector in [raw, one] {
            let asked = asked(json!({"resourceAttributes": {"fieldSelector": selector}}));
            let (fields, why) = asked.fields();
            assert_eq!(why, None);
            assert_eq!(fields.unwrap().pinned("spec.nodeName"), Some("a"));
        }
        for requirement in [
            json!({"key": "a", "operator": "In", "values": ["a", "b"]}),
            json!({"key": "a", "operator": "Exists"}),
        ] {
            let asked = asked(
                json!({"resourceAttributes": {"fieldSelector": {"requirements": [requirement]}}}),
            );
            assert!(matches!(asked.fields(), (None, Some(_))), "{requirement}");
        }
    }
}
