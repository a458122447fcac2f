//! Server pods that stay, and client pods that run to their end and leave their figures in their
//! log: that works on any cluster.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::load::last_words;
use super::objects::{self, Path};
use super::options::Options;

/// An image may have to be pulled the first time.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Beside the time the load itself takes.
const RUN_LIMIT: Duration = Duration::from_secs(120);

pub struct Pods {
    api: Api<Pod>,
    image: String,
    stop: CancellationToken,
    next: u32,
}

impl Pods {
    pub fn new(
        client: &kube::Client,
        namespace: &str,
        image: &str,
        stop: CancellationToken,
    ) -> Pods {
        Pods {
            api: Api::namespaced(client.clone(), namespace),
            image: image.to_owned(),
            stop,
            next: 0,
        }
    }

    /// The addresses of the servers, once they run.
    pub async fn serve(
        &self,
        path: Path,
        options: &Options,
        node: &str,
        ports: u16,
    ) -> Result<Vec<Ipv4Addr>> {
        let starts = (0..options.server_pods).map(|number| async move {
            let pod = objects::server(path, number, node, &self.image, ports, options.threads)?;
            let name = pod.name_any();
            self.create(&pod).await?;
            let pod = self
                .until(&name, "runs", START_LIMIT, |pod| phase(pod) != "Pending")
                .await?;
            if phase(&pod) != "Running" {
                bail!("server pod {name} ended: {}", why(&pod));
            }
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
            let address = address.with_context(|| format!("pod {name} has no address"))?;
            address
                .parse()
                .with_context(|| format!("pod {name}: {address} is no IPv4 address"))
        });
        try_join_all(starts).await
    }

    /// Creates a client; it is not running yet.
    pub async fn start(&mut self, path: Path, node: &str, words: &[String]) -> Result<String> {
        self.next += 1;
        let pod = objects::client(path, self.next, node, &self.image, words)?;
        self.create(&pod).await?;
        Ok(pod.name_any())
    }

    /// Until its program runs, or is over already.
    pub async fn running(&self, name: &str) -> Result<()> {
        self.until(name, "runs", START_LIMIT, |pod| phase(pod) != "Pending")
            .await
            .map(drop)
    }

    /// Its log, when its program is over; then the pod goes.
    pub async fn finish(&self, name: &str, seconds: f64) -> Result<String> {
        let limit = RUN_LIMIT + Duration::from_secs_f64(seconds);
        let over = |pod: &Pod| matches!(phase(pod), "Succeeded" | "Failed");
        let pod = self.until(name, "ends", limit, over).await?;
        let log = self.api.logs(name, &LogParams::default()).await;
        self.remove(name).await?;
        let log = log.with_context(|| format!("the log of pod {name}"))?;
        // One that failed may still have told figures: of what, is in them.
        if log.is_empty() {
            bail!("client pod {name} says nothing: {}", why(&pod));
        }
        Ok(log)
    }

    pub async fn remove(&self, name: &str) -> Result<()> {
        match self
            .api
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("delete pod {name}")),
        }
    }

    pub fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub fn api(&self) -> &Api<Pod> {
        &self.api
    }

    async fn create(&self, pod: &Pod) -> Result<()> {
        self.api
            .create(&PostParams::default(), pod)
            .await
            .with_context(|| format!("create pod {}", pod.name_any()))
            .map(drop)
    }

    async fn until(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        reached: impl Fn(&Pod) -> bool + Send,
    ) -> Result<Pod> {
        let condition = |pod: Option<&Pod>| pod.is_none_or(&reached);
        let seen = tokio::select! {
            () = self.stop.cancelled() => bail!("the run was ended early"),
            seen = timeout(limit, await_condition(self.api.clone(), name, condition)) => seen,
        };
        match seen {
            Ok(pod) => pod
                .with_context(|| format!("watch pod {name}"))?
                .ok_or_else(|| anyhow!("pod {name} was deleted by somebody else")),
            Err(_) => {
                let state = match self.api.get(name).await {
                    Ok(pod) => why(&pod),
                    Err(error) => error.to_string(),
                };
                bail!(
                    "pod {name}: not within {} s that it {what}: {state}",
                    limit.as_secs()
                )
            }
        }
    }
}

fn phase(pod: &Pod) -> &str {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Pending")
}

/// The words of the status that say most.
fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let states = status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|container| container.state.as_ref());
    let mut words: Vec<String> = states
        .filter_map(|state| {
            let waits = state.waiting.as_ref();
            let waits = waits.map(|state| (state.reason.as_deref(), state.message.as_deref()));
            let ended = state.terminated.as_ref();
            let ended = ended.map(|state| (state.reason.as_deref(), state.message.as_deref()));
            let (reason, message) = waits.or(ended)?;
            Some(last_words(&format!(
                "{}\n{}",
                reason.unwrap_or_default(),
                message.unwrap_or_default()
            )))
        })
        .collect();
    words.extend(status.and_then(|status| status.message.clone()));
    words.insert(0, phase(pod).to_owned());
    words.join(", ")
}
