use serde_json::{Value, json};

use super::*;
use crate::testing::pod;

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn with_priority(name: &str, priority: i32) -> Arc<PodInfo> {
    pod(name, json!({"spec": {"priority": priority}}))
}

fn gated(name: &str, gates: Value) -> Arc<PodInfo> {
    pod(name, json!({"spec": {"schedulingGates": gates}}))
}

fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
    queue.tick(now);
    queue.pop(now).map(|pod| pod.name().to_owned())
}

/// The pod is tried, and refused for want of room.
fn refuse(queue: &mut Queue, name: &str, now: Instant) {
    assert_eq!(popped(queue, now).as_deref(), Some(name));
    queue.refuse(name, BTreeSet::from([Filter::NodeResourcesFit]));
    queue.unschedulable(name, now);
}

#[test]
fn priority_then_age() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        queue.put(with_priority(name, priority));
    }
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[test]
fn back_off_doubles_to_ten_seconds() {
    let (mut queue, mut now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    for wait in [1, 2, 4, 8, 10, 10] {
        refuse(&mut queue, "a", now);
        queue.wake(Event::PodRemoved);
        assert_eq!(queue.next_tick(), Some(now + second(wait)));
        assert_eq!(
            popped(&mut queue, now + second(wait) - Duration::from_millis(1)),
            None
        );
        now += second(wait);
    }
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
}

#[test]
fn only_helpful_events_wake() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    refuse(&mut queue, "a", now);
    queue.wake(Event::PodAdded);
    let later = now + second(60);
    assert_eq!(popped(&mut queue, later), None);
    queue.wake(Event::PodRemoved);
    assert_eq!(
        popped(&mut queue, later).as_deref(),
        Some("a"),
        "its back-off is over"
    );
}

#[test]
fn after_five_minutes_without_any_event() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    refuse(&mut queue, "a", now);
    assert_eq!(queue.next_tick(), Some(now + second(300)));
    assert_eq!(popped(&mut queue, now + second(299)), None);
    assert_eq!(popped(&mut queue, now + second(300)).as_deref(), Some("a"));
}

#[test]
fn what_happens_during_a_decisions_effects_is_not_lost() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    queue.refuse("a", BTreeSet::from([Filter::NodeResourcesFit]));
    queue.wake(Event::PodRemoved);
    queue.unschedulable("a", now);
    assert_eq!(popped(&mut queue, now + second(1)).as_deref(), Some("a"));
}

#[test]
fn gates_hold() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(gated("a", json!([{"name": "x"}])));
    queue.wake(Event::NodeAdded);
    assert_eq!(popped(&mut queue, now + second(600)), None);
    queue.put(gated("a", json!([])));
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
}

#[test]
fn a_pod_that_asks_anew_is_tried_anew() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    refuse(&mut queue, "a", now);
    queue.put(pod(
        "a",
        json!({"status": {"phase": "Pending", "message": "x"}}),
    ));
    assert_eq!(
        popped(&mut queue, now + second(2)),
        None,
        "only its status is new"
    );
    queue.put(pod(
        "a",
        json!({"spec": {"tolerations": [{"operator": "Exists"}]}}),
    ));
    assert_eq!(popped(&mut queue, now + second(2)).as_deref(), Some("a"));
}

#[test]
fn failures_back_off_and_removed_pods_are_gone() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.put(pod("a", json!({})));
    queue.put(pod("b", json!({})));
    assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    queue.failed("a");
    queue.remove("b");
    assert_eq!(popped(&mut queue, now), None);
    assert_eq!(popped(&mut queue, now + second(1)).as_deref(), Some("a"));
    queue.remove("a");
    queue.failed("a");
    queue.unschedulable("a", now);
    assert!(queue.next_tick().is_none() && !queue.is_ready());
}
