//! Which kinds the API server has, by discovery.

use std::sync::Arc;

use kube::core::{ApiResource, DynamicObject, DynamicResourceScope, PartialObjectMeta};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client};

use crate::error::{Attempt as _, Result};
use crate::key::ObjectKind;

/// An object of which only the metadata is read.
pub type Metadata = PartialObjectMeta<DynamicObject>;

#[derive(Clone, Debug)]
pub struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Kind {
    pub fn id(&self) -> ObjectKind {
        ObjectKind {
            api_version: self.resource.api_version.clone(),
            kind: self.resource.kind.clone(),
        }
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// Is listed, watched and deleted: what a garbage collector needs.
    pub fn is_collectable(&self) -> bool {
        // Events go by themselves.
        self.resource.kind != "Event"
            && [verbs::LIST, verbs::WATCH, verbs::DELETE]
                .into_iter()
                .all(|verb| self.can(verb))
    }

    /// `pods.` or `deployments.apps`, as conditions of namespaces name a resource.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.resource.plural, self.resource.group)
    }

    /// The objects of a namespace; all of them where the kind has none or `namespace` is empty.
    pub fn api<K>(&self, client: &Client, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match self.namespaced && !namespace.is_empty() {
            true => Api::namespaced_with(client.clone(), namespace, &self.resource),
            false => Api::all_with(client.clone(), &self.resource),
        }
    }

    #[cfg(test)]
    pub fn named(api_version: &str, kind: &str, plural: &str, namespaced: bool) -> Kind {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Kind {
            resource: ApiResource {
                group: group.into(),
                version: version.into(),
                api_version: api_version.into(),
                kind: kind.into(),
                plural: plural.into(),
            },
            namespaced,
            verbs: ["list", "watch", "delete"].map(str::to_owned).into(),
        }
    }
}

/// Each group's kinds in the group's preferred version.
pub async fn discover(client: &Client) -> Result<Vec<Arc<Kind>>> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await;
    let discovery = discovery.during(|| "discover the API server's kinds".to_owned())?;
    let kinds = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .map(|(resource, capabilities)| {
            Arc::new(Kind {
                resource,
                namespaced: matches!(capabilities.scope, Scope::Namespaced),
                verbs: capabilities.operations,
            })
        });
    Ok(kinds.collect())
}
