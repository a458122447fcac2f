//! What is done for each call.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use vetch_cni_proto::v1::cni_server::Cni;
use vetch_cni_proto::v1::{
    AddReply, AddRequest, Address, CheckReply, CheckRequest, CollectReply, CollectRequest,
    DeleteReply, DeleteRequest, Link, ReadyReply, ReadyRequest,
};
use vetch_cni_proto::{Failure, code};
use vetch_network::{Attachment, ForeignPod, Network, PodOptions};

use crate::error::failure;
use crate::locks::Locks;
use crate::request;

#[derive(Clone)]
pub struct Calls {
    network: Network,
    serves_host_ports: bool,
    locks: Arc<Locks>,
}

impl Calls {
    pub fn new(network: Network, serves_host_ports: bool) -> Self {
        Self {
            network,
            serves_host_ports,
            locks: Arc::default(),
        }
    }

    /// Ends what was ended while nobody answered; what fails is tried again before the next ADD.
    pub async fn catch_up(&self) {
        if let Err(failure) = self.end_marked().await {
            warn!(error = %failure, "what was ended without a daemon is not ended yet");
        }
    }

    async fn add(&self, asked: AddRequest, root: Option<PathBuf>) -> Result<AddReply, Failure> {
        let attachment = request::attachment(asked.attachment)?;
        let ips = request::ips(&asked.ips)?;
        let pod = asked.pod.unwrap_or_default();
        let name = match pod.name.as_str() {
            "" => String::new(),
            name => format!("{}/{name}", pod.namespace),
        };
        let options = PodOptions {
            host_ports: request::host_ports(&asked.port_mappings, self.serves_host_ports)?,
            owner: request::owner(pod),
            bandwidth: request::bandwidth(asked.bandwidth),
            ..PodOptions::default()
        };
        self.end_marked().await?;
        let id = attachment.id();
        let _alone = self.locks.lock(&id).await;
        // Again, by itself: the others may have been looked at before it was marked.
        let ended = self.network.end_marked(&id).await;
        ended.map_err(|error| failure(&error))?;
        // A plugin that was killed is found no more, so its ADD comes to nothing even where the DEL after
        // it was quicker.
        let netns = seen_from(root.as_deref(), &attachment.netns);
        let (container, ifname) = (attachment.container_id.clone(), attachment.ifname.clone());
        let attached = self
            .network
            .attach_foreign(attachment, &netns, options, ips);
        let attached = attached.await.map_err(|error| failure(&error))?;
        info!(container, ifname, pod = name, addresses = ?attached.ips, "CNI ADD");
        Ok(reply(attached, ifname))
    }

    async fn delete(&self, asked: DeleteRequest) -> Result<(), Failure> {
        let attachment = request::attachment(asked.attachment)?;
        let id = attachment.id();
        let _alone = self.locks.lock(&id).await;
        let detached = self.network.detach(&id).await;
        detached.map_err(|error| failure(&error))?;
        info!(
            container = attachment.container_id,
            ifname = attachment.ifname,
            "CNI DEL"
        );
        Ok(())
    }

    async fn check(&self, asked: CheckRequest, root: Option<PathBuf>) -> Result<(), Failure> {
        let attachment = request::attachment(asked.attachment)?;
        let ips = request::ips(&asked.ips)?;
        let _alone = self.locks.lock(&attachment.id()).await;
        let netns = seen_from(root.as_deref(), &attachment.netns);
        let found = self.network.check_foreign(&attachment, &netns, &ips).await;
        let wrong = found.map_err(|error| failure(&error))?;
        if wrong.is_empty() {
            return Ok(());
        }
        let container = &attachment.container_id;
        let words = format!("container {container} is not connected as it was");
        Err(Failure::new(code::FAULT, words).with_details(wrong.join("; ")))
    }

    /// Nobody adds or deletes meanwhile, says the specification.
    async fn collect(&self, asked: CollectRequest) -> Result<(), Failure> {
        self.end_marked().await?;
        let valid = asked.valid.into_iter();
        let valid: HashSet<(String, String)> =
            valid.map(|one| (one.container_id, one.ifname)).collect();
        let mut failed = None;
        for (id, attachment) in self.network.foreign().await {
            if !is_left(&attachment, &asked.network, &valid) {
                continue;
            }
            let _alone = self.locks.lock(&id).await;
            warn!(
                container = attachment.container_id,
                "CNI GC: nobody ended it"
            );
            if let Err(error) = self.network.detach(&id).await {
                failed = Some(failure(&error));
            }
        }
        let strays = self.network.remove_strays().await;
        let strays = strays.map_err(|error| failure(&error))?;
        if strays > 0 {
            warn!(strays, "CNI GC: links that belonged to nobody");
        }
        // One that fails keeps no other.
        failed.map_or(Ok(()), Err)
    }

