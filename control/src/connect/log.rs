//! pods/log: the kubelet of the pod's node has it; what it sends goes on to the client as it comes.

use axum::body::Body;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::FieldError;
use vetch_identity::Pki;
use vetch_server::Server;
use vetch_server::connect::{Call, Connect};
use vetch_server::request::Query;
use vetch_server::status::{Result, Status};

use super::ConnectError;

/// kubeadm's name for the API server towards kubelets, and the group that may do everything there.
const KUBELET_USER: &str = "kube-apiserver-kubelet-client";
const KUBELET_GROUP: &str = "system:masters";
const KUBELET_PORT: u64 = 10250;
/// Longest body of a refusal that is passed on.
const WORDS_LIMIT: usize = 2048;

/// What the kubelet understands of PodLogOptions.
const PASSED_ON: [&str; 8] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

pub struct PodLog {
    client: reqwest::Client,
}

impl PodLog {
    pub fn new(pki: &Pki) -> Result<PodLog, ConnectError> {
        let issued = pki.client(KUBELET_USER, Some(KUBELET_GROUP))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(vetch_identity::client_config(&issued)?)
            .connect_timeout(std::time::Duration::from_secs(10))
            .no_proxy()
            .build()?;
        Ok(PodLog { client })
    }

    async fn stream(&self, server: &Server, call: &Call) -> Result<Response> {
        super::only(&Method::GET, call)?;
        let namespace = call.target.namespace.as_deref().unwrap_or_default();
        let name = call.target.name.as_deref().unwrap_or_default();
        let errors = invalid_options(&call.query);
        if !errors.is_empty() {
            let message = vetch_api::field::invalid_message("", "PodLogOptions", name, &errors);
            return Err(Status::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                message,
            ));
        }
        let pod = server
            .find("", "pods", Some(namespace), name)
            .await?
            .ok_or_else(|| Status::not_found(call.target.resource, name))?;
        let container =
            container(&pod.value, call.query.text("container")).map_err(Status::bad_request)?;
        let node_name = pod.value["spec"]["nodeName"].as_str().unwrap_or_default();
        if node_name.is_empty() {
            // Nobody has written anything yet.
            return Ok(text(Body::empty()));
        }
        let node = server
            .find("", "nodes", None, node_name)
            .await?
            .ok_or_else(|| Status::internal(format!("nodes {node_name:?} not found")))?;
        let host = kubelet(&node.value).ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; node {node_name:?} has no address"
            ))
        })?;
        let query: Vec<(&str, &str)> = PASSED_ON
            .into_iter()
            .filter_map(|key| Some((key, call.query.text(key)?)))
            .collect();
        let url = format!("https://{host}/containerLogs/{namespace}/{name}/{container}");
        let answer = self
            .client
            .get(&url)
            .query(&query)
            .send()
            .await
            .map_err(|error| Status::internal(format!("Get {url:?}: {}", causes(&error))))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(text(Body::from_stream(answer.bytes_stream())));
        }
        let words = answer.text().await.unwrap_or_default();
        let words: String = words.trim_end().chars().take(WORDS_LIMIT).collect();
        Err(match code {
            StatusCode::BAD_REQUEST => Status::bad_request(words),
            StatusCode::INTERNAL_SERVER_ERROR => Status::internal(words),
            StatusCode::NOT_FOUND => Status {
                details: Some(json!({"name": name, "kind": "pods/log", "causes": [
                    {"reason": "UnexpectedServerResponse", "message": words},
                ]})),
                ..Status::new(
                    code,
                    "NotFound",
                    format!("the server could not find the requested resource ( pods/log {name})"),
                )
            },
            _ => Status::internal(format!(
                "the kubelet of {node_name} answered {code}: {words}"
            )),
        })
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn text(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Where the node's kubelet listens.
fn kubelet(node: &Value) -> Option<String> {
    let addresses = node["status"]["addresses"].as_array()?;
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|address| address["type"] == kind)
            .and_then(|address| address["address"].as_str())
    };
    let address = of("InternalIP")
        .or_else(|| of("ExternalIP"))
        .or_else(|| of("Hostname"))?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        .as_u64()
        .unwrap_or(KUBELET_PORT);
    Some(match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    })
}

