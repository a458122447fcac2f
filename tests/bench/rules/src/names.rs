//! Names of chains: kube-proxy's, to the letter, since they are made of hashes.

use std::net::SocketAddrV4;

use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use crate::Service;

/// The part after `KUBE-SVC-` and `KUBE-EXT-`.
pub fn iptables_service(service: &Service) -> String {
    iptables_hash(service, "")
}

/// The part after `KUBE-SEP-`.
pub fn iptables_endpoint(service: &Service, endpoint: SocketAddrV4) -> String {
    iptables_hash(service, &endpoint.to_string())
}

fn iptables_hash(service: &Service, endpoint: &str) -> String {
    let text = format!(
        "{}{}{endpoint}",
        service.full_name(),
        service.protocol.as_str()
    );
    hash::<16>(&text)
}

/// The part after `service-` and `external-`. At its longest (three labels of
/// 63) it still fits an nftables name.
pub fn nftables_service(service: &Service) -> String {
    let name = format!(
        "{}/{}/{}/{}",
        service.namespace,
        service.name,
        service.protocol.as_str(),
        service.port_name
    );
    format!("{}-{name}", hash::<8>(&name))
}

/// The first `LENGTH` characters of the hash in base 32.
fn hash<const LENGTH: usize>(text: &str) -> String {
    let mut encoded = BASE32.encode(&Sha256::digest(text));
    encoded.truncate(LENGTH);
    encoded
}
