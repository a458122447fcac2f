//! What Kubernetes' conformance suite promises of the API of kinds that Services and storage are made of: each test is
//! named after the entry of the suite whose promise it holds, and its first line is that entry's name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::{Cluster, cluster};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

struct Kind<'a> {
    group: &'a str,
    plural: &'a str,
    namespaced: bool,
    /// Three of them.
    names: [&'a str; 3],
    make: fn(&str) -> Value,
}

impl Kind<'_> {
    fn collection(&self) -> String {
        let place = if self.namespaced {
            "namespaces/default/"
        } else {
            ""
        };
        format!("/apis/{}/v1/{place}{}", self.group, self.plural)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    async fn create(&self, cluster: &Cluster, name: &str) -> Value {
        let mut object = (self.make)(name);
        object["metadata"]["name"] = name.into();
        object["metadata"]["labels"] = json!({"special": "yes"});
        cluster
            .post(&self.collection(), object)
            .await
            .expect(201)
            .body
    }

    /// The group, its version and the resource with all verbs are in the discovery documents.
    async fn assert_discovered(&self, cluster: &Cluster) {
        let names = |list: &Value, field: &str| -> Vec<Value> {
            let all = list.as_array().into_iter().flatten();
            all.map(|own| own[field].clone()).collect()
        };
        let groups = cluster.get("/apis").await.expect(200).body;
        assert!(names(&groups["groups"], "name").contains(&json!(self.group)));
        let group = format!("/apis/{}", self.group);
        let versions = cluster.get(&group).await.expect(200).body;
        assert!(names(&versions["versions"], "version").contains(&json!("v1")));
        let resources = cluster.get(&format!("{group}/v1")).await.expect(200).body;
        let mut all = resources["resources"].as_array().into_iter().flatten();
        let found = all
            .find(|own| own["name"] == self.plural)
            .expect("the resource");
        let verbs: BTreeSet<&str> = found["verbs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        assert!(VERBS.iter().all(|verb| verbs.contains(verb)), "{verbs:?}");
    }

    /// Every verb does what it says, and a watch tells of all of it.
    async fn assert_operable(&self, cluster: &Cluster) {
        let collection = self.collection();
        let [first, second, third] = self.names;
        let version = cluster.get(&collection).await.expect(200).version();
        for name in self.names {
            self.create(cluster, name).await;
        }
        let read = cluster.get(&self.path(first)).await.expect(200);
        assert_eq!(read.body["metadata"]["name"], first);
        let selected = format!("{collection}?labelSelector=special%3Dyes");
        assert_eq!(cluster.get(&selected).await.expect(200).names().len(), 3);
        if self.namespaced {
            let everywhere = format!("/apis/{}/v1/{}", self.group, self.plural);
            assert_eq!(cluster.get(&everywhere).await.expect(200).names().len(), 3);
        }

        let annotation = |value: &str| json!({"metadata": {"annotations": {"patched": value}}});
        let patched = cluster
            .patch(&self.path(first), "merge-patch", annotation("true"))
            .await
            .expect(200);
        assert_eq!(patched.body["metadata"]["annotations"]["patched"], "true");
        let mut updated = patched.body;
        updated["metadata"]["annotations"]["updated"] = "true".into();
        let updated = cluster.put(&self.path(first), updated).await.expect(200);
        assert_eq!(updated.body["metadata"]["annotations"]["patched"], "true");
        assert_eq!(updated.body["metadata"]["annotations"]["updated"], "true");

        cluster
            .delete(&self.path(first), Value::Null)
            .await
            .expect(200);
        cluster.get(&self.path(first)).await.expect(404);
        assert_eq!(cluster.get(&selected).await.expect(200).names().len(), 2);
        cluster.delete(&selected, Value::Null).await.expect(200);
        assert!(
            cluster
                .get(&collection)
                .await
                .expect(200)
                .names()
                .is_empty()
        );

        let watch = format!("{collection}?watch=true&timeoutSeconds=1&resourceVersion={version}");
        let events = cluster.watch(&watch, &[]).await;
        let mut told: Vec<(&str, &str)> = events
            .iter()
            .map(|event| {
                let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
                let name = text("/object/metadata/name");
                (text("/type").unwrap_or_default(), name.unwrap_or_default())
            })
            .collect();
        // The members of a collection are deleted side by side.
        told[6..].sort_unstable();
        let mut last = [("DELETED", second), ("DELETED", third)];
        last.sort_unstable();
        assert_eq!(
            told[..6],
            [
                ("ADDED", first),
                ("ADDED", second),
                ("ADDED", third),
                ("MODIFIED", first),
                ("MODIFIED", first),
                ("DELETED", first),
            ]
        );
        assert_eq!(told[6..], last);
    }
}

/// `[sig-network] EndpointSlice should support creating EndpointSlice API operations`
#[tokio::test]
async fn endpoint_slice_should_support_creating_endpoint_slice_api_operations() {
    let cluster = cluster().await;
    let kind = Kind {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        namespaced: true,
        names: ["a", "b", "c"],
        make: |_| {
            json!({
                "metadata": {}, "addressType": "IPv4",
                "ports": [{"name": "example", "port": 80}],
                "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}}],
            })
        },
    };
    kind.assert_discovered(&cluster).await;
    kind.assert_operable(&cluster).await;
}

/// `[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations`
#[tokio::test]
async fn service_cidr_and_ip_address_api_should_support_ip_address_api_operations() {
    let cluster = cluster().await;
    let kind = Kind {
        group: "networking.k8s.io",
        plural: "ipaddresses",
        namespaced: false,
        names: ["192.0.2.1", "192.0.2.2", "2001:db8::1"],
        make: |_| {
            json!({"metadata": {}, "spec": {"parentRef": {
                "group": "", "resource": "services", "name": "test", "namespace": "default",
            }}})
        },
    };
    kind.assert_discovered(&cluster).await;
    kind.assert_operable(&cluster).await;

    // An address is held by one, and by its one name.
    kind.create(&cluster, "192.0.2.1").await;
    let mut again = (kind.make)("");
    again["metadata"]["name"] = "192.0.2.1".into();
    cluster
        .post(&kind.collection(), again.clone())
        .await
        .expect(409);
    again["metadata"]["name"] = "192.000.2.2".into();
    cluster.post(&kind.collection(), again).await.expect(422);
    let other = json!({"spec": {"parentRef": {"name": "other"}}});
    let refused = cluster
        .patch(&kind.path("192.0.2.1"), "merge-patch", other)
        .await
        .expect(422);
    assert!(
        refused.message().contains("spec.parentRef"),
        "{}",
        refused.message()
    );
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = cluster
        .call("GET", &kind.collection(), &[("accept", table)], Value::Null)
        .await
        .expect(200);
    assert_eq!(
        table.body["rows"][0]["cells"].as_array().expect("cells")[..2],
        [json!("192.0.2.1"), json!("services/default/test")]
    );
}

/// `[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations`
#[tokio::test]
async fn service_cidr_and_ip_address_api_should_support_service_cidr_api_operations() {
    let cluster = cluster().await;
    let kind = Kind {
        group: "networking.k8s.io",
        plural: "servicecidrs",
        namespaced: false,
        names: ["a", "b", "c"],
        make: |name| {
            let network = match name {
                "a" => "10.1.0.0/24",
                "b" => "10.2.0.0/24",
                _ => "2001:db8::/112",
            };
            json!({"metadata": {}, "spec": {"cidrs": [network]}})
        },
    };
    kind.assert_discovered(&cluster).await;
    kind.assert_operable(&cluster).await;

    // What a client says of the status at creation is not heard; the subresource says it.
    let made = kind.create(&cluster, "a").await;
    assert!(made.get("status").is_none(), "{made}");
    let path = format!("{}/status", kind.path("a"));
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "False", "reason": "Test", "message": "set by a test",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let patch = json!({"status": {"conditions": [condition("Patched")]}, "spec": {"cidrs": ["10.9.0.0/24"]}});
    let patched = cluster.patch(&path, "merge-patch", patch).await.expect(200);
    assert_eq!(patched.body["status"]["conditions"][0]["type"], "Patched");
    assert_eq!(patched.body["spec"]["cidrs"], json!(["10.1.0.0/24"]));
    let mut updated = patched.body;
    updated["status"]["conditions"] = json!([condition("Updated")]);
    let updated = cluster.put(&path, updated).await.expect(200).body;
    assert_eq!(
        updated["status"]["conditions"],
        json!([condition("Updated")])
    );
    assert_eq!(cluster.get(&path).await.expect(200).body, updated);
    // The object itself cannot be used to say it.
    let label = json!({"metadata": {"labels": {"a": "b"}}, "status": null});
    let labelled = cluster
        .patch(&kind.path("a"), "merge-patch", label)
        .await
        .expect(200);
    assert_eq!(labelled.body["status"], updated["status"]);
}

/// `[sig-network] Endpoints should test the lifecycle of an Endpoint`
#[tokio::test]
async fn endpoints_should_test_the_lifecycle_of_an_endpoint() {
    const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
    let cluster = cluster().await;
    let path = format!("{ENDPOINTS}/testservice");
    let made = json!({
        "metadata": {"name": "testservice", "labels": {"test-endpoint-static": "true"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80}]}],
    });
    let made = cluster.post(ENDPOINTS, made).await.expect(201);
    let selected = format!("{ENDPOINTS}?labelSelector=test-endpoint-static%3Dtrue");
    let everywhere = "/api/v1/endpoints?labelSelector=test-endpoint-static%3Dtrue";
    for list in [selected.as_str(), everywhere] {
        assert_eq!(cluster.get(list).await.expect(200).names(), ["testservice"]);
    }

    let mut updated = made.body.clone();
    updated["metadata"]["labels"]["test-service"] = "updated".into();
    cluster.put(&path, updated).await.expect(200);
    let read = cluster.get(&path).await.expect(200);
    assert_eq!(read.body["metadata"]["labels"]["test-service"], "updated");
    assert_eq!(read.body["subsets"], made.body["subsets"]);

    let patch = json!({
        "metadata": {"labels": {"test-service": "patched"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}],
    });
    cluster
        .patch(&path, "strategic-merge-patch", patch)
        .await
        .expect(200);
    let read = cluster.get(&path).await.expect(200);
    let subset = &read.body["subsets"][0];
    assert_eq!(read.body["metadata"]["labels"]["test-service"], "patched");
    assert_eq!(subset["addresses"], json!([{"ip": "10.0.0.25"}]));
    assert_eq!(
        subset["ports"],
        json!([{"name": "http-test", "port": 8080, "protocol": "TCP"}])
    );

    cluster.delete(&selected, Value::Null).await.expect(200);
    cluster.get(&path).await.expect(404);
    let version = made.version();
    let watch = format!("{selected}&watch=true&timeoutSeconds=1&resourceVersion={version}");
    let events = cluster.watch(&watch, &[]).await;
    let told: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(told, ["MODIFIED", "MODIFIED", "DELETED"]);
}

