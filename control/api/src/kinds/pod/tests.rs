use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn defaulted(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    (ROW.default)(&mut pod);
    pod
}

fn errors(pod: &Value) -> Vec<String> {
    (ROW.validate_create)(pod)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_negative_grace_period_of_a_pod_is_one_second() {
    for (given, kept) in [(-1, 1), (-600, 1), (0, 0), (7, 7)] {
        let pod = defaulted(json!({"containers": [], "terminationGracePeriodSeconds": given}));
        assert_eq!(
            pod["spec"]["terminationGracePeriodSeconds"], kept,
            "{given}"
        );
    }
    let mut workload =
        json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": -1}}}});
    defaults::template(&mut workload);
    assert_eq!(
        workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        -1
    );
}

#[test]
fn the_new_name_of_the_service_account_wins() {
    for (given, name) in [
        (json!({"serviceAccountName": "new"}), "new"),
        (json!({"serviceAccount": "old"}), "old"),
        (
            json!({"serviceAccountName": "new", "serviceAccount": "old"}),
            "new",
        ),
        (
            json!({"serviceAccountName": "", "serviceAccount": "old"}),
            "old",
        ),
    ] {
        let pod = defaulted(given.clone());
        assert_eq!(pod["spec"]["serviceAccountName"], name, "{given}");
        assert_eq!(pod["spec"]["serviceAccount"], name, "{given}");
    }
}

#[test]
fn a_minimal_pod_is_defaulted_and_valid() {
    let pod = defaulted(
        json!({"containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
        "livenessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
    );
    assert_eq!(errors(&pod), Vec::<String>::new());
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{"name": "a", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}],
        })
    );
    for (image, policy) in [
        ("nginx:1.27", "IfNotPresent"),
        ("nginx:latest", "Always"),
        ("localhost:5000/nginx", "Always"),
        ("nginx@sha256:00", "IfNotPresent"),
    ] {
        let pod = defaulted(json!({"containers": [{"name": "a", "image": image}]}));
        assert_eq!(
            pod.str_at("/spec/containers/0/imagePullPolicy"),
            policy,
            "{image}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let table = [
        (json!({}), vec!["spec.containers: Required value"]),
        (
            json!({"containers": [{"image": "x"}]}),
            vec!["spec.containers[0].name: Required value"],
        ),
        (
            json!({"containers": [{"name": "a"}]}),
            vec!["spec.containers[0].image: Required value"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            vec!["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "imagePullPolicy": "Sometimes"}]}),
            vec![
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
            vec!["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]}),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 70000}]}]}),
            vec![
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"restartPolicy": "Maybe", "containers": [{"name": "a", "image": "x"}]}),
            vec![
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "readinessProbe": {}}]}),
            vec!["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "initContainers": [{"name": "a", "image": "x", "readinessProbe": {"exec": {"command": ["x"]}}}]}),
            vec![
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                "spec.initContainers[0].name: Duplicate value: \"a\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "secret": {}}, {"name": "v", "emptyDir": {}}]}),
            vec![
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[1].name: Duplicate value: \"v\"",
            ],
        ),
        (
            json!({
                "containers": [{"name": "a", "image": "x", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "pods": "1"}},
            }),
            vec![
                "spec.resources.limits[pods]: Unsupported value: \"pods\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
                "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}),
            vec!["spec.resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "env": [
                {"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "a.env", "key": "A"}}},
                {"name": "B", "valueFrom": {"fileKeyRef": {}}},
                {"name": "C", "valueFrom": {"fileKeyRef": {"volumeName": "w", "path": "../a", "key": "a=b"}}},
                {"name": "D", "valueFrom": {"fileKeyRef": {"volumeName": "x", "path": "a", "key": "A"}}},
            ]}], "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/"}}]}),
            vec![
                "spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Required value",
                "spec.containers[0].env[1].valueFrom.fileKeyRef.path: Required value",
                "spec.containers[0].env[1].valueFrom.fileKeyRef.key: Required value",
                "spec.containers[0].env[2].valueFrom.fileKeyRef.path: Invalid value: \"../a\": must not contain '..'",
                "spec.containers[0].env[2].valueFrom.fileKeyRef.key: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                "spec.containers[0].env[2].valueFrom.fileKeyRef.volumeName: Invalid value: \"w\": referenced volume must be of type emptyDir",
                "spec.containers[0].env[3].valueFrom.fileKeyRef.volumeName: Not found: \"x\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [
                {"name": "v", "image": {"reference": "x"}}, {"name": "w", "image": {}},
                {"name": "x", "image": {"reference": "x", "pullPolicy": "Sometimes"}},
            ]}),
            vec![
                "spec.volumes[1].image.reference: Required value",
                "spec.volumes[2].image.pullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "x", "resizePolicy": [
                {"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
                {"resourceName": "pids", "restartPolicy": "NotRequired"},
            ]}]}),
            vec![
                "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\"",
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
                "spec.containers[0].resizePolicy: Unsupported value: \"pids\": supported values: \"cpu\", \"memory\"",
            ],
        ),
        (
            json!({"volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "w", "emptyDir": {}},
            ], "containers": [{"name": "a", "image": "x", "volumeDevices": [
                {"name": "v", "devicePath": "/dev/v"}, {"name": "w", "devicePath": "/dev/w"},
            ]}]}),
            vec![
                "spec.containers[0].volumeDevices[1].name: Invalid value: \"w\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ],
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true, "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
            ], "containers": [
                {"name": "a", "image": "x", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]},
            ]}),
            vec![
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
                "spec.hostPID: Forbidden: when `hostUsers` is false",
                "spec.hostIPC: Forbidden: when `hostUsers` is false",
                "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            json!({"hostUsers": false, "containers": [{"name": "a", "image": "x", "securityContext": {"privileged": true}}]}),
            vec![],
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(errors(&defaulted(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn updates_change_images_only() {
    let old = defaulted(
        json!({"containers": [{"name": "a", "image": "x"}], "tolerations": [{"key": "k", "operator": "Exists"}]}),
    );
    let update = |change: fn(&mut Value)| -> Vec<String> {
        let mut new = old.clone();
        change(&mut new);
        (ROW.validate_update)(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert!(update(|p| p["spec"]["containers"][0]["image"] = json!("y")).is_empty());
    assert!(
        update(|p| p["spec"]["tolerations"]
            .as_array_mut()
            .unwrap()
            .push(json!({"key": "z", "operator": "Exists"})))
        .is_empty()
    );
    assert!(update(|p| p["metadata"]["labels"] = json!({"a": "b"})).is_empty());
    let errors = update(|p| p["spec"]["restartPolicy"] = json!("Never"));
    assert!(errors[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    let errors = update(|p| p["spec"]["tolerations"] = json!([]));
    assert_eq!(
        errors,
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
    let errors = update(|p| {
        p["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "b", "image": "x",
        "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}))
    });
    assert_eq!(
        errors,
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn qos_follows_requests() {
    let container = |resources: Value| json!({"containers": [{"resources": resources}]});
    let table = [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
            "Burstable",
        ),
    ];
    for (resources, class) in table {
        assert_eq!(qos_class(&container(resources.clone())), class);
        // What the pod asks for as a whole decides alone.
        let mut whole = container(json!({"requests": {"memory": "1"}}));
        whole["resources"] = resources.clone();
        let own = if resources == json!({}) {
            "Burstable"
        } else {
            class
        };
        assert_eq!(qos_class(&whole), own, "{resources}");
    }
}

#[test]
fn the_status_column_reads_as_in_kubectl() {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let crash = json!({"name": "a", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z", "exitCode": 1}}});
    let table = [
        (
            json!({"status": {"phase": "Pending"}}),
            "0/1",
            "Pending",
            "0",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [running]}}),
            "1/1",
            "Running",
            "0",
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [crash]}}),
            "0/1",
            "CrashLoopBackOff",
            "3 (2m ago)",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running", "containerStatuses": [running]}}),
            "1/1",
            "Terminating",
            "0",
        ),
        (
            json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
            "0/1",
            "Completed",
            "0",
        ),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}}),
            "0/1",
            "Signal:9",
            "0",
        ),
        (
            json!({"init": 1, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}}),
            "0/1",
            "Init:0/1",
            "0",
        ),
        (
            json!({"init": 1, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            "0/1",
            "Init:CrashLoopBackOff",
            "2",
        ),
        (
            json!({"init": 1, "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}}),
            "0/1",
            "Init:Error",
            "0",
        ),
        (
            json!({"status": {"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
            "0/1",
            "ErrImagePull",
            "0",
        ),
    ];
    for (mut pod, ready, status, restarts) in table {
        pod["spec"] = json!({"containers": [{"name": "a"}]});
        if pod.get("init").is_some() {
            pod["spec"]["initContainers"] = json!([{"name": "i"}]);
        }
        let cells = (ROW.cells)(&pod, now);
        assert_eq!(cells[1..4], [json!(ready), json!(status), json!(restarts)]);
        assert_eq!(cells[5], "<none>");
    }
}

#[test]
fn grace_ends_with_the_run() {
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 7}, "status": {"phase": phase}});
    for asked in [None, Some(3)] {
        assert_eq!(grace_seconds(&pod("", "Pending"), asked), Some(0));
        assert_eq!(grace_seconds(&pod("n", "Failed"), asked), Some(0));
    }
    for (asked, wanted) in [(None, 7), (Some(3), 3), (Some(0), 0), (Some(-1), 1)] {
        assert_eq!(grace_seconds(&pod("n", "Running"), asked), Some(wanted));
    }
}

#[test]
fn the_two_forms_of_an_address_agree() {
    let table = [
        (json!({"podIP": "1.1.1.1"}), json!([{"ip": "1.1.1.1"}])),
        (
            json!({"podIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}]}),
            json!([{"ip": "1.1.1.1"}, {"ip": "::1"}]),
        ),
        (
            json!({"podIP": "1.1.1.1", "podIPs": [{"ip": "2.2.2.2"}]}),
            json!([{"ip": "1.1.1.1"}]),
        ),
    ];
    for (status, ips) in table {
        let mut pod = json!({"spec": {}, "status": status});
        (ROW.default)(&mut pod);
        assert_eq!(
            (&pod["status"]["podIP"], &pod["status"]["podIPs"]),
            (&json!("1.1.1.1"), &ips)
        );
    }
}

#[test]
fn a_template_may_leave_an_image_volumes_reference_open() {
    let spec = json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "image": {}}]});
    let pod = defaulted(spec);
    let wrong = |template| {
        let path = crate::field::Path::new("spec");
        super::spec::validate(&pod["spec"], &path, template)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        wrong(false),
        ["spec.volumes[0].image.reference: Required value"]
    );
    assert_eq!(wrong(true), [""; 0]);
}

#[test]
fn a_container_that_ended_goes_on_by_its_policy_and_rules() {
    let pod = |container: Value, other: Value, state: Value| {
        json!({
            "metadata": {"name": "p", "resourceVersion": "1"},
            "spec": {"restartPolicy": "Never", "containers": [container, other]},
            "status": {"containerStatuses": [{"name": "a", "state": state}]},
        })
    };
    let rule =
        |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [7]}}]);
    let other = || json!({"name": "b"});
    let refused = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
    for (container, other, wanted) in [
        (json!({"name": "a"}), other(), vec![refused]),
        (
            json!({"name": "a", "restartPolicy": "Always"}),
            other(),
            vec![],
        ),
        (
            json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rule("Restart")}),
            other(),
            vec![],
        ),
        (
            json!({"name": "a"}),
            json!({"name": "b", "restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers")}),
            vec![],
        ),
    ] {
        let ended = json!({"terminated": {"exitCode": 7}});
        let old = pod(container.clone(), other.clone(), ended);
        let new = pod(container.clone(), other, json!({"waiting": {}}));
        let errors = super::update::validate_status(&new, &old);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, wanted, "{container}");
    }
}
