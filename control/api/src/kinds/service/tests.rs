use jiff::Timestamp;
use serde_json::json;

use super::*;

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec});
    (ROW.default)(&mut service);
    service
}

#[test]
fn services_are_defaulted() {
    assert_eq!(
        service(json!({"ports": [{"port": 80}]}))["spec"],
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]})
    );
    for (spec, field, value) in [
        (
            json!({"type": "NodePort"}),
            "externalTrafficPolicy",
            json!("Cluster"),
        ),
        (
            json!({"externalIPs": ["192.0.2.1"]}),
            "externalTrafficPolicy",
            json!("Cluster"),
        ),
        (json!({}), "externalTrafficPolicy", Value::Null),
        (
            json!({"type": "LoadBalancer"}),
            "allocateLoadBalancerNodePorts",
            json!(true),
        ),
        (
            json!({"type": "ExternalName"}),
            "internalTrafficPolicy",
            Value::Null,
        ),
        (
            json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
            "sessionAffinityConfig",
            Value::Null,
        ),
    ] {
        assert_eq!(
            service(spec.clone())["spec"][field],
            value,
            "{spec} {field}"
        );
    }
    assert_eq!(
        service(json!({"sessionAffinity": "ClientIP"}))["spec"]["sessionAffinityConfig"]["clientIP"]
            ["timeoutSeconds"],
        10800
    );
    let mut balanced = service(json!({"type": "LoadBalancer"}));
    balanced["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.b"}]}});
    (ROW.default)(&mut balanced);
    assert_eq!(
        balanced["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a.b"}])
    );
}

