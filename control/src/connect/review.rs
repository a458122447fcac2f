//! The reviews: whose token is this, who am I, may somebody do that.

mod access;

use std::sync::Arc;

use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use serde_json::{Value, json};
use vetch_api::resource::FieldError;
use vetch_identity::User;
use vetch_server::Server;
use vetch_server::connect::{Call, Connect};
use vetch_server::guard::Guard as _;
use vetch_server::status::{Result, Status};

use crate::access::{Access, rules};
use access::Asked;

#[derive(Clone, Copy)]
enum Kind {
    Token,
    SelfSubject,
    SelfAccess,
    SelfRules,
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
            "authorization.k8s.io/selfsubjectrulesreviews",
            Kind::SelfRules,
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
            let status = self.answer(server, &call).await?;
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
    /// The review's status.
    async fn answer(&self, server: &Server, call: &Call) -> Result<Value> {
        match self.kind {
            Kind::SelfSubject => Ok(json!({"userInfo": call.user})),
            Kind::Token => self.token(server, super::body(call)?).await,
            Kind::SelfRules => {
                let SelfSubjectRulesReview { spec, .. } = super::body(call)?;
                match spec.namespace.as_deref() {
                    None | Some("") => Err(Status::bad_request("no namespace on request")),
                    Some(_) => Ok(rules(&call.user)),
                }
            }
            Kind::SelfAccess => {
                let SelfSubjectAccessReview { spec, .. } = super::body(call)?;
                let asked = Asked {
                    resource: spec.resource_attributes,
                    path: spec.non_resource_attributes,
                };
                refuse(call, asked.invalid())?;
                Ok(self.may(server, &call.user, &asked).await)
            }
            Kind::Access => {
                let SubjectAccessReview { spec, .. } = super::body(call)?;
                let (user, mut errors) = (access::subject(&spec), access::invalid_subject(&spec));
                let asked = Asked {
                    resource: spec.resource_attributes,
                    path: spec.non_resource_attributes,
                };
                errors.splice(0..0, asked.invalid());
                refuse(call, errors)?;
                Ok(self.may(server, &user, &asked).await)
            }
            Kind::LocalAccess => {
                let LocalSubjectAccessReview { spec, .. } = super::body(call)?;
                let (user, mut errors) = (access::subject(&spec), access::invalid_subject(&spec));
                let asked = Asked {
                    resource: spec.resource_attributes,
                    path: spec.non_resource_attributes,
                };
                let namespace = call.target.namespace.as_deref().unwrap_or_default();
                errors.extend(asked.invalid_in(namespace));
                refuse(call, errors)?;
                Ok(self.may(server, &user, &asked).await)
            }
        }
    }

    async fn token(&self, server: &Server, review: TokenReview) -> Result<Value> {
        let token = review.spec.token;
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let audiences = review.spec.audiences.unwrap_or_default();
        let known = self.access.bearer_of(server, &token, &audiences).await;
        Ok(match known {
            Ok((user, audiences)) => {
                json!({"authenticated": true, "user": user, "audiences": audiences})
            }
            Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
        })
    }

    async fn may(&self, server: &Server, user: &User, asked: &Asked) -> Value {
        let (fields, unreadable) = asked.fields();
        let action = asked.action(fields.as_ref());
        let mut status = json!({"allowed": true});
        if let Err(why) = self.access.authorize(server, user, &action).await {
            status["allowed"] = false.into();
            if !why.is_empty() {
                status["reason"] = why.into();
            }
        }
        if let Some(why) = unreadable {
            status["evaluationError"] =
                format!("spec.resourceAttributes.fieldSelector ignored due to parse error: {why}")
                    .into();
        }
        status
    }
}

fn refuse(call: &Call, errors: Vec<FieldError>) -> Result<()> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(call.target.resource, "", &errors)),
    }
}
