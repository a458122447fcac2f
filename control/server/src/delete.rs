//! DELETE: preconditions, grace, finalizers, and what happens to dependents.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use vetch_api::resource::{Propagation, Resource, SubresourceKind};
use vetch_store::{Object, Precondition, Write};

use crate::admission::{Attributes, Operation, admit};
use crate::output::{Form, Include};
use crate::read::{current, json_response, object_response};
use crate::request::{Query, Target};
use crate::state::presented;
use crate::status::{Result, Status, from_store, success};
use crate::write::{ATTEMPTS, Request, is_held, timestamp};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// metav1.DeleteOptions, as far as deletion depends on it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Options {
    grace_period_seconds: Option<i64>,
    preconditions: Preconditions,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    dry_run: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Options {
    /// From the body where there is one; query parameters stand in for what it leaves out.
    pub fn parse(query: &Query, body: &[u8]) -> Result<Options> {
        let mut options: Options = match body.is_empty() {
            true => Options::default(),
            false => serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("error decoding DeleteOptions: {error}")))?,
        };
        if options.grace_period_seconds.is_none() {
            options.grace_period_seconds = query.number("gracePeriodSeconds")?;
        }
        if options.propagation_policy.is_none() {
            options.propagation_policy = query.text("propagationPolicy").map(str::to_owned);
        }
        if query.dry_run()? {
            options.dry_run = vec!["All".into()];
        }
        if let Some(policy) = &options.propagation_policy
            && !["Background", "Foreground", "Orphan"].contains(&policy.as_str())
        {
            return Err(Status::bad_request(format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {policy:?}: \
                 supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
        Ok(options)
    }

    fn check(&self, resource: &Resource, name: &str, object: &Object) -> Result<()> {
        let uid = object.value["metadata"]["uid"].as_str().unwrap_or_default();
        let version = object.revision.to_string();
        let failed = |what: &str, wanted: &str, found: &str| {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            Err(Status::conflict(resource, name, &why))
        };
        match (&self.preconditions.uid, &self.preconditions.resource_version) {
            (Some(wanted), _) if wanted != uid => failed("UID", wanted, uid),
            (_, Some(wanted)) if *wanted != version => failed("ResourceVersion", wanted, &version),
            _ => Ok(()),
        }
    }

    /// The finalizer that makes the garbage collector do what the client wants with dependents.
    fn finalizer(&self, resource: &Resource) -> Option<&'static str> {
        match (self.orphan_dependents, self.propagation_policy.as_deref()) {
            (Some(true), _) | (None, Some("Orphan")) => Some(ORPHAN),
            (None, Some("Foreground")) => Some(FOREGROUND),
            (None, None) if resource.default_propagation == Propagation::Orphan => Some(ORPHAN),
            _ => None,
        }
    }
}

/// What a delete does to an object.
#[derive(Debug, PartialEq)]
enum Outcome {
    Remove,
    /// The object stays for now, marked like this.
    Mark(Value),
}

fn decide(resource: &Resource, object: &Value, options: &Options, now: Timestamp) -> Outcome {
    let mut object = object.clone();
    let default_grace = (resource.default_grace_seconds)(&object);
    let grace = match default_grace {
        // Not graceful at all, or nothing runs any more.
        None | Some(0) => 0,
        Some(default) => options.grace_period_seconds.unwrap_or(default).max(0),
    };
    let held_before = object["metadata"]["deletionTimestamp"].is_string();
    let grace = match object["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        // A second delete may only shorten the first one's grace.
        Some(running) if held_before => {
            options.grace_period_seconds.filter(|_| default_grace.is_some()).map_or(running, |asked| asked.clamp(0, running))
        }
        _ => grace,
    };
    if let Some(finalizer) = options.finalizer(resource) {
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.retain(|own| own != FOREGROUND && own != ORPHAN);
        finalizers.push(finalizer.into());
        object["metadata"]["finalizers"] = finalizers.into();
    } else if options.propagation_policy.as_deref() == Some("Background")
        && let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut()
    {
        finalizers.retain(|own| own != FOREGROUND && own != ORPHAN);
    }
    if grace == 0 && !is_held(resource, &object) {
        return Outcome::Remove;
    }
    let shortened = object["metadata"]["deletionGracePeriodSeconds"].as_i64() != Some(grace);
    if !held_before || shortened {
        let at = now + SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] = timestamp(at).into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if let Some(generation) = object["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = (generation + 1).into();
        }
    }
    // A kind that is finalized shows that in its phase (namespaces).
    if resource.subresources.iter().any(|sub| matches!(sub.kind, SubresourceKind::Finalize)) {
        object["status"]["phase"] = "Terminating".into();
    }
    Outcome::Mark(object)
}

