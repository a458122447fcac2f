//! Service accounts, by what a pod has of them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace};

use super::{MINUTE, pod};

/// What the API server says of a token, asked about one audience or about itself.
fn review(cluster: &Cluster, token: &str, audience: Option<&str>) -> Result<Value> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audience.map(|audience| [audience])},
    });
    // kubectl checks kinds that cannot be patched by asking for CRDs, which are not there.
    let create = ["create", "--validate=false", "-o", "json"];
    let said = cluster.kubectl_stdin(&create, &review.to_string())?;
    let said: Value = serde_json::from_str(&said.ok()?)?;
    Ok(said["status"].clone())
}

#[test]
fn a_pod_has_the_account_it_asks_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "account")?;
    namespace
        .kubectl(&["create", "serviceaccount", "own"])?
        .ok()?;
    let script =
        "test -e /var/run/secrets/kubernetes.io || echo without; echo $ACCOUNT; cat /tokens/vault";
    let mut manifest = pod("asks", script);
    let spec = &mut manifest["spec"];
    spec["restartPolicy"] = json!("Never");
    spec["serviceAccountName"] = json!("own");
    spec["automountServiceAccountToken"] = json!(false);
    let source = json!({"serviceAccountToken": {"path": "vault", "audience": "vault"}});
    spec["volumes"] = json!([{"name": "tokens", "projected": {"sources": [source]}}]);
    let container = &mut spec["containers"][0];
    container["volumeMounts"] = json!([{"name": "tokens", "mountPath": "/tokens"}]);
    let account = json!({"fieldRef": {"fieldPath": "spec.serviceAccountName"}});
    container["env"] = json!([{"name": "ACCOUNT", "valueFrom": account}]);
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/asks", "/status/phase", &json!("Succeeded"), MINUTE)?;
    let logs = namespace.kubectl(&["logs", "asks"])?.ok()?;
    let token = logs.strip_prefix("without\nown\n").context(logs.clone())?;

    let of_vault = review(&cluster, token, Some("vault"))?;
    ensure!(of_vault["authenticated"] == true, "{of_vault}");
    ensure!(of_vault["audiences"] == json!(["vault"]), "{of_vault}");
    let user = format!("system:serviceaccount:{}:own", namespace.name);
    ensure!(of_vault["user"]["username"] == user, "{of_vault}");
    // It is for nobody else, the API server included.
    for audience in [Some("other"), None] {
        let status = review(&cluster, token, audience)?;
        ensure!(status["authenticated"] != true, "{audience:?}: {status}");
    }
    Ok(())
}
