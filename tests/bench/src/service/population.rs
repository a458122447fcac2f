//! The Services of a run: made many at a time, and more of them for the next size.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::objects::{self, Backends, Set};
use super::plan::{Frontend, Kind};

/// Requests to the API server that are under way at once.
const IN_FLIGHT: usize = 64;
/// Of one request, before the run fails.
const FAILURES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One that clients dial.
#[derive(Clone, Debug)]
pub struct Dialled {
    cluster_ip: String,
    tcp_node_port: Option<u16>,
    udp_node_port: Option<u16>,
}

pub struct Population {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    pub set: Set,
    backends: Backends,
    endpoints: u32,
    node_port: bool,
    others: u32,
    dialled: Vec<Dialled>,
    flipped: Option<Dialled>,
    stop: CancellationToken,
}

/// A service and its slices.
type Entry = (Service, Vec<EndpointSlice>);

impl Population {
    pub fn new(
        client: &kube::Client,
        namespace: &str,
        set: Set,
        (backends, endpoints): (&Backends, u32),
        node_port: bool,
        stop: CancellationToken,
    ) -> Population {
        Population {
            services: Api::namespaced(client.clone(), namespace),
            slices: Api::namespaced(client.clone(), namespace),
            set,
            backends: backends.clone(),
            endpoints,
            node_port,
            others: 0,
            dialled: Vec::new(),
            flipped: None,
            stop,
        }
    }

    /// Up to `dialled` + `others` services, and the one whose endpoint is changed, which is made
    /// anew after all of them: a proxy that serves it has heard of all.
    pub async fn grow(&mut self, dialled: u32, others: u32, bar: &ProgressBar) -> Result<()> {
        let set = self.set;
        let more = (self.others..others).map(|number| -> Result<Entry> {
            let name = objects::other_name(number);
            let slice = objects::other_slice(set, &name, number, self.endpoints)?;
            Ok((objects::service(set, &name, false, false)?, vec![slice]))
        });
        self.create(more, bar).await?;
        self.others = others;
        let made = u32::try_from(self.dialled.len())?;
        let more = (made..dialled).map(|number| -> Result<Entry> {
            let number = u16::try_from(number)?;
            let name = objects::dialled_name(number);
            let slices = objects::dialled_slices(set, number, &self.backends)?;
            Ok((objects::service(set, &name, true, self.node_port)?, slices))
        });
        let made = self.create(more, bar).await?;
        self.dialled.extend(made);
        self.renew_flipped().await
    }

    async fn renew_flipped(&mut self) -> Result<()> {
        let name = self.set.flipped();
        if self.flipped.take().is_some() {
            // The slice first: without its service it is nobody's.
            let gone = DeleteParams::default();
            self.slices
                .delete(&name, &gone)
                .await
                .context("delete the changed slice")?;
            self.services
                .delete(&name, &gone)
                .await
                .context("delete the changed service")?;
        }
        let slice = objects::flipped_slice(self.set, self.server()?, objects::SERVER_PORT)?;
        let entry = (
            objects::service(self.set, objects::FLIPPED, false, false)?,
            vec![slice],
        );
        self.flipped = Some(create(&self.services, &self.slices, entry).await?);
        Ok(())
    }

    /// In any order, but for the dialled, whose addresses come back in theirs.
    async fn create(
        &self,
        entries: impl Iterator<Item = Result<Entry>>,
        bar: &ProgressBar,
    ) -> Result<Vec<Dialled>> {
        let made = stream::iter(entries)
            .take_until(self.stop.cancelled())
            .map_ok(|entry| async {
                let made = create(&self.services, &self.slices, entry).await;
                bar.inc(1);
                made
            })
            .try_buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        if self.stop.is_cancelled() {
            bail!("the run was ended early");
        }
        Ok(made)
    }

    /// What clients dial: ClusterIPs, or the NodePorts of the node with this address.
    pub fn targets(&self, frontend: Frontend, kind: Kind, node: &str) -> Result<Vec<SocketAddrV4>> {
        let target = |dialled: &Dialled| -> Result<SocketAddrV4> {
            match frontend {
                Frontend::ClusterIp => dialled.address(),
                Frontend::NodePort => {
                    let port = match kind {
                        Kind::Udp => dialled.udp_node_port,
                        _ => dialled.tcp_node_port,
                    };
                    let port = port.context("the API server gave the Service no nodePort")?;
                    Ok(SocketAddrV4::new(
                        node.parse().context("the node's address")?,
                        port,
                    ))
                }
            }
        };
        self.dialled.iter().map(target).collect()
    }

    /// The service whose endpoint is changed.
    pub fn flipped(&self) -> Result<SocketAddrV4> {
        self.flipped
            .as_ref()
            .context("nothing was made yet")?
            .address()
    }

    /// Changes its endpoint by one write, and returns when that is acknowledged.
    pub async fn flip(&self, port: u16) -> Result<()> {
        let slice = objects::flipped_slice(self.set, self.server()?, port)?;
        self.slices
            .replace(&self.set.flipped(), &PostParams::default(), &slice)
            .await
            .context("change the endpoint")
            .map(drop)
    }

    /// How many services there are, without the one that is changed.
    pub fn len(&self) -> usize {
        self.others as usize + self.dialled.len()
    }

    /// How many ports of services the cluster's proxy has to serve.
    pub fn service_ports(&self) -> usize {
        self.others as usize + 2 * self.dialled.len() + usize::from(self.flipped.is_some())
    }

    fn server(&self) -> Result<std::net::Ipv4Addr> {
        self.backends
            .pods
            .first()
            .copied()
            .context("there is no server")
    }
}

impl Dialled {
    fn address(&self) -> Result<SocketAddrV4> {
        let address = self.cluster_ip.parse();
        let address = address.with_context(|| format!("clusterIP {:?}", self.cluster_ip))?;
        Ok(SocketAddrV4::new(address, objects::PORT))
    }
}

async fn create(
    services: &Api<Service>,
    slices: &Api<EndpointSlice>,
    entry: Entry,
) -> Result<Dialled> {
    let (service, own) = entry;
    let made = persist(services, &service)
        .await
        .context("create a Service")?;
    for slice in &own {
        persist(slices, slice)
            .await
            .context("create an EndpointSlice")?;
    }
    let spec = made.spec.context("a Service without spec")?;
    let port = |name: &str| {
        let ports = spec.ports.iter().flatten();
        let port = ports
            .into_iter()
            .find(|port| port.name.as_deref() == Some(name))?;
        u16::try_from(port.node_port?).ok()
    };
    Ok(Dialled {
        tcp_node_port: port("tcp"),
        udp_node_port: port("udp"),
        cluster_ip: spec.cluster_ip.context("a Service without clusterIP")?,
    })
}

/// Creates it, again after a failure of the server's: among tens of thousands one may come too late
/// on a busy machine.
async fn persist<K>(api: &Api<K>, object: &K) -> kube::Result<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut failures = 0;
    loop {
        match api.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.code >= 500 && failures < FAILURES => {
                failures += 1;
                tokio::time::sleep(RETRY_AFTER).await;
            }
            // The one before did create it.
            Err(kube::Error::Api(status)) if status.code == 409 && failures > 0 => {
                return api.get(&object.name_any()).await;
            }
            outcome => return outcome,
        }
    }
}
