use serde_json::json;

use super::*;

/// A length-delimited field.
fn bytes(number: u8, payload: &[u8]) -> Vec<u8> {
    [
        &[number << 3 | 2, u8::try_from(payload.len()).unwrap()],
        payload,
    ]
    .concat()
}

fn varint(number: u8, value: u8) -> Vec<u8> {
    match number << 3 {
        key if number < 16 => vec![key, value],
        _ => vec![(number << 3) | 0x80, number >> 4, value],
    }
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        bytes(1, &type_meta),
        bytes(2, raw),
        bytes(3, b""),
        bytes(4, b""),
    ]
    .concat()
}

#[test]
fn a_config_map_as_kubectl_sends_it() {
    // metadata with Go's empty strings and zero time, then a map entry.
    let meta = [
        bytes(1, b"c"),
        bytes(2, b""),
        bytes(3, b"default"),
        varint(7, 0),
        bytes(8, b""),
    ]
    .concat();
    let raw = [
        bytes(1, &meta),
        bytes(2, &[bytes(1, b"k"), bytes(2, b"v")].concat()),
    ]
    .concat();
    let value = protobuf_to_json(&body("v1", "ConfigMap", &raw)).unwrap();
    let row = crate::find("", "v1", "configmaps").unwrap();
    let decoded = (row.decode)(value).unwrap();
    assert!(decoded.warnings.is_empty());
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}})
    );
}

#[test]
fn pointers_keep_their_zero_and_inlined_messages_open() {
    let probe = [
        bytes(
            1,
            &bytes(
                3,
                &bytes(1, &[varint(1, 1), varint(2, 0), bytes(3, b"http")].concat()),
            ),
        ),
        varint(4, 9),
    ]
    .concat();
    let limits = bytes(
        1,
        &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat(),
    );
    let container = [bytes(1, b"a"), bytes(8, &limits), bytes(11, &probe)].concat();
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, &bytes(1, b"")))].concat();
    let spec = [
        bytes(1, &volume),
        bytes(2, &container),
        varint(4, 0),
        varint(11, 0),
        varint(21, 0),
    ]
    .concat();
    let value = protobuf_to_json(&body("v1", "Pod", &bytes(2, &spec))).unwrap();
    let decoded = (crate::find("", "v1", "pods").unwrap().decode)(value).unwrap();
    assert_eq!(
        decoded.value["spec"],
        json!({
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{"name": "a", "resources": {"limits": {"cpu": "500m"}},
                "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 9}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        })
    );
}

#[test]
fn drivers_as_a_kubelet_tells_them() {
    let driver = [
        bytes(1, b"csi.example.com"),
        bytes(2, b"i-1"),
        bytes(3, b"zone"),
        bytes(4, &varint(1, 0)),
    ]
    .concat();
    for (spec, drivers) in [
        (vec![], None),
        (
            bytes(1, &driver),
            Some(json!([{
                "name": "csi.example.com", "nodeID": "i-1", "topologyKeys": ["zone"], "allocatable": {"count": 0},
            }])),
        ),
    ] {
        let raw = [bytes(1, &bytes(1, b"a")), bytes(2, &spec)].concat();
        let value = protobuf_to_json(&body("storage.k8s.io/v1", "CSINode", &raw)).unwrap();
        let row = crate::find("storage.k8s.io", "v1", "csinodes").unwrap();
        let decoded = (row.decode)(value).unwrap();
        assert_eq!(decoded.warnings, [""; 0]);
        assert_eq!(decoded.value["spec"].get("drivers"), drivers.as_ref());
    }
    let token = [bytes(1, b"a"), varint(2, 60)].concat();
    let spec = [
        varint(1, 0),
        varint(2, 1),
        bytes(3, b"Ephemeral"),
        varint(4, 1),
        bytes(5, b"File"),
        bytes(6, &token),
    ]
    .concat();
    let raw = bytes(2, &spec);
    let value = protobuf_to_json(&body("storage.k8s.io/v1", "CSIDriver", &raw)).unwrap();
    assert_eq!(
        value["spec"],
        json!({
            "attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"],
            "storageCapacity": true, "fsGroupPolicy": "File",
            "tokenRequests": [{"audience": "a", "expirationSeconds": 60}],
        })
    );
}

#[test]
fn delete_options_belong_to_every_group() {
    let raw = [varint(1, 0), bytes(4, b"Background")].concat();
    let value = protobuf_to_json(&body("apps/v1", "DeleteOptions", &raw)).unwrap();
    assert_eq!(
        (&value["gracePeriodSeconds"], &value["propagationPolicy"]),
        (&json!(0), &json!("Background"))
    );
}

#[test]
fn times_are_seconds_and_nanos() {
    let renew = bytes(4, &[varint(1, 61), varint(2, 64)].concat());
    let value =
        protobuf_to_json(&body("coordination.k8s.io/v1", "Lease", &bytes(2, &renew))).unwrap();
    assert_eq!(value["spec"]["renewTime"], "1970-01-01T00:01:01.000000Z");
}

#[test]
fn what_is_no_such_body_is_refused() {
    assert!(protobuf_to_json(b"{}").is_err());
    assert!(
        protobuf_to_json(&body("v1", "Nothing", b""))
            .unwrap_err()
            .starts_with("no kind \"Nothing\"")
    );
    assert_eq!(
        protobuf_to_json(&body("v1", "Pod", &[0x12, 0x7f])).unwrap_err(),
        BROKEN
    );
}
