use super::*;
use crate::names::DNS1123_SUBDOMAIN;

fn node(drivers: Value) -> Value {
    json!({"metadata": {"name": "node-1"}, "spec": {"drivers": drivers}})
}

/// A driver that is well; `fields` replace its own.
fn driver(fields: Value) -> Value {
    let mut driver = json!({"name": "csi.example.com", "nodeID": "i-1"});
    for (key, value) in fields.as_object().into_iter().flatten() {
        driver[key] = value.clone();
    }
    driver
}

fn words(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn drivers_are_checked_in_kubernetes_words() {
    let subdomain = |name: &str| format!("Invalid value: {name:?}: {DNS1123_SUBDOMAIN}");
    let (long, longest) = ("a".repeat(64), "i".repeat(257));
    let one = |fields: Value| json!([driver(fields)]);
    for (drivers, wrong) in [
        (Value::Null, vec![]),
        (json!([]), vec![]),
        (
            one(json!({"topologyKeys": ["example.com/zone", "rack"], "allocatable": {"count": 0}})),
            vec![],
        ),
        (one(json!({"name": "CSI.Example.com"})), vec![]),
        (one(json!({"allocatable": {}})), vec![]),
        (one(json!({"nodeID": "i".repeat(256)})), vec![]),
        (
            one(json!({"name": ""})),
            vec![
                "spec.drivers[0].name: Required value".to_owned(),
                format!("spec.drivers[0].name: {}", subdomain("")),
            ],
        ),
        (
            one(json!({"name": long})),
            vec!["spec.drivers[0].name: Too long: may not be more than 63 bytes".to_owned()],
        ),
        (
            one(json!({"name": "a_b"})),
            vec![format!("spec.drivers[0].name: {}", subdomain("a_b"))],
        ),
        (
            one(json!({"nodeID": ""})),
            vec!["spec.drivers[0].nodeID: Required value".to_owned()],
        ),
        (
            one(json!({"nodeID": longest})),
            vec![format!(
                "spec.drivers[0].nodeID: Invalid value: {longest:?}: must be 256 characters or less"
            )],
        ),
        (
            one(json!({"allocatable": {"count": -1}})),
            vec![
                "spec.drivers[0].allocatable.count: Invalid value: -1: \
                 must be greater than or equal to 0"
                    .to_owned(),
            ],
        ),
        (
            json!([driver(json!({})), driver(json!({"nodeID": "i-2"}))]),
            vec!["spec.drivers[1].name: Duplicate value: \"csi.example.com\"".to_owned()],
        ),
        (
            one(json!({"topologyKeys": ["zone", "zone"]})),
            vec!["spec.drivers[0]: Duplicate value: \"zone\"".to_owned()],
        ),
    ] {
        let errors = (ROW.validate_create)(&node(drivers.clone()));
        assert_eq!(words(&errors), wrong, "{drivers}");
    }
    let keyless = (ROW.validate_create)(&node(one(json!({"topologyKeys": [""]}))));
    let keyless = words(&keyless);
    assert_eq!(keyless[0], "spec.drivers[0]: Required value");
    assert_eq!(
        keyless[1],
        "spec.drivers[0]: Invalid value: \"\": name part must be non-empty"
    );
    let mut misnamed = node(json!([]));
    misnamed["metadata"]["name"] = "Node_1".into();
    let refused = (ROW.validate_create)(&misnamed);
    assert_eq!(refused[0].field, "metadata.name", "{refused:?}");
}

#[test]
fn drivers_come_and_go_but_do_not_change() {
    let other = driver(json!({"name": "other.example.com"}));
    let keyed = driver(json!({"topologyKeys": ["zone"]}));
    let plain = driver(json!({}));
    let immutable = |driver: &str| {
        vec![format!(
            "spec.drivers: Invalid value: {driver}: field is immutable"
        )]
    };
    for (old, new, wrong) in [
        (json!([]), json!([plain]), vec![]),
        (json!([plain]), json!([]), vec![]),
        (Value::Null, json!([plain, other]), vec![]),
        (json!([plain, other]), json!([other]), vec![]),
        (json!([plain, other]), json!([other, plain]), vec![]),
        // How many volumes fit is found out anew.
        (
            json!([driver(json!({"allocatable": {"count": 1}}))]),
            json!([driver(json!({"allocatable": {"count": 2}}))]),
            vec![],
        ),
        (
            json!([plain]),
            json!([driver(json!({"allocatable": {"count": 2}}))]),
            vec![],
        ),
        (
            json!([plain]),
            json!([driver(json!({"topologyKeys": []}))]),
            vec![],
        ),
        (
            json!([plain]),
            json!([driver(json!({"nodeID": "i-2"}))]),
            immutable(r#"{"name":"csi.example.com","nodeID":"i-2","topologyKeys":[]}"#),
        ),
        (
            json!([other, plain]),
            json!([keyed, other]),
            immutable(r#"{"name":"csi.example.com","nodeID":"i-1","topologyKeys":["zone"]}"#),
        ),
    ] {
        let errors = (ROW.validate_update)(&node(new.clone()), &node(old.clone()));
        assert_eq!(words(&errors), wrong, "{old} {new}");
    }
}

#[test]
fn nodes_read_as_in_kubectl() {
    let columns: Vec<(&str, &str)> = ROW
        .columns
        .iter()
        .map(|column| (column.name, column.kind))
        .collect();
    assert_eq!(
        columns,
        [
            ("Name", "string"),
            ("Drivers", "integer"),
            ("Age", "string")
        ]
    );
    for (drivers, shown) in [
        (Value::Null, 0),
        (json!([]), 0),
        (json!([driver(json!({})), driver(json!({"name": "b"}))]), 2),
    ] {
        let cells = (ROW.cells)(&node(drivers), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells, [json!("node-1"), json!(shown), json!("<unknown>")]);
    }
}

/// As a kubelet makes it where there is no driver yet: Go says null.
#[test]
fn no_drivers_may_be_said_in_any_way() {
    for spec in [json!({}), json!({"drivers": null}), json!({"drivers": []})] {
        let made = json!({"metadata": {"name": "node-1"}, "spec": spec});
        let decoded = (ROW.decode)(made).unwrap();
        assert_eq!(decoded.warnings, [""; 0]);
        assert!((ROW.validate_create)(&decoded.value).is_empty());
    }
}
