//! Who asks: out of a verified client certificate.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Kubernetes' reading: the common name is the user, organisations are its
    /// groups. `None` when there is no name.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Option<User> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok())
            .chain([AUTHENTICATED])
            .map(str::to_owned)
            .collect();
        (!name.is_empty()).then(|| User {
            name,
            groups,
            ..User::default()
        })
    }

    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn subjects_are_users() {
        let admin = certificate(&[
            (DnType::OrganizationName, "system:masters"),
            (DnType::CommonName, "admin"),
        ]);
        let user = User::from_certificate(&admin).unwrap();
        assert_eq!(user.name, "admin");
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        assert!(user.is_master());
        let plain = certificate(&[(DnType::CommonName, "someone")]);
        assert!(!User::from_certificate(&plain).unwrap().is_master());
        let nobody = certificate(&[(DnType::OrganizationName, "system:masters")]);
        assert_eq!(User::from_certificate(&nobody), None);
        assert_eq!(
            User::from_certificate(&CertificateDer::from_slice(b"rubbish")),
            None
        );
    }
}
