//! Create, update and patch: decode, default, admit, validate, one transaction.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use rand::Rng as _;
use serde_json::{Value, json};
use vetch_api::resource::{FieldError, Resource, SubresourceKind};
use vetch_identity::User;
use vetch_store::{Object, Precondition, Write};

use crate::admission::{Attributes, Effects, Operation, admit};
use crate::output::{Form, Include, api_version};
use crate::patch::Patch;
use crate::read::{current, object_response};
use crate::request::{Query, Target};
use crate::state::{Server, presented};
use crate::status::{Result, Status, from_store};

/// How often a write that lost a race is tried anew before the client is told.
pub(crate) const ATTEMPTS: usize = 8;
/// Kubernetes' alphabet for generated names: no vowels, no look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// metadata.name may have 63 characters in most kinds; a longer prefix is cut, as Kubernetes does.
const GENERATED_PREFIX_LIMIT: usize = 63 - SUFFIX_LENGTH;

/// A write request, taken apart.
pub(crate) struct Request<'a> {
    pub server: &'a Server,
    pub target: &'a Target,
    pub query: &'a Query,
    pub user: &'a User,
    pub form: Form,
}

/// What strict decoding found, for the client that asked to be warned.
type Warnings = Vec<String>;

/// Decodes a body for `resource`, with the client's wish for strictness.
pub(crate) fn decode(resource: &Resource, query: &Query, body: &[u8]) -> Result<(Value, Warnings)> {
    let decoded = vetch_api::decode::decode_bytes(resource, body)
        .map_err(|error| Status::bad_request(error.message))?;
    let warnings = match query.text("fieldValidation") {
        Some("Ignore") => Vec::new(),
        Some("Strict") if !decoded.warnings.is_empty() => {
            let error = vetch_api::decode::strict_error(resource.version, resource.kind, &decoded.warnings);
            return Err(Status::bad_request(error.message));
        }
        Some("Strict" | "Warn") | None => decoded.warnings,
        Some(other) => {
            return Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            )));
        }
    };
    check_kind(resource, &decoded.value)?;
    Ok((decoded.value, warnings))
}

fn check_kind(resource: &Resource, object: &Value) -> Result<()> {
    let (version, kind) = (api_version(resource), resource.kind);
    let found = (object["apiVersion"].as_str().unwrap_or(&version), object["kind"].as_str().unwrap_or(kind));
    if found == (version.as_str(), kind) {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({}) does not match the expected API version ({version})",
        if found.0 == version { format!("{}, Kind={}", found.0, found.1) } else { found.0.to_owned() }
    )))
}

pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn include(query: &Query) -> Include {
    Include::parse(query.text("includeObject"))
}

/// metadata.namespace must be the path's, and is filled from it.
fn set_namespace(target: &Target, object: &mut Value) -> Result<()> {
    let Some(namespace) = &target.namespace else {
        if target.resource.namespaced {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        return Ok(());
    };
    match object["metadata"]["namespace"].as_str() {
        Some(own) if !own.is_empty() && own != namespace => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => {
            object["metadata"]["namespace"] = namespace.as_str().into();
            Ok(())
        }
    }
}

fn set_system_fields(object: &mut Value) {
    let now = timestamp(jiff::Timestamp::now());
    let metadata = &mut object["metadata"];
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = now.into();
    if let Some(map) = metadata.as_object_mut() {
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"] {
            map.remove(field);
        }
    }
}

/// metav1.Time: RFC 3339 in whole seconds.
pub(crate) fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn generated_name(prefix: &str) -> String {
    let mut end = prefix.len().min(GENERATED_PREFIX_LIMIT);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    for _ in 0..SUFFIX_LENGTH {
        name.push(char::from(SUFFIX_ALPHABET[random.random_range(0..SUFFIX_ALPHABET.len())]));
    }
    name
}

fn invalid(resource: &Resource, object: &Value, errors: Vec<FieldError>) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid(resource, name, &errors))
}

