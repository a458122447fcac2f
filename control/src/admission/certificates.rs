//! Requests for certificates: whose they are, and who may approve and sign them.
//!
//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction of Kubernetes; and what its strategy does
//! with the asking user, whom a row does not see.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use vetch_api::csr::{CLIENT, Request};
use vetch_api::kinds::certificate_signing_request::stamp;
use vetch_identity::User;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::guard::Action;
use vetch_server::status::{Result, Status};

use super::text;
use crate::access;

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
const MASTERS: &str = "system:masters";

pub(super) struct Certificates;

impl Admission for Certificates {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            let resource = attributes.resource;
            if (resource.group, resource.plural) != (GROUP, PLURAL) {
                return Ok(Effects::default());
            }
            let refused = |why: String| Status::forbidden(resource, attributes.name, &why);
            match (attributes.operation, attributes.subresource) {
                (Operation::Create, "") => {
                    sign_in(object, attributes.user);
                    subject(object).map_err(refused)?;
                }
                (Operation::Update, "approval") => {
                    let signer = signer(object, attributes.old);
                    if !may(server, attributes.user, "approve", signer).await {
                        return Err(refused(format!(
                            "user not permitted to approve requests with signerName {signer:?}"
                        )));
                    }
                    stamp(
                        object,
                        attributes.old.unwrap_or(&Value::Null),
                        Timestamp::now(),
                    );
                }
                (Operation::Update, "status") => {
                    let signer = signer(object, attributes.old);
                    let signs = attributes.old.is_some_and(|old| signs(object, old));
                    if signs && !may(server, attributes.user, "sign", signer).await {
                        return Err(refused(format!(
                            "user not permitted to sign requests with signerName {signer:?}"
                        )));
                    }
                    stamp(
                        object,
                        attributes.old.unwrap_or(&Value::Null),
                        Timestamp::now(),
                    );
                }
                _ => {}
            }
            Ok(Effects::default())
        }
        .boxed()
    }
}

/// Who asks is who asks, whatever the request says.
fn sign_in(csr: &mut Value, user: &User) {
    let Some(spec) = csr["spec"].as_object_mut() else {
        return;
    };
    for (field, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        match empty {
            true => drop(spec.remove(field)),
            false => drop(spec.insert(field.to_owned(), value)),
        }
    }
}

/// Nobody becomes an administrator by a request. One that cannot be read is validation's.
fn subject(csr: &Value) -> Result<(), String> {
    use base64::Engine as _;
    if text(csr, "/spec/signerName") != CLIENT {
        return Ok(());
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(text(csr, "/spec/request"));
    let Some(request) = pem.ok().and_then(|pem| Request::parse(&pem).ok()) else {
        return Ok(());
    };
    match request.organizations.iter().any(|group| group == MASTERS) {
        true => Err(format!(
            "use of {CLIENT} signer with {MASTERS} group is not allowed"
        )),
        false => Ok(()),
    }
}

fn signer<'a>(new: &'a Value, old: Option<&'a Value>) -> &'a str {
    text(old.unwrap_or(new), "/spec/signerName")
}

/// Whether the write is a signer's: of the certificate, or of conditions.
fn signs(new: &Value, old: &Value) -> bool {
    ["/status/certificate", "/status/conditions"]
        .iter()
        .any(|at| new.pointer(at) != old.pointer(at))
}

/// Kubernetes asks for the signer's name, then for all of its domain.
async fn may(server: &Server, user: &User, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let action = Action {
            verb,
            group: GROUP,
            resource: "signers",
            subresource: "",
            namespace: "",
            name: &name,
            fields: None,
            path: "",
        };
        if access::may(server, user, &action).await.is_ok() {
            return true;
        }
    }
    false
}

#[cfg(test)]
pub(super) mod testing {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    /// spec.request of a subject.
    pub fn request(common_name: &str, organization: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, organization);
        name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use vetch_api::csr::KUBELET_CLIENT;

    use super::*;

    #[test]
    fn nobody_asks_to_be_an_administrator() {
        for (signer, organization, refused) in [
            (CLIENT, "system:masters", true),
            (CLIENT, "devs", false),
            // Its signer's to refuse.
            (KUBELET_CLIENT, "system:masters", false),
            ("example.com/own", "system:masters", false),
        ] {
            let request = testing::request("jane", organization);
            let csr = json!({"spec": {"signerName": signer, "request": request}});
            assert_eq!(subject(&csr).is_err(), refused, "{signer} {organization}");
        }
        assert_eq!(subject(&json!({"spec": {"signerName": CLIENT}})), Ok(()));
    }

    #[test]
    fn who_asks_is_not_the_requests_to_say() {
        let mut csr = json!({"spec": {"username": "admin", "uid": "u", "groups": ["system:masters"],
            "extra": {"a": ["b"]}, "signerName": "s"}});
        sign_in(&mut csr, &User::new("jane", &["devs"]));
        assert_eq!(
            csr,
            json!({"spec": {"username": "jane", "groups": ["devs"], "signerName": "s"}})
        );
    }

    #[test]
    fn a_write_of_the_status_is_a_signature_where_it_changes_what_signers_write() {
        let old = json!({"status": {"conditions": [{"type": "Approved"}]}});
        for (new, signature) in [
            (old.clone(), false),
            (
                json!({"metadata": {"labels": {}}, "status": old["status"]}),
                false,
            ),
            (
                json!({"status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}),
                true,
            ),
            (json!({"status": {"conditions": []}}), true),
        ] {
            assert_eq!(signs(&new, &old), signature, "{new}");
        }
    }
}
