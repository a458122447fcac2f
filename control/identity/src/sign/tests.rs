use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType};

use super::*;
use crate::{Pki, User};

const USAGES: &[&str] = &["client auth", "digital signature"];

fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path()).unwrap();
    (dir, pki)
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, "system:node:a");
    params
}

fn request(params: &CertificateParams) -> String {
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_node_gets_its_certificate() {
    let (_dir, pki) = pki();
    let now = Timestamp::now();
    let pem = pki
        .signer()
        .sign(request(&params()).as_bytes(), USAGES, None, now)
        .unwrap();
    let der = der(&pem);
    let user = User::of_certificate(&der).unwrap();
    assert_eq!(user, User::new("system:node:a", &["system:nodes"]));
    let later = rustls_pki_types::UnixTime::now();
    assert!(crate::tls::holds(&pki, &der, &crate::Usage::Client, later));
    let server = crate::Usage::Server(Vec::new());
    assert!(!crate::tls::holds(&pki, &der, &server, later));
}

#[test]
fn no_request_makes_an_authority() {
    let (_dir, pki) = pki();
    let mut greedy = params();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let signed = pki
        .signer()
        .sign(request(&greedy).as_bytes(), USAGES, None, Timestamp::now())
        .unwrap();
    let der = der(&signed);
    let (_, made) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!made.is_ca());
    let usage = made.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = made.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    for usage in ["cert sign", "crl sign", "any", "to eat"] {
        let told = pki.signer().sign(
            request(&params()).as_bytes(),
            &[usage],
            None,
            Timestamp::now(),
        );
        assert!(matches!(told, Err(SignError::Usage(_))), "{usage}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let (_dir, pki) = pki();
    let sign = |pem: &str| {
        pki.signer()
            .sign(pem.as_bytes(), USAGES, None, Timestamp::now())
    };
    assert!(matches!(sign("rubbish"), Err(SignError::Request)));
    let mut strange = params();
    let content = vec![0x05, 0x00];
    strange
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[1, 2, 3, 4], content));
    assert!(matches!(
        sign(&request(&strange)),
        Err(SignError::Unsupported(_))
    ));
    // Two organizations: rcgen writes none such, so that the bytes of another attribute are changed, and with
    // them the signature: the subject is looked at first.
    let mut two = params();
    two.distinguished_name
        .push(DnType::OrganizationalUnitName, "x");
    let der = CertificateSigningRequestDer::from_pem_slice(request(&two).as_bytes()).unwrap();
    let mut bytes = der.to_vec();
    // 2.5.4.11 (OU) becomes 2.5.4.10 (O).
    let at = bytes
        .windows(3)
        .position(|part| part == [0x55, 0x04, 0x0b])
        .unwrap();
    bytes[at + 2] = 0x0a;
    let (_, parsed) = X509CertificationRequest::from_der(&bytes).unwrap();
    assert!(matches!(writable_subject(&parsed), Err(SignError::Subject)));
}

#[test]
fn lives_are_what_was_asked_for_within_bounds() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let now = at("2026-01-01T00:00:00Z");
    let far = at("2036-01-01T00:00:00Z");
    let begins = at("2025-12-31T23:55:00Z");
    for (seconds, authority, ends) in [
        (None, far, "2026-12-31T23:55:00Z"),
        (Some(86_400), far, "2026-01-01T23:55:00Z"),
        (Some(600), far, "2026-01-01T00:10:00Z"),
        (Some(1), far, "2026-01-01T00:10:00Z"),
        (Some(3600), far, "2026-01-01T01:00:00Z"),
        (Some(i32::MAX), far, "2026-12-31T23:55:00Z"),
        (None, at("2026-01-02T00:00:00Z"), "2026-01-02T00:00:00Z"),
    ] {
        assert_eq!(
            validity(seconds, authority, now),
            (begins, at(ends)),
            "{seconds:?}"
        );
    }
    let (_dir, pki) = pki();
    let after = pki.signer().ends + SignedDuration::from_hours(1);
    let told = pki
        .signer()
        .sign(request(&params()).as_bytes(), USAGES, None, after);
    assert!(matches!(told, Err(SignError::Ended)));
}

#[test]
fn an_authority_is_known_by_its_key() {
    let (dir, pki) = pki();
    let hash = public_key_hash(pki.ca_der()).unwrap();
    assert_eq!(hash.len(), "sha256:".len() + 64);
    // Its certificate may be made anew over the same key.
    std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
    let again = Pki::open(dir.path()).unwrap();
    assert_eq!(public_key_hash(again.ca_der()).unwrap(), hash);
    assert_ne!(public_key_hash(self::pki().1.ca_der()).unwrap(), hash);
    assert_eq!(public_key_hash(&CertificateDer::from_slice(b"no")), None);
}
