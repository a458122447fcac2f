//! Hooks: what a pod wants done after a container's start and before its end.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use vetch_runtime::{ContainerId, NO_LIMIT, Runtime};

use super::probe;

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("exec: {0}")]
    Exec(#[from] vetch_runtime::Error),
    #[error("command ended with exit code {0}")]
    ExitCode(i32),
    #[error("{0}")]
    Http(String),
    #[error("the pod has no address")]
    NoAddress,
    #[error("tcpSocket is not supported as a lifecycle hook")]
    Tcp,
    #[error("the hook says nothing to do")]
    Empty,
}

/// May be dropped when the time for it is over.
pub async fn run(
    runtime: &Runtime,
    http: &reqwest::Client,
    id: &ContainerId,
    container: &Container,
    pod_ip: Option<IpAddr>,
    handler: &LifecycleHandler,
) -> Result<(), HookError> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        // The caller sets the limit.
        let output = runtime.exec(id, command, NO_LIMIT).await?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(HookError::ExitCode(code)),
        };
    }
    if let Some(action) = &handler.http_get {
        let ip = pod_ip.ok_or(HookError::NoAddress)?;
        return probe::get(http, action, container, ip)
            .await
            .map_err(HookError::Http);
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err(if handler.tcp_socket.is_some() {
        HookError::Tcp
    } else {
        HookError::Empty
    })
}
