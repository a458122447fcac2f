//! The server in process, over real TLS.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;
use vetch_runtime::RuntimeConfig;

use super::*;
use crate::node::machine::Machine;
use crate::testing::api;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn client(&self, user: &str, group: &str) -> reqwest::Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
        reqwest::Identity::from_pem(pem.as_bytes()).unwrap()
    }
}

struct FakePods(BTreeMap<(String, String), Value>);

impl PodSource for FakePods {
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Pod>, PodsError>> {
        let pod = self.0.get(&(namespace.to_owned(), name.to_owned()));
        let pod = pod.map(|pod| serde_json::from_value(pod.clone()).unwrap());
        Box::pin(async move { Ok(pod) })
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Pod>, PodsError>> {
        let pods = self.0.values();
        let pods = pods.map(|pod| serde_json::from_value(pod.clone()).unwrap());
        let pods: Vec<Pod> = pods.collect();
        Box::pin(async move { Ok(pods) })
    }
}

/// A pod of two runs: the first ended, the second waits to be started.
fn pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"containers": [{"name": "app"}, {"name": "late"}]},
        "status": {"containerStatuses": [
            {
                "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"terminated": {"exitCode": 0, "containerID": "vetch://b"}},
                "lastState": {"terminated": {"exitCode": 1, "containerID": "vetch://a"}},
            },
            {
                "name": "late", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}},
            },
        ]},
    })
}

struct Kubelet {
    address: SocketAddr,
    authority: Authority,
    dir: tempfile::TempDir,
    _stop: DropGuard,
}

