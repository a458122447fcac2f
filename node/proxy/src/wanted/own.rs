//! A Service that every node answers itself, such as cluster DNS: its ports lead
//! to this node's own address, and never to another node.

use std::net::SocketAddr;

use vetch_ebpf_common::Protocol;

use super::{Family, Service, Slice};
use crate::{
    index::ObjectName,
    model::{Backend, Balance, ServicePort, Target},
};

/// What this node answers itself, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnService {
    pub name: ObjectName,
    /// Of the Service; TCP and UDP.
    pub port: u16,
    /// Where this node answers, one address a family at most. A family without
    /// one has nobody behind it.
    pub backends: Vec<SocketAddr>,
    /// Also where the Service has servers of its own: a selector, or endpoints
    /// that somebody wrote.
    pub always: bool,
}

impl OwnService {
    /// Whether the Service is left to this node.
    pub fn takes<'a>(
        &self,
        service: &Service,
        mut slices: impl Iterator<Item = &'a Slice>,
    ) -> bool {
        let served = service.has_selector || slices.any(|slice| !slice.endpoints.is_empty());
        self.always || !served
    }

    /// Makes `ports` lead here. Only the cluster's own address does: by a
    /// NodePort or an external one the whole world would be answered.
    pub fn lead_here(&self, ports: &mut Vec<ServicePort>) {
        for port in ports.iter_mut() {
            let Some(own) = self.target(port) else {
                continue;
            };
            port.frontends.retain(|_, exposure| !exposure.external);
            port.target = own;
        }
        ports.retain(|port| !port.frontends.is_empty());
    }

    /// `None` for a port that is not served here.
    fn target(&self, port: &ServicePort) -> Option<Target> {
        let mut frontends = port.frontends.iter();
        // NodePorts have another number.
        let (frontend, _) = frontends.find(|(_, exposure)| !exposure.external)?;
        let spoken = matches!(frontend.protocol, Protocol::Tcp | Protocol::Udp);
        if frontend.port != self.port || !spoken {
            return None;
        }
        let family = Family::of(frontend.addr);
        let same = |backend: &&SocketAddr| Family::of(backend.ip()) == family;
        let backends: Vec<Backend> = self
            .backends
            .iter()
            .find(same)
            .map_or_else(Vec::new, |own| {
                vec![Backend {
                    addr: own.ip(),
                    port: own.port(),
                }]
            });
        let serving = match Target::tracks(frontend.protocol, None, Balance::Random) {
            true => backends.clone(),
            false => Vec::new(),
        };
        Some(Target {
            cluster: backends,
            serving,
            ..Target::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wanted::wanted;

    fn own(always: bool) -> OwnService {
        OwnService {
            name: ObjectName::new("kube-system", "kube-dns"),
            port: 53,
            backends: vec!["192.0.2.1:10053".parse().unwrap()],
            always,
        }
    }

    fn service(more: &Value) -> Service {
        let mut object = json!({
            "metadata": {"namespace": "kube-system", "name": "kube-dns"},
            "spec": {
                "clusterIPs": ["10.96.0.10", "fd96::a"], "clusterIP": "10.96.0.10",
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    {"name": "metrics", "port": 9153, "protocol": "TCP"},
                ],
            },
        });
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        Service::read(&serde_json::from_value(object).unwrap(), None)
    }

    fn slice(ready: bool) -> Slice {
        let object = json!({
            "metadata": {"name": "x"}, "addressType": "IPv4",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}],
            "endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": ready, "serving": ready}}],
        });
        Slice::read(&serde_json::from_value(object).unwrap(), "here")
    }

    #[test]
    fn who_has_servers_of_its_own_is_left_alone() {
        let plain = json!({});
        let selected = json!({"selector": {"k8s-app": "kube-dns"}});
        let empty = Slice::default();
        for (spec, slices, always, expected) in [
            (&plain, vec![], false, true),
            (&plain, vec![&empty], false, true),
            (&selected, vec![], false, false),
            (&selected, vec![], true, true),
            // Not ready yet, yet somebody's.
            (&plain, vec![&slice(false)], false, false),
            (&plain, vec![&slice(true)], false, false),
            (&plain, vec![&slice(true)], true, true),
        ] {
            let taken = own(always).takes(&service(spec), slices.iter().copied());
            assert_eq!(taken, expected, "{spec} {} {always}", slices.len());
        }
    }

    #[test]
    fn its_ports_lead_to_this_node_and_nobody_comes_from_outside() {
        let more = json!({"type": "NodePort", "internalTrafficPolicy": "Local", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 30053},
            {"name": "metrics", "port": 9153, "protocol": "TCP", "nodePort": 30054},
        ]});
        let slices = [slice(true)];
        let mut ports = wanted(&service(&more), slices.iter(), None).ports;
        own(true).lead_here(&mut ports);
        let line = |port: &ServicePort| {
            let frontends = port.frontends.keys().map(ToString::to_string);
            let backends = port.target.cluster.iter().map(ToString::to_string);
            let [frontends, backends] =
                [frontends.collect::<Vec<_>>(), backends.collect::<Vec<_>>()];
            let local = port.target.internal_local;
            format!("{} -> {} {local}", frontends.join(" "), backends.join(" "))
        };
        let lines: Vec<String> = ports.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "10.96.0.10:53/UDP -> 192.0.2.1:10053 false",
                "[fd96::a]:53/UDP ->  false",
                "10.96.0.10:53/TCP -> 192.0.2.1:10053 false",
                "[fd96::a]:53/TCP ->  false",
                "0.0.0.0:30054/TCP 10.96.0.10:9153/TCP ->  true",
                "[::]:30054/TCP [fd96::a]:9153/TCP ->  true",
            ]
        );
        assert_eq!(ports[0].target.serving, ports[0].target.cluster);
        assert!(ports[2].target.serving.is_empty());
    }
}
