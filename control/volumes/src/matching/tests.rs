use serde_json::{Value, json};

use super::*;

/// 1 Gi, ReadWriteOnce, of class `fast`, available; `fields` replace those of the spec.
fn volume(name: &str, fields: Value) -> Arc<Volume> {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
        "storageClassName": "fast", "volumeMode": "Filesystem",
    });
    merge(&mut spec, fields);
    let volume = json!({"metadata": {"name": name, "labels": {"tier": name}}, "spec": spec, "status": {"phase": "Available"}});
    Arc::new(serde_json::from_value(volume).expect("a volume"))
}

/// Of the claim `c`: 1 Gi, ReadWriteOnce, of class `fast`.
fn claim(fields: Value) -> Claim {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast", "volumeMode": "Filesystem",
    });
    merge(&mut spec, fields);
    let claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": spec});
    serde_json::from_value(claim).expect("a claim")
}

fn merge(into: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn found(claim: &Claim, volumes: &[Arc<Volume>], wanted: Wanted<'_>) -> Option<String> {
    find(claim, volumes, wanted).map(|found| volume::name(found).to_owned())
}

const ANYWHERE: Wanted<'static> = Wanted::Anywhere { delayed: false };

#[test]
fn the_smallest_that_does() {
    let size = |size: &str| json!({"capacity": {"storage": size}});
    let claims = |uid: &str| json!({"claimRef": {"name": "c", "namespace": "n", "uid": uid}});
    let all = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"];
    for (what, volumes, asked, wanted) in [
        (
            "one that fits",
            vec![volume("a", json!({}))],
            json!({}),
            Some("a"),
        ),
        (
            "too small",
            vec![volume("a", size("1023Mi"))],
            json!({}),
            None,
        ),
        (
            "the smallest",
            vec![
                volume("a", size("9Gi")),
                volume("b", size("2Gi")),
                volume("c", size("3Gi")),
            ],
            json!({}),
            Some("b"),
        ),
        (
            "fewer modes rather than less space",
            vec![
                volume("a", json!({"accessModes": all})),
                volume("b", size("5Gi")),
            ],
            json!({}),
            Some("b"),
        ),
        (
            "all modes",
            vec![
                volume("a", json!({})),
                volume("b", json!({"accessModes": all})),
            ],
            json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}),
            Some("b"),
        ),
        (
            "another class",
            vec![volume("a", json!({}))],
            json!({"storageClassName": "slow"}),
            None,
        ),
        (
            "no class",
            vec![volume("a", json!({}))],
            json!({"storageClassName": ""}),
            None,
        ),
        (
            "neither has a class",
            vec![volume("a", json!({"storageClassName": ""}))],
            json!({"storageClassName": null}),
            Some("a"),
        ),
        (
            "another mode",
            vec![volume("a", json!({}))],
            json!({"volumeMode": "Block"}),
            None,
        ),
        (
            "by its labels",
            vec![volume("a", json!({})), volume("b", json!({}))],
            json!({"selector": {"matchLabels": {"tier": "b"}}}),
            Some("b"),
        ),
        (
            "kept for it, though larger and of another class",
            vec![volume("a", json!({})), {
                let mut kept = Volume::clone(&volume("b", claims("")));
                let spec = kept.spec.as_mut().expect("a spec");
                spec.storage_class_name = Some("slow".into());
                Arc::new(kept)
            }],
            json!({}),
            Some("b"),
        ),
        (
            "another's",
            vec![volume("a", claims("other"))],
            json!({}),
            None,
        ),
    ] {
        let got = found(&claim(asked), &volumes, ANYWHERE);
        assert_eq!(got.as_deref(), wanted, "{what}");
    }
}

#[test]
fn a_claim_that_waits_gets_only_what_is_kept_for_it() {
    let kept = json!({"claimRef": {"name": "c", "namespace": "n"}});
    let delayed = Wanted::Anywhere { delayed: true };
    let free = [volume("a", json!({}))];
    assert_eq!(found(&claim(json!({})), &free, delayed), None);
    let volumes = [volume("a", json!({})), volume("b", kept)];
    assert_eq!(
        found(&claim(json!({})), &volumes, delayed).as_deref(),
        Some("b")
    );
}

#[test]
fn for_a_node_only_what_it_reaches_and_nobody_has() {
    let on = |zone: &str| {
        json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]},
        ]}}})
    };
    let labels = BTreeMap::from([("zone".to_owned(), "z1".to_owned())]);
    let volumes = [
        volume("a", on("z2")),
        volume("b", on("z1")),
        volume("c", on("z1")),
    ];
    for (taken, wanted) in [
        (vec![], Some("b")),
        (vec!["b"], Some("c")),
        (vec!["b", "c"], None),
    ] {
        let taken: BTreeSet<String> = taken.into_iter().map(str::to_owned).collect();
        let wanted_on = Wanted::On {
            labels: &labels,
            taken: &taken,
        };
        let got = found(&claim(json!({})), &volumes, wanted_on);
        assert_eq!(got.as_deref(), wanted, "{taken:?}");
    }
    let mut kept = on("z2");
    kept["claimRef"] = json!({"name": "c", "namespace": "n"});
    let volumes = [volume("a", kept), volume("b", on("z1"))];
    let taken = BTreeSet::new();
    let wanted = Wanted::On {
        labels: &labels,
        taken: &taken,
    };
    assert_eq!(
        found(&claim(json!({})), &volumes, wanted),
        None,
        "its own is elsewhere"
    );
}

#[test]
fn what_is_going_or_in_use_does_not() {
    let mut going = Volume::clone(&volume("a", json!({})));
    going.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    let mut released = Volume::clone(&volume("b", json!({})));
    released.status.as_mut().expect("a status").phase = Some("Released".into());
    let volumes = [Arc::new(going), Arc::new(released)];
    assert_eq!(found(&claim(json!({})), &volumes, ANYWHERE), None);
}

#[test]
fn why_a_volume_does_not() {
    for (fields, wanted) in [
        (json!({}), None),
        (
            json!({"resources": {"requests": {"storage": "2Gi"}}}),
            Some(Mismatch::TooSmall),
        ),
        (json!({"storageClassName": ""}), Some(Mismatch::Class)),
        (json!({"volumeMode": "Block"}), Some(Mismatch::Mode)),
        (
            json!({"accessModes": ["ReadWriteMany"]}),
            Some(Mismatch::AccessModes),
        ),
        (
            json!({"volumeAttributesClassName": "gold"}),
            Some(Mismatch::Attributes),
        ),
    ] {
        let got = mismatch(&volume("a", json!({})), &claim(fields.clone()));
        assert_eq!(got, wanted, "{fields}");
    }
}
