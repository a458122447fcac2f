//! Which namespaces there are: names below those that do not exist are no names.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{PoisonError, RwLock},
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::Notify;
use tracing::warn;

use crate::records::Records;

const FORBIDDEN: u16 = 403;

/// Tells the records, for ever. Where the API server does not tell this node (a
/// stock one's node authorizer), every namespace may exist.
pub async fn follow(client: Client, records: &RwLock<Records>, changed: &Notify) -> Infallible {
    let api: Api<Namespace> = Api::all(client);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut listing = HashSet::new();
    let mut told = false;
    loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                if is_forbidden(&error) {
                    write(records).namespaces(None);
                    changed.notify_one();
                }
                if !std::mem::replace(&mut told, true) {
                    warn!(%error, "cannot watch namespaces; trying again");
                }
                continue;
            }
            // The stream tries again for ever.
            None => std::future::pending().await,
        };
        match event {
            Event::Init => listing = HashSet::new(),
            Event::InitApply(namespace) => {
                listing.insert(namespace.name_any().into());
            }
            Event::InitDone => {
                told = false;
                write(records).namespaces(Some(std::mem::take(&mut listing)));
            }
            Event::Apply(namespace) => write(records).namespace(&namespace.name_any(), true),
            Event::Delete(namespace) => write(records).namespace(&namespace.name_any(), false),
        }
        changed.notify_one();
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        _ => return false,
    };
    matches!(cause, kube::Error::Api(status) if status.code == FORBIDDEN)
}

fn write(records: &RwLock<Records>) -> std::sync::RwLockWriteGuard<'_, Records> {
    records.write().unwrap_or_else(PoisonError::into_inner)
}
