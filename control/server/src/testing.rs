//! An API server in process over a real etcd, for tests of this crate and of those above it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use tokio_util::sync::{CancellationToken, DropGuard};
use vetch_identity::User;
use vetch_store::Store;
use vetch_store::testing::Etcd;

use crate::admission::Admission;
use crate::connect::Connector;
use crate::guard::{Action, Guard};
use crate::state::{Server, ServerConfig};

/// Everybody is who they say, by certificate or in this process, and may do what the rule allows.
pub struct Open(pub fn(&User, &Action<'_>) -> bool);

impl Guard for Open {
    fn authenticate<'a>(
        &'a self,
        _: &'a Server,
        _: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>> {
        async move { certificate.cloned() }.boxed()
    }

    fn authorize<'a>(
        &'a self,
        _: &'a Server,
        user: &'a User,
        action: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>> {
        let allowed = (self.0)(user, action);
        async move { if allowed { Ok(()) } else { Err(String::new()) } }.boxed()
    }
}

/// What a server has beyond the rows: by default nothing, and everybody may do everything.
pub struct Parts {
    /// Key prefixes the plugins cache.
    pub prefixes: Vec<String>,
    pub admission: Vec<Arc<dyn Admission>>,
    pub connectors: HashMap<&'static str, Connector>,
    pub guard: Arc<dyn Guard>,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            prefixes: Vec::new(),
            admission: Vec::new(),
            connectors: HashMap::new(),
            guard: Arc::new(Open(|_, _| true)),
        }
    }
}

/// Its watches of etcd end with the value. A cluster may have several over one etcd.
pub struct ApiServer {
    pub server: Server,
    pub router: Router,
    pub stop: CancellationToken,
    _guard: DropGuard,
}

impl ApiServer {
    /// Ready when this returns.
    ///
    /// # Panics
    /// Where etcd cannot be opened: a test that needs it must not pass.
    pub async fn start(etcd: &Etcd, parts: Parts) -> ApiServer {
        let stop = CancellationToken::new();
        let registry = vetch_api::registry();
        let mut prefixes = Server::prefixes(registry);
        prefixes.extend(parts.prefixes);
        let store = Store::open(&[etcd.endpoint().to_owned()], &prefixes, stop.clone())
            .await
            .expect("etcd");
        store.ready().await;
        let server = Server::new(ServerConfig {
            store,
            registry,
            admission: parts.admission,
            connectors: parts.connectors,
            guard: parts.guard,
        });
        ApiServer {
            router: crate::router(server.clone()),
            server,
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// A client in process that acts as this user.
    pub fn client(&self, user: &str, groups: &[&str]) -> kube::Client {
        crate::client(&self.router, user, groups)
    }
}
