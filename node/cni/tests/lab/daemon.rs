//! A daemon to kill: this program again, in the node's namespace, with the network and its socket.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use vetch_cni_server::CniConfig;
use vetch_network::{Network, NetworkConfig, Vxlan};

use crate::namespace::Namespace;
use crate::plugin::Call;

const RUN_DIR: &str = "VETCH_TEST_CNI_RUN_DIR";
const NODE_IP: &str = "VETCH_TEST_CNI_NODE_IP";
const POD_CIDR: &str = "VETCH_TEST_CNI_POD_CIDR";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the network of the namespace that the calling thread is in, as after a restart.
pub async fn open(run_dir: &Path, node_ip: IpAddr, pod_cidr: &str) -> Network {
    let network = Network::open(NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![node_ip],
        state_dir: run_dir.join(vetch_cni_server::RECORDS),
        mtu: None,
        vxlan: Vxlan::default(),
    });
    let network = network.await.unwrap();
    network.retain(&Default::default()).await.unwrap();
    let cidr = pod_cidr.parse().unwrap();
    network.set_pod_cidrs(&[cidr]).await.unwrap();
    network
}

pub fn config(run_dir: &Path) -> CniConfig {
    CniConfig {
        run_dir: run_dir.to_owned(),
        serves_host_ports: false,
        conf_dir: None,
    }
}

/// Not a test by itself: the process that others start and kill.
#[tokio::test]
#[ignore = "run by the tests of this program"]
async fn worker() {
    let Some(run_dir) = std::env::var_os(RUN_DIR) else {
        return;
    };
    let run_dir = Path::new(&run_dir);
    let node_ip = std::env::var(NODE_IP).unwrap().parse().unwrap();
    let network = open(run_dir, node_ip, &std::env::var(POD_CIDR).unwrap()).await;
    let stop = CancellationToken::new();
    vetch_cni_server::run(config(run_dir), network, stop)
        .await
        .unwrap();
}

/// Killed when it is dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Started in `node`, and answering.
    pub fn start(node: &Namespace, run_dir: &Path, node_ip: IpAddr, pod_cidr: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["daemon::worker", "--exact", "--ignored", "--nocapture"])
            .env(RUN_DIR, run_dir)
            .env(NODE_IP, node_ip.to_string())
            .env(POD_CIDR, pod_cidr)
            .stdout(Stdio::null());
        let child = node.run(|| command.spawn().unwrap());
        let mut daemon = Self { child };
        let started = Instant::now();
        while !Call::new("STATUS", "1.1.0", run_dir).run().ok {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            assert!(started.elapsed() < TIMEOUT, "the daemon does not answer");
        }
        daemon
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
