//! From an HTTP request to its handler: known user, allowed action, then the verb.

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Method, Request as HttpRequest, StatusCode};
use vetch_api::resource::SubresourceKind;
use vetch_identity::User;

use crate::body::{json_only, media_type};
use crate::connect::{Call, Connector, Forwarded};
use crate::guard::{Action, forbidden};
use crate::output::Form;
use crate::patch::Patch;
use crate::read::json_response;
use crate::request::info::RequestInfo;
use crate::request::{Query, Target};
use crate::state::Server;
use crate::status::{Result, Status};
use crate::warnings::with_warnings;
use crate::write::Request;
use crate::{discovery, health, impersonate, openapi, read, upgrade, watch};

/// kube-apiserver's limit for a request body.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// The verified client certificate's user, put into a request by the TLS listener.
#[derive(Clone, Debug)]
pub(crate) struct Certificate(pub User);

/// A user known without credentials: requests from inside the process.
#[derive(Clone, Debug)]
pub(crate) struct Trusted(pub User);

pub fn router(server: Server) -> Router {
    Router::new().fallback(move |request: HttpRequest<Body>| {
        let server = server.clone();
        async move {
            handle(&server, request)
                .await
                .unwrap_or_else(|status| status.into_response())
        }
    })
}

async fn handle(server: &Server, request: HttpRequest<Body>) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path();
    let query = Query::parse(&parts.uri);
    if let Some(answer) = open_path(server, path, &query).await {
        return Ok(answer);
    }
    let user = match parts.extensions.get::<Trusted>() {
        Some(Trusted(user)) => user.clone(),
        None => {
            let certificate = parts
                .extensions
                .get::<Certificate>()
                .map(|Certificate(user)| user);
            server
                .guard
                .authenticate(server, &parts.headers, certificate)
                .await
                .ok_or_else(|| {
                    Status::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
                })?
        }
    };
    upgrade::strip_bearer(&mut parts.headers);
    let user = impersonate::stand_in(server, user, &parts.headers).await?;
    let target = Target::parse(server.registry, path);
    authorize(server, &user, &parts.method, path, target.as_ref(), &query).await?;
    // Who runs something in a pod makes something there, whatever the method (since Kubernetes 1.35).
    if let Some(SubresourceKind::Stream) = target.as_ref().and_then(Target::kind)
        && parts.method == Method::GET
    {
        let method = &Method::POST;
        authorize(server, &user, method, path, target.as_ref(), &query).await?;
    }
    let Some(target) = target else {
        return if parts.method == Method::GET {
            plain_path(server, path, &parts.headers).await
        } else {
            Err(Status::no_route())
        };
    };
    let connector = server.connectors.get(connector_key(&target).as_str());
    if let Some(Connector::Forward(other)) = connector {
        let request = HttpRequest::from_parts(parts, body);
        return other.forward(server, Forwarded { target, request }).await;
    }
    let body = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| Status::too_large(&format!("limit is {BODY_LIMIT}")))?;
    let body = match media_type(&parts.headers) {
        // What handlers see is JSON, whatever the client wrote.
        vetch_api::decode::PROTOBUF if !body.is_empty() => {
            let value = vetch_api::decode::protobuf_to_json(&body).map_err(Status::bad_request)?;
            value.to_string().into()
        }
        _ => body,
    };
    let call = Call {
        method: parts.method.clone(),
        target,
        query,
        user,
        body,
    };
    if let Some(Connector::Answer(connector)) = connector {
        return connector.call(server, call).await;
    }
    let answer = resource(server, &call, &parts.headers).await;
    match call.target.resource.deprecated {
        None => answer,
        Some(words) => {
            let answer = answer.unwrap_or_else(|status| status.into_response());
            Ok(with_warnings(answer, &[words.to_owned()]))
        }
    }
}

/// `pods/log`, or `authentication.k8s.io/selfsubjectreviews`.
fn connector_key(target: &Target) -> String {
    match target.subresource {
        Some(sub) => format!("{}/{}", target.resource.plural, sub.name),
        None => format!("{}/{}", target.resource.group, target.resource.plural),
    }
}

