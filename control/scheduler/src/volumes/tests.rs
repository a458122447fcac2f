use serde_json::{Value, json};
use vetch_volumes::annotations::{BIND_COMPLETED, SELECTED_NODE};

use super::*;
use crate::testing::{node, pod};

fn object<K: serde::de::DeserializeOwned>(object: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(object).expect("an object"))
}

/// Classes `late` (no provisioner), `made` (in zone z1) and `now`; volumes `near` (class late, zone z1) and
/// `far` (zone z2), `of-near` and `of-far` bound; claims as named.
fn known() -> Volumes {
    let mut known = Volumes::default();
    for (name, mode, provisioner) in [
        ("late", "WaitForFirstConsumer", NO_PROVISIONER),
        ("made", "WaitForFirstConsumer", "example.com/p"),
        ("now", "Immediate", "example.com/p"),
    ] {
        let topologies = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["z1"]}]}]);
        let class = json!({
            "metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner,
            "allowedTopologies": if name == "made" { topologies } else { json!([]) },
        });
        known.set_class(name, Some(object(class)));
    }
    for (name, zone, phase, size) in [
        ("near", "z1", "Available", "1Gi"),
        ("far", "z2", "Available", "1Gi"),
        ("of-near", "z1", "Bound", "1Gi"),
        ("of-far", "z2", "Bound", "1Gi"),
    ] {
        let claim_ref = match phase {
            "Bound" => json!({"namespace": "default", "name": name, "uid": name}),
            _ => Value::Null,
        };
        let volume = json!({
            "metadata": {"name": name},
            "spec": {
                "storageClassName": "late", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
                "claimRef": claim_ref,
                "nodeAffinity": {"required": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]},
                ]}},
            },
            "status": {"phase": phase},
        });
        known.set_volume(name, Some(object(volume)));
    }
    for (name, class, volume, metadata) in [
        (
            "near",
            "late",
            "of-near",
            json!({"annotations": {BIND_COMPLETED: "yes"}}),
        ),
        (
            "far",
            "late",
            "of-far",
            json!({"annotations": {BIND_COMPLETED: "yes"}}),
        ),
        (
            "lost",
            "late",
            "nowhere",
            json!({"annotations": {BIND_COMPLETED: "yes"}}),
        ),
        ("waits", "late", "", json!({})),
        ("waits-too", "late", "", json!({})),
        ("to-make", "made", "", json!({})),
        (
            "on-b",
            "made",
            "",
            json!({"annotations": {SELECTED_NODE: "b"}}),
        ),
        ("unbound", "now", "", json!({})),
        (
            "going",
            "late",
            "",
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ),
        (
            "p-made",
            "late",
            "",
            json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true},
            ]}),
        ),
        ("p-others", "late", "", json!({})),
    ] {
        let mut claim = json!({
            "metadata": metadata,
            "spec": {
                "storageClassName": class, "volumeName": volume, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
            "status": {"phase": if volume.is_empty() { "Pending" } else { "Bound" }},
        });
        claim["metadata"]["name"] = name.into();
        claim["metadata"]["namespace"] = "default".into();
        claim["metadata"]["uid"] = name.into();
        known.set_claim("default", name, Some(object(claim)));
    }
    known
}

/// A pod `p` with these claims; `+NAME` is an ephemeral volume.
fn with(claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|name| match name.strip_prefix('+') {
            Some(name) => json!({"name": name, "ephemeral": {}}),
            None => json!({"name": name, "persistentVolumeClaim": {"claimName": name}}),
        })
        .collect();
    pod("p", json!({"spec": {"volumes": volumes}}))
}

/// `CLAIM=VOLUME` and `+CLAIM` of the plan, or the reasons.
fn told(planned: Result<Plan, Vec<&'static str>>) -> String {
    match planned {
        Ok(plan) => {
            let name = |claim: &Claim| claim.metadata.name.clone().unwrap_or_default();
            let bind = plan.bind.iter();
            let bind = bind.map(|(claim, to)| format!("{}={}", name(claim), volume::name(to)));
            let provision = plan
                .provision
                .iter()
                .map(|claim| format!("+{}", name(claim)));
            bind.chain(provision).collect::<Vec<_>>().join(" ")
        }
        Err(reasons) => format!("! {}", reasons.join(", ")),
    }
}

