//! All Services, for the variables that containers get.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};

/// Cheap to clone.
#[derive(Clone)]
pub struct Services {
    store: reflector::Store<Service>,
}

impl Services {
    /// The second part follows the API server until it is dropped.
    pub fn new(client: Client) -> (Services, impl Future<Output = ()> + Send) {
        let (store, writer) = reflector::store();
        let api: Api<Service> = Api::all(client);
        let follow = async move {
            let services = watcher(api, watcher::Config::default())
                // A cache of many objects keeps what is used of them.
                .modify(|service| service.metadata.managed_fields = None)
                .default_backoff();
            reflector(writer, services).for_each(async |_| {}).await;
        };
        (Services { store }, follow)
    }

    /// Once they have been read, as a container made before would lack
    /// variables; `None` when they are not read in time.
    pub async fn all(&self, limit: Duration) -> Option<Vec<Arc<Service>>> {
        let ready = tokio::time::timeout(limit, self.store.wait_until_ready()).await;
        matches!(ready, Ok(Ok(()))).then(|| self.store.state())
    }
}
