//! What a request must be, and which subresource may change what of it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::conditions::of;
use crate::csr::{LEGACY_UNKNOWN, Request};
use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;
use crate::{meta, names};

/// certificates.k8s.io's KeyUsage, in the order of the list that Kubernetes shows.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const MIN_SECONDS: i64 = 600;
/// Two subdomains and a slash, and room for a namespace: staging's MaxSignerNameLength.
const MAX_SIGNER_NAME: usize = 571;

/// Only the conditions may change, or only the certificate too.
struct May {
    approve: bool,
    sign: bool,
}

pub fn create(csr: &Value) -> Vec<FieldError> {
    // Names of requests are their makers' own business.
    let mut errors = meta::validate(csr, false, names::path_segment);
    spec(csr, &mut errors);
    errors
}

pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let may = May {
        approve: false,
        sign: false,
    };
    changed(new, old, &may)
}

pub fn approval(new: &Value, old: &Value) -> Vec<FieldError> {
    let may = May {
        approve: true,
        sign: false,
    };
    changed(new, old, &may)
}

pub fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    let may = May {
        approve: false,
        sign: true,
    };
    changed(new, old, &may)
}

fn spec(csr: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let request = csr.str_at("/spec/request");
    let parsed = STANDARD
        .decode(request)
        .map_err(|error| error.to_string())
        .and_then(|pem| Request::parse(&pem).map_err(|error| error.to_string()));
    if let Err(why) = parsed {
        errors.push(path.child("request").invalid(request, &why));
    }
    usages(csr, &path.child("usages"), errors);
    signer_name(
        csr.str_at("/spec/signerName"),
        &path.child("signerName"),
        errors,
    );
    if let Some(seconds) = csr.opt_i64("/spec/expirationSeconds")
        && seconds < MIN_SECONDS
    {
        errors.push(path.child("expirationSeconds").invalid(
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
}

fn usages(csr: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let usages = csr.list_at("/spec/usages");
    if usages.is_empty() {
        errors.push(path.required(""));
    }
    let mut seen = BTreeSet::new();
    for (i, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
        if !USAGES.contains(&usage) {
            errors.push(path.index(i).not_supported(usage, USAGES));
        }
        if !seen.insert(usage) {
            errors.push(path.index(i).duplicate(usage));
        }
    }
}

fn signer_name(name: &str, path: &Path, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        return errors.push(path.required(""));
    }
    if name == LEGACY_UNKNOWN {
        let why = "the legacy signerName is not allowed via this API version";
        return errors.push(path.invalid(name, why));
    }
    let Some((domain, signer)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/'))
    else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(path.invalid(name, why));
    };
    errors.extend(
        names::subdomain(domain)
            .iter()
            .map(|why| path.invalid(domain, why)),
    );
    if names::subdomain(domain).is_empty() && !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(path.invalid(domain, why));
    }
    for label in signer.split('.') {
        for why in names::label(label) {
            errors.push(path.invalid(signer, &format!("validating label {label:?}: {why}")));
        }
    }
    if name.len() > MAX_SIGNER_NAME {
        errors.push(path.too_long(MAX_SIGNER_NAME));
    }
}

fn changed(new: &Value, old: &Value, may: &May) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let path = Path::new("status");
    conditions(new, &path.child("conditions"), &mut errors);
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before) = (of(new, kind), of(old, kind));
        let at = path.child("conditions");
        if now.len() < before.len() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(at.forbidden(&why));
        } else if !may.approve && kind != "Failed" && now != before {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(at.forbidden(&why));
        }
    }
    let (now, before) = (
        new.str_at("/status/certificate"),
        old.str_at("/status/certificate"),
    );
    let at = path.child("certificate");
    if now != before && !may.sign {
        errors.push(at.forbidden("updates may not set certificate content"));
    } else if now != before && !before.is_empty() {
        errors.push(at.forbidden("updates may not modify existing certificate content"));
    } else if now != before
        && let Err(why) = certificate(now)
    {
        errors.push(at.invalid("<certificate data>", &why));
    }
    errors
}

fn conditions(csr: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in csr.list_at("/status/conditions").iter().enumerate() {
        let at = path.index(i);
        let (kind, status) = (condition.str_at("/type"), condition.str_at("/status"));
        if kind.is_empty() {
            errors.push(at.child("type").required(""));
        }
        let allowed: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        if status.is_empty() {
            errors.push(at.child("status").required(""));
        } else if !allowed.contains(&status) {
            errors.push(at.child("status").not_supported(status, allowed));
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(at.child("type").invalid(kind, why));
        }
        if seen.contains(&kind) {
            errors.push(at.child("type").duplicate(kind));
        }
        seen.push(kind);
    }
}

/// PEM blocks of certificates, and nothing but them; base64 as JSON has it.
fn certificate(encoded: &str) -> Result<(), String> {
    let text = STANDARD
        .decode(encoded)
        .map_err(|error| error.to_string())?;
    let mut any = false;
    for block in Pem::iter_from_buffer(&text) {
        let block = block.map_err(|_| "no PEM block could be read".to_owned())?;
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if block.parse_x509().is_err() {
            return Err("found a CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        any = true;
    }
    match any {
        true => Ok(()),
        false => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
    }
}