/// The container asked for, or the pod's only one. The error is a BadRequest's message.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, String> {
    let names = |list: &str| -> Vec<&str> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .collect()
    };
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (apps, inits, debug) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    if let Some(asked) = asked {
        return match apps
            .iter()
            .chain(&inits)
            .chain(&debug)
            .any(|name| *name == asked)
        {
            true => Ok(asked.to_owned()),
            false => Err(format!("container {asked} is not valid for pod {pod_name}")),
        };
    }
    match apps.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(format!(
            "a container name must be specified for pod {pod_name}"
        )),
        several => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                several.join(" ")
            );
            for (what, others) in [("init", &inits), ("ephemeral", &debug)] {
                if !others.is_empty() {
                    message.push_str(&format!(
                        " or one of the {what} containers: [{}]",
                        others.join(" ")
                    ));
                }
            }
            Err(message)
        }
    }
}

/// PodLogOptions as upstream validates them.
fn invalid_options(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut at_least = |name: &str, least: i64, words: &str| match query.number(name) {
        Ok(Some(value)) if value < least => errors.push(Path::new(name).invalid(value, words)),
        Ok(_) => {}
        Err(status) => errors
            .push(Path::new(name).invalid(query.text(name).unwrap_or_default(), &status.message)),
    };
    at_least("tailLines", 0, "must be greater than or equal to 0");
    at_least("limitBytes", 1, "must be greater than 0");
    at_least("sinceSeconds", 1, "must be greater than 0");
    if query.text("sinceSeconds").is_some() && query.text("sinceTime").is_some() {
        errors.push(FieldError {
            reason: "FieldValueForbidden",
            field: String::new(),
            message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
                .into(),
        });
    }
    errors
}

impl Connect for PodLog {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move { self.stream(server, &call).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/?{text}").parse().expect("a URI"))
    }

    #[test]
    fn which_container() {
        let pod = |apps: &[&str], inits: &[&str]| {
            let list = |names: &[&str]| -> Vec<Value> {
                names.iter().map(|name| json!({"name": name})).collect()
            };
            json!({"metadata": {"name": "p"}, "spec": {"containers": list(apps), "initContainers": list(inits)}})
        };
        let table: [(Value, Option<&str>, Result<&str, &str>); 5] = [
            (pod(&["a"], &["i"]), None, Ok("a")),
            (pod(&["a"], &["i"]), Some("i"), Ok("i")),
            (
                pod(&["a"], &[]),
                Some("b"),
                Err("container b is not valid for pod p"),
            ),
            (
                pod(&["a", "b"], &[]),
                None,
                Err("a container name must be specified for pod p, choose one of: [a b]"),
            ),
            (
                pod(&["a", "b"], &["i"]),
                None,
                Err(
                    "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
        ];
        for (pod, asked, wanted) in table {
            assert_eq!(
                container(&pod, asked),
                wanted.map(str::to_owned).map_err(str::to_owned)
            );
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        assert!(invalid_options(&query("tailLines=0&limitBytes=1&follow=true")).is_empty());
        for (text, field) in [
            ("tailLines=-1", "tailLines"),
            ("limitBytes=0", "limitBytes"),
            ("sinceSeconds=0", "sinceSeconds"),
            ("tailLines=x", "tailLines"),
        ] {
            assert_eq!(invalid_options(&query(text))[0].field, field);
        }
        assert_eq!(
            invalid_options(&query("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z")).len(),
            1
        );
    }

    #[test]
    fn where_the_kubelet_listens() {
        let node = json!({"status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
        }});
        assert_eq!(kubelet(&node).as_deref(), Some("10.0.0.1:1234"));
        let six = json!({"status": {"addresses": [{"type": "InternalIP", "address": "fd00::1"}]}});
        assert_eq!(kubelet(&six).as_deref(), Some("[fd00::1]:10250"));
        assert_eq!(kubelet(&json!({})), None);
    }
}
