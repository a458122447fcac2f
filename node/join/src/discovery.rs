//! cluster-info: who the cluster is, from a server that nobody vouches for.
//!
//! The token's signature says that the content is the cluster's whose token it is; the pin that the authority is the
//! one the administrator saw, also to others who have a token. Whoever answers with the right content in the middle
//! gains nothing: all that follows is asked under that authority. So the content is not fetched a second time, which
//! kubeadm does.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::config::Kubeconfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::access::{Trust, client, limited};
use crate::certificate::CaHash;
use crate::error::JoinError;
use crate::jws;
use crate::token::Token;

/// A cluster that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The API server's URL, as the cluster itself says.
    pub server: String,
    /// The pinned authorities, PEM.
    pub ca_pem: String,
    pub authorities: Vec<CertificateDer<'static>>,
}

/// `HOST:PORT` or a URL, as a URL.
pub(crate) fn url(server: &str) -> Result<String, JoinError> {
    let wrong = || JoinError::Server {
        server: server.to_owned(),
    };
    let host = server.strip_prefix("https://").unwrap_or(server);
    let host = host.trim_end_matches('/');
    let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    let plain = !name.is_empty()
        && !name.contains(['/', '@', ' '])
        // An IPv6 address without its brackets has its last group taken for a port.
        && (!name.contains(':') || name.starts_with('[') && name.ends_with(']'));
    match plain && port.parse::<u16>().is_ok_and(|port| port != 0) {
        true => Ok(format!("https://{host}")),
        false => Err(wrong()),
    }
}

/// Once; whether to try again says the error.
pub(crate) async fn discover(
    server: &str,
    token: &Token,
    pins: &[CaHash],
) -> Result<Found, JoinError> {
    let client = client(&url(server)?, Trust::Nobody, None).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let map = limited(maps.get("cluster-info")).await.map_err(|source| {
        let server = server.to_owned();
        match source {
            kube::Error::Api(_) => JoinError::NoClusterInfo {
                server,
                source: Box::new(source),
            },
            source => JoinError::Unreachable {
                server,
                source: Box::new(source),
            },
        }
    })?;
    believe(server, &map.data.unwrap_or_default(), token, pins)
}

/// What is left of cluster-info when everything that nobody vouches for is taken away.
fn believe(
    server: &str,
    data: &BTreeMap<String, String>,
    token: &Token,
    pins: &[CaHash],
) -> Result<Found, JoinError> {
    let (server, id) = (server.to_owned(), token.id().to_owned());
    let unreadable = |why: &str| JoinError::ClusterInfo {
        server: server.clone(),
        why: why.to_owned(),
    };
    let content = data
        .get("kubeconfig")
        .ok_or_else(|| unreadable("it has no kubeconfig"))?;
    let Some(signature) = data.get(&format!("jws-kubeconfig-{id}")) else {
        return Err(JoinError::UnknownToken { server, id });
    };
    if !jws::is_signed(content, signature, token) {
        return Err(JoinError::Signature { server, id });
    }
    let config = Kubeconfig::from_yaml(content).map_err(|error| unreadable(&error.to_string()))?;
    let cluster = config.clusters.into_iter().find_map(|named| named.cluster);
    let cluster = cluster.ok_or_else(|| unreadable("it names no cluster"))?;
    let own = cluster
        .server
        .ok_or_else(|| unreadable("it names no server"))?;
    let pem = STANDARD
        .decode(cluster.certificate_authority_data.unwrap_or_default())
        .map_err(|_| unreadable("its certificate authority is no base64"))?;
    let all: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| unreadable("its certificate authority is no PEM"))?;
    let hashes: Vec<Option<CaHash>> = all.iter().map(|der| CaHash::of(der)).collect();
    // Others beside them are nobody's to trust.
    let authorities: Vec<CertificateDer<'static>> = all
        .into_iter()
        .zip(&hashes)
        .filter(|(_, hash)| hash.as_ref().is_some_and(|hash| pins.contains(hash)))
        .map(|(der, _)| der)
        .collect();
    if authorities.is_empty() {
        return Err(JoinError::WrongHash {
            server,
            found: hashes.into_iter().flatten().collect(),
        });
    }
    Ok(Found {
        server: own,
        ca_pem: authorities.iter().map(|der| pem_of(der)).collect(),
        authorities,
    })
}

