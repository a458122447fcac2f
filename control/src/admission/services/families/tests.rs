use super::*;

const ONE: &[&str] = &["IPv4"];
const BOTH: &[&str] = &["IPv4", "IPv6"];

/// Policy, families and addresses after settling, or what is wrong.
fn settled(
    cluster: &[&str],
    spec: &Value,
    old: Option<&Value>,
) -> Result<(String, Vec<String>, Vec<String>), Vec<String>> {
    let mut service = json!({"spec": spec});
    let old = old.map(|old| json!({"spec": old}));
    match settle(&mut service, old.as_ref(), cluster) {
        Ok(()) => Ok((
            policy(&service).to_owned(),
            texts(&service, "/spec/ipFamilies"),
            texts(&service, "/spec/clusterIPs"),
        )),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn families_are_the_clusters() {
    let headless = json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]});
    let with = |mut spec: Value, field: &str, value: Value| {
        spec[field] = value;
        spec
    };
    let plain = json!({"type": "ClusterIP"});
    let of = |policy: &str| with(plain.clone(), "ipFamilyPolicy", policy.into());
    let selecting = with(headless.clone(), "selector", json!({"a": "b"}));
    for (cluster, spec, policy, families) in [
        (ONE, plain.clone(), SINGLE, ONE),
        (ONE, of(PREFER), PREFER, ONE),
        (ONE, selecting.clone(), SINGLE, ONE),
        (ONE, headless.clone(), REQUIRE, BOTH),
        (
            ONE,
            with(headless.clone(), "ipFamilyPolicy", SINGLE.into()),
            SINGLE,
            ONE,
        ),
        (BOTH, plain.clone(), SINGLE, ONE),
        (BOTH, of(PREFER), PREFER, BOTH),
        (BOTH, of(REQUIRE), REQUIRE, BOTH),
        (&["IPv6", "IPv4"], of(REQUIRE), REQUIRE, &["IPv6", "IPv4"]),
        (
            BOTH,
            with(plain.clone(), "ipFamilies", json!(["IPv6"])),
            SINGLE,
            &["IPv6"],
        ),
        (
            BOTH,
            with(of(PREFER), "ipFamilies", json!(["IPv6"])),
            PREFER,
            &["IPv6", "IPv4"],
        ),
        (
            BOTH,
            with(selecting, "ipFamilyPolicy", PREFER.into()),
            PREFER,
            BOTH,
        ),
        (
            BOTH,
            json!({"type": "ClusterIP", "clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}),
            SINGLE,
            &["IPv6"],
        ),
    ] {
        let (own, settled, _) = settled(cluster, &spec, None).expect("settled");
        assert_eq!(own, policy, "{cluster:?} {spec}");
        assert_eq!(settled, families, "{cluster:?} {spec}");
    }
    let mut name = json!({"spec": {"type": "ExternalName"}});
    settle(&mut name, None, BOTH).expect("nothing to do");
    assert_eq!(name, json!({"spec": {"type": "ExternalName"}}));
}

#[test]
fn what_the_cluster_cannot_give_is_refused() {
    let two = json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]});
    for (cluster, spec, expected) in [
        (
            ONE,
            json!({"type": "ClusterIP", "ipFamilies": ["IPv6"]}),
            vec!["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"],
        ),
        (
            ONE,
            json!({"type": "ClusterIP", "ipFamilyPolicy": REQUIRE}),
            vec![
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ],
        ),
        (
            ONE,
            json!({"type": "ClusterIP", "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
            vec![
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ],
        ),
        (
            BOTH,
            two,
            vec![
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ],
        ),
        (
            BOTH,
            json!({"type": "ClusterIP", "ipFamilies": BOTH}),
            vec![
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ],
        ),
        (
            BOTH,
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: must be empty when `clusterIP` is not specified",
            ],
        ),
    ] {
        let refused = settled(cluster, &spec, None).expect_err("refused");
        assert_eq!(refused, expected, "{spec}");
    }
}

#[test]
fn a_service_grows_and_shrinks_by_its_policy() {
    let ip = |ips: &[&str]| json!({"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips});
    let with = |ips: &[&str], policy: &str, families: &[&str]| {
        let mut spec = ip(ips);
        spec["ipFamilyPolicy"] = policy.into();
        spec["ipFamilies"] = json!(families);
        spec
    };
    let (four, six) = ("10.96.0.1", "fd00::1");
    let one = with(&[four], SINGLE, ONE);
    let two = with(&[four, six], PREFER, BOTH);
    let grown = |policy: &str| Ok((policy.to_owned(), strings(BOTH), strings(&[four])));
    let shrunk = || Ok((SINGLE.to_owned(), strings(ONE), strings(&[four])));
    let release = |what: &str| {
        format!(
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary {what}"
        )
    };
    for (old, new, outcome) in [
        (&one, with(&[four], PREFER, ONE), grown(PREFER)),
        (&one, with(&[four], REQUIRE, ONE), grown(REQUIRE)),
        (&two, with(&[four, six], SINGLE, BOTH), shrunk()),
        (&two, with(&[four], SINGLE, BOTH), shrunk()),
        (&two, with(&[four, six], SINGLE, ONE), shrunk()),
        // A manifest that says nothing of families.
        (
            &two,
            ip(&[four, six]),
            Ok((PREFER.to_owned(), strings(BOTH), strings(&[four, six]))),
        ),
        (
            &two,
            with(&[four], PREFER, ONE),
            Err(vec![release("cluster IP"), release("IP family")]),
        ),
    ] {
        assert_eq!(settled(BOTH, &new, Some(old)), outcome, "{old} {new}");
    }
    // What it prefers is no reason to change when the cluster's families change.
    let waiting = with(&[four], PREFER, ONE);
    assert_eq!(
        settled(BOTH, &waiting, Some(&waiting)),
        Ok((PREFER.to_owned(), strings(ONE), strings(&[four])))
    );
    assert_eq!(
        settled(ONE, &two, Some(&two)),
        Ok((PREFER.to_owned(), strings(BOTH), strings(&[four, six])))
    );
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}
