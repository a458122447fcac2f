//! The whole proxy against a fake API server: lists, watches, log lines. A
//! process of its own, because a tracing subscriber is the whole process's.
//! Needs root and the eBPF programs, as `lab` does.

#[path = "../lab/api.rs"]
#[expect(dead_code, reason = "shared with lab, which uses all of it")]
mod api;
#[path = "../lab/cell.rs"]
#[expect(dead_code, reason = "shared with lab, which uses all of it")]
mod cell;
#[path = "../lab/servers.rs"]
#[expect(dead_code, reason = "shared with lab, which uses all of it")]
mod servers;

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use vetch_proxy::{ObjectName, OwnService, Protocol, ProxyConfig};

use crate::{
    api::Api,
    cell::Cell,
    servers::{Server, ask},
};

const VIP: &str = "10.96.0.10:80";

fn service() -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80, "protocol": "TCP"}]}
    })
}

fn slice(server: &Server) -> Value {
    json!({
        "metadata": {
            "namespace": "default", "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"}
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": server.address.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]
    })
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), met)
        .await
        .unwrap_or_else(|_| panic!("waited 60 s for {what}"));
}

#[tokio::test]
async fn the_proxy_follows_the_api_server_and_logs_what_the_programs_do() {
    let cell = Cell::enter();
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(lines.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let servers = [1, 2].map(Server::tcp);
    let api = Api::new();
    api.set("services", service());
    api.set("endpointslices", slice(&servers[0]));
    let shutdown = CancellationToken::new();
    let (_pods, no_pods) = tokio::sync::watch::channel(None);
    let (_ports, no_host_ports) = tokio::sync::watch::channel(Some(Arc::default()));
    let (pressure, table_pressure) = tokio::sync::watch::channel(Some("?".to_owned()));
    let proxy = tokio::spawn(vetch_proxy::run(
        api.client(),
        cell.config("a"),
        no_pods,
        no_host_ports,
        vetch_proxy::Guard::default(),
        pressure,
        shutdown.clone(),
    ));

    until("the listed endpoint", || ask(VIP).is_ok_and(|id| id == 1)).await;
    api.set("endpointslices", slice(&servers[1]));
    until("the new endpoint", || ask(VIP).is_ok_and(|id| id == 2)).await;
    let dump = vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    assert!(
        dump.frontends
            .keys()
            .all(|frontend| frontend.protocol == Protocol::Tcp)
            && dump.frontends.len() == 1
    );
    until("the first sweep", || table_pressure.borrow().is_none()).await;
    until("the program's log line", || {
        lines
            .text()
            .contains("10.96.0.10:80 protocol 6 -> 127.0.0.1:")
    })
    .await;

    api.delete("services", service());
    until("the service to go", || ask(VIP).is_err()).await;

    shutdown.cancel();
    proxy.await.unwrap().unwrap();
}

/// One endpoint each in two slices, of which one weighs three times the other.
#[tokio::test]
async fn connections_are_spread_by_the_weights_of_slices() {
    let cell = Cell::enter();
    let servers = [1, 2].map(Server::tcp);
    let weighing = |server: &Server, name: &str, weight: &str| {
        let mut slice = slice(server);
        slice["metadata"]["name"] = name.into();
        slice["metadata"]["annotations"] = json!({"vetch.dev/weight": weight});
        slice
    };
    let api = Api::new();
    api.set("services", service());
    for slice in [
        weighing(&servers[0], "web-1", "25"),
        weighing(&servers[1], "web-2", "75"),
    ] {
        api.set("endpointslices", slice);
    }
    let shutdown = CancellationToken::new();
    let (_pods, no_pods) = tokio::sync::watch::channel(None);
    let (_ports, no_host_ports) = tokio::sync::watch::channel(Some(Arc::default()));
    let (pressure, _table_pressure) = tokio::sync::watch::channel(None);
    let proxy = tokio::spawn(vetch_proxy::run(
        api.client(),
        cell.config("a"),
        no_pods,
        no_host_ports,
        vetch_proxy::Guard::default(),
        pressure,
        shutdown.clone(),
    ));
    until("the listed endpoints", || ask(VIP).is_ok()).await;
    let mut answers = [0_u32; 2];
    for _ in 0..2000 {
        answers[usize::from(ask(VIP).unwrap()) - 1] += 1;
    }
    // 500 by chance, with a standard deviation of 19.
    assert!((390..=610).contains(&answers[0]), "{answers:?}");
    let dump = vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    let slots: Vec<usize> = dump
        .services
        .values()
        .map(|target| target.cluster.len())
        .collect();
    assert_eq!(slots, [4], "25 and 75 are 1 and 3");
    shutdown.cancel();
    proxy.await.unwrap().unwrap();
}

/// Cluster DNS, as long as nobody else is behind its Service.
#[tokio::test]
async fn a_service_that_this_node_answers_is_left_to_who_has_endpoints() {
    let cell = Cell::enter();
    let servers = [1, 2].map(Server::tcp);
    let api = Api::new();
    api.set("services", service());
    let config = ProxyConfig {
        own_service: Some(OwnService {
            name: ObjectName::new("default", "web"),
            port: 80,
            backends: vec![servers[0].address],
            always: false,
        }),
        ..cell.config("a")
    };
    let shutdown = CancellationToken::new();
    let (_pods, no_pods) = tokio::sync::watch::channel(None);
    let (_ports, no_host_ports) = tokio::sync::watch::channel(Some(Arc::default()));
    let (pressure, _table_pressure) = tokio::sync::watch::channel(None);
    let proxy = tokio::spawn(vetch_proxy::run(
        api.client(),
        config,
        no_pods,
        no_host_ports,
        vetch_proxy::Guard::default(),
        pressure,
        shutdown.clone(),
    ));
    until("this node", || ask(VIP).is_ok_and(|id| id == 1)).await;
    api.set("endpointslices", slice(&servers[1]));
    until("the endpoint", || ask(VIP).is_ok_and(|id| id == 2)).await;
    api.delete("endpointslices", slice(&servers[1]));
    until("this node again", || ask(VIP).is_ok_and(|id| id == 1)).await;
    let mut selecting = service();
    selecting["spec"]["selector"] = json!({"app": "web"});
    api.set("services", selecting);
    until("nobody", || ask(VIP).is_err()).await;
    shutdown.cancel();
    proxy.await.unwrap().unwrap();
}
