//! What a certificate says, and how an authority is pinned.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ring::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo), as kubeadm prints it: `sha256:HEX`.
#[derive(Clone, PartialEq, Eq)]
pub struct CaHash([u8; 32]);

impl CaHash {
    /// None: it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<CaHash> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hash = digest::digest(&digest::SHA256, parsed.public_key().raw);
        Some(CaHash(hash.as_ref().try_into().ok()?))
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CaHash {
    type Err = String;

    fn from_str(text: &str) -> Result<CaHash, String> {
        let wrong = || "a hash is sha256: and 64 hexadecimal digits".to_owned();
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(CaHash(hash))
    }
}

/// A client certificate, as far as a node must know its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `system:node:NAME`
    pub user: String,
    pub begins: Timestamp,
    pub ends: Timestamp,
    /// SubjectPublicKeyInfo
    pub(crate) key: Vec<u8>,
}

impl Certificate {
    /// The first of a PEM; what else is in it, a key, is passed over.
    pub fn of_pem(pem: &[u8]) -> Option<Certificate> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let validity = parsed.validity();
        let user = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        Some(Certificate {
            user: user.to_owned(),
            begins: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            ends: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
            key: parsed.public_key().raw.to_vec(),
        })
    }

    pub fn is_good_at(&self, now: Timestamp) -> bool {
        self.begins <= now && now < self.ends
    }

    /// Signed by this authority: the key under it, not the name in it.
    pub(crate) fn is_signed_by(pem: &[u8], authority: &CertificateDer<'_>) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(pem) else {
            return false;
        };
        let (Ok((_, leaf)), Ok((_, authority))) = (
            X509Certificate::from_der(&der),
            X509Certificate::from_der(authority),
        ) else {
            return false;
        };
        leaf.verify_signature(Some(authority.public_key())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let (one, two) = (
            params.self_signed(&key).unwrap(),
            params.self_signed(&key).unwrap(),
        );
        let hash = CaHash::of(one.der()).unwrap();
        assert_eq!(
            CaHash::of(two.der()),
            Some(hash.clone()),
            "of the key alone"
        );
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(CaHash::of(&CertificateDer::from_slice(b"no")), None);
        for bad in [
            "",
            "sha256:",
            "sha256:00",
            &"0".repeat(64),
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            assert!(bad.parse::<CaHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_authority_is_told_by_its_key() {
        let authority_key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::from_ca_cert_der(authority.der(), &authority_key).unwrap();
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let other = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let pem = leaf.pem();
        assert!(Certificate::is_signed_by(pem.as_bytes(), authority.der()));
        assert!(!Certificate::is_signed_by(pem.as_bytes(), other.der()));
        assert!(!Certificate::is_signed_by(b"no", authority.der()));
    }
}
