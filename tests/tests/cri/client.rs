//! A client of a node's CRI socket, and what it asks for.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tonic::transport::{Channel, Endpoint};
use vetch_cri_proto::v1::image_service_client::ImageServiceClient;
use vetch_cri_proto::v1::runtime_service_client::RuntimeServiceClient;
use vetch_cri_proto::v1::*;
use vetch_tests::Node;

use crate::{IMAGE, MINUTE};

pub struct Cri {
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
}

pub async fn connect(node: &Node) -> Result<Cri> {
    let sockets = node.sockets.as_ref().context("a node of this machine")?;
    at(&sockets.cri).await
}

/// Waits for the daemon, which may be on its way up.
pub async fn at(socket: &Path) -> Result<Cri> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    let deadline = tokio::time::Instant::now() + MINUTE;
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    Ok(Cri {
        runtime: RuntimeServiceClient::new(channel.clone()),
        images: ImageServiceClient::new(channel),
    })
}

/// A sandbox that is named as the test is, with its logs in `logs`.
pub fn sandbox(name: &str, logs: &Path) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}-{}", std::process::id()),
            namespace: "cri".into(),
            attempt: 1,
        }),
        hostname: "cri-host".into(),
        log_directory: logs.display().to_string(),
        dns_config: Some(DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["svc.example".into()],
            options: vec!["ndots:3".into()],
        }),
        labels: HashMap::from([("test".into(), name.into())]),
        annotations: HashMap::from([("note".into(), "kept".into())]),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..NamespaceOption::default()
                }),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

pub fn container(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..ImageSpec::default()
        }),
        command: vec!["sh".into(), "-c".into(), script.into()],
        envs: vec![KeyValue {
            key: "GREETING".into(),
            value: "hello".into(),
        }],
        labels: HashMap::from([("container".into(), name.into())]),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_shares: 1024,
                ..LinuxContainerResources::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..NamespaceOption::default()
                }),
                ..LinuxContainerSecurityContext::default()
            }),
        }),
        ..ContainerConfig::default()
    }
}

impl Cri {
    pub async fn run_sandbox(&mut self, config: &PodSandboxConfig) -> Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let made = self.runtime.run_pod_sandbox(request).await?;
        Ok(made.into_inner().pod_sandbox_id)
    }

    pub async fn create(
        &mut self,
        sandbox: &str,
        of: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(of.clone()),
        };
        let made = self.runtime.create_container(request).await?;
        Ok(made.into_inner().container_id)
    }

    pub async fn run(
        &mut self,
        sandbox: &str,
        of: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String> {
        let id = self.create(sandbox, of, config).await?;
        let request = StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime.start_container(request).await?;
        Ok(id)
    }

    pub async fn status(&mut self, container: &str) -> Result<ContainerStatus> {
        let request = ContainerStatusRequest {
            container_id: container.into(),
            verbose: false,
        };
        let status = self
            .runtime
            .container_status(request)
            .await?
            .into_inner()
            .status;
        status.context("no status")
    }

    pub async fn exec(
        &mut self,
        container: &str,
        cmd: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, tonic::Status> {
        let request = ExecSyncRequest {
            container_id: container.into(),
            cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
            timeout,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// What a shell in it says.
    pub async fn says(&mut self, container: &str, script: &str) -> Result<String> {
        let said = self.exec(container, &["sh", "-c", script], 20).await?;
        let (output, errors) = (String::from_utf8(said.stdout)?, said.stderr);
        ensure!(
            said.exit_code == 0,
            "{script}: {output}{}",
            String::from_utf8_lossy(&errors)
        );
        Ok(output)
    }

    pub async fn sandboxes(&mut self, name: &str) -> Result<Vec<PodSandbox>> {
        let request = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter {
                label_selector: HashMap::from([("test".into(), name.into())]),
                ..PodSandboxFilter::default()
            }),
        };
        Ok(self
            .runtime
            .list_pod_sandbox(request)
            .await?
            .into_inner()
            .items)
    }

    pub async fn containers(&mut self, sandbox: &str) -> Result<Vec<Container>> {
        let request = ListContainersRequest {
            filter: Some(ContainerFilter {
                pod_sandbox_id: sandbox.into(),
                ..ContainerFilter::default()
            }),
        };
        Ok(self
            .runtime
            .list_containers(request)
            .await?
            .into_inner()
            .containers)
    }

    pub async fn stop(&mut self, container: &str, timeout: i64) -> Result<()> {
        let request = StopContainerRequest {
            container_id: container.into(),
            timeout,
        };
        self.runtime.stop_container(request).await?;
        Ok(())
    }

    pub async fn remove(&mut self, container: &str) -> Result<()> {
        let request = RemoveContainerRequest {
            container_id: container.into(),
        };
        self.runtime.remove_container(request).await?;
        Ok(())
    }

    pub async fn stop_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: sandbox.into(),
        };
        self.runtime.stop_pod_sandbox(request).await?;
        Ok(())
    }

    pub async fn remove_sandbox(&mut self, sandbox: &str) -> Result<()> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.into(),
        };
        self.runtime.remove_pod_sandbox(request).await?;
        Ok(())
    }
}
