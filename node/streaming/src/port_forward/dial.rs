//! Connections to a pod's ports, from within its network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use vetch_network::{NetnsError, tcp_socket};
use vetch_runtime::{Chain, SandboxStatus};

/// For each address, as containerd has it: a port may be filtered.
const LIMIT: Duration = Duration::from_secs(5);

/// Where connections go.
pub struct Target {
    pub sandbox: String,
    pub uid: String,
    /// `None`: the node's.
    netns: Option<PathBuf>,
}

/// In containerd's words.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to execute portforward in network namespace {netns:?}: failed to connect to localhost:{port} inside namespace {sandbox:?}, IPv4: {four} IPv6: {six}"
)]
pub struct Unreachable {
    netns: String,
    port: u16,
    sandbox: String,
    four: String,
    six: String,
}

impl Target {
    pub fn of(sandbox: SandboxStatus) -> Target {
        Target {
            sandbox: sandbox.id.0,
            uid: sandbox.spec.pod_uid,
            netns: sandbox.netns,
        }
    }

    /// 127.0.0.1, and where nobody listens there, ::1.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, Unreachable> {
        let four = match self.dial(Ipv4Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(words) => words,
        };
        let six = match self.dial(Ipv6Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(words) => words,
        };
        let netns = self.netns.as_deref().unwrap_or(Path::new("host"));
        Err(Unreachable {
            netns: netns.display().to_string(),
            port,
            sandbox: self.sandbox.clone(),
            four,
            six,
        })
    }

    async fn dial(&self, ip: IpAddr, port: u16) -> Result<TcpStream, String> {
        let socket = self.socket(ip.is_ipv6()).await?;
        let connecting = socket.connect(SocketAddr::new(ip, port));
        let connected = timeout(LIMIT, connecting).await;
        let stream = connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| dial_words(&ip.to_string(), port, &error))?;
        // A failure here costs delay alone.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn socket(&self, ipv6: bool) -> Result<TcpSocket, String> {
        let made = match &self.netns {
            Some(netns) => {
                let netns = netns.clone();
                // A short-lived thread enters the namespace, and is waited for.
                let made = spawn_blocking(move || tcp_socket(&netns, ipv6)).await;
                return made
                    .map_err(|error| error.to_string())?
                    .map_err(|error: NetnsError| Chain(&error).to_string());
            }
            None if ipv6 => TcpSocket::new_v6(),
            None => TcpSocket::new_v4(),
        };
        made.map_err(|error| error.to_string())
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// As Go words it.
pub fn dial_words(host: &str, port: u16, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {}: {what}", address(host, port))
}

#[cfg(test)]
impl Target {
    /// This process's own namespace.
    pub fn here() -> Target {
        Target {
            sandbox: "s1".to_owned(),
            uid: "u1".to_owned(),
            netns: None,
        }
    }
}
