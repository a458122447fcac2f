//! DELETE: preconditions, grace, finalizers, and what happens to dependents.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use vetch_api::resource::{Propagation, Resource, SubresourceKind};
use vetch_api::time::later;
use vetch_store::{Error, Object, Precondition, Write};

use crate::admission::{Attributes, Operation, admit};
use crate::output::Form;
use crate::read::{json_response, object_response};
use crate::request::{Query, Target};
use crate::scale::tell_eviction;
use crate::state::presented;
use crate::status::{Result, Status, from_store, success};
use crate::write::{ATTEMPTS, Request, finalizes, is_held, timestamp};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Deletes of one collection that are under way together.
const AT_ONCE: usize = 16;

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
            false => serde_json::from_slice(body).map_err(|error| {
                Status::bad_request(format!("error decoding DeleteOptions: {error}"))
            })?,
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
        match (
            &self.preconditions.uid,
            &self.preconditions.resource_version,
        ) {
            (Some(wanted), _) if wanted != uid => Err(Status::conflict(
                resource,
                name,
                &format!(
                    "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
                ),
            )),
            (_, Some(wanted)) if *wanted != version => Err(Status::conflict(
                resource,
                name,
                &format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
                ),
            )),
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

    /// Notes on the object what is to happen to its dependents; without a wish, an earlier one stands.
    fn set_finalizers(&self, resource: &Resource, object: &mut Value) {
        let wish = self.finalizer(resource);
        let background = self.propagation_policy.as_deref() == Some("Background")
            || self.orphan_dependents == Some(false);
        if wish.is_none() && !background {
            return;
        }
        let mut finalizers = object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        finalizers.retain(|own| own != FOREGROUND && own != ORPHAN);
        finalizers.extend(wish.map(Value::from));
        if let Some(metadata) = object["metadata"].as_object_mut() {
            match finalizers.is_empty() {
                true => drop(metadata.remove("finalizers")),
                false => drop(metadata.insert("finalizers".into(), finalizers.into())),
            }
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
    options.set_finalizers(resource, &mut object);
    let asked = options
        .grace_period_seconds
        .map(|seconds| if seconds < 0 { 1 } else { seconds });
    let graceful = (resource.grace_seconds)(&object, asked);
    let metadata = &object["metadata"];
    let running = metadata["deletionTimestamp"]
        .as_str()
        .and_then(|at| at.parse::<Timestamp>().ok());
    let (deadline, grace) = match running {
        // A second delete may only shorten the first one's grace.
        Some(at) => {
            let running = metadata["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or_default();
            let grace = asked
                .filter(|_| graceful.is_some())
                .map_or(running, |asked| asked.min(running));
            (later(at, SignedDuration::from_secs(grace - running)), grace)
        }
        None => {
            // No more than there is time for: a second delete counts back by it.
            let most = Timestamp::MAX.duration_since(now).as_secs();
            let grace = graceful.unwrap_or(0).min(most);
            (later(now, SignedDuration::from_secs(grace)), grace)
        }
    };
    if grace == 0 && !is_held(resource, &object) {
        return Outcome::Remove;
    }
    object["metadata"]["deletionTimestamp"] = timestamp(deadline).into();
    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    if running.is_none()
        && let Some(generation) = object["metadata"]["generation"].as_i64()
    {
        object["metadata"]["generation"] = (generation + 1).into();
    }
    // A kind that is finalized shows that in its phase (namespaces).
    if finalizes(resource) {
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
        for attempt in 1..=ATTEMPTS {
            let base = self.base(attempt).await?;
            match self.try_delete(&base.object, options).await {
                Ok(Some(response)) => return Ok(response),
                Err(status) if base.fresh => return Err(status),
                Ok(None) | Err(_) => {}
            }
        }
        Err(Status::modified(self.target.resource, self.name()))
    }

    /// `None`: the object changed meanwhile.
    async fn try_delete(&self, old: &Object, options: &Options) -> Result<Option<Response>> {
        let (resource, name) = (self.target.resource, self.name());
        let dry_run = !options.dry_run.is_empty();
        options.check(resource, name, old)?;
        let before = presented(resource, old);
        let attributes = Attributes {
            subresource: "",
            ..self.attributes(Operation::Delete, name, Some(&before), dry_run)
        };
        let effects = admit(self.server, &attributes, &mut before.clone()).await?;
        let mut outcome = decide(resource, &old.value, options, Timestamp::now());
        let mut conditions = vec![Precondition::At(old.key.clone(), old.revision)];
        let mut writes = Vec::new();
        if let Some(SubresourceKind::Eviction) = self.target.kind() {
            // An eviction is asked about as itself, and what it costs is paid with the wish.
            let attributes = self.attributes(Operation::Create, name, Some(&before), dry_run);
            let cost = admit(self.server, &attributes, &mut before.clone()).await?;
            conditions.extend(cost.conditions);
            writes.extend(cost.writes);
            if let Outcome::Mark(marked) = &mut outcome
                && old.value["metadata"]["deletionTimestamp"].is_null()
            {
                tell_eviction(marked);
            }
        }
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
            Outcome::Mark(_) => return Ok(Some(self.answer(StatusCode::OK, old))),
        }
        if dry_run {
            return Ok(Some(self.answer(StatusCode::OK, old)));
        }
        match self.server.store.commit(&conditions, &writes).await {
            Ok(revision) => Ok(Some(match outcome {
                Outcome::Mark(marked) => {
                    let marked = Object::new(old.key.clone(), marked, revision);
                    self.answer(StatusCode::OK, &marked)
                }
                Outcome::Remove if (resource.grace_seconds)(&old.value, None).is_some() => {
                    self.answer(StatusCode::OK, old)
                }
                Outcome::Remove => {
                    let uid = old.value["metadata"].get("uid");
                    json_response(StatusCode::OK, success(resource, name, uid).to_string())
                }
            })),
            Err(Error::NotFound { key }) if key == old.key => {
                Err(Status::not_found(resource, name))
            }
            Err(Error::Conflict { .. } | Error::NotFound { .. } | Error::Exists { .. }) => Ok(None),
            Err(error) => Err(from_store(resource, name)(error)),
        }
    }

    fn answer(&self, code: StatusCode, object: &Object) -> Response {
        object_response(
            code,
            self.target.resource,
            object,
            self.form,
            self.include(),
        )
    }

    /// Deletes all selected objects of a collection, each by the rules of a single delete.
    pub(crate) async fn delete_collection(&self, body: &Bytes) -> Result<Response> {
        let resource = self.target.resource;
        let options = Options::parse(self.query, body)?;
        let (labels, fields) = (self.query.labels()?, self.query.fields()?);
        fields.check(&(resource.selectable_fields)(&Value::Null))?;
        let cache = self.server.cache(resource)?;
        cache
            .wait_for(self.server.store.current_revision().await?)
            .await?;
        let listing = cache.list(&self.target.collection_prefix());
        let selected = listing.objects.into_iter().filter(|object| {
            labels.matches(&object.value)
                && fields.matches(&object.value, resource.selectable_fields)
        });
        let deletions = selected.map(|object| self.delete_one(object, &options));
        let deleted: Vec<Value> = stream::iter(deletions)
            .buffered(AT_ONCE)
            .try_filter_map(async |object| Ok(object))
            .try_collect()
            .await?;
        let list = json!({
            "kind": resource.list_kind(),
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": cache.revision().to_string()},
            "items": deleted,
        });
        Ok(json_response(StatusCode::OK, list.to_string()))
    }

    /// One object of a collection; gone in the meantime is what was wanted.
    async fn delete_one(&self, object: Arc<Object>, options: &Options) -> Result<Option<Value>> {
        let text = |field: &str| object.value["metadata"][field].as_str().map(str::to_owned);
        let target = Target {
            namespace: text("namespace"),
            name: text("name"),
            ..self.target.clone()
        };
        let single = Request {
            target: &target,
            form: Form::Object,
            ..*self
        };
        match single.delete_with(options).await {
            Ok(_) => Ok(Some(presented(self.target.resource, &object))),
            Err(status) if status.code == StatusCode::NOT_FOUND => Ok(None),
            Err(status) => Err(status),
        }
    }
}

#[cfg(test)]
mod tests;
