use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;

fn pem(common_name: &str, organization: Option<&str>, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn a_request_tells_whom_it_is_for() {
    let text = pem(
        "system:node:a",
        Some("system:nodes"),
        &["a", "10.0.0.1", "fd00::1"],
    );
    let request = Request::parse(text.as_bytes()).unwrap();
    assert_eq!(request.common_name, "system:node:a");
    assert_eq!(request.organizations, ["system:nodes"]);
    assert_eq!(request.dns_names, ["a"]);
    assert_eq!(
        request.ips,
        ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
}

#[test]
fn what_is_no_request_is_said() {
    let good = pem("a", None, &[]);
    let other = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    for text in ["", "rubbish", &other] {
        assert_eq!(Request::parse(text.as_bytes()), Err(CsrError::Pem));
    }
    let empty = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    assert_eq!(Request::parse(empty.as_bytes()), Err(CsrError::Unreadable));
}

#[test]
fn a_request_is_signed_by_its_own_key() {
    let text = pem("system:node:a", Some("system:nodes"), &[]);
    let (_, block) = parse_x509_pem(text.as_bytes()).unwrap();
    let mut der = block.contents;
    // The name of another node, under the signature of the first.
    let at = der
        .windows(13)
        .position(|part| part == b"system:node:a")
        .unwrap();
    der[at + 12] = b'b';
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let forged =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert_eq!(Request::parse(forged.as_bytes()), Err(CsrError::Signature));
}

fn node() -> Request {
    Request {
        common_name: "system:node:a".into(),
        organizations: vec!["system:nodes".into()],
        ..Request::default()
    }
}

#[test]
fn signers_sign_what_is_theirs() {
    let of = |change: fn(&mut Request)| {
        let mut request = node();
        change(&mut request);
        request
    };
    let dns = of(|it| it.dns_names.push("a".into()));
    let ip = of(|it| it.ips.push("10.0.0.1".parse().unwrap()));
    let uri = of(|it| it.uris.push("spiffe://a".into()));
    let email = of(|it| it.emails.push("a@b".into()));
    let several = of(|it| it.organizations.push("system:masters".into()));
    let other = of(|it| it.organizations = vec!["system:masters".into()]);
    let user = of(|it| it.common_name = "jane".into());
    let both = of(|it| {
        it.dns_names.push("a".into());
        it.emails.push("a@b".into());
    });
    let rsa: &[&str] = &["digital signature", "key encipherment", "client auth"];
    let ec: &[&str] = &["client auth", "digital signature"];
    let serving: &[&str] = &["digital signature", "server auth"];
    let nodes = "subject organization is not system:nodes";
    let unlike = "usages did not match [client auth digital signature key encipherment]";
    let table: &[(&str, &Request, &[&str], Option<&str>)] = &[
        (KUBELET_CLIENT, &node(), rsa, None),
        (KUBELET_CLIENT, &node(), ec, None),
        (KUBELET_CLIENT, &node(), &["client auth"], Some(unlike)),
        (KUBELET_CLIENT, &node(), serving, Some(unlike)),
        (
            KUBELET_CLIENT,
            &dns,
            ec,
            Some("DNS subjectAltNames are not allowed"),
        ),
        (
            KUBELET_CLIENT,
            &ip,
            ec,
            Some("IP subjectAltNames are not allowed"),
        ),
        (
            KUBELET_CLIENT,
            &uri,
            ec,
            Some("URI subjectAltNames are not allowed"),
        ),
        (
            KUBELET_CLIENT,
            &email,
            ec,
            Some("Email subjectAltNames are not allowed"),
        ),
        (KUBELET_CLIENT, &several, ec, Some(nodes)),
        (KUBELET_CLIENT, &other, ec, Some(nodes)),
        (
            KUBELET_CLIENT,
            &user,
            ec,
            Some("subject common name does not begin with system:node:"),
        ),
        (KUBELET_SERVING, &dns, serving, None),
        (KUBELET_SERVING, &ip, serving, None),
        (
            KUBELET_SERVING,
            &node(),
            serving,
            Some("DNS or IP subjectAltName is required"),
        ),
        (
            KUBELET_SERVING,
            &both,
            serving,
            Some("Email subjectAltNames are not allowed"),
        ),
        (
            KUBELET_SERVING,
            &dns,
            ec,
            Some("usages did not match [digital signature key encipherment server auth]"),
        ),
        (KUBELET_SERVING, &several, serving, Some(nodes)),
        (CLIENT, &user, ec, None),
        (CLIENT, &several, rsa, None),
        (
            CLIENT,
            &user,
            &["digital signature"],
            Some("missing required usage for client certificate: client auth"),
        ),
        (
            CLIENT,
            &user,
            &["client auth", "server auth"],
            Some("invalid usage for client certificate: server auth"),
        ),
    ];
    for (signer, request, usages, why) in table {
        let told = refusal(signer, request, usages).unwrap();
        assert_eq!(
            told.err().as_deref(),
            *why,
            "{signer} {request:?} {usages:?}"
        );
    }
    assert_eq!(refusal("example.com/own", &node(), ec), None);
}
