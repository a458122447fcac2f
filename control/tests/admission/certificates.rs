use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, message};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const ADMIN: (&str, &[&str]) = ("root", &["system:masters"]);

fn csr(name: &str, organization: &str) -> Value {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let subject = &mut params.distinguished_name;
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, "jane");
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1", "metadata": {"name": name},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "request": STANDARD.encode(pem), "username": "root", "groups": ["system:masters"]},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    })
}

#[tokio::test]
async fn who_asks_is_known_and_who_approves_may() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    let jane = ("jane", &["devs"][..]);
    let made = Api::accepted(api.call_as(jane, "POST", REQUESTS, csr("a", "devs")).await);
    assert_eq!(made["spec"]["username"], "jane");
    assert_eq!(
        made["spec"]["groups"],
        json!(["devs", "system:authenticated"])
    );
    assert!(
        made.get("status").is_none_or(|status| *status == json!({})),
        "{made}"
    );
    let (code, body) = api
        .call_as(jane, "POST", REQUESTS, csr("b", "system:masters"))
        .await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"b\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        )
    );

    let approval = format!("{REQUESTS}/a/approval");
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Mine"}]}});
    let (code, body) = api
        .call_as(jane, "PATCH", &approval, approved.clone())
        .await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
        )
    );
    let now = Api::accepted(api.call_as(ADMIN, "PATCH", &approval, approved).await);
    assert!(now["status"]["conditions"][0]["lastUpdateTime"].is_string());
    // What was asked for stays, whoever writes.
    let other = json!({"spec": {"signerName": "example.com/other"}});
    let same = Api::accepted(
        api.call_as(ADMIN, "PATCH", &format!("{REQUESTS}/a"), other)
            .await,
    );
    assert_eq!(same["spec"], made["spec"]);

    let status = format!("{REQUESTS}/a/status");
    let signed = json!({"status": {"certificate": STANDARD.encode("no certificate")}});
    let (code, _) = api.call_as(jane, "PATCH", &status, signed.clone()).await;
    assert_eq!(code, 403);
    let (code, body) = api.call_as(ADMIN, "PATCH", &status, signed).await;
    assert_eq!(code, 422, "{body}");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(Vec::new()).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let signed = json!({"status": {"certificate": STANDARD.encode(pem)}});
    Api::accepted(api.call_as(ADMIN, "PATCH", &status, signed).await);
    let listed = Api::accepted(
        api.call_as(
            ADMIN,
            "GET",
            &format!("{REQUESTS}?fieldSelector=spec.signerName%3Dother"),
            Value::Null,
        )
        .await,
    );
    assert_eq!(listed["items"], json!([]));
}