impl Request<'_> {
    pub(crate) async fn delete(&self, body: &Bytes) -> Result<Response> {
        let options = Options::parse(self.query, body)?;
        self.delete_with(&options).await
    }

    pub(crate) async fn delete_with(&self, options: &Options) -> Result<Response> {
        let resource = self.target.resource;
        let name = self.target.name.as_deref().unwrap_or_default();
        let dry_run = !options.dry_run.is_empty();
        for attempt in 1.. {
            let old = current(self.server, self.target, name).await?;
            options.check(resource, name, &old)?;
            let mut object = presented(resource, &old);
            let attributes = Attributes {
                operation: Operation::Delete,
                user: self.user,
                resource,
                subresource: "",
                namespace: self.target.namespace.as_deref(),
                name,
                old: Some(&old.value),
                dry_run,
            };
            let effects = admit(self.server, &attributes, &mut object).await?;
            let outcome = decide(resource, &old.value, options, Timestamp::now());
            let mut conditions = vec![Precondition::At(old.key.clone(), old.revision)];
            let mut writes = Vec::new();
            match &outcome {
                Outcome::Remove => {
                    writes.push(Write::Delete(old.key.clone()));
                    // Reservations end with the object, not with the wish to delete it.
                    conditions.extend(effects.conditions);
                    writes.extend(effects.writes);
                }
                Outcome::Mark(marked) if *marked != old.value => {
                    writes.push(Write::Put(old.key.clone(), marked.clone()));
                }
                Outcome::Mark(_) => return Ok(self.answer(StatusCode::OK, &old)),
            }
            if dry_run {
                return Ok(self.answer(StatusCode::OK, &old));
            }
            match self.server.store.commit(&conditions, &writes).await {
                Ok(revision) => {
                    return Ok(match outcome {
                        Outcome::Mark(marked) => {
                            let marked = Object::new(old.key.clone(), marked, revision);
                            self.answer(StatusCode::OK, &marked)
                        }
                        Outcome::Remove if (resource.default_grace_seconds)(&old.value).is_some() => {
                            self.answer(StatusCode::OK, &old)
                        }
                        Outcome::Remove => {
                            let uid = old.value["metadata"].get("uid");
                            json_response(StatusCode::OK, success(resource, name, uid).to_string())
                        }
                    });
                }
                Err(vetch_store::Error::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(from_store(resource, name)(error)),
            }
        }
        Err(Status::internal("no attempt was made"))
    }

    fn answer(&self, code: StatusCode, object: &Object) -> Response {
        object_response(code, self.target.resource, object, self.form, Include::parse(self.query.text("includeObject")))
    }

    /// Deletes all selected objects of a collection, each by the rules of a single delete.
    pub(crate) async fn delete_collection(&self, body: &Bytes) -> Result<Response> {
        let resource = self.target.resource;
        let options = Options::parse(self.query, body)?;
        let (labels, fields) = (self.query.labels()?, self.query.fields()?);
        fields.check(&(resource.selectable_fields)(&Value::Null))?;
        let cache = self.server.cache(resource)?;
        cache.wait_for(self.server.store.current_revision().await?).await?;
        let listing = cache.list(&self.target.collection_prefix());
        let mut deleted = Vec::new();
        for object in listing.objects {
            if !labels.matches(&object.value) || !fields.matches(&object.value, resource.selectable_fields) {
                continue;
            }
            let text = |field: &str| object.value["metadata"][field].as_str().map(str::to_owned);
            let target = Target { namespace: text("namespace"), name: text("name"), ..self.target.clone() };
            let single = Request { server: self.server, target: &target, query: self.query, user: self.user, form: Form::Object };
            match single.delete_with(&options).await {
                Ok(_) => deleted.push(presented(resource, &object)),
                // Gone in the meantime is what was wanted.
                Err(status) if status.code == StatusCode::NOT_FOUND => {}
                Err(status) => return Err(status),
            }
        }
        let list = json!({
            "kind": resource.list_kind(),
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": cache.revision().to_string()},
            "items": deleted,
        });
        Ok(json_response(StatusCode::OK, list.to_string()))
    }
}
