//! ServiceCIDRs: ready as soon as they are here, and held, while they are deleted, until no Service has an address that
//! would be of no network any more.

mod plan;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use self::plan::{Step, covers};
use crate::error::{Attempt as _, Result, found};
use crate::events::whole_seconds;
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::ip_addresses::MANAGED;
use crate::key::{ObjectKey, is_deleted, name_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct ServiceCidrs {
    client: Client,
    cidrs: Arc<Informer<ServiceCIDR>>,
}

impl ServiceCidrs {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> ServiceCidrs {
        let cidrs = informers.service_cidrs.clone();
        // Another one may take over what one that is going has given out.
        let (keys, all) = (queue.clone(), cidrs.clone());
        cidrs.listen(move |change: &Change<ServiceCIDR>| {
            let own = change.new.iter().map(|own| ObjectKey::of(own.as_ref()));
            own.chain(going(&all, |_| true))
                .for_each(|key| keys.add(key));
        });
        let (keys, all) = (queue.clone(), cidrs.clone());
        informers
            .ip_addresses
            .listen(move |change: &Change<IPAddress>| {
                let gone = change.old.as_ref().filter(|_| change.new.is_none());
                let gone = gone.and_then(|own| name_of(own.as_ref()).parse::<IpAddr>().ok());
                if let Some(gone) = gone {
                    going(&all, |cidr| covers(cidr, gone)).for_each(|key| keys.add(key));
                }
            });
        ServiceCidrs { client, cidrs }
    }

    /// Addresses that Services have, as etcd knows them now: none is given out of a ServiceCIDR that is being deleted,
    /// so that none is overlooked.
    async fn addresses(&self) -> Result<Vec<IpAddr>> {
        let api: Api<IPAddress> = Api::all(self.client.clone());
        let listed = api.list(&ListParams::default().labels(MANAGED)).await;
        let listed = listed.during(|| "list IPAddresses".to_owned())?;
        let names = listed.items.iter().map(name_of);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    async fn write(&self, key: &ObjectKey, status: bool, patch: &Value) -> Result<()> {
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(patch);
        let written = match status {
            true => api.patch_status(&key.name, &parameters, &patch).await,
            false => api.patch(&key.name, &parameters, &patch).await,
        };
        let written = found(written).during(|| format!("write ServiceCIDR {key}"));
        written.map(drop)
    }
}

/// Those that are being deleted.
fn going(
    cidrs: &Informer<ServiceCIDR>,
    wanted: impl Fn(&ServiceCIDR) -> bool,
) -> impl Iterator<Item = ObjectKey> {
    let going = cidrs.select("", |own| is_deleted(own) && wanted(own));
    going.into_iter().map(|own| ObjectKey::of(own.as_ref()))
}

impl Reconcile for ServiceCidrs {
    type Key = ObjectKey;

    const NAME: &'static str = "service-cidr-controller";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(cidr) = self.cidrs.get(key) else {
            return Ok(Next::OnChange);
        };
        let addresses = match is_deleted(cidr.as_ref()) {
            true => self.addresses().await?,
            false => Vec::new(),
        };
        let meta = &cidr.metadata;
        for step in plan::plan(&cidr, &self.cidrs.all(), &addresses) {
            match step {
                Step::Finalizers(finalizers) => {
                    let version = &meta.resource_version;
                    let patch = json!({"metadata": {
                        "uid": meta.uid, "resourceVersion": version, "finalizers": finalizers,
                    }});
                    self.write(key, false, &patch).await?;
                }
                Step::Condition(wanted) => {
                    let mut condition = wanted.to_value();
                    condition["lastTransitionTime"] =
                        whole_seconds(Timestamp::now()).to_string().into();
                    let status = json!({"conditions": plan::with(&cidr, condition)});
                    let patch = json!({"metadata": {"uid": meta.uid}, "status": status});
                    self.write(key, true, &patch).await?;
                }
            }
        }
        Ok(Next::OnChange)
    }
}
