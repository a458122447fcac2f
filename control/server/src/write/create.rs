//! POST: default, admit, validate, one transaction.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use vetch_store::{Error, Object, Precondition, Write};

use super::{
    ATTEMPTS, Request, ensure_metadata, generate, refuse_invalid, set_namespace, timestamp, written,
};
use crate::admission::{Operation, admit};
use crate::body::decode;
use crate::read::object_response;
use crate::status::{Result, Status, from_store};
use crate::warnings::{of_written, with_warnings};

impl Request<'_> {
    pub(crate) async fn create(&self, body: &Bytes) -> Result<Response> {
        let resource = self.target.resource;
        let (object, mut warnings) = decode(resource, self.query, body)?;
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if !matches!(version, "" | "0") {
            // Kubernetes gives this one no reason.
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message));
        }
        let object = self.create_object(object).await?;
        warnings.extend(of_written(self, StatusCode::CREATED, &object));
        let response = object_response(
            StatusCode::CREATED,
            resource,
            &object,
            self.form,
            self.include(),
        );
        Ok(with_warnings(response, &warnings))
    }

    pub(super) async fn create_object(&self, mut object: Value) -> Result<Arc<Object>> {
        let resource = self.target.resource;
        let dry_run = self.query.dry_run()?;
        ensure_metadata(&mut object);
        set_namespace(self.target, &mut object)?;
        let text = |object: &Value, field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let prefix = text(&object, "generateName");
        let generate = text(&object, "name").is_empty() && !prefix.is_empty();
        for attempt in 1..=ATTEMPTS {
            let mut candidate = object.clone();
            if generate {
                candidate["metadata"]["name"] = generate::name(&prefix).into();
            }
            let name = text(&candidate, "name");
            (resource.default)(&mut candidate);
            set_system_fields(&mut candidate);
            let attributes = self.attributes(Operation::Create, &name, None, dry_run);
            let effects = admit(self.server, &attributes, &mut candidate).await?;
            (resource.prepare_create)(&mut candidate);
            refuse_invalid(
                resource,
                &candidate,
                &(resource.validate_create)(&candidate),
            )?;
            let key = self.target.key(&name);
            let stored = (resource.to_storage)(candidate);
            if dry_run {
                return match self.server.store.get(&key).await? {
                    Some(_) => Err(Status::already_exists(resource, &name)),
                    None => Ok(Object::unversioned(key, stored)),
                };
            }
            let mut conditions = vec![Precondition::Absent(key.clone())];
            let mut writes = vec![Write::Put(key.clone(), stored)];
            conditions.extend(effects.conditions);
            writes.extend(effects.writes);
            match self
                .server
                .store
                .commit_for(&conditions, &writes, resource.ttl_seconds)
                .await
            {
                Ok(revision) => return Ok(Object::new(key, written(writes), revision)),
                // The name is taken: another suffix, or the client's own problem.
                Err(Error::Exists { key: taken }) if taken == key => {
                    if !generate || attempt == ATTEMPTS {
                        return Err(Status::already_exists(resource, &name));
                    }
                }
                // A plugin's reservation lost a race: it is asked again.
                Err(Error::Exists { .. } | Error::Conflict { .. } | Error::NotFound { .. }) => {}
                Err(error) => return Err(from_store(resource, &name)(error)),
            }
        }
        Err(Status::conflict(
            resource,
            &text(&object, "name"),
            "what it needs was taken by others, again and again",
        ))
    }
}

fn set_system_fields(object: &mut Value) {
    let now = timestamp(jiff::Timestamp::now());
    let metadata = &mut object["metadata"];
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = now.into();
    if let Some(map) = metadata.as_object_mut() {
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
        ] {
            map.remove(field);
        }
    }
}
