//! From a pod to one of its containers and to the kubelet that runs it.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;
use vetch_identity::{Usage, Wanted};
use vetch_server::Server;
use vetch_server::request::Target;
use vetch_server::status::{Result, Status};
use vetch_store::Object;

use crate::admission::{list, text};

/// Who the API server is to kubelets: kubeadm's name, in the group that may do everything there.
pub const KUBELET_CLIENT: Wanted = Wanted {
    file: "apiserver-kubelet-client",
    common_name: "kube-apiserver-kubelet-client",
    organization: Some("system:masters"),
    usage: Usage::Client,
};
const KUBELET_PORT: u16 = 10250;
/// Most bytes that are read of a refusal: Kubernetes' `maxReadLength`.
const WORDS_LIMIT: usize = 50_000;

/// A container of a pod.
#[derive(Debug)]
pub struct Located {
    pub container: String,
    /// `None`: the pod has no node yet.
    pub kubelet: Option<Kubelet>,
}

#[derive(Debug)]
pub struct Kubelet {
    pub node: String,
    /// `address:port`
    pub host: String,
}

/// `asked`: the container's name, where the client gives one.
pub async fn locate(server: &Server, target: &Target, asked: Option<&str>) -> Result<Located> {
    let pod = pod(server, target).await?;
    let container = container(&pod.value, asked).map_err(Status::bad_request)?;
    let kubelet = kubelet_of(server, &pod.value).await?;
    Ok(Located { container, kubelet })
}

/// The kubelet of a pod as a whole; `None`: it has no node yet.
pub async fn locate_pod(server: &Server, target: &Target) -> Result<Option<Kubelet>> {
    let pod = pod(server, target).await?;
    kubelet_of(server, &pod.value).await
}

async fn pod(server: &Server, target: &Target) -> Result<Arc<Object>> {
    let name = target.name.as_deref().unwrap_or_default();
    let found = server.find("", "pods", target.namespace.as_deref(), name);
    let found = found.await?;
    found.ok_or_else(|| Status::not_found(target.resource, name))
}

async fn kubelet_of(server: &Server, pod: &Value) -> Result<Option<Kubelet>> {
    let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node_name.is_empty() {
        return Ok(None);
    }
    let node = server.find("", "nodes", None, node_name).await?;
    let Some(node) = node else {
        return Err(Status::not_found(server.row("", "nodes")?, node_name));
    };
    let (address, port) = listens(&node.value)?;
    let host = match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    Ok(Some(Kubelet {
        node: node_name.to_owned(),
        host,
    }))
}

/// Kubernetes gives a failed request to a kubelet no reason, so that its own words are all there is to read.
pub fn unreachable(words: impl Into<String>) -> Status {
    Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", words)
}

/// The body of a kubelet's refusal, up to [`WORDS_LIMIT`]: the node may send what it likes, as long as it likes.
pub async fn words(mut answer: reqwest::Response) -> reqwest::Result<String> {
    let mut words = Vec::new();
    while words.len() < WORDS_LIMIT {
        let Some(chunk) = answer.chunk().await? else {
            break;
        };
        let room = WORDS_LIMIT - words.len();
        words.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(String::from_utf8_lossy(&words).trim_end().to_owned())
}

/// Where the node's kubelet listens: at an address or a name, and a port.
pub fn listens(node: &Value) -> Result<(&str, u16)> {
    let addresses = list(node, "/status/addresses");
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|address| address["type"] == kind)
            .map(|address| text(address, "/address"))
    };
    let address = of("InternalIP")
        .or_else(|| of("ExternalIP"))
        .or_else(|| of("Hostname"))
        .ok_or_else(|| unreachable("no preferred addresses found; known addresses: []"))?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok());
    Ok((address, port.unwrap_or(KUBELET_PORT)))
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

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;
    use serde_json::json;

    use super::*;

    fn answer<S>(pieces: S) -> reqwest::Response
    where
        S: futures::Stream<Item = io::Result<Vec<u8>>> + Send + 'static,
    {
        http::Response::new(reqwest::Body::wrap_stream(pieces)).into()
    }

    #[tokio::test]
    async fn a_refusal_is_read_to_its_limit() {
        let long = "x".repeat(49_999);
        let longest = "x".repeat(50_000);
        let table: [(&[&str], String); 7] = [
            (&[], String::new()),
            (&["no\n"], "no".to_owned()),
            (&["a", "", "b"], "ab".to_owned()),
            (&[&long, "x"], longest.clone()),
            (&[&long, "xy"], longest.clone()),
            (&[&longest, "y"], longest.clone()),
            // A character that is cut is none.
            (&[&long, "\u{e4}"], format!("{long}\u{fffd}")),
        ];
        for (pieces, wanted) in table {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| Ok(piece.as_bytes().to_vec()))
                .collect();
            let told = words(answer(stream::iter(pieces))).await.unwrap();
            assert!(told == wanted, "{} bytes: {told:.20}", told.len());
        }
        let endless = stream::repeat_with(|| Ok(vec![b'x'; 1000]));
        assert_eq!(words(answer(endless)).await.unwrap().len(), 50_000);
        let broken = [Ok(b"no".to_vec()), Err(io::Error::other("reset"))];
        assert!(words(answer(stream::iter(broken))).await.is_err());
    }

    #[test]
    fn which_container() {
        let pod = |apps: &[&str], inits: &[&str]| {
            let list = |names: &[&str]| -> Vec<Value> {
                names.iter().map(|name| json!({"name": name})).collect()
            };
            json!({"metadata": {"name": "p"}, "spec": {"containers": list(apps), "initContainers": list(inits)}})
        };
        let mut debugged = pod(&["a", "b"], &[]);
        debugged["spec"]["ephemeralContainers"] = json!([{"name": "d"}]);
        let table: [(Value, Option<&str>, Result<&str, &str>); 7] = [
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
            (debugged.clone(), Some("d"), Ok("d")),
            (
                debugged,
                None,
                Err(
                    "a container name must be specified for pod p, choose one of: [a b] or one of the ephemeral containers: [d]",
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
        assert_eq!(listens(&node).unwrap(), ("10.0.0.1", 1234));
        let six = json!({"status": {"addresses": [{"type": "InternalIP", "address": "fd00::1"}]}});
        assert_eq!(listens(&six).unwrap(), ("fd00::1", 10250));
        let words = "no preferred addresses found; known addresses: []";
        assert_eq!(listens(&json!({})).unwrap_err().message, words);
    }
}
