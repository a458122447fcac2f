use k8s_openapi::api::discovery::v1::EndpointPort;
use serde_json::json;

use super::*;
use crate::endpoint_slice::testing::endpoint;

fn service() -> Service {
    let service = json!({"metadata": {"namespace": "d", "name": "web", "uid": "u"}, "spec": {"clusterIP": "10.96.0.1"}});
    serde_json::from_value(service).expect("a service")
}

fn group(port: i32, numbers: impl IntoIterator<Item = usize>) -> (PortSet, Group) {
    let ports = vec![EndpointPort {
        name: Some(String::new()),
        port: Some(port),
        protocol: Some("TCP".into()),
        app_protocol: None,
    }];
    let endpoints = numbers
        .into_iter()
        .map(|number| endpoint(number, true))
        .collect();
    (PortSet::of(&ports), Group { ports, endpoints })
}

type Wanted = BTreeMap<Family, BTreeMap<PortSet, Group>>;

fn v4(groups: impl IntoIterator<Item = (PortSet, Group)>) -> Wanted {
    [(Family::V4, groups.into_iter().collect())].into()
}

/// A slice as the server would have it.
fn stored(name: &str, port: i32, numbers: impl IntoIterator<Item = usize>) -> Arc<EndpointSlice> {
    let mut slice = new_slice(&service(), Family::V4, group(port, numbers).1);
    slice.metadata.name = Some(name.into());
    slice.metadata.uid = Some(format!("uid-{name}"));
    Arc::new(slice)
}

/// Creations and updates as (name, endpoints), deletions as names.
fn told(changes: &Changes) -> (Vec<usize>, Vec<(String, usize)>, Vec<String>) {
    let name = |slice: &EndpointSlice| name_of(slice).to_owned();
    let mut updates: Vec<_> = changes
        .update
        .iter()
        .map(|slice| (name(slice), count(slice)))
        .collect();
    let mut deletes: Vec<String> = changes.delete.iter().map(|slice| name(slice)).collect();
    updates.sort();
    deletes.sort();
    let creates = changes.create.iter().map(count).collect();
    (creates, updates, deletes)
}

#[test]
fn as_few_writes_as_it_takes() {
    let update = |name: &str, count: usize| (name.to_owned(), count);
    for (what, existing, wanted, outcome) in [
        (
            "the first slice",
            vec![],
            v4([group(80, 0..3)]),
            (vec![3], vec![], vec![]),
        ),
        (
            "nothing to do",
            vec![stored("a", 80, 0..3)],
            v4([group(80, 0..3)]),
            (vec![], vec![], vec![]),
        ),
        (
            "slices of a hundred",
            vec![],
            v4([group(80, 0..250)]),
            (vec![100, 100, 50], vec![], vec![]),
        ),
        (
            "an endpoint goes",
            vec![stored("a", 80, 0..3)],
            v4([group(80, 0..2)]),
            (vec![], vec![update("a", 2)], vec![]),
        ),
        (
            "one comes where one went: one write",
            vec![stored("a", 80, 0..50), stored("b", 80, 50..100)],
            v4([group(80, (1..100).chain([200]))]),
            (vec![], vec![update("a", 50)], vec![]),
        ),
        (
            "new ones go into the fullest slice with room for all of them",
            vec![
                stored("a", 80, 0..99),
                stored("b", 80, 100..190),
                stored("c", 80, 200..210),
            ],
            v4([group(
                80,
                (0..99).chain(100..190).chain(200..210).chain(300..305),
            )]),
            (vec![], vec![update("b", 95)], vec![]),
        ),
        (
            "a slice that empties goes",
            vec![stored("a", 80, 0..2), stored("b", 80, 2..4)],
            v4([group(80, 0..2)]),
            (vec![], vec![], vec!["b".to_owned()]),
        ),
        (
            "other ports take the slice over",
            vec![stored("a", 80, 0..2)],
            v4([group(81, 0..2)]),
            (vec![], vec![update("a", 2)], vec![]),
        ),
        (
            "no pods leave an empty slice",
            vec![stored("a", 80, 0..2)],
            v4([]),
            (vec![], vec![update("a", 0)], vec![]),
        ),
        (
            "no pods from the start",
            vec![],
            v4([]),
            (vec![0], vec![], vec![]),
        ),
        (
            "another address family goes, an empty slice of the right one comes",
            vec![stored("a", 80, 0..2)],
            [(Family::V6, BTreeMap::new())].into(),
            (vec![0], vec![], vec!["a".to_owned()]),
        ),
    ] {
        let changes = plan(&service(), &existing, wanted);
        assert_eq!(told(&changes), outcome, "{what}");
    }
}

#[test]
fn the_empty_slice_is_kept_and_then_filled() {
    let made = plan(&service(), &[], v4([])).create.remove(0);
    assert_eq!(made.ports, Some(Vec::new()));
    let mut made = made;
    made.metadata.name = Some("a".into());
    let existing = [Arc::new(made)];
    assert_eq!(plan(&service(), &existing, v4([])), Changes::default());
    let filled = plan(&service(), &existing, v4([group(80, 0..1)]));
    assert_eq!(told(&filled), (vec![], vec![("a".to_owned(), 1)], vec![]));
    assert_eq!(filled.update[0].ports, Some(group(80, []).1.ports));
}

#[test]
fn an_endpoint_that_changes_stays_in_its_place() {
    let existing = [stored("a", 80, 0..3)];
    let (ports, mut changed) = group(80, 0..3);
    changed.endpoints[1] = endpoint(1, false);
    let changes = plan(&service(), &existing, v4([(ports, changed)]));
    let slice = &changes.update[0];
    let ready: Vec<Option<bool>> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|own| own.conditions.as_ref().and_then(|own| own.ready))
        .collect();
    assert_eq!(ready, [Some(true), Some(false), Some(true)]);
}

#[test]
fn labels_that_changed_are_written_alone() {
    let mut labelled = service();
    labelled.metadata.labels = Some([("team".to_owned(), "b".to_owned())].into());
    let changes = plan(&labelled, &[stored("a", 80, 0..3)], v4([group(80, 0..3)]));
    assert_eq!(told(&changes), (vec![], vec![("a".to_owned(), 3)], vec![]));
}

#[test]
fn slices_of_an_earlier_service_go() {
    let mut reborn = service();
    reborn.metadata.uid = Some("v".into());
    let changes = plan(&reborn, &[stored("a", 80, 0..3)], v4([group(80, 0..3)]));
    assert_eq!(told(&changes), (vec![3], vec![], vec!["a".to_owned()]));
}

#[test]
fn a_service_that_is_being_deleted_gets_no_new_slice() {
    let mut deleted = service();
    deleted.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
    );
    assert_eq!(
        plan(&deleted, &[], v4([group(80, 0..3)])),
        Changes::default()
    );
}
