//! What Kubernetes' admission plugins write into a new pod: pure, for the server's plugins to call.

use serde_json::{Value, json};

use crate::value::ValueExt;

/// Where a pod finds its service account's token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A prime-ish hour, by which kubelets tell these volumes from users' own.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod stays on a node that is lost.
const LOST_NODE_SECONDS: i64 = 300;

/// ServiceAccount: the account's name, its pull secrets, and its token as a projected volume. `suffix` makes the
/// volume's name unique, five random characters as in generated names.
pub fn service_account(pod: &mut Value, account: &Value, suffix: &str) {
    pod.default_to("spec", json!({}));
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    let name = match spec.str_at("/serviceAccountName") {
        "" => account.str_at("/metadata/name").to_string(),
        name => name.to_string(),
    };
    spec["serviceAccountName"] = name.clone().into();
    spec["serviceAccount"] = name.into();
    if spec.list_at("/imagePullSecrets").is_empty()
        && !account.list_at("/imagePullSecrets").is_empty()
    {
        spec.copy_key(account, "imagePullSecrets");
    }
    let wanted = |holder: &Value| {
        holder
            .get("automountServiceAccountToken")
            .and_then(Value::as_bool)
    };
    if !wanted(spec).or(wanted(account)).unwrap_or(true) {
        return;
    }
    let volume = format!("kube-api-access-{suffix}");
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.list_mut(list) {
            if container
                .list_at("/volumeMounts")
                .iter()
                .any(|m| m.str_at("/mountPath") == TOKEN_PATH)
            {
                continue;
            }
            container.default_to("volumeMounts", json!([]));
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": volume, "mountPath": TOKEN_PATH, "readOnly": true}));
                mounted = true;
            }
        }
    }
    if mounted {
        spec.default_to("volumes", json!([]));
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ]}}));
        }
    }
}

/// DefaultTolerationSeconds: a pod leaves a lost node after five minutes unless it says otherwise.
pub fn tolerations(pod: &mut Value) {
    pod.default_to("spec", json!({}));
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = spec.list_at("/tolerations").iter().any(|t| {
            let (own, effect) = (t.str_at("/key"), t.str_at("/effect"));
            (own.is_empty() || own == key) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            spec.default_to("tolerations", json!([]));
            if let Some(list) = spec["tolerations"].as_array_mut() {
                list.push(
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": LOST_NODE_SECONDS}),
                );
            }
        }
    }
}

/// Priority: the number behind priorityClassName. The error is the reason of a Forbidden answer.
pub fn priority(pod: &mut Value) -> Result<(), String> {
    pod.default_to("spec", json!({}));
    let priority = match pod.str_at("/spec/priorityClassName") {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000_i64,
        "system-node-critical" => 2_000_001_000,
        other => return Err(format!("no PriorityClass with name {other} was found")),
    };
    let Some(spec) = pod.get_mut("spec") else {
        return Ok(());
    };
    if spec.opt_i64("/priority").is_some_and(|own| own != priority) {
        return Err(format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name",
            spec.i64_at("/priority")
        ));
    }
    spec["priority"] = priority.into();
    spec.default_to("preemptionPolicy", "PreemptLowerPriority");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_its_accounts_token_once() {
        let account = json!({"metadata": {"name": "default"}});
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b",
            "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]}});
        service_account(&mut pod, &account, "abcde");
        let spec = &pod["spec"];
        assert_eq!(
            (&spec["serviceAccountName"], &spec["serviceAccount"]),
            (&json!("default"), &json!("default"))
        );
        assert_eq!(
            spec["containers"][0]["volumeMounts"],
            json!([{"name": "kube-api-access-abcde", "mountPath": TOKEN_PATH, "readOnly": true}])
        );
        assert_eq!(
            spec["containers"][1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"],
            "token"
        );

        let mut quiet =
            json!({"spec": {"automountServiceAccountToken": false, "containers": [{"name": "a"}]}});
        service_account(&mut quiet, &account, "abcde");
        assert!(quiet["spec"].get("volumes").is_none());
    }

    #[test]
    fn lost_nodes_are_tolerated_for_a_while() {
        let mut pod = json!({"spec": {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]}});
        tolerations(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        assert_eq!(pod["spec"]["tolerations"][1]["tolerationSeconds"], 300);
        let mut all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        tolerations(&mut all);
        assert_eq!(all["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn priority_is_a_number() {
        let mut pod = json!({"spec": {}});
        priority(&mut pod).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
        );
        let mut unknown = json!({"spec": {"priorityClassName": "gold"}});
        assert_eq!(
            priority(&mut unknown),
            Err("no PriorityClass with name gold was found".to_string())
        );
    }
}
