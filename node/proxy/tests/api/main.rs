//! The whole proxy against a fake API server: lists, watches, log lines. A
//! process of its own, because a tracing subscriber is the whole process's.
//! Needs root and the eBPF programs, as `lab` does.

#[path = "../lab/cell.rs"]
#[expect(dead_code, reason = "shared with lab, which uses all of it")]
mod cell;
#[path = "../lab/servers.rs"]
#[expect(dead_code, reason = "shared with lab, which uses all of it")]
mod servers;

use std::{
    convert::Infallible,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;
use vetch_proxy::Protocol;

use crate::{
    cell::Cell,
    servers::{Server, ask},
};

const VIP: &str = "10.96.0.10:80";

type Watches = Vec<(String, mpsc::UnboundedSender<Bytes>)>;

/// Serves one list a kind, then what is sent through the channels.
#[derive(Clone, Default)]
struct Api {
    watches: Arc<Mutex<Watches>>,
    services: Vec<Value>,
    slices: Vec<Value>,
}

type ApiBody = UnsyncBoxBody<Bytes, Infallible>;

impl Api {
    fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let response = api.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<ApiBody> {
        let kind = request
            .uri()
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        if request
            .uri()
            .query()
            .unwrap_or_default()
            .contains("watch=true")
        {
            let (sender, receiver) = mpsc::unbounded();
            self.watches.lock().unwrap().push((kind, sender));
            let frames = receiver.map(|bytes| Ok(http_body::Frame::data(bytes)));
            return Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
        }
        let items = if kind == "services" {
            &self.services
        } else {
            &self.slices
        };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(BodyExt::boxed_unsync(Full::new(list.to_string().into())))
    }

    /// Sends one watch event; false while nobody watches.
    fn send(&self, kind: &str, event: &Value) -> bool {
        let watches = self.watches.lock().unwrap();
        let line = Bytes::from(format!("{event}\n"));
        watches
            .iter()
            .any(|(watched, sender)| watched == kind && sender.unbounded_send(line.clone()).is_ok())
    }
}

fn service() -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "web", "resourceVersion": "1"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80, "protocol": "TCP"}]}
    })
}

fn slice(server: &Server, version: u32) -> Value {
    json!({
        "metadata": {
            "namespace": "default", "name": "web-1", "resourceVersion": version.to_string(),
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
    tokio::time::timeout(Duration::from_secs(10), met)
        .await
        .unwrap_or_else(|_| panic!("waited 10 s for {what}"));
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
    let api = Api {
        services: vec![service()],
        slices: vec![slice(&servers[0], 1)],
        ..Api::default()
    };
    let shutdown = CancellationToken::new();
    let (_pods, no_pods) = tokio::sync::watch::channel(None);
    let proxy = tokio::spawn(vetch_proxy::run(
        api.client(),
        cell.config("a"),
        no_pods,
        shutdown.clone(),
    ));

    until("the listed endpoint", || ask(VIP).is_ok_and(|id| id == 1)).await;
    until("the slice watch", || {
        api.send(
            "endpointslices",
            &json!({"type": "MODIFIED", "object": slice(&servers[1], 2)}),
        )
    })
    .await;
    until("the new endpoint", || ask(VIP).is_ok_and(|id| id == 2)).await;
    let dump = vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    assert!(
        dump.frontends
            .keys()
            .all(|frontend| frontend.protocol == Protocol::Tcp)
            && dump.frontends.len() == 1
    );
    until("the program's log line", || {
        lines
            .text()
            .contains("10.96.0.10:80 protocol 6 -> 127.0.0.1:")
    })
    .await;

    until("the service watch", || {
        api.send("services", &json!({"type": "DELETED", "object": service()}))
    })
    .await;
    until("the service to go", || ask(VIP).is_err()).await;

    shutdown.cancel();
    proxy.await.unwrap().unwrap();
}