    async fn ready(&self) -> Result<(), Failure> {
        if self.network.has_pod_cidrs().await {
            return Ok(());
        }
        let words = "the node has no pod CIDR yet";
        Err(Failure::new(code::NOT_AVAILABLE, words))
    }

    async fn end_marked(&self) -> Result<(), Failure> {
        for id in self.network.marked().map_err(|error| failure(&error))? {
            let _alone = self.locks.lock(&id).await;
            let ended = self.network.end_marked(&id).await;
            ended.map_err(|error| failure(&error))?;
        }
        Ok(())
    }
}

fn is_left(attachment: &Attachment, network: &str, valid: &HashSet<(String, String)>) -> bool {
    let key = (attachment.container_id.clone(), attachment.ifname.clone());
    attachment.network == network && !valid.contains(&key)
}

fn reply(pod: ForeignPod, ifname: String) -> AddReply {
    let address = |ip: &std::net::IpAddr| Address {
        ip: ip.to_string(),
        gateway: ForeignPod::gateway(*ip).to_string(),
    };
    let link = |name, mac: [u8; 6]| Link {
        name,
        mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
    };
    AddReply {
        addresses: pod.ips.iter().map(address).collect(),
        host: Some(link(pod.host_name, pod.host_mac)),
        pod: Some(link(ifname, pod.pod_mac)),
        mtu: pod.mtu,
    }
}

/// A plugin's path is one of its mount namespace, which may be another than the daemon's.
fn seen_from(root: Option<&Path>, netns: &Path) -> PathBuf {
    match (root, netns.strip_prefix("/")) {
        (Some(root), Ok(inside)) => root.join(inside),
        _ => netns.to_owned(),
    }
}

/// The root directory of whoever calls, for as long as it waits.
fn root<T>(request: &Request<T>) -> Option<PathBuf> {
    let info = request.extensions().get::<UdsConnectInfo>()?;
    let pid = info.peer_cred?.pid()?;
    // Of a process in another pid namespace the kernel says 0.
    (pid > 0).then(|| Path::new("/proc").join(pid.to_string()).join("root"))
}

/// On a task that ends by itself: half of a call is nobody's wish.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(work).await {
        Ok(result) => Ok(Response::new(result?)),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

#[tonic::async_trait]
impl Cni for Calls {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddReply>, Status> {
        let (calls, root) = (self.clone(), root(&request));
        whole(async move { Calls::add(&calls, request.into_inner(), root).await }).await
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteReply>, Status> {
        let calls = self.clone();
        whole(async move {
            Calls::delete(&calls, request.into_inner()).await?;
            Ok(DeleteReply {})
        })
        .await
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let (calls, root) = (self.clone(), root(&request));
        whole(async move {
            Calls::check(&calls, request.into_inner(), root).await?;
            Ok(CheckReply {})
        })
        .await
    }

    async fn collect(
        &self,
        request: Request<CollectRequest>,
    ) -> Result<Response<CollectReply>, Status> {
        let calls = self.clone();
        whole(async move {
            Calls::collect(&calls, request.into_inner()).await?;
            Ok(CollectReply {})
        })
        .await
    }

    async fn ready(&self, _: Request<ReadyRequest>) -> Result<Response<ReadyReply>, Status> {
        let calls = self.clone();
        whole(async move {
            Calls::ready(&calls).await?;
            Ok(ReadyReply {})
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_networks_own_are_left_over() {
        let attachment = Attachment {
            network: "vetch".into(),
            container_id: "c".into(),
            ifname: "eth0".into(),
            netns: PathBuf::new(),
        };
        let key = |ifname: &str| HashSet::from([("c".to_owned(), ifname.to_owned())]);
        assert!(is_left(&attachment, "vetch", &HashSet::new()));
        assert!(is_left(&attachment, "vetch", &key("eth1")));
        assert!(!is_left(&attachment, "vetch", &key("eth0")));
        assert!(!is_left(&attachment, "other", &HashSet::new()));
    }

    #[test]
    fn paths_are_the_callers() {
        let root = Path::new("/proc/7/root");
        let path = Path::new("/run/netns/a");
        let seen = seen_from(Some(root), path);
        assert_eq!(seen, Path::new("/proc/7/root/run/netns/a"));
        assert_eq!(seen_from(None, path), path);
    }
}
