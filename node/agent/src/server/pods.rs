//! Pods of this node, for what the kubelet API tells about them.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::node::chain;
use crate::node::limited;

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask the API server for pods: {0}")]
pub struct PodsError(String);

pub trait PodSource: Send + Sync + 'static {
    /// `None` when there is no such pod on this node.
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Pod>, PodsError>>;

    fn all(&self) -> BoxFuture<'_, Result<Vec<Pod>, PodsError>>;
}

/// Asks the API server, which has what this node reported.
pub struct ApiPods {
    pub client: Client,
    pub node_name: String,
}

impl PodSource for ApiPods {
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Pod>, PodsError>> {
        Box::pin(async move {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let pod = limited(pods.get_opt(name)).await.map_err(told)?;
            let here = |pod: &Pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
                node == Some(&self.node_name)
            };
            Ok(pod.filter(here))
        })
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Pod>, PodsError>> {
        Box::pin(async move {
            let pods: Api<Pod> = Api::all(self.client.clone());
            let own = format!("spec.nodeName={}", self.node_name);
            let listed = limited(pods.list(&ListParams::default().fields(&own))).await;
            Ok(listed.map_err(told)?.items)
        })
    }
}

fn told(error: kube::Error) -> PodsError {
    PodsError(chain(&error))
}
