//! Every namespace has a service account `default`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::error::{Attempt as _, Result, is_already_exists};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, name_of, namespace_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

const NAME: &str = "default";

pub struct ServiceAccountController {
    client: Client,
    namespaces: Arc<Informer<Namespace>>,
    accounts: Arc<Informer<ServiceAccount>>,
}

impl ServiceAccountController {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> ServiceAccountController {
        let keys = queue.clone();
        informers
            .namespaces
            .listen(move |change: &Change<Namespace>| {
                if let Some(namespace) = change.new.as_ref().filter(|own| is_active(own)) {
                    keys.add(ObjectKey::of(namespace.as_ref()));
                }
            });
        let keys = queue.clone();
        informers
            .service_accounts
            .listen(move |change: &Change<ServiceAccount>| {
                if let (Some(gone), None) = (&change.old, &change.new)
                    && name_of(gone.as_ref()) == NAME
                {
                    keys.add(ObjectKey::new("", namespace_of(gone.as_ref())));
                }
            });
        ServiceAccountController {
            client,
            namespaces: informers.namespaces.clone(),
            accounts: informers.service_accounts.clone(),
        }
    }
}

/// Takes new content.
pub fn is_active(namespace: &Namespace) -> bool {
    let status = namespace.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    !is_deleted(namespace) && phase.is_none_or(|phase| phase == "Active")
}

impl Reconcile for ServiceAccountController {
    type Key = ObjectKey;

    const NAME: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let active = self.namespaces.get(key).is_some_and(|own| is_active(&own));
        let there = self
            .accounts
            .get(&ObjectKey::new(&key.name, NAME))
            .is_some();
        if !active || there {
            return Ok(Next::OnChange);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        match api.create(&PostParams::default(), &account).await {
            Err(error) if is_already_exists(&error) => Ok(Next::OnChange),
            created => match created.during(|| format!("create service account {key}/{NAME}")) {
                Err(error) if !error.is_namespace_terminating() && !error.is_not_found() => {
                    Err(error)
                }
                _ => Ok(Next::OnChange),
            },
        }
    }
}
