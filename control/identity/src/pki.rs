//! The cluster's certificate authority and what it signs.
//!
//! ```text
//! <dir>/ca.key, ca.crt    made once; a cluster that loses them loses its users
//! <dir>/sa.key, sa.pub    sign and verify service-account tokens
//! ```
//! Names are kubeadm's. What the control plane shows itself is beside them (`kept.rs`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::files::{self, FileError};
use crate::{Signer, Tokens, User};

/// kubeadm's lifetime of a CA.
const CA_YEARS: i64 = 10;
/// kubeadm's lifetime of what it signs.
const LEAF_YEARS: i64 = 1;
/// Clocks of other machines may be behind ours.
const BACKDATED_DAYS: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot read {path}: it holds no usable key or certificate")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("cannot sign a certificate for {subject:?}")]
    Sign {
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("the certificate authority's certificate in {path} cannot be read")]
    Certificate { path: PathBuf },
    #[error("the token key in {path} cannot be used")]
    TokenKey {
        path: PathBuf,
        #[source]
        source: jsonwebtoken::errors::Error,
    },
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// The certificate authority of one cluster.
pub struct Pki {
    directory: PathBuf,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    tokens: Tokens,
}

impl Pki {
    /// Opens the authority in `dir`, or makes it. Two processes that make it at once agree on one.
    pub fn open(dir: &Path) -> Result<Pki, PkiError> {
        files::make_dir(dir)?;
        let key = key(&dir.join("ca.key"))?;
        let path = dir.join("ca.crt");
        let ca_pem = match files::read(&path)? {
            Some(pem) => pem,
            None => files::write_once(&path, &self_signed(&key, Timestamp::now())?)?,
        };
        let issuer =
            Issuer::from_ca_cert_pem(&ca_pem, key).map_err(|source| PkiError::Unreadable {
                path: path.clone(),
                source,
            })?;
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|_| PkiError::Certificate { path })?;
        let token_path = dir.join("sa.key");
        let token_key = self::key(&token_path)?;
        let tokens = Tokens::new(&token_key).map_err(|source| PkiError::TokenKey {
            path: token_path,
            source,
        })?;
        let public = dir.join("sa.pub");
        let public_pem = token_key.public_key_pem();
        // For whoever verifies tokens without asking us.
        if files::read(&public)?.as_deref() != Some(&public_pem) {
            files::write(&public, &public_pem)?;
        }
        Ok(Pki {
            directory: dir.to_owned(),
            ca_pem,
            ca_der,
            issuer: Arc::new(issuer),
            tokens,
        })
    }

    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Signs what others ask for, and does nothing else with the authority's key.
    pub fn signer(&self) -> Signer {
        Signer::new(self.issuer.clone(), &self.ca_der)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A client certificate: the user is its common name, the group its organization. One group at most, because
    /// rcgen's distinguished names hold one value a type.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Sign {
            subject: user.to_owned(),
            source,
        })?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let certificate_pem =
            self.sign(&key, (user, group), Vec::new(), usage, Timestamp::now())?;
        Ok(Issued {
            certificate_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate over `key` for a common name and an organization; PEM.
    pub(crate) fn sign(
        &self,
        key: &KeyPair,
        (common_name, organization): (&str, Option<&str>),
        names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Sign {
            subject: common_name.to_owned(),
            source,
        };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, LEAF_YEARS, now);
        Ok(params
            .signed_by(key, self.issuer.as_ref())
            .map_err(failed)?
            .pem())
    }
}

/// The key in this file, made if there is none.
pub(crate) fn key(path: &Path) -> Result<KeyPair, PkiError> {
    let unreadable = |source| PkiError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let pem = match files::read(path)? {
        Some(pem) => pem,
        None => {
            let made = KeyPair::generate().map_err(unreadable)?;
            files::write_once(path, &made.serialize_pem())?
        }
    };
    KeyPair::from_pem(&pem).map_err(unreadable)
}

fn self_signed(key: &KeyPair, now: Timestamp) -> Result<String, PkiError> {
    let subject = "kubernetes";
    let failed = |source| PkiError::Sign {
        subject: subject.to_owned(),
        source,
    };
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params, CA_YEARS, now);
    Ok(params.self_signed(key).map_err(failed)?.pem())
}

fn set_validity(params: &mut CertificateParams, years: i64, now: Timestamp) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |span: Span| {
        let date = today.saturating_add(span);
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(Span::new().days(-BACKDATED_DAYS));
    params.not_after = day(Span::new().years(years));
    let serial = uuid::Uuid::new_v4();
    // Positive, and as long as RFC 5280 section 4.1.2.2 wants at most.
    params.serial_number = Some(SerialNumber::from_slice(&serial.as_bytes()[..15]));
}

impl User {
    /// The user a verified client certificate stands for; none without a common name.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<User> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok())
            .collect();
        Some(User::new(name, &groups))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_user_travels_in_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let issued = pki.client("system:node:a", Some("system:nodes")).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        assert_eq!(
            User::of_certificate(&der),
            Some(User::new("system:node:a", &["system:nodes"]))
        );
    }

    #[test]
    fn the_authority_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path()).unwrap();
        let second = Pki::open(dir.path()).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        for secret in ["ca.key", "sa.key"] {
            let mode = std::fs::metadata(dir.path().join(secret))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }

    #[test]
    fn a_broken_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.key"), "no key").unwrap();
        let error = Pki::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }
}
