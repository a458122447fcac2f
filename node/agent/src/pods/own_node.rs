//! The Node object of this node: its labels and what it has to give.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::quantity::ResourceList;
use super::text::chain;

#[derive(Clone)]
pub struct OwnNode {
    node: watch::Receiver<Option<Option<Arc<Node>>>>,
}

impl OwnNode {
    /// The second part follows the API server until it is dropped.
    pub fn new(client: Client, name: &str) -> (OwnNode, impl Future<Output = ()> + Send + use<>) {
        let (sender, node) = watch::channel(None);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let api: Api<Node> = Api::all(client);
        let follow = async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let mut listed = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Init) => listed = None,
                    Ok(watcher::Event::InitApply(node)) => listed = Some(Arc::new(node)),
                    Ok(watcher::Event::InitDone) => {
                        sender.send_replace(Some(listed.take()));
                    }
                    Ok(watcher::Event::Apply(node)) => {
                        sender.send_replace(Some(Some(Arc::new(node))));
                    }
                    Ok(watcher::Event::Delete(_)) => {
                        sender.send_replace(Some(None));
                    }
                    Err(error) => tracing::debug!("watch of our node: {}", chain(&error)),
                }
            }
        };
        (OwnNode { node }, follow)
    }

    /// Once it was read; `None` when there is no such object, or it is not read
    /// in time.
    pub async fn get(&self, limit: Duration) -> Option<Arc<Node>> {
        let mut node = self.node.clone();
        match tokio::time::timeout(limit, node.wait_for(Option::is_some)).await {
            Ok(Ok(read)) => (*read).clone().flatten(),
            // Its writer is gone: on the way down.
            Ok(Err(_)) => None,
            Err(_) => {
                tracing::warn!(
                    "our Node object cannot be read: pods are taken without a look at it"
                );
                None
            }
        }
    }

    /// What is known now; empty when nothing is.
    pub fn allocatable(&self) -> ResourceList {
        let node = self.node.borrow().clone().flatten();
        node.and_then(|node| node.status.as_ref()?.allocatable.clone())
            .unwrap_or_default()
    }
}
