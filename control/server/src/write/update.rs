//! PUT and PATCH: what is stored becomes what the client wants, if the row and the plugins agree.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use vetch_api::resource::{FieldError, SubresourceKind};
use vetch_store::{Error, Object, Precondition, Write};

use super::{
    ATTEMPTS, Base, Request, ensure_metadata, is_finished, refuse_invalid, set_namespace, written,
};
use crate::admission::{Effects, Operation, admit};
use crate::body::{decode, decode_patched};
use crate::patch::Patch;
use crate::read::object_response;
use crate::state::presented;
use crate::status::{Result, Status, from_store};
use crate::warnings::{of_written, with_warnings};

/// What a change may do beyond replacing an object at the version it names.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allow {
    pub create_missing: bool,
    /// Leave the version out although the kind wants one.
    pub any_version: bool,
}

enum Outcome {
    Written(Arc<Object>),
    Unchanged,
    /// Another writer was faster.
    Lost,
}

impl Request<'_> {
    pub(crate) async fn update(&self, body: &Bytes) -> Result<Response> {
        let resource = self.target.resource;
        let (mut object, mut warnings) = decode(resource, self.query, body)?;
        self.check_name(&object)?;
        set_namespace(self.target, &mut object)?;
        let allow = Allow {
            create_missing: resource.create_on_update,
            any_version: false,
        };
        let (code, stored) = self.change(|_| Ok(object.clone()), allow).await?;
        warnings.extend(of_written(self, code, &stored));
        let response = object_response(code, resource, &stored, self.form, self.include());
        Ok(with_warnings(response, &warnings))
    }

    /// Whether the object is of the name in the path.
    pub(crate) fn check_name(&self, object: &Value) -> Result<()> {
        let name = self.name();
        match object["metadata"]["name"].as_str().unwrap_or_default() {
            "" => Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            ))),
            own if own != name => Err(Status::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) async fn patch(&self, patch: &Patch, body: &Bytes) -> Result<Response> {
        let resource = self.target.resource;
        let mut warnings = Vec::new();
        let patched = |old: &Value| {
            let mut patched = patch.apply(old, resource.schema)?;
            // Only a version the patch itself names binds it; else a lost race is retried.
            if !patch.names_version()
                // Of what is no object there is none: a patch may have made anything.
                && let Some(metadata) = patched.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.remove("resourceVersion");
            }
            let (value, found) = decode_patched(resource, self.query, patched, body)?;
            warnings = found;
            Ok(value)
        };
        let (code, stored) = self
            .change(
                patched,
                Allow {
                    any_version: true,
                    ..Allow::default()
                },
            )
            .await?;
        warnings.extend(of_written(self, code, &stored));
        let response = object_response(code, resource, &stored, self.form, self.include());
        Ok(with_warnings(response, &warnings))
    }

    /// Replaces the stored object by what `wanted` makes of it. Tried again when another writer was
    /// faster, unless the client named the version it knows.
    pub(crate) async fn change(
        &self,
        mut wanted: impl FnMut(&Value) -> Result<Value>,
        allow: Allow,
    ) -> Result<(StatusCode, Arc<Object>)> {
        for attempt in 1..=ATTEMPTS {
            let base = match self.base(attempt).await {
                Ok(base) => base,
                Err(status) if allow.create_missing && status.code == StatusCode::NOT_FOUND => {
                    let object = wanted(&Value::Null)?;
                    return Ok((StatusCode::CREATED, self.create_object(object).await?));
                }
                Err(status) => return Err(status),
            };
            match self.try_change(&base, &mut wanted, allow).await {
                Ok(Outcome::Written(object)) => return Ok((StatusCode::OK, object)),
                Ok(Outcome::Unchanged) if base.fresh => return Ok((StatusCode::OK, base.object)),
                Err(status) if base.fresh => return Err(status),
                Ok(Outcome::Lost | Outcome::Unchanged) | Err(_) => {}
            }
        }
        Err(Status::modified(self.target.resource, self.name()))
    }

    async fn try_change(
        &self,
        base: &Base,
        wanted: &mut impl FnMut(&Value) -> Result<Value>,
        allow: Allow,
    ) -> Result<Outcome> {
        let (resource, name, old) = (self.target.resource, self.name(), &base.object);
        let dry_run = self.query.dry_run()?;
        let before = presented(resource, old);
        let new = wanted(&before)?;
        let bound = self.check_version(&new, old, allow)?;
        let (new, mut effects) = self.prepare(new, &before, dry_run).await?;
        // The last finalizer went away from an object that is being deleted.
        let ends = is_finished(resource, &new);
        if ends {
            let attributes = self.attributes(Operation::Delete, name, Some(&before), dry_run);
            effects.extend(admit(self.server, &attributes, &mut new.clone()).await?);
        }
        let stored = (resource.to_storage)(new);
        if !ends && same(&stored, &old.value) && effects.writes.is_empty() {
            return Ok(Outcome::Unchanged);
        }
        let key = old.key.clone();
        if dry_run {
            return Ok(Outcome::Written(Object::new(key, stored, old.revision)));
        }
        let mut conditions = vec![Precondition::At(key.clone(), old.revision)];
        conditions.extend(effects.conditions);
        let committed = match ends {
            true => {
                let mut writes = vec![Write::Delete(key.clone())];
                writes.extend(effects.writes);
                self.server
                    .store
                    .commit(&conditions, &writes)
                    .await
                    .map(|revision| (revision, stored))
            }
            false => {
                let mut writes = vec![Write::Put(key.clone(), stored)];
                writes.extend(effects.writes);
                let committed = self
                    .server
                    .store
                    .commit_for(&conditions, &writes, resource.ttl_seconds)
                    .await;
                committed.map(|revision| (revision, written(writes)))
            }
        };
        match committed {
            Ok((revision, value)) => Ok(Outcome::Written(Object::new(key, value, revision))),
            Err(Error::Conflict { key: raced }) if raced == key && bound => {
                Err(Status::modified(resource, name))
            }
            Err(Error::Conflict { .. } | Error::Exists { .. }) => Ok(Outcome::Lost),
            Err(Error::NotFound { key: gone }) if gone != key => Ok(Outcome::Lost),
            Err(error) => Err(from_store(resource, name)(error)),
        }
    }

    /// Does the object's own resourceVersion and uid allow this write? Answers whether it is
    /// bound to the version it names.
    fn check_version(&self, new: &Value, old: &Object, allow: Allow) -> Result<bool> {
        let (resource, name) = (self.target.resource, self.name());
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        let old_uid = old.value["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != old_uid {
            return Err(Status::conflict(
                resource,
                name,
                &format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
                ),
            ));
        }
        match new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
        {
            "" | "0" if !resource.unconditional_update && !allow.any_version => {
                let error = FieldError {
                    reason: "FieldValueInvalid",
                    field: "metadata.resourceVersion".into(),
                    message: "Invalid value: 0: must be specified for an update".into(),
                };
                Err(Status::invalid(resource, name, &[error]))
            }
            "" | "0" => Ok(false),
            version if version != old.revision.to_string() => Err(Status::modified(resource, name)),
            _ => Ok(true),
        }
    }

    /// Everything between the client's wish and the transaction.
    async fn prepare(
        &self,
        mut new: Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<(Value, Effects)> {
        let resource = self.target.resource;
        keep_system_fields(&mut new, old);
        let attributes = self.attributes(Operation::Update, self.name(), Some(old), dry_run);
        match self.target.subresource.map(|sub| &sub.kind) {
            // The handler has made exactly the change the subresource stands for.
            Some(SubresourceKind::Binding) => {
                let effects = admit(self.server, &attributes, &mut new).await?;
                Ok((new, effects))
            }
            Some(SubresourceKind::Finalize) => {
                let mut finalized = old.clone();
                finalized["spec"]["finalizers"] = match new["spec"]["finalizers"].take() {
                    Value::Null => Value::Array(Vec::new()),
                    list => list,
                };
                let effects = admit(self.server, &attributes, &mut finalized).await?;
                Ok((finalized, effects))
            }
            Some(SubresourceKind::Status) => {
                (resource.default)(&mut new);
                (resource.prepare_status)(&mut new, old);
                let effects = admit(self.server, &attributes, &mut new).await?;
                refuse_invalid(resource, &new, &(resource.validate_status)(&new, old))?;
                Ok((new, effects))
            }
            Some(SubresourceKind::Part { prepare, validate }) => {
                (resource.default)(&mut new);
                prepare(&mut new, old);
                let effects = admit(self.server, &attributes, &mut new).await?;
                refuse_invalid(resource, &new, &validate(&new, old))?;
                Ok((new, effects))
            }
            _ => {
                (resource.default)(&mut new);
                let effects = admit(self.server, &attributes, &mut new).await?;
                (resource.prepare_update)(&mut new, old);
                refuse_invalid(resource, &new, &(resource.validate_update)(&new, old))?;
                Ok((new, effects))
            }
        }
    }
}

