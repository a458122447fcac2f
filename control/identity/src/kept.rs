//! The certificates the control plane shows itself: on disk by kubeadm's names, in memory for TLS, signed anew before
//! they end and when what they must say has changed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PublicKeyData as _};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::pki::{self, PkiError};
use crate::{Pki, TlsError, files, tls};

/// A certificate that ends sooner is signed anew.
const MARGIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a kept certificate says.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `FILE.crt` and `FILE.key` in the authority's directory.
    pub file: &'static str,
    pub common_name: &'static str,
    pub organization: Option<&'static str>,
    pub usage: Usage,
}

#[derive(Clone, Debug)]
pub enum Usage {
    /// For these DNS names and addresses.
    Server(Vec<String>),
    Client,
}

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A certificate of the control plane's own, for either end of TLS. Open connections keep what they began with.
#[derive(Debug)]
pub struct Kept {
    wanted: Wanted,
    directory: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl Kept {
    /// The certificate on disk, if it still serves; otherwise a new one over the same key.
    pub fn open(pki: &Pki, wanted: Wanted, now: Timestamp) -> Result<Kept, KeptError> {
        let directory = pki.directory().to_owned();
        let (_, certified) = ensure(pki, &wanted, now)?;
        Ok(Kept {
            wanted,
            directory,
            current: ArcSwap::from_pointee(certified),
        })
    }

    /// Signs it anew if it ends soon. Answers whether it did.
    pub fn renew(&self, pki: &Pki, now: Timestamp) -> Result<bool, KeptError> {
        let (signed, certified) = ensure(pki, &self.wanted, now)?;
        if signed {
            self.current.store(Arc::new(certified));
        }
        Ok(signed)
    }

    /// `DIR/apiserver.crt`
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.crt", self.wanted.file))
    }
}

/// What is to be used from now on, and whether it was signed just now.
fn ensure(pki: &Pki, wanted: &Wanted, now: Timestamp) -> Result<(bool, CertifiedKey), KeptError> {
    let path = |ending: &str| pki.directory().join(format!("{}.{ending}", wanted.file));
    let key = pki::key(&path("key"))?;
    let known = files::read(&path("crt")).map_err(PkiError::from)?;
    let known = known.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
    if let Some(certificate) = known
        && says(&certificate, wanted, &key)
        && tls::holds(pki, &certificate, &wanted.usage, later(now, MARGIN))
    {
        return Ok((false, tls::certified(certificate, private(&key)?)?));
    }
    let (names, usage) = match &wanted.usage {
        Usage::Server(names) => (names.clone(), ExtendedKeyUsagePurpose::ServerAuth),
        Usage::Client => (Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
    };
    let subject = (wanted.common_name, wanted.organization);
    let pem = pki.sign(&key, subject, names, usage, now)?;
    // The key is there already, so that this one write is all that can be cut short.
    files::write(&path("crt"), &pem).map_err(PkiError::from)?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(TlsError::from)?;
    Ok((true, tls::certified(certificate, private(&key)?)?))
}

fn private(key: &KeyPair) -> Result<PrivateKeyDer<'static>, TlsError> {
    Ok(PrivateKeyDer::from_pem_slice(
        key.serialize_pem().as_bytes(),
    )?)
}

fn later(now: Timestamp, by: Duration) -> UnixTime {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds) + by)
}

/// Subject, names and key are the wanted ones. Who signed it, and until when it lasts, TLS' own verifier tells.
fn says(certificate: &CertificateDer<'_>, wanted: &Wanted, key: &KeyPair) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let subject = parsed.subject();
    let common_names: Vec<_> = subject
        .iter_common_name()
        .map(|name| name.as_str().ok())
        .collect();
    let organizations: Vec<_> = subject
        .iter_organization()
        .map(|name| name.as_str().ok())
        .collect();
    let names: BTreeSet<String> = match &wanted.usage {
        Usage::Server(names) => names.iter().cloned().collect(),
        Usage::Client => BTreeSet::new(),
    };
    common_names == [Some(wanted.common_name)]
        && organizations
            == wanted
                .organization
                .map_or(vec![], |group| vec![Some(group)])
        && names_of(&parsed) == names
        && parsed.public_key().raw == key.subject_public_key_info()
}

/// DNS names and addresses, the way `--san` writes them.
fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return BTreeSet::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let six = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            Some(four.or_else(|_| six()).ok()?.to_string())
        }
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

impl ResolvesServerCert for Kept {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Kept {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
