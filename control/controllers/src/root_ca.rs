//! Every namespace has a ConfigMap `kube-root-ca.crt`: by it pods know the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::error::{Attempt as _, Result, is_already_exists};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, name_of, namespace_of};
use crate::queue::Queue;
use crate::service_account::is_active;
use crate::worker::{Next, Reconcile};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIBED: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub struct RootCaPublisher {
    client: Client,
    pem: String,
    namespaces: Arc<Informer<Namespace>>,
    maps: Arc<Informer<ConfigMap>>,
}

impl RootCaPublisher {
    pub fn new(
        client: Client,
        pem: String,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> RootCaPublisher {
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
            .config_maps
            .listen(move |change: &Change<ConfigMap>| {
                let map = change.latest().filter(|map| name_of(map.as_ref()) == NAME);
                if let Some(map) = map {
                    keys.add(ObjectKey::new("", namespace_of(map.as_ref())));
                }
            });
        RootCaPublisher {
            client,
            pem,
            namespaces: informers.namespaces.clone(),
            maps: informers.config_maps.clone(),
        }
    }
}

/// What to write; None: `current` is right.
fn plan(namespace: &str, pem: &str, current: Option<&ConfigMap>) -> Option<ConfigMap> {
    let mut map = current.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    map.data = Some([(FILE.to_owned(), pem.to_owned())].into());
    map.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.into(), DESCRIBED.into());
    (current != Some(&map)).then_some(map)
}

impl Reconcile for RootCaPublisher {
    type Key = ObjectKey;

    const NAME: &'static str = "root-ca-certificate-publisher";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        if !self.namespaces.get(key).is_some_and(|own| is_active(&own)) {
            return Ok(Next::OnChange);
        }
        let current = self.maps.get(&ObjectKey::new(&key.name, NAME));
        let Some(wanted) = plan(&key.name, &self.pem, current.as_deref()) else {
            return Ok(Next::OnChange);
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let parameters = PostParams::default();
        let written = match current {
            None => api.create(&parameters, &wanted).await,
            Some(_) => api.replace(NAME, &parameters, &wanted).await,
        };
        match written {
            // The cache does not show it yet; its event comes.
            Err(error) if is_already_exists(&error) => Ok(Next::OnChange),
            written => match written.during(|| format!("write ConfigMap {key}/{NAME}")) {
                Err(error) if !error.is_namespace_terminating() && !error.is_not_found() => {
                    Err(error)
                }
                _ => Ok(Next::OnChange),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_kept_and_repaired() {
        let made = plan("n", "PEM", None).expect("new");
        assert_eq!(made.metadata.namespace.as_deref(), Some("n"));
        assert_eq!(plan("n", "PEM", Some(&made)), None);
        let mut labelled = made.clone();
        labelled.metadata.labels = Some([("mine".to_owned(), "yes".to_owned())].into());
        assert_eq!(
            plan("n", "PEM", Some(&labelled)),
            None,
            "labels are people's"
        );
        let mut more = made.clone();
        let data = more.data.get_or_insert_default();
        data.insert("other".into(), "x".into());
        assert_eq!(plan("n", "PEM", Some(&more)), Some(made.clone()));
        let mut bare = made.clone();
        bare.metadata.annotations = None;
        assert_eq!(plan("n", "PEM", Some(&bare)), Some(made.clone()));
        let renewed = plan("n", "NEW", Some(&made)).and_then(|map| map.data);
        assert_eq!(renewed, Some([(FILE.to_owned(), "NEW".to_owned())].into()));
    }
}
