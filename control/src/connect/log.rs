//! pods/log: the kubelet of the pod's node has it; what it sends goes on to the client as it comes.

mod options;

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use vetch_identity::{Kept, Usage, Wanted};
use vetch_server::Server;
use vetch_server::connect::{Call, Connect};
use vetch_server::status::{Result, Status};

use super::ConnectError;

/// Who the API server is to kubelets: kubeadm's name, in the group that may do everything there.
pub const KUBELET_CLIENT: Wanted = Wanted {
    file: "apiserver-kubelet-client",
    common_name: "kube-apiserver-kubelet-client",
    organization: Some("system:masters"),
    usage: Usage::Client,
};
const KUBELET_PORT: u64 = 10250;
/// Longest body of a refusal that is passed on.
const WORDS_LIMIT: usize = 2048;

pub struct PodLog {
    client: reqwest::Client,
}

impl PodLog {
    pub fn new(certificate: Arc<Kept>) -> Result<PodLog, ConnectError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(vetch_identity::client_config(certificate)?)
            .connect_timeout(std::time::Duration::from_secs(10))
            .no_proxy()
            .build()?;
        Ok(PodLog { client })
    }

    async fn stream(&self, server: &Server, call: &Call) -> Result<Response> {
        super::only(&Method::GET, call)?;
        let namespace = call.target.namespace.as_deref().unwrap_or_default();
        let name = call.target.name.as_deref().unwrap_or_default();
        options::check(&call.query, name)?;
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
        let node = server.find("", "nodes", None, node_name).await?;
        let Some(node) = node else {
            return Err(Status::not_found(server.row("", "nodes")?, node_name));
        };
        let host = kubelet(&node.value)
            .ok_or_else(|| unreachable("no preferred addresses found; known addresses: []"))?;
        let url = format!("https://{host}/containerLogs/{namespace}/{name}/{container}");
        let request = self
            .client
            .get(&url)
            .query(&options::passed_on(&call.query));
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(format!("Get {url:?}: {}", why(&host, &error))))?;
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

/// Kubernetes gives a failed request to a kubelet no reason, so that its own words are all there is to read.
fn unreachable(words: impl Into<String>) -> Status {
    Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", words)
}

/// What went wrong below HTTP, the way Go's client says it.
fn why(host: &str, error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    if error.is_timeout() {
        format!("dial tcp {host}: i/o timeout")
    } else if error.is_connect() {
        super::dial_error(host, innermost)
    } else {
        innermost.to_string()
    }
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

impl Connect for PodLog {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move { self.stream(server, &call).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
