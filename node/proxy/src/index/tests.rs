use serde_json::json;

use super::*;

fn service(name: &str, ip: &str) -> core::v1::Service {
    let value = json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}
    });
    serde_json::from_value(value).unwrap()
}

fn slice(name: &str, service: &str, ip: &str) -> discovery::v1::EndpointSlice {
    let value = json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [{"addresses": [ip]}]
    });
    serde_json::from_value(value).unwrap()
}

fn changes(index: &mut Index) -> Vec<String> {
    let line = |(name, ports): (&ObjectName, &Vec<ServicePort>)| {
        let backends = ports
            .iter()
            .flat_map(|port| &port.backends)
            .map(ToString::to_string);
        format!("{name} {}", backends.collect::<Vec<_>>().join(" "))
    };
    index.take_changes().iter().map(line).collect()
}

fn listed() -> Index {
    let mut index = Index::default();
    index.service(Event::Init);
    index.service(Event::InitApply(service("a", "10.96.0.1")));
    index.service(Event::InitApply(service("b", "10.96.0.2")));
    assert!(!index.complete());
    index.service(Event::InitDone);
    assert!(!index.complete(), "slices are not listed yet");
    index.slice(Event::Init);
    index.slice(Event::InitApply(slice("a-1", "a", "10.244.0.1")));
    index.slice(Event::InitDone);
    assert!(index.complete());
    assert_eq!(changes(&mut index), ["ns/a 10.244.0.1:8080", "ns/b "]);
    index
}

#[test]
fn only_what_changed_is_looked_at() {
    let mut index = listed();
    index.service(Event::Apply(service("a", "10.96.0.1")));
    index.slice(Event::Apply(slice("a-1", "a", "10.244.0.1")));
    assert!(!index.has_changes());
    index.slice(Event::Apply(slice("a-2", "a", "10.244.0.2")));
    assert_eq!(
        changes(&mut index),
        ["ns/a 10.244.0.1:8080 10.244.0.2:8080"]
    );
    index.slice(Event::Delete(slice("a-1", "a", "10.244.0.1")));
    assert_eq!(changes(&mut index), ["ns/a 10.244.0.2:8080"]);
    index.slice(Event::Apply(slice("a-2", "b", "10.244.0.2")));
    assert_eq!(changes(&mut index), ["ns/a ", "ns/b 10.244.0.2:8080"]);
    index.service(Event::Delete(service("b", "10.96.0.2")));
    assert_eq!(changes(&mut index), ["ns/b "]);
    index.service(Event::Apply(service("b", "10.96.0.3")));
    assert_eq!(
        changes(&mut index),
        ["ns/b 10.244.0.2:8080"],
        "slices may be there before their service"
    );
}

#[test]
fn a_list_that_is_not_complete_takes_nothing_away() {
    let mut index = listed();
    index.slice(Event::Init);
    index.service(Event::Init);
    index.service(Event::InitApply(service("b", "10.96.0.2")));
    assert!(!index.has_changes());
    index.service(Event::InitDone);
    assert_eq!(
        changes(&mut index),
        ["ns/a "],
        "a is gone, and wants nothing"
    );
    index.slice(Event::InitDone);
    assert_eq!(changes(&mut index), ["ns/a "]);
}
