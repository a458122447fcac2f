use serde_json::{Value, json};

use super::Step::{Gone, Ready, Running, Sandbox, Scheduled};
use super::*;

fn sight(at: u64, pod: &str, steps: &[Step]) -> Sight {
    Sight {
        at: Duration::from_millis(at),
        pod: pod.into(),
        steps: steps.into(),
    }
}

fn timelines(sights: &[Sight]) -> Timelines {
    let mut all = Timelines::default();
    for sight in sights {
        all.see(sight);
    }
    all
}

#[test]
fn what_a_state_shows() {
    let pod = |spec: Value, conditions: &[(&str, &str)], states: Value| -> Pod {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
        let mut pod = json!({
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "one"}, {"name": "two"}]},
            "status": {"conditions": conditions, "containerStatuses": states},
        });
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    };
    let container = |name: &str, state: &str| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {state: {}}});
    let both = json!([container("one", "running"), container("two", "running")]);
    let half = json!([container("one", "running"), container("two", "waiting")]);
    let none = json!([]);
    let placed = json!({"nodeName": "n"});
    let table = [
        (json!({}), vec![], &none, vec![]),
        (
            json!({"nodeName": ""}),
            vec![("PodScheduled", "False")],
            &none,
            vec![],
        ),
        (placed.clone(), vec![], &none, vec![Scheduled]),
        (
            json!({}),
            vec![("PodScheduled", "True")],
            &none,
            vec![Scheduled],
        ),
        (
            placed.clone(),
            vec![("PodReadyToStartContainers", "False"), ("Ready", "False")],
            &half,
            vec![Scheduled],
        ),
        (
            placed.clone(),
            vec![("PodReadyToStartContainers", "True"), ("Ready", "False")],
            &both,
            vec![Scheduled, Sandbox, Running],
        ),
        (
            placed,
            vec![("Ready", "True"), ("PodReadyToStartContainers", "True")],
            &both,
            vec![Scheduled, Sandbox, Running, Ready],
        ),
    ];
    for (spec, conditions, states, wanted) in table {
        let pod = pod(spec, &conditions, states.clone());
        assert_eq!(shown(&pod), wanted, "{conditions:?} {states}");
    }
    assert_eq!(shown(&Pod::default()), []);
}

#[test]
fn the_earliest_event_counts_in_whatever_order_they_come() {
    let life = [
        sight(1, "a", &[]),
        sight(2, "a", &[Scheduled]),
        sight(5, "a", &[Scheduled, Sandbox]),
        sight(9, "a", &[Scheduled, Sandbox, Running]),
        sight(9, "a", &[Scheduled, Sandbox, Running, Ready]),
        // Not Ready for a while, and Ready again.
        sight(20, "a", &[Scheduled, Sandbox, Running]),
        sight(30, "a", &[Scheduled, Sandbox, Running, Ready]),
        sight(40, "a", &[Gone]),
    ];
    let wanted = [
        (Scheduled, 2),
        (Sandbox, 5),
        (Running, 9),
        (Ready, 9),
        (Gone, 40),
    ];
    let reversed: Vec<Sight> = life.iter().rev().cloned().collect();
    let twice: Vec<Sight> = life.iter().chain(&life).cloned().collect();
    for sights in [&life[..], &reversed, &twice] {
        let found = timelines(sights).of("a");
        for (step, at) in wanted {
            assert_eq!(found.at(step), Some(Duration::from_millis(at)), "{step:?}");
        }
    }
}

#[test]
fn differences() {
    let all = timelines(&[
        sight(10, "whole", &[Scheduled]),
        sight(12, "whole", &[Scheduled, Sandbox, Running, Ready]),
        // An older cluster has no condition for the sandbox.
        sight(10, "older", &[Scheduled]),
        sight(15, "older", &[Scheduled, Running, Ready]),
        sight(3, "seen", &[]),
    ]);
    let table = [
        ("whole", Scheduled, Sandbox, Some(2.0)),
        ("whole", Sandbox, Running, Some(0.0)),
        ("whole", Ready, Scheduled, Some(-2.0)),
        ("older", Scheduled, Sandbox, None),
        ("older", Sandbox, Running, None),
        ("older", Running, Ready, Some(0.0)),
        ("seen", Scheduled, Sandbox, None),
        ("never", Scheduled, Sandbox, None),
    ];
    for (pod, from, to, wanted) in table {
        let found = all.of(pod).between(from, to);
        let close = match (found, wanted) {
            (Some(found), Some(wanted)) => (found - wanted).abs() < 1e-9,
            (found, wanted) => found == wanted,
        };
        assert!(close, "{pod} {from:?} {to:?}: {found:?}");
    }
    // The event was here before the answer to the create.
    let early = all.of("whole").since(Duration::from_millis(11), Scheduled);
    assert!((early.unwrap() + 1.0).abs() < 1e-9);
    assert!(all.has("whole", Ready) && !all.has("seen", Ready) && !all.has("never", Ready));
}
