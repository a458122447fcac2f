//! Cluster addresses and node ports: found, checked, and reserved in the service's own transaction.

mod claim;
mod families;
mod node_ports;
mod pools;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use vetch_api::field::Path;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};
use vetch_store::{Precondition, Write};

use super::ranges::{Holder, Range, UnderWay};
use super::{AdmissionConfig, texts};
use claim::Claim;
use pools::Pool;

const TAKEN: &str = "provided IP is already allocated";

pub(super) struct Services {
    /// What the API server was started with: one a family, the cluster's main one first.
    addresses: Vec<Range>,
    ports: Range,
    under_way: UnderWay,
}

/// The service under admission: what it holds already, and what it gets.
struct Service<'a> {
    server: &'a Server,
    attributes: &'a Attributes<'a>,
    held: Claim,
    effects: Effects,
}

impl Services {
    pub fn new(config: AdmissionConfig) -> Services {
        let networks = config.service_cidrs.into_iter();
        Services {
            addresses: networks.map(Range::addresses).collect(),
            ports: Range::ports(config.node_port_range),
            under_way: UnderWay::default(),
        }
    }

    async fn write(&self, mut service: Service<'_>, object: &mut Value) -> Result<Effects> {
        let attributes = service.attributes;
        // The row's own steps come first: what is left out may mean what is held, clusterIP may mean clusterIPs.
        match attributes.old {
            None => (attributes.resource.prepare_create)(object),
            Some(old) => {
                (attributes.resource.prepare_update)(object, old);
                if claim::changes_address(object, old) {
                    // Validation refuses this.
                    return Ok(Effects::default());
                }
            }
        }
        families::settle(object, attributes.old, &self.families())
            .map_err(|errors| service.invalid(errors))?;
        self.cluster_ips(&mut service, object).await?;
        self.node_ports(&mut service, object).await?;
        self.health_check_port(&mut service, object).await?;
        let wanted = Claim::of(object);
        self.release(&mut service, &wanted);
        Ok(match attributes.dry_run {
            true => Effects::default(),
            false => service.effects,
        })
    }

