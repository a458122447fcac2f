//! Certificates that others ask for: a PKCS #10 request becomes a certificate of this authority.
//!
//! Whether a request may be signed is its asker's to decide (csrsigning, in control/controllers). Of the request
//! only the subject, the alternative names and the key are taken: usages are what the API object says, and no
//! request makes another authority.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// kube-controller-manager's --cluster-signing-duration: nobody gets more.
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Its floor, twice what certificates are backdated by.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);
/// Clocks of other machines may be behind ours: as kube-controller-manager has it.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// A shorter life begins early without ending later: its length is what was asked for.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the request cannot be read")]
    Request,
    #[error("the subject has an attribute twice or several in one place, which is not supported")]
    Subject,
    #[error("the usage {0:?} is not supported")]
    Usage(String),
    #[error("the request's key or one of its extensions is not supported")]
    Unsupported(#[source] rcgen::Error),
    #[error("keys like that of the request are not supported")]
    Key,
    #[error("the certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
    #[error("the authority's certificate ended")]
    Ended,
}

/// The authority, for whoever is to sign and to do nothing else with it. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// The authority's own end, beyond which nothing it signed is believed.
    ends: Timestamp,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(issuer: Arc<Issuer<'static, KeyPair>>, ca: &CertificateDer<'_>) -> Signer {
        let ends = x509_parser::parse_x509_certificate(ca)
            .ok()
            .and_then(|(_, parsed)| {
                Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
            });
        Signer {
            issuer,
            ends: ends.unwrap_or(Timestamp::MIN),
        }
    }

    /// The certificate, PEM. `usages` are those of certificates.k8s.io ("client auth"); `seconds` how long it is to
    /// last: a year at most, which it is where nothing was asked for, and 10 minutes at least.
    pub fn sign(
        &self,
        request_pem: &[u8],
        usages: &[&str],
        seconds: Option<i32>,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let der = CertificateSigningRequestDer::from_pem_slice(request_pem)
            .map_err(|_| SignError::Request)?;
        let (_, parsed) =
            X509CertificationRequest::from_der(&der).map_err(|_| SignError::Request)?;
        writable_subject(&parsed)?;
        let mut request =
            CertificateSigningRequestParams::from_der(&der).map_err(SignError::Unsupported)?;
        let params = &mut request.params;
        params.is_ca = IsCa::NoCa;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match purpose(usage).ok_or_else(|| SignError::Usage((*usage).to_owned()))? {
                Purpose::Key(usage) => params.key_usages.push(usage),
                Purpose::Extended(usage) => params.extended_key_usages.push(usage),
            }
        }
        params.use_authority_key_identifier_extension = true;
        let (begins, ends) = validity(seconds, self.ends, now);
        if ends <= now {
            return Err(SignError::Ended);
        }
        params.not_before = std::time::SystemTime::from(begins).into();
        params.not_after = std::time::SystemTime::from(ends).into();
        let serial = uuid::Uuid::new_v4();
        // Positive, and as long as RFC 5280 section 4.1.2.2 wants at most.
        params.serial_number = Some(SerialNumber::from_slice(&serial.as_bytes()[..15]));
        let signed = request
            .signed_by(self.issuer.as_ref())
            .map_err(SignError::Sign)?;
        // rcgen names a key by the algorithm of its signature, which leaves room for another curve.
        let (_, made) =
            x509_parser::parse_x509_certificate(signed.der()).map_err(|_| SignError::Key)?;
        if made.public_key().raw != parsed.certification_request_info.subject_pki.raw {
            return Err(SignError::Key);
        }
        Ok(signed.pem())
    }
}

/// rcgen's distinguished names hold one value a type: another one would be lost without a word.
fn writable_subject(request: &X509CertificationRequest<'_>) -> Result<(), SignError> {
    let mut seen = Vec::new();
    for part in request.certification_request_info.subject.iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(SignError::Subject);
        };
        let kind = attribute.attr_type().to_id_string();
        if seen.contains(&kind) {
            return Err(SignError::Subject);
        }
        seen.push(kind);
    }
    Ok(())
}

/// When the certificate begins and ends.
fn validity(seconds: Option<i32>, authority: Timestamp, now: Timestamp) -> (Timestamp, Timestamp) {
    let asked = seconds.map_or(LONGEST, |seconds| SignedDuration::from_secs(seconds.into()));
    let life = asked.clamp(SHORTEST, LONGEST);
    let begins = now - BACKDATED;
    let ends = match life < SHORT {
        true => now + life,
        false => begins + life,
    };
    (begins, ends.min(authority))
}

enum Purpose {
    Key(KeyUsagePurpose),
    Extended(ExtendedKeyUsagePurpose),
}

/// certificates.k8s.io's names of usages, as RFC 5280 sections 4.2.1.3 and 4.2.1.12 have them. Those that make an
/// authority are none of a request's.
fn purpose(usage: &str) -> Option<Purpose> {
    use ExtendedKeyUsagePurpose as Extended;
    use KeyUsagePurpose as Key;
    Some(match usage {
        "signing" | "digital signature" => Purpose::Key(Key::DigitalSignature),
        "content commitment" => Purpose::Key(Key::ContentCommitment),
        "key encipherment" => Purpose::Key(Key::KeyEncipherment),
        "key agreement" => Purpose::Key(Key::KeyAgreement),
        "data encipherment" => Purpose::Key(Key::DataEncipherment),
        "server auth" => Purpose::Extended(Extended::ServerAuth),
        "client auth" => Purpose::Extended(Extended::ClientAuth),
        _ => return None,
    })
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo), by which kubeadm pins an authority: `sha256:HEX`.
/// `None`: it is no certificate.
pub fn public_key_hash(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let digest = Sha256::digest(parsed.public_key().raw);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256:{hex}"))
}

#[cfg(test)]
mod tests;