/// `[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver`
#[tokio::test]
async fn csi_inline_volumes_should_run_through_the_lifecycle_of_a_csi_driver() {
    let cluster = cluster().await;
    let kind = Kind {
        group: "storage.k8s.io",
        plural: "csidrivers",
        namespaced: false,
        names: ["a.example.com", "b.example.com", "c.example.com"],
        make: |_| json!({"metadata": {}, "spec": {"volumeLifecycleModes": ["Ephemeral"]}}),
    };
    kind.assert_discovered(&cluster).await;
    kind.assert_operable(&cluster).await;

    let made = kind.create(&cluster, "a.example.com").await;
    assert_eq!(
        made["spec"],
        json!({
            "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false,
            "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Ephemeral"],
            "requiresRepublish": false, "seLinuxMount": false,
        })
    );
    let mut again = (kind.make)("");
    again["metadata"]["name"] = "a.example.com".into();
    cluster.post(&kind.collection(), again).await.expect(409);

    let path = kind.path("a.example.com");
    let patch = json!({"spec": {"fsGroupPolicy": "File", "tokenRequests": [{"audience": "a"}]}});
    let patched = cluster
        .patch(&path, "strategic-merge-patch", patch)
        .await
        .expect(200);
    assert_eq!(patched.body["metadata"]["generation"], 1);
    // What comes without a version would overwrite it blindly.
    let mut blind = patched.body.clone();
    blind["metadata"]["resourceVersion"] = Value::Null;
    cluster.put(&path, blind).await.expect(422);
    for (spec, field) in [
        (json!({"attachRequired": false}), "spec.attachedRequired"),
        (
            json!({"volumeLifecycleModes": ["Persistent"]}),
            "spec.volumeLifecycleModes",
        ),
    ] {
        let refused = cluster
            .patch(&path, "merge-patch", json!({"spec": spec}))
            .await
            .expect(422);
        let told = refused.message();
        assert!(told.contains(field), "{told}");
    }
    assert_eq!(
        cells(&cluster, &kind).await[..7],
        [
            json!("a.example.com"),
            json!(true),
            json!(false),
            json!(false),
            json!("a"),
            json!(false),
            json!("Ephemeral"),
        ]
    );

    let mut asking = (kind.make)("");
    asking["metadata"]["name"] = "d.example.com".into();
    asking["spec"]["tokenRequests"] = json!([{"audience": "a"}]);
    let asking = cluster.post(&kind.collection(), asking).await.expect(201);
    let warned = asking.headers["warning"].to_str().expect("a warning");
    assert!(
        warned.contains("spec.serviceAccountTokenInSecrets is unset"),
        "{warned}"
    );
}

