//! TokenReview, SelfSubjectReview and the access reviews.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SubjectAccessReview,
};
use serde_json::{Value, json};
use vetch_identity::User;
use vetch_server::Server;
use vetch_server::connect::{Call, Connect};
use vetch_server::guard::{Action, Guard as _};
use vetch_server::status::{Result, Status};

use crate::access::{Access, authenticate_token};

#[derive(Clone, Copy)]
enum Kind {
    Token,
    SelfSubject,
    SelfAccess,
    LocalAccess,
    Access,
}

struct Review {
    kind: Kind,
    access: Access,
}

pub fn answers(access: &Access) -> Vec<(&'static str, Arc<dyn Connect>)> {
    [
        ("authentication.k8s.io/tokenreviews", Kind::Token),
        (
            "authentication.k8s.io/selfsubjectreviews",
            Kind::SelfSubject,
        ),
        (
            "authorization.k8s.io/selfsubjectaccessreviews",
            Kind::SelfAccess,
        ),
        (
            "authorization.k8s.io/localsubjectaccessreviews",
            Kind::LocalAccess,
        ),
        ("authorization.k8s.io/subjectaccessreviews", Kind::Access),
    ]
    .into_iter()
    .map(|(key, kind)| {
        let review = Review {
            kind,
            access: access.clone(),
        };
        (key, Arc::new(review) as Arc<dyn Connect>)
    })
    .collect()
}

impl Connect for Review {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            super::only(&Method::POST, &call)?;
            let status = match self.kind {
                Kind::SelfSubject => json!({"userInfo": call.user}),
                Kind::Token => self.token(server, super::body(&call)?).await,
                Kind::SelfAccess => {
                    let review: SelfSubjectAccessReview = super::body(&call)?;
                    let spec = review.spec;
                    let what = (spec.resource_attributes, spec.non_resource_attributes);
                    self.may(server, &call.user, what).await?
                }
                Kind::Access => {
                    let SubjectAccessReview { spec, .. } = super::body(&call)?;
                    self.may(
                        server,
                        &subject(&spec),
                        (spec.resource_attributes, spec.non_resource_attributes),
                    )
                    .await?
                }
                Kind::LocalAccess => {
                    let LocalSubjectAccessReview { spec, .. } = super::body(&call)?;
                    let asked = spec
                        .resource_attributes
                        .as_ref()
                        .and_then(|what| what.namespace.as_deref());
                    if asked != call.target.namespace.as_deref() {
                        return Err(Status::bad_request(
                            "spec.resourceAttributes.namespace must match the namespace of the request",
                        ));
                    }
                    self.may(server, &subject(&spec), (spec.resource_attributes, None))
                        .await?
                }
            };
            let row = call.target.resource;
            let spec = serde_json::from_slice::<Value>(&call.body)
                .map(|body| body["spec"].clone())
                .unwrap_or_default();
            let mut answer = json!({
                "kind": row.kind, "apiVersion": row.api_version(),
                "metadata": {"creationTimestamp": null}, "status": status,
            });
            if !spec.is_null() {
                answer["spec"] = spec;
            }
            Ok(super::created(&answer))
        })
    }
}

impl Review {
    async fn token(&self, server: &Server, review: TokenReview) -> Value {
        let token = review.spec.token;
        let audiences = review.spec.audiences.unwrap_or_default();
        match authenticate_token(server, self.access.tokens(), &token, &audiences).await {
            Ok((user, claims)) => {
                json!({"authenticated": true, "user": user, "audiences": claims.audiences})
            }
            Err(why) => json!({"user": {}, "error": why}),
        }
    }

    async fn may(
        &self,
        server: &Server,
        user: &User,
        what: (Option<ResourceAttributes>, Option<NonResourceAttributes>),
    ) -> Result<Value> {
        let (resource, path) = match what {
            (Some(resource), None) => (resource, NonResourceAttributes::default()),
            (None, Some(path)) => (ResourceAttributes::default(), path),
            _ => {
                return Err(Status::bad_request(
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified",
                ));
            }
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (verb, group, plural) = (
            text(&resource.verb),
            text(&resource.group),
            text(&resource.resource),
        );
        let (subresource, namespace, name) = (
            text(&resource.subresource),
            text(&resource.namespace),
            text(&resource.name),
        );
        let (path_verb, path) = (text(&path.verb), text(&path.path));
        let action = Action {
            verb: if plural.is_empty() { &path_verb } else { &verb },
            group: &group,
            resource: &plural,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
            path: &path,
            fields: None,
        };
        Ok(match self.access.authorize(server, user, &action).await {
            Ok(()) => json!({"allowed": true}),
            Err(why) if why.is_empty() => json!({"allowed": false}),
            Err(why) => json!({"allowed": false, "reason": why}),
        })
    }
}

fn subject(spec: &k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec) -> User {
    User {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec
            .extra
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    }
}