impl Request<'_> {
    fn attributes<'b>(
        &'b self,
        operation: Operation,
        name: &'b str,
        old: Option<&'b Value>,
        dry_run: bool,
    ) -> Attributes<'b> {
        Attributes {
            operation,
            user: self.user,
            resource: self.target.resource,
            subresource: self.target.subresource.map_or("", |sub| sub.name),
            namespace: self.target.namespace.as_deref(),
            name,
            old,
            dry_run,
        }
    }

    pub(crate) async fn create(&self, body: &Bytes) -> Result<Response> {
        let (object, warnings) = decode(self.target.resource, self.query, body)?;
        let object = self.create_object(object).await?;
        let response = object_response(StatusCode::CREATED, self.target.resource, &object, self.form, include(self.query));
        Ok(with_warnings(response, &warnings))
    }

    async fn create_object(&self, mut object: Value) -> Result<Arc<Object>> {
        let resource = self.target.resource;
        let dry_run = self.query.dry_run()?;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        set_namespace(self.target, &mut object)?;
        let given = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        let generate = given.is_empty() && !prefix.is_empty();
        (resource.default)(&mut object);
        for attempt in 1.. {
            let mut candidate = object.clone();
            if generate {
                candidate["metadata"]["name"] = generated_name(&prefix).into();
            }
            let name = candidate["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            set_system_fields(&mut candidate);
            let attributes = self.attributes(Operation::Create, &name, None, dry_run);
            let effects = admit(self.server, &attributes, &mut candidate).await?;
            (resource.prepare_create)(&mut candidate);
            invalid(resource, &candidate, (resource.validate_create)(&candidate))?;
            let key = self.target.key(&name);
            let stored = (resource.to_storage)(candidate);
            if dry_run {
                return match self.server.store.get(&key).await? {
                    Some(_) => Err(Status::already_exists(resource, &name)),
                    None => Ok(unwritten(key, stored)),
                };
            }
            let mut conditions = vec![Precondition::Absent(key.clone())];
            let mut writes = vec![Write::Put(key.clone(), stored.clone())];
            conditions.extend(effects.conditions);
            writes.extend(effects.writes);
            match self.server.store.commit_for(&conditions, &writes, resource.ttl_seconds).await {
                Ok(revision) => return Ok(Object::new(key, stored, revision)),
                // The name is taken: another suffix, or the client's own problem.
                Err(vetch_store::Error::Exists { key: taken }) if taken == key => {
                    if !generate || attempt >= ATTEMPTS {
                        return Err(Status::already_exists(resource, &name));
                    }
                }
                // A plugin's reservation lost a race: it is asked again.
                Err(vetch_store::Error::Exists { .. } | vetch_store::Error::Conflict { .. } | vetch_store::Error::NotFound { .. })
                    if attempt < ATTEMPTS => {}
                Err(error) => return Err(from_store(resource, &name)(error)),
            }
        }
        Err(Status::internal("no attempt was made"))
    }

    pub(crate) async fn update(&self, body: &Bytes) -> Result<Response> {
        let (object, warnings) = decode(self.target.resource, self.query, body)?;
        let name = self.target.name.as_deref().unwrap_or_default();
        let own = object["metadata"]["name"].as_str().unwrap_or_default();
        if own != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            )));
        }
        let mut object = object;
        set_namespace(self.target, &mut object)?;
        let (code, stored) = self
            .change(|_| Ok(object.clone()), self.target.resource.create_on_update, false)
            .await?;
        let response = object_response(code, self.target.resource, &stored, self.form, include(self.query));
        Ok(with_warnings(response, &warnings))
    }

    pub(crate) async fn patch(&self, patch: &Patch) -> Result<Response> {
        let resource = self.target.resource;
        let mut warnings = Vec::new();
        let (code, stored) = self
            .change(
                |old| {
                    let mut patched = patch.apply(old, resource.schema)?;
                    // Only a version the patch itself names binds it; else a lost race is retried.
                    if !patch.names_version()
                        && let Some(metadata) = patched["metadata"].as_object_mut()
                    {
                        metadata.remove("resourceVersion");
                    }
                    let (value, found) = decode(resource, self.query, patched.to_string().as_bytes())?;
                    warnings = found;
                    Ok(value)
                },
                false,
                true,
            )
            .await?;
        let response = object_response(code, resource, &stored, self.form, include(self.query));
        Ok(with_warnings(response, &warnings))
    }

    /// Replaces the stored object by what `wanted` makes of it. Tried again when another writer was
    /// faster, unless the client named the version it knows.
    pub(crate) async fn change(
        &self,
        mut wanted: impl FnMut(&Value) -> Result<Value>,
        create_missing: bool,
        patching: bool,
    ) -> Result<(StatusCode, Arc<Object>)> {
        let resource = self.target.resource;
        let name = self.target.name.as_deref().unwrap_or_default();
        let dry_run = self.query.dry_run()?;
        for attempt in 1.. {
            let old = match current(self.server, self.target, name).await {
                Ok(old) => old,
                Err(status) if create_missing && status.code == StatusCode::NOT_FOUND => {
                    let object = wanted(&Value::Null)?;
                    return Ok((StatusCode::CREATED, self.create_object(object).await?));
                }
                Err(status) => return Err(status),
            };
            let before = presented(resource, &old);
            let new = wanted(&before)?;
            let conditional = self.check_version(name, &new, &old, patching)?;
            let (new, effects) = self.prepare(name, new, &before, dry_run).await?;
            let stored = (resource.to_storage)(new);
            if same(&stored, &old.value) && effects.writes.is_empty() {
                return Ok((StatusCode::OK, old));
            }
            if dry_run {
                return Ok((StatusCode::OK, Object::new(old.key.clone(), stored, old.revision)));
            }
            let key = old.key.clone();
            let mut conditions = vec![Precondition::At(key.clone(), old.revision)];
            // The last finalizer went away from an object that is being deleted.
            let ends = is_finished(resource, &stored);
            let mut writes = match ends {
                true => vec![Write::Delete(key.clone())],
                false => vec![Write::Put(key.clone(), stored.clone())],
            };
            conditions.extend(effects.conditions);
            writes.extend(effects.writes);
            match self.server.store.commit_for(&conditions, &writes, resource.ttl_seconds).await {
                Ok(revision) => return Ok((StatusCode::OK, Object::new(key, stored, revision))),
                Err(vetch_store::Error::Conflict { key: raced }) if raced == key && (conditional || attempt >= ATTEMPTS) => {
                    return Err(Status::modified(resource, name));
                }
                Err(vetch_store::Error::Conflict { .. } | vetch_store::Error::Exists { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(from_store(resource, name)(error)),
            }
        }
        Err(Status::internal("no attempt was made"))
    }

    /// Does the object's own resourceVersion and uid allow this write? Answers whether it is
    /// bound to the version it names.
    fn check_version(&self, name: &str, new: &Value, old: &Object, patching: bool) -> Result<bool> {
        let resource = self.target.resource;
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        let old_uid = old.value["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != old_uid {
            return Err(Status::conflict(
                resource,
                name,
                &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"),
            ));
        }
        match new["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty()) {
            Some(version) if version != old.revision.to_string() => Err(Status::modified(resource, name)),
            Some(_) => Ok(true),
            None if !resource.unconditional_update && !patching => Err(Status::invalid(
                resource,
                name,
                &[FieldError {
                    reason: "FieldValueInvalid",
                    field: "metadata.resourceVersion".into(),
                    message: "Invalid value: 0: must be specified for an update".into(),
                }],
            )),
            None => Ok(false),
        }
    }

    /// Everything between the client's wish and the transaction.
    async fn prepare(&self, name: &str, mut new: Value, old: &Value, dry_run: bool) -> Result<(Value, Effects)> {
        let resource = self.target.resource;
        if !new["metadata"].is_object() {
            new["metadata"] = json!({});
        }
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            match old["metadata"].get(field) {
                Some(value) => new["metadata"][field] = value.clone(),
                None => drop(new["metadata"].as_object_mut().and_then(|map| map.remove(field))),
            }
        }
        if let Some(map) = new["metadata"].as_object_mut() {
            map.remove("managedFields");
            map.remove("selfLink");
        }
        let attributes = self.attributes(Operation::Update, name, Some(old), dry_run);
        match self.target.subresource.map(|sub| &sub.kind) {
            // The handler has made exactly the change the subresource stands for.
            Some(SubresourceKind::Binding) => {
                let effects = admit(self.server, &attributes, &mut new).await?;
                Ok((new, effects))
            }
            Some(SubresourceKind::Finalize) => {
                let mut finalized = old.clone();
                finalized["spec"]["finalizers"] = new["spec"]["finalizers"].take();
                let effects = admit(self.server, &attributes, &mut finalized).await?;
                Ok((finalized, effects))
            }
            Some(SubresourceKind::Status) => {
                (resource.default)(&mut new);
                (resource.prepare_status)(&mut new, old);
                let effects = admit(self.server, &attributes, &mut new).await?;
                invalid(resource, &new, (resource.validate_status)(&new, old))?;
                Ok((new, effects))
            }
            _ => {
                (resource.default)(&mut new);
                let effects = admit(self.server, &attributes, &mut new).await?;
                (resource.prepare_update)(&mut new, old);
                invalid(resource, &new, (resource.validate_update)(&new, old))?;
                Ok((new, effects))
            }
        }
    }
}

