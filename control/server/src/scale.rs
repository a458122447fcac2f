//! Subresources that are a view of the object: scale, binding, finalize, eviction.

mod binding;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::SubresourceKind;

use self::binding::Refused;
use crate::body::{BINDING, SCALE};
use crate::delete::Options;
use crate::patch::Patch;
use crate::read::{current, json_response};
use crate::status::{Result, Status};
use crate::warnings::with_warnings;
use crate::write::{Allow, Request, set_namespace, timestamp};

/// Where a kind keeps what autoscaling/v1 Scale shows; JSON pointers.
struct Paths {
    spec: &'static str,
    status: &'static str,
    selector: &'static str,
}

impl Paths {
    fn view(&self, object: &Value) -> Value {
        let metadata = &object["metadata"];
        let mut shown = json!({});
        for field in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
        ] {
            if let Some(value) = metadata.get(field) {
                shown[field] = value.clone();
            }
        }
        let mut view = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": shown,
            "spec": {"replicas": object.pointer(self.spec).and_then(Value::as_i64).unwrap_or_default()},
            "status": {"replicas": object.pointer(self.status).and_then(Value::as_i64).unwrap_or_default()},
        });
        let selector = object
            .pointer(self.selector)
            .map(selector_text)
            .unwrap_or_default();
        if !selector.is_empty() {
            view["status"]["selector"] = selector.into();
        }
        view
    }

    fn set(&self, object: &mut Value, replicas: i64) {
        if let Some(field) = object.pointer_mut(self.spec) {
            *field = replicas.into();
        }
    }
}

/// A metav1.LabelSelector in query form.
fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}

