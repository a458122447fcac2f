//! The program itself, as people start, kill and stop it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vetch_identity::Pki;
use vetch_store::testing::Etcd;

const LIMIT: Duration = Duration::from_secs(30);

fn command(directory: &Path, etcd: &str, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vetch-control"));
    command
        .args(["--etcd", etcd, "--listen", &format!("127.0.0.1:{port}")])
        .args(["--advertise-address", "127.0.0.1"])
        .arg("--data-dir")
        .arg(directory)
        .stdout(Stdio::null());
    command
}

fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// Killed with the value. What it says goes to a file, which takes any length of it unread.
struct Control(Child, File);

impl Control {
    fn start(directory: &Path, etcd: &str, port: u16) -> Control {
        let told = tempfile::tempfile().unwrap();
        let mut command = command(directory, etcd, port);
        command.stderr(told.try_clone().unwrap());
        Control(command.spawn().unwrap(), told)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    async fn ended(mut self) -> Output {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < LIMIT, "the process does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut stderr = Vec::new();
        self.1.rewind().unwrap();
        self.1.read_to_end(&mut stderr).unwrap();
        Output {
            status: self.0.wait().unwrap(),
            stdout: Vec::new(),
            stderr,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An administrator's client, by the authority in the data directory.
fn admin(directory: &Path) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pki = Pki::open(&directory.join("pki")).unwrap();
    let issued = pki.client("admin", Some("system:masters")).unwrap();
    let pem = format!("{}{}", issued.certificate_pem, issued.key_pem);
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem().as_bytes()).unwrap()])
        .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        .no_proxy()
        .build()
        .unwrap()
}

async fn json(client: &reqwest::Client, url: &str) -> Option<Value> {
    let answer = client.get(url).send().await.ok()?;
    let answer = answer.error_for_status().ok()?;
    serde_json::from_slice(&answer.bytes().await.ok()?).ok()
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn it_waits_for_etcd_and_survives_being_killed() {
    let mut etcd = Etcd::start().await;
    etcd.kill();
    let directory = TempDir::new().unwrap();
    let port = free_port();
    let url = format!("https://127.0.0.1:{port}");
    let mut control = Control::start(directory.path(), etcd.endpoint(), port);
    let pki = directory.path().join("pki");
    eventually("the authority is made without etcd", async || {
        pki.join("apiserver.crt").exists().then_some(())
    })
    .await;
    assert!(control.0.try_wait().unwrap().is_none(), "it gave up");

    etcd.restart().await;
    let client = admin(directory.path());
    let kubernetes = format!("{url}/api/v1/namespaces/default/services/kubernetes");
    let service = eventually("the service of the API server", async || {
        json(&client, &kubernetes).await
    })
    .await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    for path in [
        "/api/v1/namespaces/kube-node-lease",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    ] {
        eventually(path, async || json(&client, &format!("{url}{path}")).await).await;
    }
    let services = format!("{url}/api/v1/namespaces/default/services");
    let create = async |name: &str| {
        let body = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        let request = client.post(&services).body(body.to_string());
        let answer = request.send().await.unwrap();
        let made: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        made["spec"]["clusterIP"].as_str().unwrap().to_owned()
    };
    let first = create("a").await;
    let before = files(&pki);

    control.kill();
    let control = Control::start(directory.path(), etcd.endpoint(), port);
    let kept = eventually("what was acknowledged", async || {
        json(&client, &format!("{services}/a")).await
    })
    .await;
    assert_eq!(kept["spec"]["clusterIP"], first.as_str());
    assert_ne!(create("b").await, first);
    assert_eq!(files(&pki), before);

    let pid = control.0.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let output = control.ended().await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_taken_port_is_one_line() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = TempDir::new().unwrap();
    let output = Control::start(directory.path(), "http://127.0.0.1:1", port)
        .ended()
        .await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        format!(
            "vetch-control: cannot serve at 127.0.0.1:{port}: end what listens there, or choose another port with --listen: Address already in use (os error 98)\n"
        )
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_kubeconfig_is_issued_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("node.kubeconfig");
    let status = Command::new(env!("CARGO_BIN_EXE_vetch-control"))
        .args(["kubeconfig", "--server", "https://10.0.0.1:6443"])
        .args(["--user", "system:node:n", "--group", "system:nodes"])
        .arg("--data-dir")
        .arg(directory.path())
        .arg("--out")
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    let config = kube::config::Kubeconfig::read_from(&out).unwrap();
    let cluster = config.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:6443"));
    assert_eq!(config.current_context.as_deref(), Some("vetch"));
    let user = config.auth_infos[0].auth_info.as_ref().unwrap();
    assert!(user.client_certificate_data.is_some());
}