#[test]
fn what_is_wrong_whatever_the_node() {
    for (claims, wanted) in [
        (&["near", "waits"][..], None),
        (&["none"], Some("persistentvolumeclaim \"none\" not found")),
        (
            &["+none"],
            Some(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-none\"",
            ),
        ),
        (
            &["going"],
            Some("persistentvolumeclaim \"going\" is being deleted"),
        ),
        (
            &["unbound"],
            Some("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (&["+made"], None),
        (
            &["+others"],
            Some("PVC default/p-others was not created for pod default/p (pod is not owner)"),
        ),
    ] {
        let found = PodClaims::of(&with(claims), &known());
        assert_eq!(found.err().as_deref(), wanted, "{claims:?}");
    }
    let mut known = known();
    let lost = json!({"metadata": {"name": "gone"}, "spec": {"volumeName": "v"}, "status": {"phase": "Lost"}});
    known.set_claim("default", "gone", Some(object(lost)));
    assert_eq!(
        PodClaims::of(&with(&["gone"]), &known).err().as_deref(),
        Some("persistentvolumeclaim \"gone\" bound to non-existent persistentvolume \"v\"")
    );
}

#[test]
fn what_a_node_does_for_the_claims() {
    // `a` is in zone z1, `b` in z2.
    let nodes = [
        node("a", json!({})),
        node("b", json!({"metadata": {"labels": {"zone": "z2"}}})),
    ];
    let conflict = format!("! {NODE_CONFLICT}");
    let unbindable = format!("! {BIND_CONFLICT}");
    for (claims, on_a, on_b) in [
        (&[][..], "", ""),
        (&["near"], "", conflict.as_str()),
        (&["far"], conflict.as_str(), ""),
        (
            &["lost"],
            &format!("! {NO_VOLUME}"),
            &format!("! {NO_VOLUME}"),
        ),
        (&["waits"], "waits=near", "waits=far"),
        (&["waits", "waits-too"], &unbindable, &unbindable),
        (&["to-make"], "+to-make", &unbindable),
        (&["on-b"], &unbindable, "+on-b"),
        (&["far", "to-make"], &conflict, &unbindable),
        (
            &["far", "on-b"],
            &format!("! {NODE_CONFLICT}, {BIND_CONFLICT}"),
            "+on-b",
        ),
    ] {
        let own = PodClaims::of(&with(claims), &known()).expect("usable claims");
        assert_eq!(told(own.plan(&nodes[0])), on_a, "{claims:?} on a");
        assert_eq!(told(own.plan(&nodes[1])), on_b, "{claims:?} on b");
    }
}

#[test]
fn a_claim_that_is_bound_and_does_not_say_so_is_waited_for() {
    let mut known = known();
    let claim = json!({
        "metadata": {"name": "near", "namespace": "default", "uid": "near", "annotations": {BIND_COMPLETED: "yes"}},
        "spec": {"volumeName": "of-near"}, "status": {"phase": "Pending"},
    });
    known.set_claim("default", "near", Some(object(claim)));
    let own = PodClaims::of(&with(&["near"]), &known).expect("usable claims");
    assert!(own.plan(&node("a", json!({}))).expect("a plan").awaited);
}

#[test]
fn a_volume_is_given_once() {
    let mut known = known();
    let node = node("a", json!({}));
    let first = PodClaims::of(&with(&["waits"]), &known).expect("usable claims");
    let plan = first.plan(&node).expect("a plan");
    known.give(&plan);
    let second = PodClaims::of(&with(&["waits-too"]), &known).expect("usable claims");
    assert!(second.plan(&node).is_err());
    let again = PodClaims::of(&with(&["waits"]), &known).expect("usable claims");
    let plan = again.plan(&node).expect("a plan");
    assert!(plan.awaited && plan.bind.is_empty() && !plan.is_empty());
    let far = self::node("b", json!({"metadata": {"labels": {"zone": "z2"}}}));
    assert!(again.plan(&far).is_err(), "what it was given is elsewhere");
    known.take_back(&["near".to_owned()]);
    let third = PodClaims::of(&with(&["waits-too"]), &known).expect("usable claims");
    assert_eq!(told(third.plan(&node)), "waits-too=near");
}

#[test]
fn a_volume_that_is_kept_for_a_claim_is_waited_for() {
    let mut known = known();
    let kept = json!({
        "metadata": {"name": "kept"},
        "spec": {
            "storageClassName": "late", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "9Gi"},
            "claimRef": {"namespace": "default", "name": "waits", "uid": "waits"},
        },
        "status": {"phase": "Available"},
    });
    known.set_volume("kept", Some(object(kept)));
    let own = PodClaims::of(&with(&["waits"]), &known).expect("usable claims");
    let plan = own.plan(&node("a", json!({}))).expect("a plan");
    assert!(plan.awaited && plan.bind.is_empty());
}