impl Request<'_> {
    fn paths(&self) -> Option<Paths> {
        match self.target.subresource?.kind {
            SubresourceKind::Scale {
                spec,
                status,
                selector,
            } => Some(Paths {
                spec,
                status,
                selector,
            }),
            _ => None,
        }
    }

    pub(crate) async fn get_scale(&self) -> Result<Response> {
        let paths = self.paths().ok_or_else(Status::no_route)?;
        let object = current(self.server, self.target, self.name()).await?;
        Ok(json_response(
            StatusCode::OK,
            paths.view(&object.value).to_string(),
        ))
    }

    /// PUT (`patch` is none) and PATCH of scale.
    pub(crate) async fn change_scale(
        &self,
        body: &Bytes,
        patch: Option<&Patch>,
    ) -> Result<Response> {
        let paths = self.paths().ok_or_else(Status::no_route)?;
        let (whole, mut warnings) = match patch {
            Some(_) => (Value::Null, Vec::new()),
            None => SCALE.decode(self.query, body)?,
        };
        // Only a version the patch itself names binds it.
        let versioned = patch.is_none_or(Patch::names_version);
        let (code, object) = self
            .change(
                |old| {
                    let mut scale = match patch {
                        Some(patch) => {
                            let patched = patch.apply(&paths.view(old), SCALE.schema)?;
                            let (scale, found) = SCALE.decode_patched(self.query, patched, body)?;
                            warnings = found;
                            scale
                        }
                        None => whole.clone(),
                    };
                    self.check_name(&scale)?;
                    set_namespace(self.target, &mut scale)?;
                    let replicas = self.check_scale(&scale, old)?;
                    let mut new = old.clone();
                    paths.set(&mut new, replicas);
                    match scale["metadata"]["resourceVersion"].as_str() {
                        Some(version) if versioned && !version.is_empty() => {
                            new["metadata"]["resourceVersion"] = version.into();
                        }
                        _ => drop(
                            new["metadata"]
                                .as_object_mut()
                                .and_then(|map| map.remove("resourceVersion")),
                        ),
                    }
                    Ok(new)
                },
                Allow {
                    any_version: true,
                    ..Allow::default()
                },
            )
            .await?;
        let response = json_response(code, paths.view(&object.value).to_string());
        Ok(with_warnings(response, &warnings))
    }

    /// ValidateScale, and the uid as a precondition. The replicas that are asked for.
    fn check_scale(&self, scale: &Value, old: &Value) -> Result<i64> {
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if replicas < 0 {
            let path = Path::new("spec").child("replicas");
            let error = path.invalid(replicas, "must be greater than or equal to 0");
            return Err(Status::invalid_kind(
                "autoscaling",
                "Scale",
                self.name(),
                &[error],
            ));
        }
        let uid = |object: &Value| {
            object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (wanted, own) = (uid(scale), uid(old));
        if !wanted.is_empty() && wanted != own {
            let why = format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {own}"
            );
            return Err(self.conflict(&why));
        }
        Ok(replicas)
    }

    /// A conflict on the subresource, as Kubernetes names it: `deployments/scale.apps`.
    fn conflict(&self, why: &str) -> Status {
        let resource = self.target.resource;
        let subresource = self.target.subresource.map_or("", |sub| sub.name);
        let plural = format!("{}/{subresource}", resource.plural);
        Status::conflict_on(resource.group, &plural, self.name(), why)
    }

    /// POST pods/binding: the scheduler's decision.
    pub(crate) async fn bind(&self, body: &Bytes) -> Result<Response> {
        let (mut binding, warnings) = BINDING.decode(self.query, body)?;
        set_namespace(self.target, &mut binding)?;
        let (resource, name) = (self.target.resource, self.name());
        if binding["metadata"]["name"].as_str().unwrap_or_default() != name {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let errors = binding::validate(&binding);
        if !errors.is_empty() {
            return Err(Status::invalid_kind("", "Binding", name, &errors));
        }
        self.change(
            |old| {
                let mut new = binding::bound(old, &binding).map_err(|refused| match refused {
                    Refused::Precondition(why) => Status::conflict(resource, name, &why),
                    Refused::Pod(why) => self.conflict(&why),
                })?;
                set_condition(&mut new, "PodScheduled", "True", None);
                drop(
                    new["metadata"]
                        .as_object_mut()
                        .and_then(|map| map.remove("resourceVersion")),
                );
                Ok(new)
            },
            Allow {
                any_version: true,
                ..Allow::default()
            },
        )
        .await?;
        let answer = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let response = json_response(StatusCode::CREATED, answer.to_string());
        Ok(with_warnings(response, &warnings))
    }

    /// POST pods/eviction: a delete that a plugin may refuse, for the sake of a disruption budget.
    pub(crate) async fn evict(&self, body: &Bytes) -> Result<Response> {
        let eviction: Value = serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding Eviction: {error}")))?;
        if eviction["metadata"]["name"].as_str().unwrap_or_default() != self.name() {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let options = match eviction
            .get("deleteOptions")
            .filter(|options| !options.is_null())
        {
            Some(options) => Options::parse(self.query, options.to_string().as_bytes())?,
            None => Options::parse(self.query, b"")?,
        };
        self.delete_with(&options).await?;
        let answer = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(json_response(StatusCode::CREATED, answer.to_string()))
    }
}

/// Says on the object that its end is an eviction.
pub(crate) fn tell_eviction(object: &mut Value) {
    let why = ("EvictionByEvictionAPI", "Eviction API: evicting");
    set_condition(object, "DisruptionTarget", "True", Some(why));
}

/// `why`: reason and message.
fn set_condition(object: &mut Value, kind: &str, status: &str, why: Option<(&str, &str)>) {
    let now = timestamp(jiff::Timestamp::now());
    let mut conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions.retain(|condition| condition["type"] != kind);
    let mut condition =
        json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": now});
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    conditions.push(condition);
    object["status"]["conditions"] = conditions.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_view_of_replicas() {
        let paths = Paths {
            spec: "/spec/replicas",
            status: "/status/replicas",
            selector: "/spec/selector",
        };
        let mut object = json!({
            "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"},
            ]}},
            "status": {"replicas": 2},
        });
        let view = paths.view(&object);
        assert_eq!(view["spec"]["replicas"], 3);
        assert_eq!(
            view["status"],
            json!({"replicas": 2, "selector": "app=web,tier in (a,b),x"})
        );
        paths.set(&mut object, 5);
        assert_eq!(object["spec"]["replicas"], 5);
    }
}
