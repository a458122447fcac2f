//! The serving certificate: self-signed, kept on disk, made anew before it ends.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const CERTIFICATE_FILE: &str = "kubelet.crt";
const KEY_FILE: &str = "kubelet.key";
const LIFE_DAYS: i64 = 365;
const RENEW_BEFORE_DAYS: i64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot {step} {path}", path = path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a serving certificate")]
    Make(#[from] rcgen::Error),
    #[error("the serving certificate does not work")]
    Use(#[from] rustls::Error),
    #[error("cannot read the serving certificate back: {0}")]
    Read(String),
}

/// What the certificate is for.
#[derive(Clone, Debug)]
pub struct Names {
    pub node: String,
    pub ips: Vec<IpAddr>,
}

/// Hands out the certificate of the moment.
#[derive(Debug)]
pub struct Serving {
    dir: PathBuf,
    names: Names,
    key: RwLock<Arc<CertifiedKey>>,
}

impl Serving {
    pub fn open(
        dir: &Path,
        names: Names,
        now: Timestamp,
    ) -> Result<Arc<Serving>, CertificateError> {
        let key = load_or_make(dir, &names, now)?;
        Ok(Arc::new(Serving {
            dir: dir.to_owned(),
            names,
            key: RwLock::new(Arc::new(key)),
        }))
    }

    /// When the one of the moment is good no longer.
    pub fn ends(&self) -> Option<Timestamp> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        let (_, certificate) = X509Certificate::from_der(key.cert.first()?).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    }

    /// To be called now and then; connections that are open keep what they have.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<(), CertificateError> {
        let key = load_or_make(&self.dir, &self.names, now)?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        Some(key.clone())
    }
}

fn load_or_make(
    dir: &Path,
    names: &Names,
    now: Timestamp,
) -> Result<CertifiedKey, CertificateError> {
    if let Some(key) = load(dir, names, now) {
        return Ok(key);
    }
    let (certificate, key) = make(names, now)?;
    fs::create_dir_all(dir).map_err(io_error("make", dir))?;
    // The key first: a certificate without it is made anew.
    write(&dir.join(KEY_FILE), &key, 0o600)?;
    write(&dir.join(CERTIFICATE_FILE), &certificate, 0o644)?;
    load(dir, names, now).ok_or_else(|| CertificateError::Read(dir.display().to_string()))
}

/// `None` for whatever is missing, broken, about to end, or another node's.
fn load(dir: &Path, names: &Names, now: Timestamp) -> Option<CertifiedKey> {
    let certificate = CertificateDer::from_pem_file(dir.join(CERTIFICATE_FILE)).ok()?;
    if !usable(&certificate, names, now) {
        return None;
    }
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY_FILE)).ok()?;
    let provider = CryptoProvider::get_default()?;
    let key = CertifiedKey::from_der(vec![certificate], key, provider).ok()?;
    key.keys_match().ok()?;
    Some(key)
}

fn usable(certificate: &CertificateDer<'_>, names: &Names, now: Timestamp) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let ends = certificate.validity().not_after.timestamp();
    let renew_at = ends - RENEW_BEFORE_DAYS * 24 * 3600;
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return false;
    };
    let listed = &extension.value.general_names;
    let names_ip = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => listed.contains(&GeneralName::IPAddress(&ip.octets())),
        IpAddr::V6(ip) => listed.contains(&GeneralName::IPAddress(&ip.octets())),
    };
    now.as_second() < renew_at
        && listed.contains(&GeneralName::DNSName(&names.node))
        && names.ips.iter().all(names_ip)
}

/// Certificate and key as PEM.
fn make(names: &Names, now: Timestamp) -> Result<(String, String), CertificateError> {
    let key = KeyPair::generate()?;
    let ips = names.ips.iter().map(IpAddr::to_string);
    let all: Vec<String> = std::iter::once(names.node.clone()).chain(ips).collect();
    let mut params = CertificateParams::new(all)?;
    let common_name = format!("system:node:{}", names.node);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let begins = std::time::SystemTime::from(now - SignedDuration::from_hours(1));
    let ends = std::time::SystemTime::from(now + SignedDuration::from_hours(24 * LIFE_DAYS));
    params.not_before = begins.into();
    params.not_after = ends.into();
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("write", path))
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::Io { step, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(node: &str, ip: &str) -> Names {
        Names {
            node: node.into(),
            ips: ip.split(',').map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn provider() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }

    fn leaf(dir: &Path, names: &Names, now: Timestamp) -> Vec<u8> {
        let key = load_or_make(dir, names, now).unwrap();
        key.cert[0].to_vec()
    }

    #[test]
    fn kept_until_it_is_about_to_end() {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pki");
        let own = names("n1", "172.30.0.2");
        let now = Timestamp::now();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let first = leaf(&dir, &own, now);
        assert_eq!(leaf(&dir, &own, days(330)), first);
        let second = leaf(&dir, &own, days(336));
        assert_ne!(second, first);
        assert_eq!(leaf(&dir, &own, days(337)), second);
        let mode = fs::metadata(dir.join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_address_or_a_broken_file_makes_another() {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let own = names("n1", "172.30.0.2");
        let first = leaf(dir.path(), &own, now);
        let moved = leaf(dir.path(), &names("n1", "172.30.0.3"), now);
        assert_ne!(moved, first);
        let renamed = leaf(dir.path(), &names("n2", "172.30.0.3"), now);
        assert_ne!(renamed, moved);
        fs::write(dir.path().join(KEY_FILE), "rubbish").unwrap();
        assert_ne!(leaf(dir.path(), &names("n2", "172.30.0.3"), now), renamed);
        // Another one as well needs another; one less does not.
        let both = names("n2", "172.30.0.3,fd00::3");
        let dual = leaf(dir.path(), &both, now);
        assert_eq!(leaf(dir.path(), &both, now), dual);
        assert_eq!(leaf(dir.path(), &names("n2", "fd00::3"), now), dual);
        assert_ne!(leaf(dir.path(), &names("n2", "fd00::4"), now), dual);
    }

    /// Killed between the two files: the certificate is of another key.
    #[test]
    fn a_certificate_of_another_key_is_not_used() {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let own = names("n1", "172.30.0.2");
        let first = leaf(dir.path(), &own, now);
        let (_, key) = make(&own, now).unwrap();
        write(&dir.path().join(KEY_FILE), &key, 0o600).unwrap();
        assert_ne!(leaf(dir.path(), &own, now), first);
    }
}
