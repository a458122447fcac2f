//! Watches the kinds of `policy.networking.k8s.io`, which not every API server serves.

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};

const GROUP: &str = "policy.networking.k8s.io";
const VERSION: &str = "v1alpha1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminKind {
    Admin,
    Baseline,
}

impl AdminKind {
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Admin => "adminnetworkpolicies",
            Self::Baseline => "baselineadminnetworkpolicies",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Admin => "AdminNetworkPolicy",
            Self::Baseline => "BaselineAdminNetworkPolicy",
        }
    }

    fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk(GROUP, VERSION, self.kind());
        ApiResource::from_gvk_with_plural(&kind, self.plural())
    }
}

/// What becomes known of a kind.
#[derive(Debug)]
pub enum Told {
    Event(Event<DynamicObject>),
    /// The API server has no such kind. It is asked again all the same.
    NotServed,
    Failed(watcher::Error),
}

pub fn watch(client: &Client, of: AdminKind) -> BoxStream<'static, Told> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &of.resource());
    let client = client.clone();
    watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .then(move |event| told(client.clone(), of, event))
        .boxed()
}

async fn told(
    client: Client,
    of: AdminKind,
    event: Result<Event<DynamicObject>, watcher::Error>,
) -> Told {
    match event {
        Ok(event) => Told::Event(event),
        Err(error) => match refused(&error) {
            Some(404) => Told::NotServed,
            // Whoever may not read a kind hears so where there is none, too; what there is
            // everybody may know.
            Some(403) if !is_served(&client, of).await => Told::NotServed,
            _ => Told::Failed(error),
        },
    }
}

/// The code of the answer to a LIST.
fn refused(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

async fn is_served(client: &Client, of: AdminKind) -> bool {
    let group = format!("{GROUP}/{VERSION}");
    match client.list_api_group_resources(&group).await {
        Ok(list) => list.resources.iter().any(|one| one.name == of.plural()),
        Err(kube::Error::Api(status)) => status.code != 404,
        Err(_) => true,
    }
}
