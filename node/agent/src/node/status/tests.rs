use super::*;
use crate::node::pressure::Pressure;

fn fixed() -> Fixed {
    Fixed {
        name: "node-1".into(),
        ips: vec!["172.30.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        kubelet_port: 10250,
        max_pods: 110,
        eviction: Eviction::default(),
        machine: Machine {
            cpus: 2,
            memory_bytes: 4 << 30,
            disk_bytes: 1 << 30,
            kernel_version: "6.18.1".into(),
            os_image: "Debian".into(),
            architecture: "amd64".into(),
            ..Machine::default()
        },
        user_namespaces: true,
    }
}

fn image(id: &str, size_bytes: u64, tags: usize) -> ImageStatus {
    ImageStatus {
        id: id.into(),
        repo_tags: (0..tags).map(|tag| format!("{id}:{tag}")).collect(),
        repo_digests: vec![format!("{id}@sha256:1")],
        size_bytes,
        ..ImageStatus::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn status(health: &Health<'_>, before: Option<&NodeStatus>, now: i64) -> NodeStatus {
    build(&fixed(), health, &[image("a", 5, 1)], before, at(now))
}

#[test]
fn what_kubectl_shows() {
    let status = json!(status(&Health::default(), None, 1));
    assert_eq!(
        status["addresses"],
        json!([
            {"type": "InternalIP", "address": "172.30.0.2"},
            {"type": "InternalIP", "address": "fd00::2"},
            {"type": "Hostname", "address": "node-1"},
        ])
    );
    assert_eq!(status["daemonEndpoints"]["kubeletEndpoint"]["Port"], 10250);
    let info = &status["nodeInfo"];
    assert_eq!(info["operatingSystem"], "linux");
    assert_eq!(info["kernelVersion"], "6.18.1");
    assert!(
        info["kubeletVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.36.")
    );
    assert!(
        info["containerRuntimeVersion"]
            .as_str()
            .unwrap()
            .starts_with("vetch://")
    );
    assert_eq!(info.get("swap"), None);
    assert_eq!(
        status["images"],
        json!([{"names": ["a@sha256:1", "a:0"], "sizeBytes": 5}])
    );
    assert_eq!(status["capacity"]["pods"], "110");
}

#[test]
fn fifty_images_at_most_the_largest_first() {
    let stored: Vec<ImageStatus> = (0..60).map(|n| image(&format!("i{n:02}"), n, 7)).collect();
    let listed = images::list(&stored);
    assert_eq!(listed.len(), 50);
    let names = listed[0].names.as_ref().unwrap();
    assert_eq!(names.len(), 5);
    assert_eq!(names[0], "i59@sha256:1");
}

#[test]
fn only_what_differs_is_sent() {
    let first = status(&Health::default(), None, 1);
    let sent = patch(None, &first, false).unwrap();
    let sent: Vec<&String> = sent["status"].as_object().unwrap().keys().collect();
    assert_eq!(
        sent,
        [
            "addresses",
            "allocatable",
            "capacity",
            "conditions",
            "daemonEndpoints",
            "declaredFeatures",
            "features",
            "images",
            "nodeInfo",
            "runtimeHandlers"
        ]
    );
    // Later, and nothing is new.
    let same = status(&Health::default(), Some(&first), 2);
    assert_eq!(patch(Some(&first), &same, false), None);
    // A heartbeat is all conditions.
    let beat = patch(Some(&first), &same, true).unwrap();
    assert_eq!(beat["status"].as_object().unwrap().len(), 1);
    assert_eq!(beat["status"]["conditions"].as_array().unwrap().len(), 7);
    assert_eq!(
        beat["status"]["conditions"][0]["lastHeartbeatTime"],
        "1970-01-01T00:00:02Z"
    );
    assert_eq!(
        beat["status"]["conditions"][0]["lastTransitionTime"],
        "1970-01-01T00:00:01Z"
    );

    let short = Health {
        pressure: Pressure {
            memory: true,
            ..Pressure::default()
        },
        ..Health::default()
    };
    let changed = patch(Some(&first), &status(&short, Some(&first), 3), false).unwrap();
    let conditions = changed["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1);
    assert_eq!(conditions[0]["type"], "MemoryPressure");
}

#[test]
fn resources_come_and_go_and_others_stay() {
    let old = json!({"cpu": "2", "hugepages-2Mi": "0", "example.com/gpu": "1"});
    let new = json!({"cpu": "4", "memory": "1Ki"});
    assert_eq!(
        map_difference(&old, &new),
        Some(json!({"cpu": "4", "memory": "1Ki", "hugepages-2Mi": null}))
    );
    assert_eq!(map_difference(&new, &new), None);
}

/// The server may write quantities in another form; that is no difference worth a patch for ever.
#[test]
fn what_the_server_has_is_compared_as_it_was_sent() {
    let first = status(&Health::default(), None, 1);
    let stored: NodeStatus = serde_json::from_value(json!(first)).unwrap();
    let next = status(&Health::default(), Some(&stored), 2);
    assert_eq!(patch(Some(&stored), &next, false), None);
}

#[test]
fn addresses_are_replaced_as_a_whole() {
    let first = status(&Health::default(), None, 1);
    let moved = Fixed {
        ips: vec!["172.30.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
        ..fixed()
    };
    let images = [image("a", 5, 1)];
    let next = build(&moved, &Health::default(), &images, Some(&first), at(2));
    let sent = patch(Some(&first), &next, false).unwrap();
    assert_eq!(
        sent,
        json!({"status": {"addresses": [
            {"type": "InternalIP", "address": "172.30.0.9"},
            {"type": "InternalIP", "address": "fd00::9"},
            {"type": "Hostname", "address": "node-1"},
            {"$patch": "replace"},
        ]}})
    );
}
