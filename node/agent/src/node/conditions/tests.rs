use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn shown(conditions: &[NodeCondition]) -> Vec<String> {
    conditions
        .iter()
        .map(|c| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!(
                "{}={} {}: {}",
                c.type_,
                c.status,
                text(&c.reason),
                text(&c.message)
            )
        })
        .collect()
}

#[test]
fn a_well_node() {
    let got = conditions(&Health::default(), &[], at(1));
    assert_eq!(
        shown(&got),
        [
            "MemoryPressure=False KubeletHasSufficientMemory: kubelet has sufficient memory available",
            "DiskPressure=False KubeletHasNoDiskPressure: kubelet has no disk pressure",
            "PIDPressure=False KubeletHasSufficientPID: kubelet has sufficient PID available",
            "CgroupControllersMissing=False CgroupControllersPresent: requests and limits of pods are enforced",
            "DeviceCgroupMissing=False DeviceCgroupPresent: containers that are not privileged use no device but the usual ones",
            "ServiceTablesPressure=False TablesHaveRoom: the tables of the service programs have room",
            "Ready=True KubeletReady: kubelet is posting ready status",
        ]
    );
}

#[test]
fn a_node_that_lacks_everything() {
    let health = Health {
        pressure: Pressure {
            memory: true,
            disk: true,
            pids: true,
        },
        network_problem: Some("no podCIDR"),
        shutting_down: false,
        missing_controllers: &["cpu".to_owned(), "memory".to_owned()],
        device_problem: Some("the kernel does not take the program"),
        table_pressure: Some("FLOWS 120 of 128"),
    };
    assert_eq!(
        shown(&conditions(&health, &[], at(1))),
        [
            "MemoryPressure=True KubeletHasInsufficientMemory: kubelet has insufficient memory available",
            "DiskPressure=True KubeletHasDiskPressure: kubelet has disk pressure",
            "PIDPressure=True KubeletHasInsufficientPID: kubelet has insufficient PID available",
            "CgroupControllersMissing=True CgroupControllersMissing: cgroup v2 controllers missing here: cpu, memory; requests and limits that need them have no effect",
            "DeviceCgroupMissing=True DeviceCgroupMissing: containers are kept from devices by the flags of their mounts alone: the kernel does not take the program",
            "ServiceTablesPressure=True TablesNearlyFull: tables of the service programs are nearly full: FLOWS 120 of 128",
            "Ready=False KubeletNotReady: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no podCIDR",
        ]
    );
}

#[test]
fn a_node_on_its_way_down() {
    let last = |health: &Health<'_>| shown(&conditions(health, &[], at(1))).pop();
    let down = Health {
        shutting_down: true,
        ..Health::default()
    };
    let want = "Ready=False KubeletNotReady: node is shutting down";
    assert_eq!(last(&down).as_deref(), Some(want));
    let both = Health {
        network_problem: Some("none"),
        ..down
    };
    let want = "Ready=False KubeletNotReady: [container runtime network not ready: NetworkReady=false \
                reason:NetworkPluginNotReady message:none, node is shutting down]";
    assert_eq!(last(&both).as_deref(), Some(want));
}

#[test]
fn a_transition_has_a_time_and_an_event() {
    let waiting = Health {
        network_problem: Some("no podCIDR"),
        ..Health::default()
    };
    let first = conditions(&waiting, &[], at(1));
    assert_eq!(
        changes(&[], &first),
        [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeNotReady"
        ]
    );
    let second = conditions(&Health::default(), &first, at(2));
    assert_eq!(changes(&first, &second), ["NodeReady"]);
    let third = conditions(&Health::default(), &second, at(3));
    assert_eq!(changes(&second, &third), [] as [&str; 0]);
    let times: Vec<_> = third
        .iter()
        .map(|c| {
            let second = |time: &Option<Time>| time.as_ref().unwrap().0.as_second();
            (
                second(&c.last_transition_time),
                second(&c.last_heartbeat_time),
            )
        })
        .collect();
    assert_eq!(
        times,
        [(1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (2, 3)]
    );
}

/// The node controller writes Unknown when the lease is lost; the first word after that is a change.
#[test]
fn unknown_is_another_status() {
    let mut lost = conditions(&Health::default(), &[], at(1));
    for condition in &mut lost {
        condition.status = "Unknown".into();
    }
    let again = conditions(&Health::default(), &lost, at(9));
    assert!(changes(&lost, &again).contains(&"NodeReady"));
    assert!(
        again
            .iter()
            .all(|c| c.last_transition_time == Some(Time(at(9))))
    );
}
