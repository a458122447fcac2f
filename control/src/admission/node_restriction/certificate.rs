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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vetch_api::csr::CLIENT;
    use vetch_identity::User;

    use super::*;
    use crate::admission::certificates::testing::request;

    #[test]
    fn a_node_asks_in_its_own_name() {
        let user = User::new("system:node:a", &["system:nodes"]);
        let resource = &vetch_api::kinds::certificate_signing_request::ROW;
        for (operation, signer, common_name, refused) in [
            (Operation::Create, KUBELET_CLIENT, "system:node:a", false),
            (Operation::Create, KUBELET_CLIENT, "system:node:b", true),
            (Operation::Create, KUBELET_SERVING, "system:node:b", true),
            // Nobody approves it unseen, and a signer of kubelets' does not sign it.
            (Operation::Create, KUBELET_CLIENT, "jane", false),
            (Operation::Create, CLIENT, "system:node:b", false),
            (Operation::Update, KUBELET_CLIENT, "system:node:b", false),
        ] {
            let attributes = Attributes {
                operation,
                user: &user,
                resource,
                subresource: "",
                namespace: None,
                name: "csr-1",
                old: None,
                dry_run: false,
            };
            let request = request(common_name, "system:nodes");
            let csr = json!({"spec": {"signerName": signer, "request": request}});
            let told = decide(&attributes, &csr);
            let why = "can only create a node CSR with CN=system:node:a".to_owned();
            let wanted = if refused { Err(why) } else { Ok(()) };
            assert_eq!(told, wanted, "{operation:?} {signer} {common_name}");
        }
    }
}
