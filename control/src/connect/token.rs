//! serviceaccounts/token: TokenRequest.

use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest};
use serde_json::json;
use vetch_api::field::Path;
use vetch_identity::{API_AUDIENCE, Bound, Tokens};
use vetch_server::Server;
use vetch_server::connect::{Call, Connect};
use vetch_server::status::{Result, Status};

/// kube-apiserver's default, floor and ceiling of expirationSeconds.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What pods ask for is an hour and a bit; it is stretched, as --service-account-extend-token-expiration does, so that
/// clients that never read their token again go on working.
const POD_SECONDS: i64 = 3607;
const POD_LIFETIME: i64 = 365 * 24 * 3600;

pub struct Token {
    tokens: Tokens,
}

impl Token {
    pub fn new(tokens: Tokens) -> Token {
        Token { tokens }
    }

    async fn issue(&self, server: &Server, call: &Call) -> Result<Response> {
        super::only(&Method::POST, call)?;
        let namespace = call.target.namespace.as_deref().unwrap_or_default();
        let name = call.target.name.as_deref().unwrap_or_default();
        let account = server
            .find("", "serviceaccounts", Some(namespace), name)
            .await?
            .ok_or_else(|| Status::not_found(call.target.resource, name))?;
        let request: TokenRequest = super::body(call)?;
        let asked = request.spec.unwrap_or_default();
        let seconds = asked.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        check_lifetime(call, name, seconds)?;
        let uid = |object: &serde_json::Value| {
            object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut wanted = vetch_identity::TokenRequest {
            namespace: namespace.to_owned(),
            service_account: name.to_owned(),
            service_account_uid: uid(&account.value),
            audiences: asked.audiences.clone().unwrap_or_default(),
            lifetime_seconds: seconds,
            ..vetch_identity::TokenRequest::default()
        };
        if let Some(reference) = &asked.bound_object_ref {
            bind(server, namespace, reference, &mut wanted).await?;
        }
        let own = wanted.audiences.is_empty() || wanted.audiences == [API_AUDIENCE];
        if wanted.pod.is_some() && seconds == POD_SECONDS && own {
            wanted.lifetime_seconds = POD_LIFETIME;
        }
        let now = Timestamp::now();
        let audiences = match wanted.audiences.is_empty() {
            true => vec![API_AUDIENCE.to_owned()],
            false => wanted.audiences.clone(),
        };
        let (token, _) = self
            .tokens
            .sign(wanted, now)
            .map_err(|error| Status::internal(error.to_string()))?;
        // What was asked for, also where the token lives longer: the kubelet renews by it.
        let expires = now.as_second().saturating_add(seconds);
        let expires = Timestamp::from_second(expires)
            .map_err(|error| Status::internal(error.to_string()))?
            .to_string();
        let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
        if let Some(reference) = &asked.bound_object_ref {
            spec["boundObjectRef"] = json!(reference);
        }
        Ok(super::created(&json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp(now)},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": expires},
        })))
    }
}

fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn check_lifetime(call: &Call, name: &str, seconds: i64) -> Result<()> {
    let path = Path::new("spec").child("expirationSeconds");
    let error = if seconds < MIN_SECONDS {
        path.invalid(seconds, "may not specify a duration less than 10 minutes")
    } else if seconds > MAX_SECONDS {
        path.invalid(
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )
    } else {
        return Ok(());
    };
    Err(Status::invalid(call.target.resource, name, &[error]))
}

/// Ties the token to a pod, a secret or a node, which must exist under the uid that is asked for.
async fn bind(
    server: &Server,
    namespace: &str,
    reference: &BoundObjectReference,
    wanted: &mut vetch_identity::TokenRequest,
) -> Result<()> {
    let kind = reference.kind.as_deref().unwrap_or_default();
    let version = reference.api_version.as_deref().unwrap_or("v1");
    let name = reference.name.as_deref().unwrap_or_default();
    let (plural, scope) = match (version, kind) {
        ("v1", "Pod") => ("pods", Some(namespace)),
        ("v1", "Secret") => ("secrets", Some(namespace)),
        ("v1", "Node") => ("nodes", None),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to object {version}, Kind={kind}",
                wanted.service_account
            )));
        }
    };
    let row = server.row("", plural)?;
    let object = server
        .find("", plural, scope, name)
        .await?
        .ok_or_else(|| Status::not_found(row, name))?;
    let uid = object.value["metadata"]["uid"].as_str().unwrap_or_default();
    if let Some(asked) = reference
        .uid
        .as_deref()
        .filter(|asked| !asked.is_empty() && *asked != uid)
    {
        return Err(Status::conflict(
            row,
            name,
            &format!(
                "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let bound = Some(Bound {
        name: name.to_owned(),
        uid: uid.to_owned(),
    });
    match plural {
        "pods" => {
            let account = object.value["spec"]["serviceAccountName"]
                .as_str()
                .unwrap_or_default();
            if account != wanted.service_account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    wanted.service_account
                )));
            }
            wanted.pod = bound;
            if let Some(node) = object.value["spec"]["nodeName"]
                .as_str()
                .filter(|node| !node.is_empty())
            {
                let found = server.find("", "nodes", None, node).await?;
                let uid = found
                    .as_ref()
                    .and_then(|node| node.value["metadata"]["uid"].as_str())
                    .unwrap_or_default();
                wanted.node = Some(Bound {
                    name: node.to_owned(),
                    uid: uid.to_owned(),
                });
            }
        }
        "secrets" => wanted.secret = bound,
        _ => wanted.node = bound,
    }
    Ok(())
}

impl Connect for Token {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move { self.issue(server, &call).await })
    }
}