fn pem_of(der: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len())
        .step_by(64)
        .map(|at| &body[at..(at + 64).min(body.len())])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;

    fn authority() -> rcgen::Certificate {
        let params = CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn token() -> Token {
        "abcdef.0123456789abcdef".parse().unwrap()
    }

    fn signed(content: &str, by: &Token) -> BTreeMap<String, String> {
        let signature = jws::sign(content, r#"{"alg":"HS256","kid":"abcdef"}"#, by);
        BTreeMap::from([
            ("kubeconfig".to_owned(), content.to_owned()),
            ("jws-kubeconfig-abcdef".to_owned(), signature),
        ])
    }

    fn info(pem: &str) -> String {
        let cluster = json!({"server": "https://10.0.0.1:6443", "certificate-authority-data": STANDARD.encode(pem)});
        json!({"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}]})
            .to_string()
    }

    #[test]
    fn servers_are_hosts_with_a_port() {
        for (server, wanted) in [
            ("10.0.0.1:6443", Some("https://10.0.0.1:6443")),
            ("https://api.example:443/", Some("https://api.example:443")),
            ("[fd00::1]:6443", Some("https://[fd00::1]:6443")),
            ("fd00::1:6443", None),
            ("10.0.0.1", None),
            ("10.0.0.1:0", None),
            ("10.0.0.1:99999", None),
            (":6443", None),
            ("http://10.0.0.1:6443", None),
            ("user@10.0.0.1:6443", None),
        ] {
            assert_eq!(url(server).ok().as_deref(), wanted, "{server}");
        }
    }

    #[test]
    fn what_is_signed_and_pinned_is_believed() {
        let (own, foreign) = (authority(), authority());
        let pin = CaHash::of(own.der()).unwrap();
        let both = format!("{}{}", own.pem(), foreign.pem());
        let data = signed(&info(&both), &token());
        let found = believe("s", &data, &token(), &[pin]).unwrap();
        assert_eq!(found.server, "https://10.0.0.1:6443");
        assert_eq!(
            found.authorities,
            [own.der().clone()],
            "the other one is not pinned"
        );
        let back = CertificateDer::from_pem_slice(found.ca_pem.as_bytes()).unwrap();
        assert_eq!(back, *own.der());
    }

    #[test]
    fn each_failure_has_its_words() {
        let own = authority();
        let pins = [CaHash::of(own.der()).unwrap()];
        let good = info(&own.pem());
        let told = |data: &BTreeMap<String, String>, pins: &[CaHash]| {
            believe("s", data, &token(), pins).unwrap_err()
        };
        assert!(matches!(
            told(&BTreeMap::new(), &pins),
            JoinError::ClusterInfo { .. }
        ));
        let mut unsigned = signed(&good, &token());
        unsigned.remove("jws-kubeconfig-abcdef");
        assert!(matches!(
            told(&unsigned, &pins),
            JoinError::UnknownToken { .. }
        ));
        let other: Token = "abcdef.fedcba9876543210".parse().unwrap();
        assert!(matches!(
            told(&signed(&good, &other), &pins),
            JoinError::Signature { .. }
        ));
        let mut changed = signed(&good, &token());
        changed.insert("kubeconfig".into(), info(&authority().pem()));
        assert!(matches!(told(&changed, &pins), JoinError::Signature { .. }));
        let another = [CaHash::of(authority().der()).unwrap()];
        let wrong = told(&signed(&good, &token()), &another);
        assert!(wrong.to_string().contains(&pins[0].to_string()), "{wrong}");
        for broken in ["{}", "- a", &info("no pem")] {
            let told = told(&signed(broken, &token()), &pins);
            assert!(
                matches!(
                    told,
                    JoinError::ClusterInfo { .. } | JoinError::WrongHash { .. }
                ),
                "{broken}: {told}"
            );
        }
    }
}
