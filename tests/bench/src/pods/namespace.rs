//! A namespace of the run's own, gone when the run ends.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Namespace as Object, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::run::Run;

/// Until pods may be made in a new one.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(30);
/// Until it is gone with ten thousands of objects in it.
const GONE_LIMIT: Duration = Duration::from_secs(300);

pub struct Namespace {
    client: kube::Client,
    pub name: String,
    uid: String,
}

impl Namespace {
    /// Makes `PREFIX-xxxxx` and waits until pods may be made in it.
    ///
    /// # Errors
    /// Also when `stop` is cancelled before that; then it is gone again.
    pub async fn create(
        client: &kube::Client,
        prefix: &str,
        stop: &CancellationToken,
    ) -> Result<Namespace> {
        let wanted = Object {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..ObjectMeta::default()
            },
            ..Object::default()
        };
        let made = Api::<Object>::all(client.clone())
            .create(&PostParams::default(), &wanted)
            .await
            .context("create a namespace")?;
        let namespace = Namespace {
            client: client.clone(),
            name: made.metadata.name.context("the namespace has no name")?,
            uid: made.metadata.uid.context("the namespace has no uid")?,
        };
        let usable = tokio::select! {
            usable = namespace.account() => usable,
            () = stop.cancelled() => Err(anyhow::anyhow!("stopped before it began")),
        };
        if let Err(error) = usable {
            return Err(match namespace.delete().await {
                Ok(()) => error,
                Err(also) => error.context(format!("and then: {also:#}")),
            });
        }
        Ok(namespace)
    }

    /// Pods are refused until the default service account is there.
    async fn account(&self) -> Result<()> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.name);
        let there = await_condition(api, "default", |account: Option<&ServiceAccount>| {
            account.is_some()
        });
        match timeout(ACCOUNT_LIMIT, there).await {
            Ok(seen) => drop(seen.context("watch the default service account")?),
            Err(_) => bail!(
                "no service account default in {} after {ACCOUNT_LIMIT:?}",
                self.name
            ),
        }
        Ok(())
    }

    pub async fn delete(&self) -> Result<()> {
        let api: Api<Object> = Api::all(self.client.clone());
        api.delete(&self.name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete namespace {}", self.name))?;
        let gone = await_condition(api, &self.name, conditions::is_deleted(&self.uid));
        match timeout(GONE_LIMIT, gone).await {
            Ok(seen) => drop(seen.with_context(|| format!("watch namespace {}", self.name))?),
            Err(_) => bail!(
                "namespace {} is not gone after {GONE_LIMIT:?}: look at its conditions with \
                 `kubectl get namespace {} -o yaml`",
                self.name,
                self.name
            ),
        }
        Ok(())
    }

    /// Deletes it while a line says so.
    pub async fn remove(&self, run: &Run) -> Result<()> {
        let bar = crate::pods::steps::spinner(run, &format!("remove namespace {}", self.name));
        let gone = self.delete().await;
        bar.finish_and_clear();
        gone
    }
}