impl Kubelet {
    async fn start() -> Kubelet {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime(dir.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Authority::new();
        let pods = BTreeMap::from([(("shop".into(), "web".into()), pod())]);
        let config = ServerConfig {
            node_ips: vec!["127.0.0.1".parse().unwrap()],
            listener,
            client_authorities: vec![authority.certificate.clone()],
            certificate_dir: dir.path().join("pki"),
            pods: Arc::new(FakePods(pods)),
            probes: ProbeNumbers::default(),
            settings: Settings {
                node_name: "n1".into(),
                root_dir: dir.path().into(),
                pod_log_dir: dir.path().join("logs"),
                cgroup_root: dir.path().join("cgroup"),
                machine: Machine {
                    memory_bytes: 8 << 30,
                    ..Machine::default()
                },
                max_pods: 110,
                image_gc: Default::default(),
                eviction: Default::default(),
                shutdown: Default::default(),
                pod_max_pids: None,
                memory_qos: None,
                cluster_dns: vec![],
                cluster_domain: "cluster.local".into(),
            },
        };
        // An API server that allows nobody anything.
        let client = api(|_, body| {
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            review["status"] = json!({"allowed": false});
            (201, review)
        });
        let stop = CancellationToken::new();
        tokio::spawn(run(client, config, runtime, stop.clone()));
        Kubelet {
            address,
            authority,
            dir,
            _stop: stop.drop_guard(),
        }
    }

    fn log(&self, attempt: u32, lines: &[&str]) {
        let dir = self.dir.path().join("logs/shop_web_u1/app");
        fs::create_dir_all(&dir).unwrap();
        let text: String = lines
            .iter()
            .map(|line| format!("2026-01-01T00:00:00.000000001Z stdout F {line}\n"))
            .collect();
        fs::write(dir.join(format!("{attempt}.log")), text).unwrap();
    }

    async fn get(
        &self,
        identity: Option<reqwest::Identity>,
        path: &str,
    ) -> Result<(u16, String), reqwest::Error> {
        let mut client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        let url = format!("https://{}{path}", self.address);
        let answer = client.build()?.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let admin = self.authority.client("admin", user::MASTERS);
        self.get(Some(admin), path).await.unwrap()
    }
}

/// Without pods: no cgroup and no supervisor is needed for that.
async fn runtime(dir: &Path) -> Runtime {
    let cgroup_root = dir.join("cgroup");
    fs::create_dir(&cgroup_root).unwrap();
    fs::write(cgroup_root.join("cgroup.controllers"), "").unwrap();
    Runtime::open(RuntimeConfig {
        root_dir: dir.join("root"),
        run_dir: dir.join("run"),
        cgroup_root,
        shim: "/no/shim".into(),
        pull_netns: None,
        insecure_registries: vec![],
        registry_hosts_dir: None,
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn nobody_is_answered_without_a_name_and_a_right() {
    let kubelet = Kubelet::start().await;
    kubelet.log(1, &["secret"]);
    let logs = "/containerLogs/shop/web/app";
    for path in [logs, "/healthz", "/pods", "/none", "/exec/shop/web/app"] {
        let answer = kubelet.get(None, path).await.unwrap();
        assert_eq!(answer, (401, "Unauthorized".into()), "{path}");
    }
    let someone = kubelet.authority.client("someone", "people");
    let (status, words) = kubelet.get(Some(someone), logs).await.unwrap();
    assert_eq!(status, 403);
    assert_eq!(
        words,
        "Forbidden (user=someone, verb=get, resource=nodes, subresource(s)=[\"proxy\"])"
    );
    // Another authority's word counts for nothing: not even the connection stands.
    let stranger = Authority::new().client("admin", user::MASTERS);
    assert!(kubelet.get(Some(stranger), logs).await.is_err());
    assert_eq!(kubelet.admin(logs).await, (200, "secret\n".into()));
}

#[tokio::test]
async fn logs_and_why_there_are_none() {
    let kubelet = Kubelet::start().await;
    kubelet.log(0, &["first run"]);
    kubelet.log(1, &["one", "two", "three"]);
    let base = "/containerLogs/shop/web";
    for (path, status, words) in [
        ("/app", 200, "one\ntwo\nthree\n"),
        ("/app?tailLines=1", 200, "three\n"),
        (
            "/app?tailLines=1&timestamps=true",
            200,
            "2026-01-01T00:00:00.000000001Z three\n",
        ),
        ("/app?limitBytes=5", 200, "one\nt"),
        ("/app?previous=true", 200, "first run\n"),
        // It does not run, so there is nothing to follow.
        ("/app?follow=true", 200, "one\ntwo\nthree\n"),
        (
            "/late",
            400,
            "container \"late\" in pod \"web\" is waiting to start: ContainerCreating",
        ),
        (
            "/late?previous=true",
            400,
            "previous terminated container \"late\" in pod \"web\" not found",
        ),
        (
            "/none",
            404,
            "container \"none\" not found in pod \"web\"\n",
        ),
        (
            "/app?tailLines=-1",
            422,
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        let answer = kubelet.admin(&format!("{base}{path}")).await;
        assert_eq!(answer, (status, words.to_owned()), "{path}");
    }
    let missing = kubelet.admin("/containerLogs/shop/none/app").await;
    assert_eq!(missing, (404, "pod does not exist\n".into()));
    fs::remove_dir_all(kubelet.dir.path().join("logs")).unwrap();
    let lost = kubelet.admin("/containerLogs/shop/web/app").await;
    assert_eq!(
        lost,
        (
            200,
            "unable to retrieve container logs for vetch://b".into()
        )
    );
}

/// What the kubelet answers at each of these paths.
async fn refused(table: &[(&str, u16, &str)]) {
    let kubelet = Kubelet::start().await;
    for (path, status, words) in table {
        let answer = kubelet.admin(path).await;
        assert_eq!(answer, (*status, (*words).to_owned()), "{path}");
    }
}

#[tokio::test]
async fn where_nothing_can_be_run_or_attached_to() {
    refused(&[
        (
            "/exec/shop/web/app?command=ls",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        ("/exec/shop/none/app?output=1", 404, "pod does not exist"),
        // It ended.
        (
            "/exec/shop/web/app?output=1",
            500,
            "container not found (\"app\")",
        ),
        (
            "/attach/shop/web/app",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        ("/attach/shop/none/app?output=1", 404, "pod does not exist"),
        (
            "/attach/shop/web/app?output=1",
            500,
            "container app not found in pod web_shop",
        ),
    ])
    .await;
}

#[tokio::test]
async fn where_nothing_can_be_forwarded_to() {
    refused(&[
        ("/portForward/shop/none", 404, "pod does not exist"),
        ("/portForward/shop/web/u0", 404, "pod not found"),
        // It has no sandbox.
        ("/portForward/shop/web", 500, "pod not found (\"web_shop\")"),
        (
            "/portForward/shop/web/u1",
            500,
            "pod not found (\"web_shop\")",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_rest_of_the_api() {
    let kubelet = Kubelet::start().await;
    assert_eq!(kubelet.admin("/healthz").await, (200, "ok".into()));
    let (status, pods) = kubelet.admin("/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, &pods["kind"]), (200, &json!("PodList")));
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    // A command is posted.
    assert_eq!(kubelet.admin("/run/shop/web/app?cmd=ls").await.0, 405);
    let (status, numbers) = kubelet.admin("/metrics/probes").await;
    assert_eq!((status, numbers.as_str()), (200, ""));
    assert_eq!(kubelet.admin("/stats/none").await.0, 404);
    let (status, pods) = kubelet.admin("/runningpods/").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, &pods["items"]), (200, &json!([])));
    let (status, config) = kubelet.admin("/configz").await;
    let config: Value = serde_json::from_str(&config).unwrap();
    let config = &config["kubeletconfig"];
    assert_eq!((status, &config["maxPods"]), (200, &json!(110)));
    assert_eq!(config["port"], kubelet.address.port());
}

#[tokio::test]
async fn what_the_node_uses() {
    let kubelet = Kubelet::start().await;
    // Its cgroup is not there yet.
    let (status, words) = kubelet.admin("/stats/summary").await;
    assert_eq!(status, 500);
    assert!(words.contains("cpu.stat"), "{words}");
    let (status, metrics) = kubelet.admin("/metrics/resource").await;
    assert_eq!(status, 200);
    assert!(
        metrics.ends_with("\nresource_scrape_error 1\n"),
        "{metrics}"
    );

    let cgroup = kubelet.dir.path().join("cgroup");
    fs::write(cgroup.join("cpu.stat"), "usage_usec 1500000\n").unwrap();
    let (status, metrics) = kubelet.admin("/metrics/resource").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("\nnode_cpu_usage_seconds_total 1.5 "),
        "{metrics}"
    );
    assert!(
        metrics.ends_with("\nresource_scrape_error 0\n"),
        "{metrics}"
    );
    for (path, has_disk) in [
        ("/stats/summary", true),
        ("/stats/summary?only_cpu_and_memory=true", false),
    ] {
        let (status, summary) = kubelet.admin(path).await;
        assert_eq!(status, 200, "{summary}");
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let node = &summary["node"];
        assert_eq!(node["nodeName"], "n1");
        assert_eq!(node["cpu"]["usageCoreNanoSeconds"], 1_500_000_000_u64);
        assert!(node["memory"]["workingSetBytes"].as_u64() > Some(0));
        assert_eq!(node.get("fs").is_some(), has_disk, "{path}");
        assert_eq!(summary["pods"], json!([]));
    }
    let (status, metrics) = kubelet.admin("/metrics").await;
    assert_eq!(status, 200);
    for line in ["kubelet_running_pods 0", "kubelet_node_name{node=\"n1\"} 1"] {
        assert!(
            metrics.lines().any(|own| own == line),
            "{line} in\n{metrics}"
        );
    }
}
