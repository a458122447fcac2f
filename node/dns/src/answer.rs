//! Records and a question → the answer. Pure.
//!
//! The names are those of the Kubernetes DNS specification 1.1.0; where that
//! leaves something open, it is as CoreDNS has it, with its mode `pods insecure`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{CNAME, PTR, SRV, TXT},
    },
};

use crate::{
    key::Key,
    question::{Place, Subject, subject},
    records::{Endpoint, Kind, Port, Records, Service, undashed},
    zone::{TTL, VERSION_TTL, Zone},
};

#[cfg(test)]
mod tests;

const SCHEMA_VERSION: &str = "1.1.0";
/// What weights of one SRV answer come to, about.
const WEIGHT: usize = 100;

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Answer(Answer),
    /// An alias, and what it leads to is to be asked next.
    Alias(Box<Record>, Name),
    /// Somebody else knows.
    Elsewhere,
    /// Not everything was listed yet.
    NotYet,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// `dns` is the Service that the servers of this zone are reached by.
pub fn decide(
    records: &Records,
    zone: &Zone,
    dns: &Key,
    name: &Name,
    kind: RecordType,
) -> Decision {
    let asked = Asked {
        records,
        zone,
        name,
        kind,
    };
    match subject(zone, name) {
        Subject::Elsewhere => Decision::Elsewhere,
        _ if !records.is_complete() => Decision::NotYet,
        Subject::Reverse(ip) => asked.reverse(ip),
        Subject::Cluster(place) => asked.place(&place, dns),
    }
}

struct Asked<'a> {
    records: &'a Records,
    zone: &'a Zone,
    name: &'a Name,
    kind: RecordType,
}

/// An endpoint under one of its ports.
type AtPort<'a> = (&'a Endpoint, &'a Port);

