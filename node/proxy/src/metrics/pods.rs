//! What pods have sent and received, read from the kernel at the moment of the question.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};
use tokio::sync::watch;
use tracing::debug;
use vetch_network::Owners;

use crate::{
    hooks::{AttachedPods, Pods},
    netlink::Netlink,
    pod_traffic::{self, PodTraffic},
};

/// Those of the API's: others have no names.
pub struct PodCounters {
    pub pods: AttachedPods,
    pub owners: watch::Receiver<Option<Arc<Owners>>>,
}

impl fmt::Debug for PodCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodCounters")
    }
}

/// By namespace and name. A pod that is made anew under its name has a new link: of two
/// the one that was made last counts.
type ByName = BTreeMap<(String, String), PodTraffic>;

fn by_name(pods: &Pods, owners: &Owners, links: &BTreeMap<u32, PodTraffic>) -> ByName {
    let mut newest: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (ip, owner) in owners {
        if let Some(pod) = pods.get(ip) {
            let name = (owner.namespace.as_str(), owner.name.as_str());
            let link = newest.entry(name).or_default();
            *link = pod.ifindex.max(*link);
        }
    }
    newest
        .into_iter()
        .filter_map(|((namespace, name), link)| {
            let counted = links.get(&link)?;
            Some(((namespace.to_owned(), name.to_owned()), *counted))
        })
        .collect()
}

/// Name, help, and the number.
type Row = (&'static str, &'static str, fn(&PodTraffic) -> u64);

const ROWS: [Row; 4] = [
    (
        "vetch_pod_network_receive_bytes",
        "Bytes of frames that the pod's link has received",
        |counted| counted.received_bytes,
    ),
    (
        "vetch_pod_network_receive_packets",
        "Packets that the pod's link has received; TCP's as the stack carries them",
        |counted| counted.received_packets,
    ),
    (
        "vetch_pod_network_transmit_bytes",
        "Bytes of frames that the pod's link has sent",
        |counted| counted.sent_bytes,
    ),
    (
        "vetch_pod_network_transmit_packets",
        "Packets that the pod's link has sent; TCP's as the stack carries them",
        |counted| counted.sent_packets,
    ),
];

impl Collector for PodCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (pods, owners) = (self.pods.borrow().clone(), self.owners.borrow().clone());
        let (Some(pods), Some(owners)) = (pods, owners) else {
            // Not known yet.
            return Ok(());
        };
        let links =
            Netlink::open().and_then(|mut netlink| pod_traffic::read(&mut netlink, pods.values()));
        let links = match links {
            Ok(links) => links,
            Err(error) => {
                debug!(%error, "cannot read the counters of pods' links");
                return Ok(());
            }
        };
        let counted = by_name(&pods, &owners, &links);
        for (name, help, number) in ROWS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for ((namespace, pod), traffic) in &counted {
                let labels = [("namespace", namespace.as_str()), ("pod", pod.as_str())];
                let counter = ConstCounter::new(number(traffic));
                counter.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vetch_ebpf_common::Pod;
    use vetch_network::Owner;

    use super::*;

    #[test]
    fn a_pod_is_counted_once_by_its_name() {
        let pod = |ifindex| Pod {
            ifindex,
            ..Pod::default()
        };
        let owner = |name: &str| Owner {
            namespace: "ns".into(),
            name: name.into(),
            uid: String::new(),
        };
        let ip = |last: u8| std::net::IpAddr::from([10, 0, 0, last]);
        // The first has two addresses, the second was made anew, the third is nobody's.
        let pods = [(1, 4), (2, 4), (3, 5), (4, 9), (5, 6)];
        let pods = pods.map(|(last, ifindex)| (ip(last), pod(ifindex))).into();
        let owners = [(1, "one"), (2, "one"), (3, "two"), (4, "two"), (7, "gone")];
        let owners = owners.map(|(last, name)| (ip(last), owner(name))).into();
        let links = [4, 5, 6, 9].map(|ifindex| {
            let traffic = PodTraffic {
                received_bytes: ifindex.into(),
                ..PodTraffic::default()
            };
            (ifindex, traffic)
        });
        let counted = by_name(&pods, &owners, &links.into());
        let counted: Vec<_> = counted
            .iter()
            .map(|((_, name), traffic)| (name.as_str(), traffic.received_bytes))
            .collect();
        assert_eq!(counted, [("one", 4), ("two", 9)]);
    }
}
