//! PKCS #10 requests, as far as Kubernetes reads them: who the certificate is for, and whether the request is its own.

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;

/// Client certificates of users, kubelets and servers; serving certificates of kubelets.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Of certificates.k8s.io/v1beta1 alone.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

pub const NODES: &str = "system:nodes";
pub const NODE_PREFIX: &str = "system:node:";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("the request cannot be read")]
    Unreadable,
    #[error("the request is not signed by its own key")]
    Signature,
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub emails: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub uris: Vec<String>,
}

impl Request {
    /// The first PEM block; its signature is checked.
    pub fn parse(pem: &[u8]) -> Result<Request, CsrError> {
        let (_, block) = parse_x509_pem(pem).map_err(|_| CsrError::Pem)?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(CsrError::Pem);
        }
        let (rest, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|_| CsrError::Unreadable)?;
        if !rest.is_empty() {
            return Err(CsrError::Unreadable);
        }
        parsed.verify_signature().map_err(|_| CsrError::Signature)?;
        let subject = &parsed.certification_request_info.subject;
        let mut request = Request::default();
        // Of several common names the last one counts, as for Go.
        for name in subject.iter_common_name() {
            let name = name.as_str().map_err(|_| CsrError::Unreadable)?;
            request.common_name = name.to_owned();
        }
        for name in subject.iter_organization() {
            let name = name.as_str().map_err(|_| CsrError::Unreadable)?;
            request.organizations.push(name.to_owned());
        }
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    request.add(name)?;
                }
            }
        }
        Ok(request)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), CsrError> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let six = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                self.ips
                    .push(four.or_else(|_| six()).map_err(|_| CsrError::Unreadable)?);
            }
            // Go reads no other kinds; a signer of ours writes none.
            _ => {}
        }
        Ok(())
    }
}

/// Whether the signer of this name may sign the request, in Kubernetes' words where not. `None`: no signer of ours
/// has this name.
pub fn refusal(signer: &str, request: &Request, usages: &[&str]) -> Option<Result<(), String>> {
    let checked = match signer {
        CLIENT => client(usages),
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        _ => return None,
    };
    Some(checked)
}

fn client(usages: &[&str]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains(&"client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn kubelet_client(request: &Request, usages: &[&str]) -> Result<(), String> {
    organization(request)?;
    for (any, what) in [
        (!request.dns_names.is_empty(), "DNS"),
        (!request.emails.is_empty(), "Email"),
        (!request.ips.is_empty(), "IP"),
        (!request.uris.is_empty(), "URI"),
    ] {
        not_allowed(any, what)?;
    }
    common_name(request)?;
    exactly(usages, "client auth")
}

fn kubelet_serving(request: &Request, usages: &[&str]) -> Result<(), String> {
    organization(request)?;
    if request.dns_names.is_empty() && request.ips.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    not_allowed(!request.emails.is_empty(), "Email")?;
    not_allowed(!request.uris.is_empty(), "URI")?;
    exactly(usages, "server auth")?;
    common_name(request)
}

fn organization(request: &Request) -> Result<(), String> {
    match request.organizations == [NODES] {
        true => Ok(()),
        false => Err(format!("subject organization is not {NODES}")),
    }
}

fn common_name(request: &Request) -> Result<(), String> {
    match request.common_name.starts_with(NODE_PREFIX) {
        true => Ok(()),
        false => Err(format!(
            "subject common name does not begin with {NODE_PREFIX}"
        )),
    }
}

fn not_allowed(any: bool, what: &str) -> Result<(), String> {
    match any {
        true => Err(format!("{what} subjectAltNames are not allowed")),
        false => Ok(()),
    }
}

/// Key encipherment is for RSA keys, and may be left out (KEP-2907, Kubernetes 1.27).
fn exactly(usages: &[&str], purpose: &str) -> Result<(), String> {
    let mut wanted = vec![purpose, "digital signature"];
    let mut asked = usages.to_vec();
    asked.sort_unstable();
    asked.dedup();
    asked.retain(|usage| *usage != "key encipherment");
    wanted.sort_unstable();
    if asked == wanted {
        return Ok(());
    }
    let mut all = vec!["digital signature", "key encipherment", purpose];
    all.sort_unstable();
    Err(format!("usages did not match [{}]", all.join(" ")))
}

#[cfg(test)]
mod tests;