impl Asked<'_> {
    fn place(&self, place: &Place, dns: &Key) -> Decision {
        match place {
            Place::Nowhere => self.nothing(),
            Place::Apex => self.apex(dns),
            Place::Branch => self.no_data(),
            Place::Version => self.records(self.version()),
            Place::NameServer => {
                let server = self.records.get(dns.namespace(), dns.name());
                let ips = server.map(|(_, service)| service.cluster_ips());
                self.records(self.addresses(self.name, ips.unwrap_or_default().iter().copied()))
            }
            Place::Namespace(name) => self.exists(self.records.has_namespace(name)),
            Place::Pod { namespace, host } => match undashed(host) {
                Some(ip) if self.records.has_namespace(namespace) => {
                    self.records(self.addresses(self.name, [ip].into_iter()))
                }
                _ => self.nothing(),
            },
            Place::Service { namespace, service } => match self.records.get(namespace, service) {
                Some((key, service)) => self.service(key, service),
                None => self.nothing(),
            },
            Place::Endpoint {
                namespace,
                service,
                host,
            } => match self.records.get(namespace, service) {
                Some((key, service)) if !matches!(service.kind, Kind::External(_)) => {
                    self.endpoints(key, |endpoint| endpoint.is_called(host))
                }
                _ => self.nothing(),
            },
            Place::Port {
                namespace,
                service,
                protocol,
                port,
            } => match self.records.get(namespace, service) {
                Some((key, service)) => self.port(key, service, protocol, port.as_deref()),
                None => self.nothing(),
            },
        }
    }

    fn apex(&self, dns: &Key) -> Decision {
        let owner = self.name.clone();
        match self.kind {
            RecordType::SOA => self.records(vec![self.zone.soa(owner, self.records.serial())]),
            RecordType::NS => {
                let server = self.records.get(dns.namespace(), dns.name());
                let ips = server.map(|(_, service)| service.cluster_ips());
                let ips = ips.unwrap_or_default().iter().copied();
                let mut answer = ok(vec![self.zone.name_server(owner)]);
                answer.additionals = glue(self.zone.server(), ips);
                Decision::Answer(answer)
            }
            _ => self.no_data(),
        }
    }

    fn version(&self) -> Vec<Record> {
        if self.kind != RecordType::TXT {
            return Vec::new();
        }
        let text = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
        vec![Record::from_rdata(self.name.clone(), VERSION_TTL, text)]
    }

    fn service(&self, key: &Key, service: &Service) -> Decision {
        match &service.kind {
            Kind::External(target) => self.alias(target),
            Kind::Headless => self.endpoints(key, |_| true),
            Kind::Cluster(ips) if ips.is_empty() => self.nothing(),
            Kind::Cluster(ips) if self.kind == RecordType::SRV => {
                let ports: Vec<&Port> = service.ports.iter().collect();
                self.cluster_ports(key, ips, &ports)
            }
            Kind::Cluster(ips) => self.records(self.addresses(self.name, ips.iter().copied())),
        }
    }

    /// One that is an address has no name, as for CoreDNS.
    fn alias(&self, target: &str) -> Decision {
        let name = Name::from_ascii(target).ok();
        let name = name.filter(|_| target.parse::<IpAddr>().is_err());
        let Some(mut name) = name.filter(|name| !name.is_root()) else {
            return self.nothing();
        };
        name.set_fqdn(true);
        let alias = RData::CNAME(CNAME(name.clone()));
        let alias = Record::from_rdata(self.name.clone(), TTL, alias);
        match self.kind {
            RecordType::CNAME => self.records(vec![alias]),
            _ => Decision::Alias(Box::new(alias), name),
        }
    }

    /// Those of the endpoints that `takes` wants. Without any there is no such
    /// name.
    fn endpoints(&self, key: &Key, takes: impl Fn(&Endpoint) -> bool) -> Decision {
        let slices = || self.records.slices(key);
        let taken = || {
            let all = slices().flat_map(|slice| &slice.endpoints);
            all.filter(|endpoint| takes(endpoint))
        };
        if taken().next().is_none() {
            return self.nothing();
        }
        if self.kind == RecordType::SRV {
            let at_ports = slices().flat_map(|slice| {
                let ports = move || slice.ports.iter();
                let endpoints = slice.endpoints.iter().filter(|endpoint| takes(endpoint));
                endpoints.flat_map(move |endpoint| ports().map(move |port| (endpoint, port)))
            });
            let at_ports: Vec<AtPort<'_>> = at_ports.collect();
            return self.endpoint_ports(key, &at_ports);
        }
        // One may be in two slices while it moves from one to the other.
        let ips: BTreeSet<IpAddr> = taken().map(|endpoint| endpoint.ip).collect();
        self.records(self.addresses(self.name, ips.into_iter()))
    }

    fn port(&self, key: &Key, service: &Service, protocol: &str, port: Option<&str>) -> Decision {
        let wanted = |known: &Port| {
            *known.protocol == *protocol && port.is_none_or(|port| *known.name == *port)
        };
        match &service.kind {
            Kind::External(_) => self.nothing(),
            Kind::Cluster(ips) => {
                let ports: Vec<&Port> = service.ports.iter().filter(|port| wanted(port)).collect();
                if ports.is_empty() || ips.is_empty() {
                    self.nothing()
                } else if port.is_none() {
                    self.no_data()
                } else {
                    self.cluster_ports(key, ips, &ports)
                }
            }
            Kind::Headless => {
                let at_ports = self.records.slices(key).flat_map(|slice| {
                    let ports = move || slice.ports.iter().filter(move |port| wanted(port));
                    let endpoints = slice.endpoints.iter();
                    endpoints.flat_map(move |endpoint| ports().map(move |port| (endpoint, port)))
                });
                let at_ports: Vec<AtPort<'_>> = at_ports.collect();
                if at_ports.is_empty() {
                    self.nothing()
                } else if port.is_none() {
                    self.no_data()
                } else {
                    self.endpoint_ports(key, &at_ports)
                }
            }
        }
    }

    fn cluster_ports(&self, key: &Key, ips: &[IpAddr], ports: &[&Port]) -> Decision {
        let target = self.zone.below(&[key.name(), key.namespace(), "svc"]);
        let Some(target) = target.filter(|_| self.kind == RecordType::SRV) else {
            return self.no_data();
        };
        let services = ports.iter().map(|port| (port.number, target.clone()));
        let mut answer = ok(self.srv(services.collect()));
        answer.additionals = glue(&target, ips.iter().copied());
        Decision::Answer(answer)
    }

    fn endpoint_ports(&self, key: &Key, at_ports: &[AtPort<'_>]) -> Decision {
        if self.kind != RecordType::SRV {
            return self.no_data();
        }
        let mut hosts = BTreeSet::new();
        let mut services = BTreeSet::new();
        for (endpoint, port) in at_ports.iter().filter(|(_, port)| port.number != 0) {
            let labels = [&endpoint.label(), key.name(), key.namespace(), "svc"];
            if let Some(target) = self.zone.below(&labels) {
                services.insert((port.number, target.clone()));
                hosts.insert((target, endpoint.ip));
            }
        }
        let mut answer = self.ok_or_no_data(self.srv(services.into_iter().collect()));
        let glued = hosts
            .into_iter()
            .flat_map(|(target, ip)| glue(&target, [ip].into_iter()));
        answer.additionals = glued.collect();
        Decision::Answer(answer)
    }

    fn srv(&self, services: Vec<(u16, Name)>) -> Vec<Record> {
        let weight = (WEIGHT / services.len().max(1)).max(1);
        let weight = u16::try_from(weight).unwrap_or(1);
        let record = |(port, target)| {
            let data = RData::SRV(SRV::new(0, weight, port, target));
            Record::from_rdata(self.name.clone(), TTL, data)
        };
        services.into_iter().map(record).collect()
    }

    /// A Service's own address before endpoints. What the cluster does not know
    /// is asked elsewhere, as with `fallthrough in-addr.arpa ip6.arpa` of
    /// kubeadm's CoreDNS.
    fn reverse(&self, ip: IpAddr) -> Decision {
        let names: BTreeSet<Name> = match self.records.with_cluster_ip(ip) {
            Some(key) => {
                let name = self.zone.below(&[key.name(), key.namespace(), "svc"]);
                name.into_iter().collect()
            }
            None => {
                let endpoints = self.records.with_endpoint_ip(ip);
                let name = |(key, endpoint): (&Key, &Endpoint)| {
                    let labels = [&endpoint.label(), key.name(), key.namespace(), "svc"];
                    self.zone.below(&labels)
                };
                endpoints.filter_map(name).collect()
            }
        };
        if names.is_empty() {
            return Decision::Elsewhere;
        }
        if self.kind != RecordType::PTR {
            return self.no_data();
        }
        let record = |name| Record::from_rdata(self.name.clone(), TTL, RData::PTR(PTR(name)));
        Decision::Answer(ok(names.into_iter().map(record).collect()))
    }

    /// Those of the family that is asked for, if one is.
    fn addresses(&self, owner: &Name, ips: impl Iterator<Item = IpAddr>) -> Vec<Record> {
        let records = glue(owner, ips).into_iter();
        records
            .filter(|record| record.record_type() == self.kind)
            .collect()
    }

    fn exists(&self, exists: bool) -> Decision {
        if exists {
            self.no_data()
        } else {
            self.nothing()
        }
    }

    fn records(&self, records: Vec<Record>) -> Decision {
        Decision::Answer(self.ok_or_no_data(records))
    }

    fn ok_or_no_data(&self, records: Vec<Record>) -> Answer {
        match records.is_empty() {
            true => self.without(ResponseCode::NoError),
            false => ok(records),
        }
    }

    /// The name exists, and has no records of this type: RFC 2308 2.2.
    fn no_data(&self) -> Decision {
        Decision::Answer(self.without(ResponseCode::NoError))
    }

    /// There is no such name.
    fn nothing(&self) -> Decision {
        Decision::Answer(self.without(ResponseCode::NXDomain))
    }

    fn without(&self, code: ResponseCode) -> Answer {
        let owner = match self.zone.name.zone_of(self.name) {
            true => self.zone.name.clone(),
            // `in-addr.arpa.`
            false => self.name.trim_to(2),
        };
        Answer {
            code,
            answers: Vec::new(),
            authorities: vec![self.zone.soa(owner, self.records.serial())],
            additionals: Vec::new(),
        }
    }
}

fn ok(answers: Vec<Record>) -> Answer {
    Answer {
        code: ResponseCode::NoError,
        answers,
        authorities: Vec::new(),
        additionals: Vec::new(),
    }
}

/// Address records of both families.
fn glue(owner: &Name, ips: impl Iterator<Item = IpAddr>) -> Vec<Record> {
    let record = |ip| {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(ip.into()),
            IpAddr::V6(ip) => RData::AAAA(ip.into()),
        };
        Record::from_rdata(owner.clone(), TTL, data)
    };
    ips.map(record).collect()
}
