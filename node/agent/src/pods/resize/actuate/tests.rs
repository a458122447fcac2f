use serde_json::{Value, json};
use vetch_runtime::{QosClass, SandboxState};

use super::*;
use crate::pods::container::RESOURCES;
use crate::pods::testing::{container, pod, sandbox};

/// A container and what it was given; `null` for one of which nobody knows.
struct Has(&'static str, Value);

/// Of a pod that was sized as `had` says, when its containers shall have `shall`.
fn actuated(had: &[Has], shall: &Value, change: impl FnOnce(&mut Pod)) -> Actuation {
    actuated_from(had, shall, |_| {}, change)
}

/// `start` is done to what it was, `change` to what it shall be.
fn actuated_from(
    had: &[Has],
    shall: &Value,
    start: impl FnOnce(&mut Pod),
    change: impl FnOnce(&mut Pod),
) -> Actuation {
    let spec = |list: Vec<(&str, &Value)>| -> Value {
        list.into_iter()
            .map(|(name, resources)| json!({"name": name, "resources": resources}))
            .collect()
    };
    let mut before = pod(
        json!({"containers": spec(had.iter().map(|Has(name, given)| (*name, given)).collect())}),
    );
    start(&mut before);
    let wanted = had
        .iter()
        .map(|Has(name, _)| (*name, &shall[*name]))
        .collect();
    let mut after = pod(json!({"containers": spec(wanted)}));
    change(&mut after);
    let containers = had
        .iter()
        .map(|Has(name, given)| {
            let mut status = container(name, 0, ContainerState::Running);
            if !given.is_null() {
                status
                    .annotations
                    .insert(RESOURCES.to_owned(), given.to_string());
            }
            status
        })
        .collect();
    let mut made = sandbox(0, SandboxState::Ready, containers);
    made.spec.resources = resources::pod(&before, resources::class(&before), None);
    actuation(&after, &Seen::new(vec![made]), None)
}

/// CPU in thousandths, memory in bytes.
fn limits(cpu: i64, memory: i64) -> Value {
    let both = json!({"cpu": format!("{cpu}m"), "memory": memory.to_string()});
    json!({"limits": both, "requests": both})
}

/// `pod 40m 7`, `a 20m 3`; `-` where there is no limit.
fn words(actuation: &Actuation) -> Vec<String> {
    let sized = |name: &str, resources: &Resources| {
        let cpu = resources
            .cpu_max
            .map_or("-".to_owned(), |(quota, _)| format!("{}m", quota / 100));
        let memory = resources
            .memory_max
            .map_or("-".to_owned(), |bytes| bytes.to_string());
        format!("{name} {cpu} {memory}")
    };
    let word = |step: &Step| match step {
        Step::Pod(resources) => sized("pod", resources),
        Step::Container { id, resources, .. } => sized(id.0.trim_end_matches("-0"), resources),
    };
    actuation.steps.iter().map(word).collect()
}

#[test]
fn the_pod_grows_first_and_shrinks_last() {
    let had = || [Has("a", limits(20, 3000)), Has("b", limits(20, 4000))];
    for (shall, want, lowered) in [
        (
            json!({"a": limits(20, 3000), "b": limits(20, 4000)}),
            vec![],
            0,
        ),
        (
            json!({"a": limits(30, 5000), "b": limits(20, 4000)}),
            vec!["pod 50m 9000", "a 30m 5000"],
            0,
        ),
        (
            json!({"a": limits(10, 1000), "b": limits(20, 4000)}),
            vec!["a 10m 1000", "pod 30m 5000"],
            2,
        ),
        // What one gives the other takes: the giver is first, whatever its place.
        (
            json!({"a": limits(30, 4000), "b": limits(10, 3000)}),
            vec!["b 10m 3000", "a 30m 4000"],
            1,
        ),
        // More of one resource and less of the other.
        (
            json!({"a": limits(30, 2000), "b": limits(20, 4000)}),
            vec!["pod 50m 7000", "a 30m 2000", "pod 50m 6000"],
            2,
        ),
    ] {
        let got = actuated(&had(), &shall, |_| {});
        assert_eq!(words(&got), want, "{shall}");
        assert_eq!(got.lowered.len(), lowered, "{shall}");
        assert_eq!(got.outstanding, !want.is_empty(), "{shall}");
    }
}

#[test]
fn limits_that_come_and_requests_that_no_file_shows() {
    let request = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
    let had = || [Has("a", request("20m", "3000"))];
    // A pod gets limits when all its containers have them, after them.
    let limited = json!({"requests": {"cpu": "20m", "memory": "3000"}, "limits": {"cpu": "40m", "memory": "4000"}});
    let got = actuated(&had(), &json!({"a": limited}), |_| {});
    assert_eq!(words(&got), ["a 40m 4000", "pod 40m 4000"]);
    assert_eq!(got.lowered.len(), 2);

    let got = actuated(&had(), &json!({"a": request("20m", "5000")}), |_| {});
    assert_eq!(words(&got), ["a - -"]);
    assert!(got.outstanding);
    let Step::Container { given, .. } = &got.steps[0] else {
        panic!("{got:?}")
    };
    assert_eq!(serde_json::to_value(given).unwrap(), request("20m", "5000"));
}

#[test]
fn containers_follow_limits_they_have_from_their_pod() {
    let own = || [Has("a", json!({})), Has("b", limits(20, 3000))];
    for (had, shall, want, lowered) in [
        (40, 60, vec!["a 60m 9000", "pod 60m 9000"], 0),
        (60, 40, vec!["a 40m 9000", "pod 40m 9000"], 0),
        (40, 40, vec![], 0),
    ] {
        let whole = |cpu: i64| serde_json::from_value(limits(cpu, 9000)).unwrap();
        let shall_have = json!({"a": {}, "b": limits(20, 3000)});
        let resized = |pod: &mut Pod, cpu| pod.spec.as_mut().unwrap().resources = whole(cpu);
        let got = actuated_from(
            &own(),
            &shall_have,
            |pod| resized(pod, had),
            |pod| resized(pod, shall),
        );
        assert_eq!(words(&got), want, "{had} {shall}");
        assert_eq!(got.lowered.len(), lowered, "{had} {shall}");
        assert_eq!(got.outstanding, !want.is_empty(), "{had} {shall}");
    }
}

#[test]
fn one_of_which_nobody_knows_is_written_and_not_told() {
    let had = [Has("a", Value::Null)];
    let got = actuated(&had, &json!({"a": null}), |_| {});
    assert_eq!(
        (words(&got), got.outstanding),
        (vec!["a - -".to_owned()], false)
    );
}

#[test]
fn a_pod_keeps_what_one_has_that_will_be_started_anew() {
    let had = [Has("a", limits(20, 3000)), Has("b", limits(20, 4000))];
    let shall = json!({"a": limits(10, 1000), "b": limits(10, 3000)});
    let got = actuated(&had, &shall, |pod| {
        let spec = pod.spec.as_mut().unwrap();
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        spec.containers[0].resize_policy = serde_json::from_value(policy).unwrap();
    });
    assert_eq!(words(&got), ["b 10m 3000"]);
    assert!(got.outstanding);
}

#[test]
fn nothing_is_done_without_a_sandbox() {
    let pod = pod(json!({"containers": [{"name": "a", "resources": limits(20, 3000)}]}));
    assert_eq!(
        actuation(&pod, &Seen::default(), None),
        Actuation::default()
    );
    let lost = sandbox(0, SandboxState::NotReady, vec![]);
    assert_eq!(
        actuation(&pod, &Seen::new(vec![lost]), None),
        Actuation::default()
    );
}

#[test]
fn no_limit_goes_below_what_is_used() {
    let own = Lowered {
        container: Some(("c".to_owned(), ContainerId("c-0".to_owned()))),
        limit: 10_240,
    };
    assert_eq!(own.refusal(10_239), None);
    assert_eq!(
        own.refusal(20_000).as_deref(),
        Some("attempting to set container \"c\" memory limit (10240) below current usage (20000)")
    );
    let whole = Lowered {
        container: None,
        limit: 5,
    };
    let words = "attempting to set pod memory limit (5) below current usage (5)";
    assert_eq!(whole.refusal(5).as_deref(), Some(words));
    let all = |words: &[&str]| {
        all_words(
            &words
                .iter()
                .map(|own| (*own).to_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(all(&["a"]), "a");
    assert_eq!(all(&["a", "b"]), "[a, b]");
}

#[test]
fn other_requests_protect_other_memory() {
    let sized = |request: &str| {
        let resources = json!({"requests": {"cpu": "20m", "memory": request}, "limits": {"cpu": "20m", "memory": "8Mi"}});
        let mut status = container("a", 0, ContainerState::Running);
        let annotation = (RESOURCES.to_owned(), resources.to_string());
        status.annotations.extend([annotation]);
        let pod = pod(json!({"containers": [{"name": "a", "resources": resources}]}));
        (pod, status)
    };
    let qos = MemoryQos {
        throttling_factor: 0.9,
        reserves: true,
        allocatable: 1 << 30,
    };
    let ((before, status), (after, _)) = (sized("2Mi"), sized("4Mi"));
    let mut made = sandbox(0, SandboxState::Ready, vec![status]);
    made.spec.resources = resources::pod(&before, QosClass::Burstable, Some(&qos));
    let seen = Seen::new(vec![made]);
    let low = |actuation: Actuation| -> Vec<Option<i64>> {
        let lows = actuation.steps.iter().map(|step| match step {
            Step::Pod(own) | Step::Container { resources: own, .. } => own.memory_low,
        });
        lows.collect()
    };
    assert_eq!(low(actuation(&before, &seen, Some(&qos))), []);
    let four = Some(4 << 20);
    assert_eq!(low(actuation(&after, &seen, Some(&qos))), [four, four]);
    // The node has another setting now, which is no resize.
    let off = actuation(&before, &seen, None);
    assert!(!off.outstanding);
    assert_eq!(low(off), [None]);
}