/// Equal but for the version.
fn same(new: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut copy = value.clone();
        if let Some(map) = copy["metadata"].as_object_mut() {
            map.remove("resourceVersion");
        }
        copy
    };
    strip(new) == strip(old)
}

fn unwritten(key: String, value: Value) -> Arc<Object> {
    Object::new(key, value, 0)
}

/// Deleted, past its grace period, and held by no finalizer.
pub(crate) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
        && !is_held(resource, object)
}

/// Some finalizer keeps the object: metadata.finalizers, or spec.finalizers where the kind has a
/// finalize subresource (namespaces).
pub(crate) fn is_held(resource: &Resource, object: &Value) -> bool {
    let any = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let finalizes = resource.subresources.iter().any(|sub| matches!(sub.kind, SubresourceKind::Finalize));
    any(&object["metadata"]["finalizers"]) || (finalizes && any(&object["spec"]["finalizers"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_have_five_safe_characters() {
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name[4..].bytes().all(|byte| SUFFIX_ALPHABET.contains(&byte)), "{name}");
        assert_eq!(generated_name(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn only_the_version_may_differ_for_a_write_to_be_no_write() {
        let object = |version: &str, label: &str| json!({"metadata": {"resourceVersion": version, "labels": {"a": label}}});
        assert!(same(&object("1", "x"), &object("2", "x")));
        assert!(!same(&object("1", "x"), &object("1", "y")));
    }
}
