//! `healthCheckNodePort`: load balancers ask at it whether this node has
//! endpoints of a Service whose external traffic policy is Local.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode},
    response::Response,
};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{debug, warn};

use super::{Health, json, serve};
use crate::index::{HealthCheck, ObjectName};

/// kube-proxy's header since 1.31: the weight of this node among others.
const WEIGHT: &str = "X-Load-Balancing-Endpoint-Weight";

/// The listeners of this node.
#[derive(Debug)]
pub struct NodePorts {
    health: Health,
    servers: BTreeMap<ObjectName, Server>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    endpoints: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that could not be listened at.
#[derive(Debug)]
pub struct Failed {
    pub service: ObjectName,
    pub port: u16,
    pub error: std::io::Error,
}

impl NodePorts {
    pub fn new(health: Health) -> Self {
        Self {
            health,
            servers: BTreeMap::new(),
        }
    }

    /// Listens at what is wanted, and only there. What fails is tried again at
    /// the next call.
    pub async fn reconcile(&mut self, wanted: &BTreeMap<ObjectName, HealthCheck>) -> Vec<Failed> {
        self.servers.retain(|name, server| {
            wanted
                .get(name)
                .is_some_and(|check| check.port == server.port)
        });
        let mut failed = Vec::new();
        for (service, check) in wanted {
            if let Some(server) = self.servers.get(service) {
                server.endpoints.send_replace(check.endpoints);
                continue;
            }
            match self.listen(service, *check).await {
                Ok(server) => {
                    debug!(%service, port = check.port, "health check node port opened");
                    self.servers.insert(service.clone(), server);
                }
                Err(error) => {
                    warn!(%service, port = check.port, %error, "cannot open the health check node port");
                    failed.push(Failed {
                        service: service.clone(),
                        port: check.port,
                        error,
                    });
                }
            }
        }
        failed
    }

    async fn listen(&self, service: &ObjectName, check: HealthCheck) -> std::io::Result<Server> {
        let listener = serve::everywhere(check.port).await?;
        let (endpoints, seen) = watch::channel(check.endpoints);
        let state = (self.health.clone(), service.clone(), seen);
        let router = Router::new()
            .fallback(
                |State((health, service, seen)): State<(
                    Health,
                    ObjectName,
                    watch::Receiver<usize>,
                )>| async move {
                    answer(&service, *seen.borrow(), health.is_well(Instant::now()))
                },
            )
            .with_state(state);
        Ok(Server {
            port: check.port,
            endpoints,
            task: tokio::spawn(serve::on(listener, router)),
        })
    }
}

fn answer(service: &ObjectName, endpoints: usize, well: bool) -> Response {
    let status = if endpoints > 0 && well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    // The body's shape is part of the contract; names of objects need no escapes.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\
         \"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {well}\n}}",
        service.namespace(),
        service.name()
    );
    let mut response = json((status, body));
    response
        .headers_mut()
        .insert(WEIGHT, HeaderValue::from(endpoints));
    response
}

/// Failures that were not told yet: one Event for a port, not one a second.
#[derive(Debug, Default)]
pub struct Told(HashMap<ObjectName, u16>);

impl Told {
    pub fn news(&mut self, failed: Vec<Failed>) -> Vec<Failed> {
        let before = std::mem::take(&mut self.0);
        self.0 = failed
            .iter()
            .map(|failed| (failed.service.clone(), failed.port))
            .collect();
        failed
            .into_iter()
            .filter(|failed| before.get(&failed.service) != Some(&failed.port))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("shop", name)
    }

    #[tokio::test]
    async fn answers_are_kube_proxys() {
        for (endpoints, well, status) in [(2, true, 200), (0, true, 503), (2, false, 503)] {
            let response = answer(&name("cart"), endpoints, well);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[WEIGHT], endpoints.to_string());
            let body = to_bytes(response.into_body(), 1 << 10).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                body,
                serde_json::json!({
                    "service": {"namespace": "shop", "name": "cart"},
                    "localEndpoints": endpoints,
                    "serviceProxyHealthy": well,
                })
            );
        }
    }

    #[tokio::test]
    async fn listeners_follow_what_is_wanted() {
        let taken = tokio::net::TcpListener::bind("[::]:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut ports = NodePorts::new(Health::default());
        let wanted = BTreeMap::from([(name("cart"), HealthCheck { port, endpoints: 1 })]);
        let mut told = Told::default();
        let failed = ports.reconcile(&wanted).await;
        assert_eq!(told.news(failed).len(), 1);
        let failed = ports.reconcile(&wanted).await;
        assert_eq!(failed.len(), 1);
        assert!(told.news(failed).is_empty(), "told already");
        drop(taken);
        assert!(ports.reconcile(&wanted).await.is_empty());
        let ask = || tokio::net::TcpStream::connect(("127.0.0.1", port));
        assert!(ask().await.is_ok());
        assert!(ports.reconcile(&BTreeMap::new()).await.is_empty());
        // The task's end closes the socket a moment later.
        while ask().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
