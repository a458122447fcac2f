//! The store against a real etcd.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use vetch_store::testing::Etcd;
use vetch_store::{Error, EventKind, Precondition, Store, Write};

const PODS: &str = "/registry/pods/";
const SECRETS: &str = "/registry/secrets/";

async fn open(etcd: &Etcd) -> Store {
    let prefixes = [PODS.to_owned(), SECRETS.to_owned()];
    let store = Store::open(
        &[etcd.endpoint().to_owned()],
        &prefixes,
        CancellationToken::new(),
    )
    .await
    .unwrap();
    store.ready().await;
    store
}

fn key(name: &str) -> String {
    format!("{PODS}ns/{name}")
}

fn pod(name: &str) -> serde_json::Value {
    json!({"kind": "Pod", "metadata": {"name": name}})
}

#[tokio::test]
async fn writes_hold_only_under_their_conditions() {
    let etcd = Etcd::start().await;
    let store = open(&etcd).await;
    let made = store.create(&key("a"), pod("a")).await.unwrap();
    assert!(matches!(
        store.create(&key("a"), pod("a")).await,
        Err(Error::Exists { .. })
    ));
    let changed = store
        .update(&key("a"), pod("a"), made.revision)
        .await
        .unwrap();
    assert!(changed.revision > made.revision);
    assert!(matches!(
        store.update(&key("a"), pod("a"), made.revision).await,
        Err(Error::Conflict { .. })
    ));
    assert!(matches!(
        store.update(&key("b"), pod("b"), made.revision).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        store.delete(&key("a"), made.revision).await,
        Err(Error::Conflict { .. })
    ));

    // All or nothing.
    let conditions = [
        Precondition::At(key("a"), changed.revision),
        Precondition::Absent(key("a")),
    ];
    let writes = [Write::Put(key("c"), pod("c")), Write::Delete(key("a"))];
    assert!(matches!(
        store.commit(&conditions, &writes).await,
        Err(Error::Exists { .. })
    ));
    assert!(store.get(&key("c")).await.unwrap().is_none());
    let revision = store.commit(&conditions[..1], &writes).await.unwrap();
    assert_eq!(
        store.get(&key("c")).await.unwrap().unwrap().revision,
        revision
    );
    assert!(store.get(&key("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn lists_and_watches_come_from_the_cache() {
    let etcd = Etcd::start().await;
    let store = open(&etcd).await;
    let first = store.create(&key("a"), pod("a")).await.unwrap();
    let cache = store.cache(PODS).unwrap();
    let mut watch = {
        cache.wait_for(first.revision).await.unwrap();
        cache.watch(first.revision).unwrap()
    };
    store
        .update(
            &key("a"),
            json!({"metadata": {"name": "a", "labels": {"x": "y"}}}),
            first.revision,
        )
        .await
        .unwrap();
    let second = store.create(&key("b"), pod("b")).await.unwrap();
    store.delete(&key("b"), second.revision).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(
            watch
                .next()
                .await
                .unwrap()
                .iter()
                .map(|event| (event.kind, event.object.key.clone())),
        );
    }
    let wanted = [
        (EventKind::Modified, key("a")),
        (EventKind::Added, key("b")),
        (EventKind::Deleted, key("b")),
    ];
    assert_eq!(seen, wanted);

    // A write of another kind moves this cache's revision on: a bookmark has somewhere to go.
    let other = store
        .create(&format!("{SECRETS}ns/s"), json!({"metadata": {}}))
        .await
        .unwrap();
    cache.wait_for(other.revision).await.unwrap();
    assert!(watch.progress().unwrap().1 >= other.revision);
    assert!(store.current_revision().await.unwrap() >= other.revision);

    // The past: from the window, and from etcd.
    let then = cache.list_at(PODS, PODS, second.revision).unwrap();
    let (there, count) = store.list_at(PODS, PODS, second.revision, 1).await.unwrap();
    assert_eq!((then.len(), there.len(), count), (2, 1, 2));
    assert_eq!(then[0].json(), there[0].json());
    assert!(matches!(
        store.list_at(PODS, PODS, 1 << 40, 0).await,
        Err(Error::Future { .. })
    ));
    assert!(matches!(
        cache.wait_for(1 << 40).await,
        Err(Error::Future { .. })
    ));
}

#[tokio::test]
async fn a_store_reads_what_another_left_behind() {
    let etcd = Etcd::start().await;
    let written = open(&etcd).await.create(&key("a"), pod("a")).await.unwrap();
    let store = open(&etcd).await;
    let listing = store.cache(PODS).unwrap().list(PODS);
    assert_eq!(listing.objects.len(), 1);
    assert_eq!(listing.objects[0].json(), written.json());
    assert!(listing.revision >= written.revision);
}

#[tokio::test]
async fn etcd_may_die_and_come_back() {
    let mut etcd = Etcd::start().await;
    let store = open(&etcd).await;
    let first = store.create(&key("a"), pod("a")).await.unwrap();
    let cache = store.cache(PODS).unwrap();
    cache.wait_for(first.revision).await.unwrap();
    let mut watch = cache.watch(first.revision).unwrap();

    etcd.kill();
    assert!(matches!(
        store.create(&key("b"), pod("b")).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        store.current_revision().await,
        Err(Error::Unavailable(_))
    ));
    // What is known stays readable.
    assert_eq!(cache.list(PODS).objects.len(), 1);

    etcd.restart().await;
    let second = store.create(&key("c"), pod("c")).await.unwrap();
    let events = tokio::time::timeout(Duration::from_secs(10), watch.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(events.last().unwrap().object.key, key("c"));
    assert_eq!(events.last().unwrap().revision, second.revision);
}

#[tokio::test]
async fn what_lives_for_a_while_is_gone_afterwards() {
    let etcd = Etcd::start().await;
    let store = open(&etcd).await;
    let conditions = [Precondition::Absent(key("a"))];
    store
        .commit_for(&conditions, &[Write::Put(key("a"), pod("a"))], Some(3600))
        .await
        .unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let lease = client.get(key("a"), None).await.unwrap().kvs()[0].lease();
    let left = client.lease_time_to_live(lease, None).await.unwrap().ttl();
    assert!((3600..=3660).contains(&left), "{left}");

    // A lease that etcd has forgotten does not stop the next write.
    client.lease_revoke(lease).await.unwrap();
    store
        .commit_for(&conditions, &[Write::Put(key("a"), pod("a"))], Some(3600))
        .await
        .unwrap();
}
