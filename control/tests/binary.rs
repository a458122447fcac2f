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
use vetch_join::{JoinError, JoinOptions, Managed, Places, join};
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

/// A machine that is to join this cluster.
struct Machine {
    options: JoinOptions,
    _directory: TempDir,
}

impl Machine {
    /// By the command that `token create` printed.
    fn told(command: &str, name: &str) -> Machine {
        let directory = TempDir::new().unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let [
            "vetch-node",
            "join",
            server,
            "--token",
            token,
            "--ca-hash",
            hash,
        ] = words[..]
        else {
            panic!("{command}");
        };
        Machine {
            options: JoinOptions {
                server: server.to_owned(),
                token: token.parse().unwrap(),
                ca_hashes: vec![hash.parse().unwrap()],
                node_name: name.to_owned(),
                places: Places::at(directory.path()),
                patience: LIMIT,
            },
            _directory: directory,
        }
    }

    /// What the daemon makes of the files.
    async fn client(&self) -> (kube::Client, Managed) {
        let text = kube::config::Kubeconfig::read_from(self.options.places.kubeconfig()).unwrap();
        let managed = Managed::of(&text).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(text, &options)
            .await
            .unwrap();
        config.proxy_url = None;
        (kube::Client::try_from(config).unwrap(), managed)
    }
}

fn token(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vetch-control"))
        .arg("token")
        .args(args)
        .arg("--kubeconfig")
        .arg(directory.join("admin.kubeconfig"))
        .output()
        .unwrap()
}

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_by_the_command_that_was_printed() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let etcd = Etcd::start().await;
    let directory = TempDir::new().unwrap();
    let port = free_port();
    let _control = Control::start(directory.path(), etcd.endpoint(), port);
    let kubeconfig = directory.path().join("admin.kubeconfig");
    eventually("the administrator's kubeconfig", async || {
        kubeconfig.exists().then_some(())
    })
    .await;
    let command = eventually("a token", async || {
        let made = token(
            directory.path(),
            &["create", "--description", "test", "--ttl", "1h"],
        );
        made.status.success().then(|| printed(made))
    })
    .await;
    assert!(
        command.starts_with(&format!("vetch-node join 127.0.0.1:{port} --token ")),
        "{command}"
    );

    let machine = Machine::told(&command, "worker-1");
    let joined = join(&machine.options).await.unwrap();
    assert_eq!(joined.server, format!("https://127.0.0.1:{port}"));
    assert!(!joined.kept);
    let (client, managed) = machine.client().await;
    let first = managed.certificate().unwrap();
    assert_eq!(first.user, "system:node:worker-1");
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "worker-1"}})).unwrap();
    nodes
        .create(&kube::api::PostParams::default(), &node)
        .await
        .unwrap();
    let other = serde_json::from_value(json!({"metadata": {"name": "worker-2"}})).unwrap();
    let told = nodes
        .create(&kube::api::PostParams::default(), &other)
        .await;
    assert!(told.unwrap_err().to_string().contains("not allowed"));
    // Once more changes nothing.
    let again = join(&machine.options).await.unwrap();
    assert!(again.kept);
    assert_eq!(managed.certificate().unwrap(), first);

    rotates(&client, &managed).await;
    let (client, _) = machine.client().await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let (params, patch) = (
        kube::api::PatchParams::default(),
        kube::api::Patch::Strategic(ready),
    );
    nodes
        .patch_status("worker-1", &params, &patch)
        .await
        .unwrap();
    refusals(&command, directory.path()).await;
}

/// The node asks for its next certificate by the one it has, and is known by the new one.
async fn rotates(client: &kube::Client, managed: &Managed) {
    let first = managed.certificate().unwrap();
    let renewal = vetch_join::renew(client, "worker-1", managed);
    tokio::time::timeout(LIMIT, renewal).await.unwrap();
    let second = managed.certificate().unwrap();
    assert_ne!(second, first);
    assert_eq!(second.user, first.user);
}

/// Each failure says which it is.
async fn refusals(command: &str, directory: &Path) {
    let with = |change: fn(&mut JoinOptions)| {
        let mut machine = Machine::told(command, "worker-9");
        machine.options.patience = Duration::from_secs(1);
        change(&mut machine.options);
        machine
    };
    let taken = with(|options| options.node_name = "worker-1".into());
    let told = join(&taken.options).await.unwrap_err();
    assert!(matches!(told, JoinError::NameTaken { .. }), "{told}");
    let hash = with(|options| {
        options.ca_hashes = vec![format!("sha256:{}", "0".repeat(64)).parse().unwrap()];
    });
    let told = join(&hash.options).await.unwrap_err();
    assert!(matches!(told, JoinError::WrongHash { .. }), "{told}");
    let unknown = with(|options| options.token = "zzzzzz.0123456789abcdef".parse().unwrap());
    let told = join(&unknown.options).await.unwrap_err();
    assert!(matches!(told, JoinError::UnknownToken { .. }), "{told}");
    let forged = with(|options| {
        let forged = format!("{}.0123456789abcdef", options.token.id());
        options.token = forged.parse().unwrap();
    });
    let told = join(&forged.options).await.unwrap_err();
    assert!(matches!(told, JoinError::Signature { .. }), "{told}");
    let nobody = with(|options| options.server = "127.0.0.1:1".into());
    let told = join(&nobody.options).await.unwrap_err();
    assert!(matches!(told, JoinError::Unreachable { .. }), "{told}");

    let listed = printed(token(directory, &["list"]));
    let whole = command.split_whitespace().nth(4).unwrap();
    let line = listed.lines().find(|line| line.starts_with(whole)).unwrap();
    assert!(line.contains("59m") && line.contains("test"), "{listed}");
    let id = whole.split('.').next().unwrap();
    let gone = printed(token(directory, &["delete", id]));
    assert_eq!(gone, format!("bootstrap token {id:?} deleted\n"));
    // Its signature goes with it, so that nobody trusts a cluster by it any more.
    let late = with(|_| {});
    eventually("the deleted token is unknown", async || {
        // A moment long it may still be known.
        let told = join(&late.options).await.err();
        matches!(told, Some(JoinError::UnknownToken { .. })).then_some(())
    })
    .await;
    let twice = token(directory, &["delete", id]);
    assert_eq!(twice.status.code(), Some(1));
}