async fn authorize(
    server: &Server,
    user: &User,
    method: &Method,
    path: &str,
    target: Option<&Target>,
    query: &Query,
) -> Result<()> {
    let watch = query.flag("watch");
    let info = match target {
        Some(target) => Some(RequestInfo::of(target, method, watch)),
        None => RequestInfo::parse(method, path, watch)?,
    };
    // Other verbs read no selector, so it says nothing about what they touch.
    let selecting = info.as_ref().filter(|info| info.selects());
    let fields = selecting.and_then(|_| query.fields().ok());
    let verb = method.as_str().to_lowercase();
    let action = match &info {
        Some(info) => info.action(path, fields.as_ref()),
        None => Action {
            verb: &verb,
            path,
            ..Action::default()
        },
    };
    let answer = server.guard.authorize(server, user, &action).await;
    answer.map_err(|why| forbidden(user, &action, &why))
}

async fn resource(server: &Server, call: &Call, headers: &http::HeaderMap) -> Result<Response> {
    let Call {
        method,
        target,
        query,
        user,
        body,
    } = call;
    let form = Form::accepted(headers);
    let request = Request {
        server,
        target,
        query,
        user,
        form,
    };
    let verb = target.verb(method, query.flag("watch"));
    let subresource = target.kind();
    // Across all namespaces there is only reading.
    let reachable = target.namespace.is_some()
        || !target.resource.namespaced
        || matches!(verb, "list" | "watch");
    let allowed = reachable
        && match target.subresource {
            Some(sub) => sub.verbs.contains(&verb),
            None => target.resource.verbs.contains(&verb),
        };
    if !allowed {
        return Err(Status::method_not_allowed());
    }
    match (verb, subresource) {
        ("get", Some(SubresourceKind::Scale { .. })) => request.get_scale().await,
        ("update", Some(SubresourceKind::Scale { .. })) => request.change_scale(body, None).await,
        ("patch", Some(SubresourceKind::Scale { .. })) => {
            request
                .change_scale(body, Some(&Patch::parse(headers, body)?))
                .await
        }
        ("create", Some(SubresourceKind::Binding)) => request.bind(body).await,
        ("create", Some(SubresourceKind::Eviction)) => request.evict(body).await,
        (_, Some(SubresourceKind::Proxy | SubresourceKind::Stream)) => Err(Status::no_route()),
        ("get", _) => read::get(server, target, query, form).await,
        ("list", None) => read::list(server, target, query, form).await,
        ("watch", None) => watch::watch(server, target, query, form).await,
        ("create", None) => {
            json_only(headers)?;
            request.create(body).await
        }
        (
            "update",
            None
            | Some(
                SubresourceKind::Status | SubresourceKind::Part { .. } | SubresourceKind::Finalize,
            ),
        ) => {
            json_only(headers)?;
            request.update(body).await
        }
        ("patch", None | Some(SubresourceKind::Status | SubresourceKind::Part { .. })) => {
            request.patch(&Patch::parse(headers, body)?, body).await
        }
        ("delete", None) => {
            json_only(headers)?;
            request.delete(body).await
        }
        ("deletecollection", None) => {
            json_only(headers)?;
            request.delete_collection(body).await
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Paths that ask nobody who they are.
async fn open_path(server: &Server, path: &str, query: &Query) -> Option<Response> {
    if path == "/version" {
        let version = discovery::version().to_string();
        return Some(json_response(StatusCode::OK, version));
    }
    health::summary(server, path, query).await
}

async fn plain_path(server: &Server, path: &str, headers: &http::HeaderMap) -> Result<Response> {
    if let Some(answer) = health::single(server, path).await {
        return Ok(answer);
    }
    if let Some(answer) = discovery::answer(server, path, headers) {
        return Ok(answer);
    }
    if let Some(answer) = openapi::answer(path, headers) {
        return Ok(answer);
    }
    Err(Status::no_route())
}