/// A service as validation sees it, allocated and all.
fn errors(spec: Value) -> Vec<String> {
    let mut service = service(spec);
    let status = service.as_object_mut().and_then(|o| o.remove("status"));
    (ROW.prepare_create)(&mut service);
    if let Some(status) = status {
        service["status"] = status;
    }
    let errors = (ROW.validate_create)(&service);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn services_are_checked() {
    const LOCAL: &str = "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services";
    let port = json!([{"port": 80}]);
    let table = [
        (
            json!({"ports": [{"port": 80, "targetPort": "http"}]}),
            vec![],
        ),
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), vec![]),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            vec![
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
            ],
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            vec!["spec.ports[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"ports": [{"port": 0}]}),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"type": "Magic", "ports": port}),
            vec![
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30000}]}),
            vec!["spec.ports[1].nodePort: Duplicate value: 30000"],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None", "ports": port}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ],
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}, "ports": port}),
            vec![
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        ),
        (
            json!({"externalIPs": ["192.0.2.1", "nowhere", "127.0.0.1", "010.1.1.1"], "ports": port}),
            vec![
                "spec.externalIPs[1]: Invalid value: \"nowhere\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "spec.externalIPs[2]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "spec.externalIPs[3]: Invalid value: \"010.1.1.1\": must not have leading 0s",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8"], "ports": port}),
            vec![
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
            ],
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "a.b/c", "allocateLoadBalancerNodePorts": true,
                "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "ports": port}),
            vec![
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                LOCAL,
                "spec.healthCheckNodePort: Invalid value: 31000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "a/b/c", "ports": port}),
            vec![
                "spec.loadBalancerClass: Invalid value: \"a/b/c\": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                "spec.healthCheckNodePort: Required value",
            ],
        ),
        (
            json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Node", "trafficDistribution": "Anywhere", "ports": port}),
            vec![
                LOCAL,
                "spec.internalTrafficPolicy: Unsupported value: \"Node\": supported values: \"Cluster\", \"Local\"",
                "spec.trafficDistribution: Unsupported value: \"Anywhere\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
            ],
        ),
        (
            json!({"trafficDistribution": "PreferSameNode", "ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]}),
            vec![],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a_b", "clusterIP": "10.96.0.2", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            vec![
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(errors(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn cluster_ips_fit_their_families() {
    let table = [
        (
            json!({"clusterIP": "10.96.0.300"}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"10.96.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"clusterIPs": ["10.96.0.2"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.96.0.2\"]: must be empty when `clusterIP` is not specified",
            ],
        ),
        (
            json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.3"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.96.0.3\"]: first value must match `clusterIP`",
            ],
        ),
        (
            json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2", "10.96.0.3"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"10.96.0.2\",\"10.96.0.3\"]: may specify no more than one IP for each IP family",
            ],
        ),
        (
            json!({"clusterIP": "fd00::2", "clusterIPs": ["fd00::2", "10.96.0.3"], "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"}),
            vec![],
        ),
        (
            json!({"clusterIP": "fd00::2", "clusterIPs": ["fd00::2", "10.96.0.3"], "ipFamilies": ["IPv4", "IPv6"]}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"fd00::2\": expected an IPv4 value as indicated by `ipFamilies[0]`",
                "spec.clusterIPs[1]: Invalid value: \"10.96.0.3\": expected an IPv6 value as indicated by `ipFamilies[1]`",
            ],
        ),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None", "10.96.0.3"]}),
            vec![
                "spec.clusterIPs: Invalid value: [\"None\",\"10.96.0.3\"]: 'None' must be the first and only value",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4", "IPX"], "ipFamilyPolicy": "Both"}),
            vec![
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilies[2]: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ],
        ),
    ];
    for (mut spec, expected) in table {
        spec["ports"] = json!([{"port": 80}]);
        assert_eq!(errors(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn the_status_is_a_load_balancers() {
    let ingress = |kind: &str, entries: Value| json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"type": kind}, "status": {"loadBalancer": {"ingress": entries}}});
    let at = |rest: &str| vec![format!("status.loadBalancer.ingress{rest}")];
    for (service, expected) in [
        (
            ingress(
                "LoadBalancer",
                json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a.b"}]),
            ),
            vec![],
        ),
        (
            ingress("ClusterIP", json!([{"ip": "192.0.2.1", "ipMode": "VIP"}])),
            at(": Forbidden: may only be used when `spec.type` is 'LoadBalancer'"),
        ),
        (
            ingress("LoadBalancer", json!([{"ip": "192.0.2.1"}])),
            at("[0].ipMode: Required value: must be specified when `ip` is set"),
        ),
        (
            ingress(
                "LoadBalancer",
                json!([{"ip": "192.0.2.1", "ipMode": "Sideways"}]),
            ),
            at("[0].ipMode: Unsupported value: \"Sideways\": supported values: \"Proxy\", \"VIP\""),
        ),
        (
            ingress(
                "LoadBalancer",
                json!([{"hostname": "a.b", "ipMode": "VIP"}]),
            ),
            at("[0].ipMode: Forbidden: may not be specified when `ip` is not set"),
        ),
        (
            ingress(
                "LoadBalancer",
                json!([{"ip": "192.0.2.900", "ipMode": "VIP"}]),
            ),
            at(
                "[0].ip: Invalid value: \"192.0.2.900\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ),
        (
            ingress("LoadBalancer", json!([{"hostname": "192.0.2.1"}])),
            at("[0].hostname: Invalid value: \"192.0.2.1\": must be a DNS name, not an IP address"),
        ),
    ] {
        let old = json!({"metadata": service["metadata"], "spec": service["spec"]});
        let errors = (ROW.validate_status)(&service, &old);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{service}");
    }
}

#[test]
fn some_fields_stay_as_they_were_set() {
    let dual = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2", "fd00::2"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack", "loadBalancerClass": "a.b/c",
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "ports": [{"port": 80}]});
    for (change, expected) in [
        (json!({}), vec![]),
        (
            json!({"clusterIPs": ["10.96.0.2", "fd00::3"]}),
            vec![
                "spec.clusterIPs[1]: Invalid value: [\"10.96.0.2\",\"fd00::3\"]: may not change once set",
            ],
        ),
        (
            json!({"clusterIPs": ["10.96.0.2"], "ipFamilies": ["IPv4"]}),
            vec![
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
            ],
        ),
        (
            json!({"clusterIPs": ["10.96.0.2"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            vec![],
        ),
        (
            json!({"loadBalancerClass": null}),
            vec!["spec.loadBalancerClass: Invalid value: null: may not change once set"],
        ),
        (
            json!({"healthCheckNodePort": 31001}),
            vec!["spec.healthCheckNodePort: Forbidden: field is immutable"],
        ),
    ] {
        let old = service(dual.clone());
        let mut new = old.clone();
        for (key, value) in change.as_object().expect("fields") {
            new["spec"][key] = value.clone();
        }
        (ROW.prepare_update)(&mut new, &old);
        let errors = (ROW.validate_update)(&new, &old);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{change}");
    }
}

#[test]
fn the_cluster_ip_stays() {
    let old = service(
        json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "ports": [{"port": 80}]}),
    );
    let mut new = service(json!({"ports": [{"port": 81}]}));
    (ROW.prepare_update)(&mut new, &old);
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.2");
    assert!((ROW.validate_update)(&new, &old).is_empty());

    new["spec"]["clusterIP"] = json!("10.96.0.3");
    // The other field follows the one that was changed.
    (ROW.prepare_update)(&mut new, &old);
    let errors: Vec<String> = (ROW.validate_update)(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.3\"]: may not change once set"]
    );
}

#[test]
fn columns_read_as_in_kubectl() {
    let now = Timestamp::UNIX_EPOCH;
    let mut web = service(
        json!({"clusterIP": "10.96.0.2", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}], "selector": {"app": "web"}}),
    );
    assert_eq!(
        (ROW.cells)(&web, now),
        [
            "web",
            "ClusterIP",
            "10.96.0.2",
            "<none>",
            "80/TCP,53/UDP",
            "<unknown>",
            "app=web"
        ]
    );
    web["spec"]["type"] = json!("LoadBalancer");
    web["spec"]["ports"][0]["nodePort"] = json!(30001);
    assert_eq!(
        (ROW.cells)(&web, now)[3..5],
        ["<pending>", "80:30001/TCP,53/UDP"]
    );
    web["spec"]["externalIPs"] = json!(["198.51.100.7"]);
    web["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}, {"hostname": "a.b"}]}});
    let shown = |web: &Value| (ROW.cells)(web, now)[3].clone();
    assert_eq!(shown(&web), "192.0.2.1,192.0.2.9,a.b,198.51.100.7");
    web["spec"]["type"] = json!("NodePort");
    assert_eq!(shown(&web), "198.51.100.7");
    web["spec"] = json!({"type": "ExternalName", "externalName": "a.example"});
    assert_eq!(
        (ROW.cells)(&web, now)[1..5],
        ["ExternalName", "<none>", "a.example", "<none>"]
    );
}
