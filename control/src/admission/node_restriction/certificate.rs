//! A node and requests for certificates: none in the name of another node (Kubernetes 1.31).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use vetch_api::csr::{KUBELET_CLIENT, KUBELET_SERVING, NODE_PREFIX, Request};
use vetch_server::admission::{Attributes, Operation};

use crate::admission::text;

/// What cannot be read is validation's to refuse.
pub fn decide(attributes: &Attributes<'_>, csr: &Value) -> Result<(), String> {
    if attributes.operation != Operation::Create || !attributes.subresource.is_empty() {
        return Ok(());
    }
    if ![KUBELET_CLIENT, KUBELET_SERVING].contains(&text(csr, "/spec/signerName")) {
        return Ok(());
    }
    let pem = STANDARD.decode(text(csr, "/spec/request"));
    let Some(request) = pem.ok().and_then(|pem| Request::parse(&pem).ok()) else {
        return Ok(());
    };
    let own = &attributes.user.name;
    match request.common_name.starts_with(NODE_PREFIX) && request.common_name != *own {
        true => Err(format!("can only create a node CSR with CN={own}")),
        false => Ok(()),
    }
}