/// What a client cannot change is what it was, whatever the body says.
fn keep_system_fields(new: &mut Value, old: &Value) {
    ensure_metadata(new);
    let Some(metadata) = new["metadata"].as_object_mut() else {
        return;
    };
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        match old["metadata"].get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    for field in ["managedFields", "selfLink"] {
        metadata.remove(field);
    }
}

/// Equal but for the version.
fn same(new: &Value, old: &Value) -> bool {
    let (Value::Object(new), Value::Object(old)) = (new, old) else {
        return new == old;
    };
    let versionless = |metadata: &Value| -> Option<Vec<(String, Value)>> {
        let fields = metadata
            .as_object()?
            .iter()
            .filter(|(key, _)| *key != "resourceVersion");
        Some(
            fields
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        )
    };
    new.len() == old.len()
        && new.iter().all(|(key, value)| match old.get(key) {
            Some(known) if key == "metadata" => versionless(value) == versionless(known),
            known => known == Some(value),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_version_may_differ_for_a_write_to_be_no_write() {
        let object = |version: &str, label: &str| json!({"metadata": {"resourceVersion": version, "labels": {"a": label}}, "spec": {"b": 1}});
        assert!(same(&object("1", "x"), &object("2", "x")));
        assert!(!same(&object("1", "x"), &object("1", "y")));
        let mut other = object("1", "x");
        other["spec"]["b"] = 2.into();
        assert!(!same(&object("1", "x"), &other));
    }

    #[test]
    fn a_client_cannot_change_what_the_server_owns() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 3}});
        let mut new = json!({"metadata": {"name": "a", "uid": "v", "generation": 9, "deletionTimestamp": "x", "managedFields": []}});
        keep_system_fields(&mut new, &old);
        assert_eq!(new, old);
    }
}
