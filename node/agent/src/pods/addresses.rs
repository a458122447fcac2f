//! Which of its sandbox's addresses a pod has, and in which order.

use std::net::IpAddr;

/// By the kubelet's rule: the first one of the family of the node's first
/// address, then the first one of the other, whatever the order they came in.
pub fn of_pod(found: &[IpAddr], node_ips: &[IpAddr]) -> Vec<IpAddr> {
    let main = node_ips.first().or(found.first());
    let is_v4 = main.is_some_and(IpAddr::is_ipv4);
    let first = |is_v4: bool| found.iter().copied().find(|ip| ip.is_ipv4() == is_v4);
    first(is_v4).into_iter().chain(first(!is_v4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_family_comes_first() {
        for (found, node, wanted) in [
            (&["10.0.0.1"][..], &["172.30.0.2"][..], &["10.0.0.1"][..]),
            (
                &["10.0.0.1", "fd00::1"],
                &["172.30.0.2"],
                &["10.0.0.1", "fd00::1"],
            ),
            (
                &["10.0.0.1", "fd00::1"],
                &["fc00::2", "172.30.0.2"],
                &["fd00::1", "10.0.0.1"],
            ),
            (&["10.0.0.1"], &["fc00::2"], &["10.0.0.1"]),
            (
                &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"],
                &["172.30.0.2", "fc00::2"],
                &["10.0.0.1", "fd00::1"],
            ),
            (&["fd00::1"], &[], &["fd00::1"]),
            (&[], &["172.30.0.2"], &[]),
        ] {
            let ips = |texts: &[&str]| -> Vec<IpAddr> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            assert_eq!(of_pod(&ips(found), &ips(node)), ips(wanted), "{found:?}");
        }
    }
}
