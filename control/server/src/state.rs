//! What every handler needs: the store, the rows, and the plugins.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use vetch_api::resource::Resource;
use vetch_store::{Cache, Object, Store};

use crate::admission::Admission;
use crate::connect::Connector;
use crate::guard::Guard;
use crate::request::storage_prefix;
use crate::status::{Result, Status};

/// What the server is made of.
pub struct ServerConfig {
    pub store: Store,
    pub registry: &'static [Resource],
    /// In order; a write passes all of them.
    pub admission: Vec<Arc<dyn Admission>>,
    /// By `PLURAL/SUBRESOURCE`, or by `GROUP/KIND` for kinds that are never stored.
    pub connectors: HashMap<&'static str, Connector>,
    pub guard: Arc<dyn Guard>,
}

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<ServerConfig>);

impl std::ops::Deref for Server {
    type Target = ServerConfig;

    fn deref(&self) -> &ServerConfig {
        &self.0
    }
}

impl Server {
    pub fn new(config: ServerConfig) -> Server {
        Server(Arc::new(config))
    }

    /// The key prefixes the store must cache for these rows.
    pub fn prefixes(registry: &[Resource]) -> Vec<String> {
        let mut prefixes: Vec<String> = registry
            .iter()
            .filter(|row| row.is_stored())
            .map(storage_prefix)
            .collect();
        prefixes.sort();
        prefixes.dedup();
        prefixes
    }

    pub fn cache(&self, resource: &Resource) -> Result<&Cache> {
        self.store
            .cache(&storage_prefix(resource))
            .ok_or_else(|| Status::internal(format!("{} is not cached", resource.plural)))
    }

    /// The row of a core kind, for plugins.
    pub fn row(&self, group: &str, plural: &str) -> Result<&'static Resource> {
        self.registry
            .iter()
            .find(|row| row.group == group && row.plural == plural)
            .ok_or_else(|| Status::internal(format!("no resource {plural}.{group}")))
    }

    /// An object by name, as fresh as etcd: for plugins that decide on it.
    pub async fn find(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>> {
        let row = self.row(group, plural)?;
        let key = match namespace {
            Some(namespace) => format!("{}{namespace}/{name}", storage_prefix(row)),
            None => format!("{}{name}", storage_prefix(row)),
        };
        // What the cache has was true a moment ago; only what it lacks is asked of etcd.
        if let Some(object) = self.cache(row)?.get(&key) {
            return Ok(Some(object));
        }
        Ok(self.store.get(&key).await?)
    }

    /// All objects of a namespace, as fresh as etcd.
    pub async fn all(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
    ) -> Result<Vec<Arc<Object>>> {
        let row = self.row(group, plural)?;
        let cache = self.cache(row)?;
        cache.wait_for(self.store.current_revision().await?).await?;
        let prefix = format!("{}{namespace}/", storage_prefix(row));
        Ok(cache.list(&prefix).objects)
    }
}

/// The object in the row's own version.
pub fn presented(resource: &Resource, object: &Object) -> Value {
    (resource.from_storage)(object.value.clone())
}
