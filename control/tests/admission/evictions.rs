use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, PODS, message};
use super::pod;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running(api: &Api, name: &str) {
    let mut made = pod(name);
    made["metadata"]["labels"] = json!({"app": "a"});
    made["spec"]["nodeName"] = "n".into();
    Api::accepted(api.call("POST", PODS, made).await);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    Api::accepted(
        api.call("PATCH", &format!("{PODS}/{name}/status"), status)
            .await,
    );
}

async fn evict(api: &Api, name: &str) -> (u16, Value) {
    let body = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name}});
    api.call("POST", &format!("{PODS}/{name}/eviction"), body)
        .await
}

#[tokio::test]
async fn an_eviction_takes_from_its_budget_and_is_refused_when_that_is_spent() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    Api::accepted(api.call("POST", accounts, account).await);
    for name in ["one", "two", "three"] {
        running(&api, name).await;
    }
    let budget = json!({"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "b"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "a"}}}});
    Api::accepted(api.call("POST", BUDGETS, budget).await);

    // Nobody has counted yet.
    let (code, body) = evict(&api, "one").await;
    assert_eq!(code, 429, "{body}");
    assert_eq!(
        message(&body),
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(body["details"]["causes"][0]["reason"], "DisruptionBudget");
    let counted = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 3,
        "desiredHealthy": 2, "expectedPods": 3}});
    Api::accepted(
        api.call("PATCH", &format!("{BUDGETS}/b/status"), counted)
            .await,
    );

    // Two at once, and one disruption: one of them goes.
    let (first, second) = tokio::join!(evict(&api, "one"), evict(&api, "two"));
    let mut codes = [first.0, second.0];
    codes.sort_unstable();
    assert_eq!(codes, [201, 429], "{first:?} {second:?}");
    let refused = if first.0 == 429 { first.1 } else { second.1 };
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 2 healthy pods and has 3 currently"
    );
    let left = Api::accepted(api.call("GET", &format!("{BUDGETS}/b"), Value::Null).await);
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    let disrupted = left["status"]["disruptedPods"].as_object().unwrap();
    let (gone, _) = disrupted.iter().next().unwrap();
    assert_eq!(disrupted.len(), 1);
    let ending = Api::accepted(
        api.call("GET", &format!("{PODS}/{gone}"), Value::Null)
            .await,
    );
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let conditions = ending["status"]["conditions"].as_array().unwrap();
    let why = conditions
        .iter()
        .find(|own| own["type"] == "DisruptionTarget");
    assert_eq!(why.unwrap()["reason"], "EvictionByEvictionAPI");

    // One that is ending costs nothing; a delete asks no budget.
    assert_eq!(evict(&api, gone).await.0, 201);
    assert_eq!(evict(&api, "three").await.0, 429);
    let wrong =
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "other"}});
    let (code, body) = api
        .call("POST", &format!("{PODS}/three/eviction"), wrong)
        .await;
    assert_eq!(code, 400, "{body}");
    Api::accepted(
        api.call("DELETE", &format!("{PODS}/three"), Value::Null)
            .await,
    );
}
