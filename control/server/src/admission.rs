//! Plugins that change or refuse a write before it is stored.

use futures::future::BoxFuture;
use serde_json::Value;
use vetch_api::resource::Resource;
use vetch_identity::User;
use vetch_store::{Precondition, Write};

use crate::state::Server;
use crate::status::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// The write under admission.
pub struct Attributes<'a> {
    pub operation: Operation,
    pub user: &'a User,
    pub resource: &'static Resource,
    /// Empty for the resource itself.
    pub subresource: &'static str,
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    /// What is stored now, for updates and deletes.
    pub old: Option<&'a Value>,
    pub dry_run: bool,
}

/// What must be written together with the object: a reservation, or its release.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    pub conditions: Vec<Precondition>,
    pub writes: Vec<Write>,
}

impl Effects {
    pub fn extend(&mut self, other: Effects) {
        self.conditions.extend(other.conditions);
        self.writes.extend(other.writes);
    }
}

/// One plugin. It is asked again when a write lost a race, so it must bear being asked twice.
pub trait Admission: Send + Sync {
    /// May change `object`; for a delete it is what is stored.
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>>;
}

/// Passes a write through all plugins.
pub(crate) async fn admit(
    server: &Server,
    attributes: &Attributes<'_>,
    object: &mut Value,
) -> Result<Effects> {
    let mut effects = Effects::default();
    for plugin in &server.admission {
        effects.extend(plugin.admit(server, attributes, object).await?);
    }
    Ok(effects)
}