    fn families(&self) -> Vec<&'static str> {
        self.addresses.iter().map(Range::family).collect()
    }

    /// An address of each of the service's families, in their order.
    async fn cluster_ips(&self, service: &mut Service<'_>, object: &mut Value) -> Result<()> {
        if !claim::wants_address(object) {
            return Ok(());
        }
        let known = self.families();
        let mut ips = texts(object, "/spec/clusterIPs");
        for (index, family) in texts(object, "/spec/ipFamilies").into_iter().enumerate() {
            let given = ips.get(index).cloned().unwrap_or_default();
            // Another spelling of an address is the same address.
            let name = given.parse().map(|ip: IpAddr| ip.to_string());
            if let Ok(name) = &name
                && service.held.addresses.contains(name)
            {
                continue;
            }
            if !known.contains(&family.as_str()) {
                continue;
            }
            match name {
                Ok(name) => self.take(service, &family, object, &given, &name).await?,
                Err(_) => {
                    let picked = self.pick_address(service, &family, object).await?;
                    ips.truncate(index);
                    ips.push(picked);
                }
            }
        }
        object["spec"]["clusterIP"] = ips.first().cloned().unwrap_or_default().into();
        object["spec"]["clusterIPs"] = ips.into();
        Ok(())
    }

    /// Any free address, of the first pool that has one.
    async fn pick_address(
        &self,
        service: &mut Service<'_>,
        family: &str,
        object: &Value,
    ) -> Result<String> {
        for newest in [false, true] {
            for pool in self.pools(service.server, family, newest).await? {
                let picked = pool.range.pick(service.server, &self.under_way, &|_| false);
                if let Some(picked) = picked.await? {
                    service.reserve(&pool.range, &picked, object, None);
                    service.effects.conditions.extend(pool.condition());
                    return Ok(picked);
                }
            }
        }
        Err(Status::internal(
            "failed to allocate a serviceIP: range is full",
        ))
    }

    /// The address the client named.
    async fn take(
        &self,
        service: &mut Service<'_>,
        family: &str,
        object: &Value,
        given: &str,
        name: &str,
    ) -> Result<()> {
        let Some(why) = self.address_refusal(service, family, object, name).await? else {
            return Ok(());
        };
        let detail = format!("failed to allocate IP {given}: {why}");
        let at = Path::new("spec").child("clusterIPs");
        let shown = object["spec"]["clusterIPs"].clone();
        Err(service.invalid(vec![at.invalid(shown, &detail)]))
    }

    /// Reserves the address the client named, or tells why not.
    async fn address_refusal(
        &self,
        service: &mut Service<'_>,
        family: &str,
        object: &Value,
        name: &str,
    ) -> Result<Option<String>> {
        let has = |pool: &Pool| pool.range.contains(name);
        let mut pools = self.pools(service.server, family, false).await?;
        if !pools.iter().any(has) {
            pools = self.pools(service.server, family, true).await?;
        }
        let Some(pool) = pools.iter().find(|pool| has(pool)) else {
            let ranges: Vec<String> = pools.iter().map(|pool| pool.range.to_string()).collect();
            return Ok(Some(format!(
                "the provided IP ({name}) is not in the valid range. The range of valid IPs is {}",
                ranges.join(", ")
            )));
        };
        let first = self.addresses.first().map(Range::first);
        let own = (service.attributes.namespace, service.attributes.name);
        if first.as_deref() == Some(name) && own != (Some("default"), "kubernetes") {
            return Ok(Some(TAKEN.to_owned()));
        }
        let found = pool.range.found(service.server, name).await?;
        match found {
            Some(found) if !service.holder(object).has(&found.value) => Ok(Some(TAKEN.to_owned())),
            found => {
                let revision = found.map(|found| found.revision);
                service.reserve(&pool.range, name, object, revision);
                service.effects.conditions.extend(pool.condition());
                Ok(None)
            }
        }
    }

    async fn node_ports(&self, service: &mut Service<'_>, object: &mut Value) -> Result<()> {
        if !node_ports::wants(object) {
            return Ok(());
        }
        // One number serves several protocols, so what this service has reserved once it may use again.
        let mut own: BTreeSet<u16> = service.held.ports.clone();
        let path = Path::new("spec").child("ports");
        for (index, port) in node_ports::given(object) {
            if !own.insert(port) {
                continue;
            }
            if let Some(why) = self.port_refusal(service, object, port).await? {
                let at = path.index(index).child("nodePort");
                return Err(service.invalid(vec![at.invalid(port, &why)]));
            }
        }
        for index in node_ports::missing(object) {
            let port = match node_ports::shared(object, index) {
                Some(port) => port,
                None => self.pick_port(service, object, &mut own).await?,
            };
            object["spec"]["ports"][index]["nodePort"] = port.into();
        }
        Ok(())
    }

    async fn health_check_port(&self, service: &mut Service<'_>, object: &mut Value) -> Result<()> {
        let had = service
            .attributes
            .old
            .is_some_and(node_ports::wants_health_check);
        // It keeps the port it had; validation refuses another.
        if had || !node_ports::wants_health_check(object) {
            return Ok(());
        }
        let mut own = Claim::of(object).ports;
        own.extend(&service.held.ports);
        let given = node_ports::health_check(object);
        let port = match given {
            Some(port) if service.held.ports.contains(&port) => port,
            Some(port) => {
                if let Some(why) = self.port_refusal(service, object, port).await? {
                    return Err(Status::internal(format!(
                        "failed to allocate requested HealthCheck NodePort {port}: {why}"
                    )));
                }
                port
            }
            None => self.pick_port(service, object, &mut own).await?,
        };
        object["spec"]["healthCheckNodePort"] = port.into();
        Ok(())
    }

    async fn port_refusal(
        &self,
        service: &mut Service<'_>,
        object: &Value,
        port: u16,
    ) -> Result<Option<String>> {
        let name = port.to_string();
        if !self.ports.contains(&name) {
            return Ok(Some(format!(
                "provided port is not in the valid range. The range of valid ports is {}",
                self.ports
            )));
        }
        match self.ports.found(service.server, &name).await? {
            Some(found) if !service.holder(object).has(&found.value) => {
                Ok(Some("provided port is already allocated".to_owned()))
            }
            found => {
                let revision = found.map(|found| found.revision);
                service.reserve(&self.ports, &name, object, revision);
                Ok(None)
            }
        }
    }

    async fn pick_port(
        &self,
        service: &mut Service<'_>,
        object: &Value,
        own: &mut BTreeSet<u16>,
    ) -> Result<u16> {
        let is_own = |name: &str| name.parse().is_ok_and(|port| own.contains(&port));
        let picked = self
            .ports
            .pick(service.server, &self.under_way, &is_own)
            .await?;
        let Some((name, port)) = picked.and_then(|name| Some((name.clone(), name.parse().ok()?)))
        else {
            return Err(Status::internal(
                "failed to allocate a nodePort: range is full",
            ));
        };
        own.insert(port);
        service.reserve(&self.ports, &name, object, None);
        Ok(port)
    }

    /// What it held and wants no more is free again.
    fn release(&self, service: &mut Service<'_>, wanted: &Claim) {
        let addresses = service.held.addresses.difference(&wanted.addresses);
        let ports = service.held.ports.difference(&wanted.ports);
        let keys = addresses
            .map(|name| Range::address_key(name))
            .chain(ports.map(|port| self.ports.key(&port.to_string())));
        service.effects.writes.extend(keys.map(Write::Delete));
    }
}

impl Service<'_> {
    /// `revision`: of this service's own reservation, where there is one.
    fn reserve(&mut self, range: &Range, name: &str, object: &Value, revision: Option<i64>) {
        let key = range.key(name);
        let reservation = range.reservation(name, &self.holder(object));
        self.effects.conditions.push(match revision {
            Some(revision) => Precondition::At(key.clone(), revision),
            None => Precondition::Absent(key.clone()),
        });
        self.effects.writes.push(Write::Put(key, reservation));
    }

    /// A reservation in this service's name is one of a second create of it, which is refused as such.
    fn holder<'b>(&'b self, object: &'b Value) -> Holder<'b> {
        Holder {
            namespace: self.attributes.namespace.unwrap_or_default(),
            name: self.attributes.name,
            uid: &object["metadata"]["uid"],
        }
    }

    fn invalid(&self, errors: Vec<vetch_api::resource::FieldError>) -> Status {
        Status::invalid(self.attributes.resource, self.attributes.name, &errors)
    }
}

impl Admission for Services {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            let resource = attributes.resource;
            if !resource.group.is_empty()
                || resource.plural != "services"
                || attributes.subresource == "status" && attributes.operation != Operation::Delete
            {
                return Ok(Effects::default());
            }
            let mut service = Service {
                server,
                attributes,
                held: attributes.old.map(Claim::of).unwrap_or_default(),
                effects: Effects::default(),
            };
            if attributes.operation == Operation::Delete {
                self.release(&mut service, &Claim::default());
                return Ok(service.effects);
            }
            self.write(service, object).await
        }
        .boxed()
    }
}
