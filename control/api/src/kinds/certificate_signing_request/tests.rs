use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::resource::FieldError;

fn request() -> String {
    let params = CertificateParams::new(Vec::new()).unwrap();
    let key = KeyPair::generate().unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn certificate() -> String {
    let params = CertificateParams::new(Vec::new()).unwrap();
    let key = KeyPair::generate().unwrap();
    STANDARD.encode(params.self_signed(&key).unwrap().pem())
}

fn csr(changes: Value) -> Value {
    let mut spec = json!({
        "request": request(), "usages": ["client auth"], "signerName": "kubernetes.io/kube-apiserver-client",
    });
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": "A csr"}, "spec": spec})
}

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn requests_are_checked() {
    let qualified =
        "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    let table = [
        (json!({}), vec![]),
        (json!({"expirationSeconds": 600}), vec![]),
        (
            json!({"expirationSeconds": 599}),
            vec!["spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)".to_owned()],
        ),
        (
            json!({"request": "AAAA"}),
            vec!["spec.request: Invalid value: \"AAAA\": PEM block type must be CERTIFICATE REQUEST".to_owned()],
        ),
        (json!({"usages": []}), vec!["spec.usages: Required value".to_owned()]),
        (
            json!({"usages": ["client auth", "client auth"]}),
            vec!["spec.usages[1]: Duplicate value: \"client auth\"".to_owned()],
        ),
        (json!({"signerName": ""}), vec!["spec.signerName: Required value".to_owned()]),
        (json!({"signerName": "example.com/a.b-c"}), vec![]),
        (
            json!({"signerName": "example.com"}),
            vec![format!("spec.signerName: Invalid value: \"example.com\": {qualified}")],
        ),
        (
            json!({"signerName": "example.com/a/b"}),
            vec![format!("spec.signerName: Invalid value: \"example.com/a/b\": {qualified}")],
        ),
        (
            json!({"signerName": "example/a"}),
            vec!["spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots".to_owned()],
        ),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown"}),
            vec!["spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version".to_owned()],
        ),
    ];
    for (changes, expected) in table {
        assert_eq!(
            texts((ROW.validate_create)(&csr(changes.clone()))),
            expected,
            "{changes}"
        );
    }
    let unknown = texts((ROW.validate_create)(&csr(json!({"usages": ["to eat"]}))));
    assert!(unknown[0].starts_with(
        "spec.usages[0]: Unsupported value: \"to eat\": supported values: \"any\", \"cert sign\""
    ));
}

fn with(csr: &Value, status: Value) -> Value {
    let mut csr = csr.clone();
    csr["status"] = status;
    csr
}

#[test]
fn each_subresource_changes_its_own() {
    let bare = csr(json!({}));
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let approved = with(&bare, json!({"conditions": [condition("Approved")]}));
    let issued = with(
        &bare,
        json!({"conditions": [condition("Approved")], "certificate": certificate()}),
    );
    let denied = with(&bare, json!({"conditions": [condition("Denied")]}));
    let failed = with(&bare, json!({"conditions": [condition("Failed")]}));
    let both = with(
        &bare,
        json!({"conditions": [condition("Approved"), condition("Denied")]}),
    );
    let not = with(
        &bare,
        json!({"conditions": [{"type": "Approved", "status": "False"}]}),
    );
    let rubbish = with(
        &approved,
        json!({"conditions": [condition("Approved")], "certificate": "AAAA"}),
    );
    let adds = |kind: &str| {
        format!("status.conditions: Forbidden: updates may not add a condition of type {kind:?}")
    };
    let removes =
        "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"";
    let sets = "status.certificate: Forbidden: updates may not set certificate content";
    let approval = |new: &Value, old: &Value| texts(validation::approval(new, old));
    let status = |new: &Value, old: &Value| texts(validation::status(new, old));
    let none: Vec<String> = Vec::new();
    assert_eq!(approval(&approved, &bare), none);
    assert_eq!(approval(&denied, &bare), none);
    assert_eq!(approval(&bare, &approved), [removes]);
    assert_eq!(
        approval(&both, &bare),
        [
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    assert_eq!(
        approval(&not, &bare),
        ["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""]
    );
    assert_eq!(approval(&issued, &approved), [sets]);
    assert_eq!(status(&issued, &approved), none);
    assert_eq!(status(&failed, &bare), none);
    assert_eq!(status(&approved, &bare), [adds("Approved")]);
    assert_eq!(status(&denied, &bare), [adds("Denied")]);
    let mut again = issued.clone();
    again["status"]["certificate"] = certificate().into();
    assert_eq!(
        status(&again, &issued),
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    assert_eq!(status(&rubbish, &approved).len(), 1);
}

#[test]
fn what_is_asked_for_stays_and_times_are_filled_in() {
    let old = csr(json!({}));
    let mut new = csr(json!({"signerName": "example.com/other"}));
    new["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    let mut updated = new.clone();
    (ROW.prepare_update)(&mut updated, &old);
    assert_eq!(updated, old);

    prepare_approval(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    stamp(&mut new, &old, at(1));
    let condition = &new["status"]["conditions"][0];
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:01Z");
    assert_eq!(condition["lastUpdateTime"], "1970-01-01T00:00:01Z");
    // Said again later, it is still the transition of then.
    let mut later = old.clone();
    later["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    stamp(&mut later, &new, at(2));
    let condition = &later["status"]["conditions"][0];
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:01Z");
    assert_eq!(condition["lastUpdateTime"], "1970-01-01T00:00:02Z");

    // The certificate is not the approver's, given or taken.
    let issued = with(&old, json!({"certificate": "Q0VSVA=="}));
    let mut taken = old.clone();
    prepare_approval(&mut taken, &issued);
    assert_eq!(taken["status"]["certificate"], "Q0VSVA==");
    let mut given = issued.clone();
    prepare_approval(&mut given, &old);
    assert!(given["status"].get("certificate").is_none());

    let mut created = new.clone();
    (ROW.prepare_create)(&mut created);
    assert!(created.get("status").is_none());
}

#[test]
fn requests_read_as_in_kubectl() {
    let mut csr = csr(json!({"username": "system:bootstrap:abcdef", "expirationSeconds": 3600}));
    csr["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z".into();
    let now = Timestamp::from_second(60).unwrap();
    assert_eq!(
        cells(&csr, now),
        [
            "A csr",
            "60s",
            "kubernetes.io/kube-apiserver-client",
            "system:bootstrap:abcdef",
            "60m",
            "Pending"
        ]
    );
    for (kinds, certificate, state) in [
        (&["Approved"][..], "", "Approved"),
        (&["Approved"], "Q0VSVA==", "Approved,Issued"),
        (&["Approved", "Failed"], "", "Approved,Failed"),
        (&["Denied"], "", "Denied"),
    ] {
        let conditions: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let csr = with(
            &csr,
            json!({"conditions": conditions, "certificate": certificate}),
        );
        assert_eq!(super::state(&csr), state);
    }
}
