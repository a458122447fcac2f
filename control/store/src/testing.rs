//! A real etcd for tests: Debian's, on free loopback ports, gone with the value.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub struct Etcd {
    child: Child,
    directory: TempDir,
    client_url: String,
    peer_url: String,
}

impl Etcd {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// Where there is no etcd: a test that needs it must not pass.
    pub async fn start() -> Etcd {
        // Another process may take a free port before etcd does, which then ends.
        for _ in 0..3 {
            let directory = TempDir::new().expect("a temporary directory");
            let (client_url, peer_url) = free_urls();
            let child = spawn(&directory, &client_url, &peer_url);
            let mut etcd = Etcd {
                child,
                directory,
                client_url,
                peer_url,
            };
            if etcd.answered().await {
                return etcd;
            }
        }
        panic!("etcd ends as soon as it is started");
    }

    pub fn endpoint(&self) -> &str {
        &self.client_url
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running etcd");
        self.child.wait().expect("our child");
    }

    /// On the same data and ports.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.directory, &self.client_url, &self.peer_url);
        assert!(self.answered().await, "etcd ends as soon as it is started");
    }

    /// False if it has ended instead.
    async fn answered(&mut self) -> bool {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let attempt = async {
                let client = etcd_client::Client::connect([&self.client_url], None).await?;
                client.kv_client().get("ready", None).await
            };
            match tokio::time::timeout(Duration::from_secs(1), attempt).await {
                Ok(Ok(_)) => return true,
                _ if !matches!(self.child.try_wait(), Ok(None)) => return false,
                answer if Instant::now() > limit => panic!("etcd does not answer: {answer:?}"),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_urls() -> (String, String) {
    // Both are held until both are known, so that they differ.
    let sockets =
        [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    let [client, peer] =
        sockets.map(|socket| format!("http://{}", socket.local_addr().expect("bound")));
    (client, peer)
}

fn spawn(directory: &TempDir, client_url: &str, peer_url: &str) -> Child {
    Command::new("etcd")
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args([
            "--listen-client-urls",
            client_url,
            "--advertise-client-urls",
            client_url,
        ])
        .args([
            "--listen-peer-urls",
            peer_url,
            "--initial-advertise-peer-urls",
            peer_url,
        ])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .args(["--logger", "zap", "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd, from Debian's etcd-server")
}
