use serde_json::json;

use super::*;

fn object(name: &str, revision: i64) -> Arc<Object> {
    Object::new(
        format!("/registry/pods/ns/{name}"),
        json!({"metadata": {"name": name}}),
        revision,
    )
}

fn cache() -> (Cache, watch::Sender<i64>) {
    let (sender, receiver) = watch::channel(0);
    let cache = Cache::new(receiver);
    cache.reset(BTreeMap::new(), 1);
    sender.send_replace(1);
    (cache, sender)
}

fn put(cache: &Cache, sender: &watch::Sender<i64>, name: &str, revision: i64) {
    let object = object(name, revision);
    cache.apply(vec![Change {
        key: object.key.clone(),
        object: Some(object),
        revision,
    }]);
    sender.send_replace(revision);
}

fn remove(cache: &Cache, sender: &watch::Sender<i64>, name: &str, revision: i64) {
    cache.apply(vec![Change {
        key: format!("/registry/pods/ns/{name}"),
        object: None,
        revision,
    }]);
    sender.send_replace(revision);
}

#[tokio::test]
async fn a_watch_begins_after_its_revision() {
    let (cache, sender) = cache();
    for (revision, name) in [(5, "a"), (6, "b"), (7, "a")] {
        put(&cache, &sender, name, revision);
    }
    let mut watch = cache.watch(5).unwrap();
    let events = watch.next().await.unwrap();
    let seen: Vec<_> = events.iter().map(|e| (e.kind, e.revision)).collect();
    assert_eq!(seen, [(EventKind::Added, 6), (EventKind::Modified, 7)]);
    sender.send_replace(12);
    let (events, revision) = watch.progress().unwrap();
    assert!(events.is_empty());
    assert_eq!(revision, 12);
}

#[tokio::test]
async fn a_deletion_carries_the_last_state_and_its_own_revision() {
    let (cache, sender) = cache();
    put(&cache, &sender, "a", 5);
    remove(&cache, &sender, "a", 9);
    let events = cache.watch(5).unwrap().next().await.unwrap();
    assert_eq!(events[0].kind, EventKind::Deleted);
    assert_eq!(events[0].object.value["metadata"]["resourceVersion"], "9");
    assert!(cache.list("/registry/pods/").objects.is_empty());
}

#[test]
fn a_watch_from_before_the_window_is_expired() {
    let (cache, sender) = cache();
    for revision in 2..=(WINDOW as i64 + 12) {
        put(&cache, &sender, "a", revision);
    }
    assert!(matches!(cache.watch(3), Err(Error::Expired { .. })));
    assert!(cache.watch(12).is_ok());
}

#[tokio::test]
async fn a_new_list_ends_running_watches() {
    let (cache, sender) = cache();
    put(&cache, &sender, "a", 5);
    let mut watch = cache.watch(5).unwrap();
    cache.reset(BTreeMap::new(), 3);
    sender.send_replace(3);
    assert!(matches!(watch.next().await, Err(Error::Expired { .. })));
    assert_eq!(cache.list("/registry/pods/").revision, 3);
}

#[test]
fn a_prefix_lists_one_namespace() {
    let (cache, sender) = cache();
    put(&cache, &sender, "a", 2);
    assert_eq!(cache.list("/registry/pods/ns/").objects.len(), 1);
    assert_eq!(cache.list("/registry/pods/n/").objects.len(), 0);
    assert!(cache.any("/registry/pods/ns/") && !cache.any("/registry/pods/n/"));
}

#[test]
fn the_past_is_the_present_with_its_events_undone() {
    let (cache, sender) = cache();
    put(&cache, &sender, "a", 2);
    put(&cache, &sender, "b", 3);
    put(&cache, &sender, "c", 4);
    remove(&cache, &sender, "a", 5);
    put(&cache, &sender, "b", 6);
    put(&cache, &sender, "d", 7);
    remove(&cache, &sender, "c", 8);
    put(&cache, &sender, "a", 9);
    let at = |start: &str, revision: i64| -> Option<Vec<(String, i64)>> {
        let listed = cache.list_at(
            "/registry/pods/ns/",
            &format!("/registry/pods/ns/{start}"),
            revision,
        )?;
        Some(
            listed
                .iter()
                .map(|o| {
                    (
                        o.key.rsplit('/').next().unwrap_or_default().to_owned(),
                        o.revision,
                    )
                })
                .collect(),
        )
    };
    type Listed = &'static [(&'static str, i64)];
    let table: [(&str, i64, Option<Listed>); 8] = [
        ("", 0, None),
        ("", 1, Some(&[])),
        ("", 4, Some(&[("a", 2), ("b", 3), ("c", 4)])),
        ("b", 4, Some(&[("b", 3), ("c", 4)])),
        ("", 5, Some(&[("b", 3), ("c", 4)])),
        ("", 7, Some(&[("b", 6), ("c", 4), ("d", 7)])),
        ("", 9, Some(&[("a", 9), ("b", 6), ("d", 7)])),
        ("", 10, None),
    ];
    for (start, revision, wanted) in table {
        let wanted = wanted.map(|list| {
            list.iter()
                .map(|(n, r)| ((*n).to_owned(), *r))
                .collect::<Vec<_>>()
        });
        assert_eq!(at(start, revision), wanted, "from {start:?} at {revision}");
    }
}

#[tokio::test]
async fn what_compaction_passed_is_forgotten_and_no_running_watch_minds() {
    let (cache, sender) = cache();
    let mut running = cache.watch(1).unwrap();
    for revision in 5..8 {
        put(&cache, &sender, "a", revision);
    }
    assert_eq!(running.next().await.unwrap().len(), 3);
    let first = Arc::downgrade(&cache.list_at("/", "/", 5).unwrap()[0]);
    cache.forget(6);
    assert!(first.upgrade().is_none(), "only the history held it");
    assert!(matches!(
        cache.watch(5),
        Err(Error::Expired { oldest: 6, .. })
    ));
    assert_eq!(cache.watch(6).unwrap().next().await.unwrap().len(), 1);
    cache.forget(100);
    put(&cache, &sender, "a", 101);
    assert_eq!(running.next().await.unwrap()[0].revision, 101);
    assert_eq!(cache.watch(7).unwrap().next().await.unwrap().len(), 1);
}