/// `[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode`
#[tokio::test]
async fn csi_nodes_csi_conformance_should_run_through_the_lifecycle_of_a_csinode() {
    let cluster = cluster().await;
    let kind = Kind {
        group: "storage.k8s.io",
        plural: "csinodes",
        namespaced: false,
        names: ["a", "b", "c"],
        // As a client in Go says that there are none.
        make: |_| json!({"metadata": {}, "spec": {"drivers": null}}),
    };
    kind.assert_discovered(&cluster).await;
    kind.assert_operable(&cluster).await;

    // Drivers are one another's neighbours, by name.
    kind.create(&cluster, "a").await;
    let path = kind.path("a");
    for name in ["a.example.com", "b.example.com"] {
        let driver = json!({"name": name, "nodeID": "i-1", "topologyKeys": ["zone"]});
        cluster
            .patch(
                &path,
                "strategic-merge-patch",
                json!({"spec": {"drivers": [driver]}}),
            )
            .await
            .expect(200);
    }
    assert_eq!(cells(&cluster, &kind).await[..2], [json!("a"), json!(2)]);
    let patch = |driver: Value| json!({"spec": {"drivers": [driver]}});
    let renamed = patch(json!({"name": "a.example.com", "nodeID": "i-2"}));
    let refused = cluster
        .patch(&path, "strategic-merge-patch", renamed)
        .await
        .expect(422);
    let told = refused.message();
    assert!(
        told.contains("spec.drivers: Invalid value: ") && told.ends_with("field is immutable"),
        "{told}"
    );
    let counted = patch(json!({"name": "a.example.com", "allocatable": {"count": 8}}));
    cluster
        .patch(&path, "strategic-merge-patch", counted)
        .await
        .expect(200);
    let gone = patch(json!({"name": "b.example.com", "$patch": "delete"}));
    let left = cluster
        .patch(&path, "strategic-merge-patch", gone)
        .await
        .expect(200);
    assert_eq!(
        left.body["spec"]["drivers"],
        json!([{
            "name": "a.example.com", "nodeID": "i-1", "topologyKeys": ["zone"], "allocatable": {"count": 8},
        }])
    );
    let mut longer = left.body;
    longer["spec"]["drivers"] = json!([{"name": "c.example.com", "nodeID": "i".repeat(257)}]);
    let refused = cluster.put(&path, longer).await.expect(422);
    let told = refused.message();
    assert!(told.ends_with("must be 256 characters or less"), "{told}");
}

/// The first row as kubectl prints it.
async fn cells(cluster: &Cluster, kind: &Kind<'_>) -> Vec<Value> {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = cluster
        .call("GET", &kind.collection(), &[("accept", table)], Value::Null)
        .await
        .expect(200);
    let cells = table.body["rows"][0]["cells"].as_array().cloned();
    cells.expect("cells")
}
