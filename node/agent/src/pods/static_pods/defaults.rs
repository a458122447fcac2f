//! What the API server writes into a pod that leaves it out (core/v1 of Kubernetes 1.36).

use serde_json::{Value, json};

pub fn apply(pod: &mut Value) {
    let spec = &mut pod["spec"];
    if !spec.is_object() {
        return;
    }
    for (field, value) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("enableServiceLinks", json!(true)),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
    ] {
        absent(spec, field, value);
    }
    // The old name of a field; either is a reference.
    if let Some(name) = spec.get("serviceAccount").cloned() {
        absent(spec, "serviceAccountName", name);
    }
    let on_node = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        each(spec, list, |own| container(own, on_node));
    }
    requests(spec);
    each(spec, "volumes", volume);
}

fn absent(holder: &mut Value, field: &str, value: Value) {
    if let Value::Object(fields) = holder
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value);
    }
}

fn each(holder: &mut Value, list: &str, visit: impl FnMut(&mut Value)) {
    let items = holder.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(visit);
}

/// What is limited is requested.
fn requests(holder: &mut Value) {
    let limits = holder["resources"]["limits"].as_object().cloned();
    for (name, limit) in limits.into_iter().flatten() {
        absent(&mut holder["resources"], "requests", json!({}));
        absent(&mut holder["resources"]["requests"], &name, limit);
    }
}

fn container(own: &mut Value, on_node: bool) {
    if !own.is_object() {
        return;
    }
    let image = own["image"].as_str().unwrap_or_default();
    let policy = crate::pods::spec::pull_policy(None, image).to_owned();
    absent(own, "imagePullPolicy", policy.into());
    absent(own, "terminationMessagePath", "/dev/termination-log".into());
    absent(own, "terminationMessagePolicy", "File".into());
    absent(own, "resources", json!({}));
    requests(own);
    each(own, "ports", |port| {
        absent(port, "protocol", "TCP".into());
        if on_node {
            let number = port["containerPort"].clone();
            absent(port, "hostPort", number);
        }
    });
    each(own, "env", |env| {
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            absent(field, "apiVersion", "v1".into());
        }
    });
    for at in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = own.get_mut(at) {
            for (field, value) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                absent(probe, field, value.into());
            }
            handler(probe);
        }
    }
    for at in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(hook) = own.pointer_mut(at) {
            handler(hook);
        }
    }
}

fn handler(holder: &mut Value) {
    if let Some(get) = holder.get_mut("httpGet") {
        absent(get, "path", "/".into());
        absent(get, "scheme", "HTTP".into());
    }
    if let Some(grpc) = holder.get_mut("grpc") {
        absent(grpc, "service", "".into());
    }
}

/// One that says nothing but its name is an empty directory; files are readable by all (0644).
fn volume(own: &mut Value) {
    let only_named =
        |fields: &serde_json::Map<String, Value>| fields.keys().all(|key| key == "name");
    if own.as_object().is_some_and(only_named) {
        own["emptyDir"] = json!({});
    }
    if let Some(path) = own.get_mut("hostPath") {
        absent(path, "type", "".into());
    }
    if let Some(image) = own.get_mut("image") {
        let reference = image["reference"].as_str().unwrap_or_default();
        let policy = crate::pods::spec::pull_policy(None, reference).to_owned();
        absent(image, "pullPolicy", policy.into());
    }
    let fields = |items: &mut Value| {
        each(items, "items", |item| {
            if let Some(field) = item.get_mut("fieldRef") {
                absent(field, "apiVersion", "v1".into());
            }
        });
    };
    if let Some(downward) = own.get_mut("downwardAPI") {
        absent(downward, "defaultMode", 0o644.into());
        fields(downward);
    }
    if let Some(projected) = own.get_mut("projected") {
        absent(projected, "defaultMode", 0o644.into());
        each(projected, "sources", |source| {
            if let Some(downward) = source.get_mut("downwardAPI") {
                fields(downward);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(given: Value) -> Value {
        let mut pod = json!({"spec": given});
        apply(&mut pod);
        pod["spec"].take()
    }

    #[test]
    fn what_is_said_stays() {
        let given = json!({
            "restartPolicy": "Never", "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "i", "imagePullPolicy": "Never",
                "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}},
                "readinessProbe": {"grpc": {"port": 1, "service": "s"}, "periodSeconds": 3},
            }],
        });
        let got = spec(given.clone());
        for at in [
            "/restartPolicy",
            "/dnsPolicy",
            "/terminationGracePeriodSeconds",
            "/containers/0/imagePullPolicy",
            "/containers/0/resources",
            "/containers/0/readinessProbe/grpc",
            "/containers/0/readinessProbe/periodSeconds",
        ] {
            assert_eq!(got.pointer(at), given.pointer(at), "{at}");
        }
    }

    #[test]
    fn volumes() {
        let got = spec(json!({"volumes": [
            {"name": "a"},
            {"name": "b", "hostPath": {"path": "/b"}},
            {"name": "c", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"name": "d", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            {"name": "e", "emptyDir": {"medium": "Memory"}},
        ]}));
        let field = json!({"apiVersion": "v1", "fieldPath": "metadata.name"});
        for (at, want) in [
            ("/volumes/0/emptyDir", json!({})),
            ("/volumes/1/hostPath/type", json!("")),
            ("/volumes/2/downwardAPI/defaultMode", json!(420)),
            ("/volumes/2/downwardAPI/items/0/fieldRef", field.clone()),
            (
                "/volumes/3/projected/sources/0/downwardAPI/items/0/fieldRef",
                field,
            ),
            ("/volumes/4/emptyDir", json!({"medium": "Memory"})),
        ] {
            assert_eq!(got.pointer(at), Some(&want), "{at}");
        }
    }
}
