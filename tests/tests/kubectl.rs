//! What people read: columns, wording and refusals as `kubectl` shows them on Kubernetes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// The header line, split into column names.
fn header(table: &str) -> Vec<&str> {
    table
        .lines()
        .next()
        .unwrap_or_default()
        .split("  ")
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

fn talker(name: &str, script: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
    .to_string()
}

fn wait_running(namespace: &Namespace<'_>, pod: &str) -> Result<()> {
    namespace.wait_field(
        &format!("pod/{pod}"),
        "/status/phase",
        &json!("Running"),
        MINUTE,
    )
}

#[test]
fn tables_have_kubernetes_columns() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "columns")?;
    namespace.apply_example("echo.yaml")?;
    namespace.rolled_out("deployment/echo")?;
    let tables: &[(&[&str], &str)] = &[
        (&["get", "pods"], "NAME|READY|STATUS|RESTARTS|AGE"),
        (
            &["get", "pods", "-o", "wide"],
            "NAME|READY|STATUS|RESTARTS|AGE|IP|NODE|NOMINATED NODE|READINESS GATES",
        ),
        (&["get", "nodes"], "NAME|STATUS|ROLES|AGE|VERSION"),
        (
            &["get", "nodes", "-o", "wide"],
            "NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP|EXTERNAL-IP|OS-IMAGE|KERNEL-VERSION|CONTAINER-RUNTIME",
        ),
        (
            &["get", "deployments"],
            "NAME|READY|UP-TO-DATE|AVAILABLE|AGE",
        ),
        (
            &["get", "deployments", "-o", "wide"],
            "NAME|READY|UP-TO-DATE|AVAILABLE|AGE|CONTAINERS|IMAGES|SELECTOR",
        ),
        (&["get", "replicasets"], "NAME|DESIRED|CURRENT|READY|AGE"),
        (
            &["get", "services"],
            "NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|AGE",
        ),
        (
            &["get", "endpointslices"],
            "NAME|ADDRESSTYPE|PORTS|ENDPOINTS|AGE",
        ),
        (&["get", "events"], "LAST SEEN|TYPE|REASON|OBJECT|MESSAGE"),
        (&["get", "namespaces"], "NAME|STATUS|AGE"),
        (&["get", "configmaps"], "NAME|DATA|AGE"),
        (&["get", "serviceaccounts"], "NAME|SECRETS|AGE"),
        (
            &["api-resources"],
            "NAME|SHORTNAMES|APIVERSION|NAMESPACED|KIND",
        ),
    ];
    for (args, columns) in tables {
        let table = namespace.kubectl(args)?.ok()?;
        let wanted: Vec<&str> = columns.split('|').collect();
        ensure!(
            header(&table) == wanted,
            "{args:?} prints {:?}, wanted {wanted:?}",
            header(&table)
        );
        ensure!(table.lines().count() > 1, "{args:?} prints no row");
    }
    let pods = namespace
        .kubectl(&["get", "pods", "-l", "app=echo", "--no-headers"])?
        .ok()?;
    for line in pods.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        ensure!(cells[1..4] == ["1/1", "Running", "0"], "pod row {line:?}");
    }
    let nodes = namespace.kubectl(&["get", "nodes", "--no-headers"])?.ok()?;
    ensure!(nodes.lines().count() == cluster.nodes.len(), "{nodes}");
    ensure!(
        nodes
            .lines()
            .all(|line| line.split_whitespace().nth(1) == Some("Ready")),
        "{nodes}"
    );
    Ok(())
}

#[test]
fn describe_tells_the_story_of_a_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "describe")?;
    namespace.apply(&talker("story", "exec sleep 3600"))?;
    wait_running(&namespace, "story")?;
    eventually(MINUTE, "all events of a start", || {
        let text = namespace.kubectl(&["describe", "pod", "story"])?.ok()?;
        for words in [
            "Successfully assigned",
            "Pulled",
            "already present on machine",
            "Created",
            "Started",
            "Container ID:  vetch://",
            "State:          Running",
            "Ready:          True",
            "QoS Class:                   BestEffort",
        ] {
            ensure!(text.contains(words), "describe has no {words:?}:\n{text}");
        }
        Ok(())
    })?;
    let node = namespace
        .kubectl(&["describe", "node", &cluster.nodes[0].name])?
        .ok()?;
    for words in [
        "KubeletReady",
        "Allocatable:",
        "Non-terminated Pods:",
        "vetch://",
    ] {
        ensure!(
            node.contains(words),
            "describe node has no {words:?}:\n{node}"
        );
    }
    Ok(())
}

#[test]
fn logs_follow_tail_and_stamp() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "logs")?;
    namespace.apply(&talker(
        "talker",
        "echo one; echo two >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo three",
    ))?;
    wait_running(&namespace, "talker")?;
    eventually(MINUTE, "the first lines", || {
        let logs = namespace.kubectl(&["logs", "talker"])?.ok()?;
        ensure!(logs == "one\ntwo\n", "logs: {logs:?}");
        Ok(())
    })?;
    ensure!(
        namespace.kubectl(&["logs", "talker", "--tail=1"])?.ok()? == "two\n",
        "--tail=1 is not the last line"
    );
    let stamped = namespace
        .kubectl(&["logs", "talker", "--timestamps"])?
        .ok()?;
    ensure!(
        stamped
            .lines()
            .all(|line| line.starts_with("20") && line.contains("Z ")),
        "{stamped}"
    );

    let mut follow = cluster
        .kubectl_command(&["--namespace", &namespace.name, "logs", "-f", "talker"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("kubectl's stdout")?).lines();
    ensure!(
        lines.next().transpose()?.as_deref() == Some("one"),
        "the first followed line"
    );
    ensure!(
        lines.next().transpose()?.as_deref() == Some("two"),
        "the second followed line"
    );
    // The container's root is reached through any of its processes.
    let pod = namespace.get(&["pod/talker"])?;
    let field = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let container = field("/status/containerStatuses/0/containerID");
    let container = container.split_once("://").context("containerID")?.1;
    let node = cluster.node(&field("/spec/nodeName"))?;
    let pid = *node
        .container_pids(&field("/metadata/uid"), container)?
        .first()
        .context("no process")?;
    node.run("touch", &[&format!("/proc/{pid}/root/tmp/go")])?;
    ensure!(
        lines.next().transpose()?.as_deref() == Some("three"),
        "the line written while following"
    );
    follow.kill()?;
    follow.wait()?;
    Ok(())
}

#[test]
fn explain_reads_the_schema() -> Result<()> {
    let cluster = Cluster::shared()?;
    let text = cluster.kubectl(&["explain", "pod.spec"])?.ok()?;
    for words in [
        "KIND:",
        "Pod",
        "VERSION:",
        "v1",
        "FIELD",
        "spec",
        "PodSpec",
        "containers",
        "-required-",
        "DESCRIPTION:",
    ] {
        ensure!(text.contains(words), "explain has no {words:?}:\n{text}");
    }
    let text = cluster
        .kubectl(&["explain", "deployment.spec.strategy", "--recursive"])?
        .ok()?;
    ensure!(
        text.contains("maxUnavailable") && text.contains("apps"),
        "{text}"
    );
    Ok(())
}

/// Custom resources elsewhere. This one is for nobody's pods.
#[test]
fn policies_of_administrators_are_applied_read_and_refused() -> Result<()> {
    const NAME: &str = "read-by-kubectl";
    let cluster = Cluster::shared()?;
    let object = |kind: &str, name: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        })
        .to_string()
    };
    let policy = |priority: i32, peer: serde_json::Value| {
        let nobody = json!({"namespaces": {"matchLabels": {"nobody": "has-this"}}});
        let rule = json!({"action": "Deny", "to": [peer]});
        let spec = json!({"priority": priority, "subject": nobody, "egress": [rule]});
        object("AdminNetworkPolicy", NAME, spec)
    };
    let pods = || json!({"namespaces": {}});
    for (priority, said) in [(5, "created"), (5, "unchanged"), (7, "configured")] {
        let told = cluster.kubectl_stdin(&["apply"], &policy(priority, pods()))?;
        let told = told.ok()?;
        ensure!(told.contains(said), "{said}: {told}");
    }
    let table = cluster.kubectl(&["get", "anp", NAME])?.ok()?;
    ensure!(header(&table) == ["NAME", "PRIORITY", "AGE"], "{table}");
    ensure!(table.contains(" 7 "), "{table}");
    let dry = &["apply", "--dry-run=server"];
    let other = object(
        "BaselineAdminNetworkPolicy",
        "other",
        json!({"subject": pods()}),
    );
    for (manifest, words) in [
        (policy(1001, pods()), "less than or equal to 1000"),
        (
            policy(5, json!({"domainNames": ["kubernetes.io"]})),
            "domainNames: Forbidden",
        ),
        (
            policy(5, json!({"networks": ["10.0.0.0"]})),
            "Invalid CIDR format",
        ),
        (policy(5, json!({"services": {}})), "unknown field"),
        (other, "Only one baseline admin network policy"),
    ] {
        let told = cluster.kubectl_stdin(dry, &manifest)?.refused()?;
        ensure!(told.contains(words), "{words}: {told}");
    }
    let condition = json!({"status": {"conditions": [{
        "type": "Told", "status": "True", "reason": "ByATest", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}})
    .to_string();
    let patch = ["patch", "anp", NAME, "--type=merge", "--subresource=status"];
    cluster
        .kubectl(&[&patch[..], &["--patch", &condition]].concat())?
        .ok()?;
    let shown = "jsonpath={.status.conditions[0].reason} {.metadata.generation}";
    let shown = cluster.kubectl(&["get", "anp", NAME, "-o", shown])?.ok()?;
    ensure!(shown == "ByATest 2", "{shown}");
    cluster.kubectl(&["delete", "anp", NAME])?.ok()?;
    let text = cluster
        .kubectl(&["explain", "adminnetworkpolicy.spec.egress", "--recursive"])?
        .ok()?;
    for words in ["networks", "portRange", "action", "-required-"] {
        ensure!(text.contains(words), "explain has no {words:?}:\n{text}");
    }
    Ok(())
}

#[test]
fn deleting_a_namespace_takes_everything_with_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "teardown")?;
    namespace.apply_example("echo.yaml")?;
    namespace.wait_endpoints("echo", 3)?;
    let output = cluster
        .kubectl(&["delete", "namespace", &namespace.name, "--timeout=300s"])?
        .ok()?;
    ensure!(output.contains("deleted"), "{output}");
    let gone = cluster
        .kubectl(&["get", "namespace", &namespace.name])?
        .refused()?;
    ensure!(gone.contains("(NotFound)"), "{gone}");
    let pods = cluster.kubectl(&["get", "pods", "-n", &namespace.name])?;
    ensure!(pods.stdout.is_empty(), "{}", pods.stdout);
    Ok(())
}

#[test]
fn malformed_manifests_are_refused_in_kubernetes_words() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "refused")?;
    let name = namespace.name.as_str();
    let configmap = |body: serde_json::Value| {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        object.as_object_mut().into_iter().for_each(|map| {
            map.extend(body.as_object().cloned().unwrap_or_default());
        });
        object.to_string()
    };
    let deployment = |spec: serde_json::Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}).to_string()
    };
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "vetch.local/echo:v1"}]},
    });
    let cases: &[(&str, String, &[&str])] = &[
        (
            "unknown field",
            deployment(json!({"replica": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template})),
            &["strict decoding error: unknown field \"spec.replica\"", "BadRequest"],
        ),
        (
            "wrong type",
            deployment(json!({"replicas": "three", "selector": {"matchLabels": {"app": "web"}}, "template": template})),
            &["cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"],
        ),
        (
            "bad name",
            configmap(json!({"metadata": {"name": "Not_A_Name"}})),
            &["The ConfigMap \"Not_A_Name\" is invalid: metadata.name: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 subdomain must consist of"],
        ),
        (
            "selector that misses its template",
            deployment(json!({"selector": {"matchLabels": {"app": "other"}}, "template": template})),
            &["`selector` does not match template `labels`"],
        ),
        (
            "no containers",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "empty"}, "spec": {"containers": []}}).to_string(),
            &["spec.containers: Required value"],
        ),
    ];
    for (what, manifest, words) in cases {
        let error = cluster
            .kubectl_stdin(&["-n", name, "create"], manifest)?
            .refused()
            .context(*what)?;
        for words in *words {
            ensure!(error.contains(words), "{what}: no {words:?} in {error}");
        }
    }

    let missing = cluster
        .kubectl_stdin(
            &["-n", "no-such-namespace", "create"],
            &configmap(json!({"metadata": {"name": "x"}})),
        )?
        .refused()?;
    ensure!(
        missing.contains("(NotFound)")
            && missing.contains("namespaces \"no-such-namespace\" not found"),
        "{missing}"
    );

    let once = configmap(json!({"metadata": {"name": "once"}}));
    cluster
        .kubectl_stdin(&["-n", name, "create"], &once)?
        .ok()?;
    let twice = cluster
        .kubectl_stdin(&["-n", name, "create"], &once)?
        .refused()?;
    ensure!(
        twice.contains("(AlreadyExists)") && twice.contains("configmaps \"once\" already exists"),
        "{twice}"
    );

    let stale = namespace.get(&["configmap/once"])?;
    namespace
        .kubectl(&["label", "configmap", "once", "touched=yes"])?
        .ok()?;
    let conflict = cluster
        .kubectl_stdin(&["-n", name, "replace"], &stale.to_string())?
        .refused()?;
    ensure!(
        conflict.contains("Operation cannot be fulfilled on configmaps \"once\": the object has been modified; please apply your changes to the latest version and try again"),
        "{conflict}"
    );
    Ok(())
}

#[test]
fn kubectl_prints_warnings() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "warnings")?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "web",
            "annotations": {"service.kubernetes.io/topology-aware-hints": "Auto"},
        },
        "spec": {
            "clusterIP": "None", "externalIPs": ["192.0.2.1"], "trafficDistribution": "PreferClose",
            "ports": [{"port": 80}],
        },
    });
    let args = ["apply", "--namespace", &namespace.name];
    let applied = cluster.kubectl_stdin(&args, &service.to_string())?;
    ensure!(applied.success, "{}", applied.stderr);
    for words in [
        "Warning: annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
        "Warning: spec.externalIPs is ignored for headless services",
        "Warning: spec.externalIPs is deprecated",
        "Warning: spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
    ] {
        ensure!(applied.stderr.contains(words), "{}", applied.stderr);
    }
    let listed = namespace.kubectl(&["get", "endpoints"])?;
    let words =
        "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    ensure!(
        listed.success && listed.stderr.contains(words),
        "{}",
        listed.stderr
    );
    Ok(())
}

#[test]
fn status_codes_are_kubernetes() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "codes")?;
    // `kubectl get --raw` prints the Status itself.
    let path = format!("/api/v1/namespaces/{}/configmaps/none", namespace.name);
    let error = cluster.kubectl(&["get", "--raw", &path])?.refused()?;
    ensure!(
        error.contains("NotFound") && error.contains("configmaps \"none\" not found"),
        "{error}"
    );
    let verbose = cluster.kubectl(&["get", "configmap", "none", "-n", &namespace.name, "-v=8"])?;
    ensure!(
        verbose.stderr.contains("404 Not Found") || verbose.stderr.contains("status=\"404"),
        "{}",
        verbose.stderr
    );
    Ok(())
}

#[test]
fn nodes_are_reached_through_the_api_server() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "nodes-proxy")?;
    namespace.apply(&talker("here", "exec sleep 3600"))?;
    wait_running(&namespace, "here")?;
    let node = namespace.field("pod/here", "/spec/nodeName")?;
    let node = node.as_str().context("a node's name")?;
    let ask = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{path}")]);
    // The kubelet's port is the one without a number; the service proxy has no TLS.
    for (name, path, words) in [
        (node.to_owned(), "healthz", "ok"),
        (format!("{node}:10250"), "healthz", "ok"),
        (format!("https:{node}:"), "pods", "\"kind\":\"PodList\""),
        (format!("{node}:10256"), "healthz", "lastUpdated"),
    ] {
        let said = ask(&format!("{name}/proxy/{path}"))?.ok()?;
        ensure!(said.contains(words), "{name} {path}: {said}");
    }
    let pods = ask(&format!("{node}/proxy/pods"))?.ok()?;
    ensure!(pods.contains("\"name\":\"here\""), "{pods}");
    for (path, words) in [
        ("none/proxy/healthz".to_owned(), "nodes \"none\" not found"),
        (
            format!("{node}/proxy/nothing"),
            "could not find the requested resource",
        ),
        (format!("{node}:9/proxy/healthz"), "connection refused"),
    ] {
        let said = ask(&path)?.refused()?;
        ensure!(said.contains(words), "{path}: {said}");
    }
    Ok(())
}

/// That there is none is told to those who may ask for it.
#[test]
fn what_is_not_served_is_refused_as_what_it_would_be() -> Result<()> {
    let cluster = Cluster::shared()?;
    let thing = "/apis/example.com/v1/namespaces/n/things/t";
    let closed = "(Forbidden): things.example.com \"t\" is forbidden: User \"jane\" cannot get resource \"things\" in API group \"example.com\" in the namespace \"n\"";
    let none = "(NotFound): the server could not find the requested resource";
    for (group, words) in [("devs", closed), ("system:masters", none)] {
        let asked = ["--as", "jane", "--as-group", group, "get", "--raw", thing];
        let said = cluster.kubectl(&asked)?.refused()?;
        ensure!(said.contains(words), "{group}: {said}");
    }
    // Anybody may ask who they are, of whatever version.
    let review = "/apis/authentication.k8s.io/v1alpha1/selfsubjectreviews";
    let asked = ["--as", "jane", "create", "--raw", review];
    let said = cluster.kubectl_stdin(&asked, "{}")?.refused()?;
    ensure!(said.contains(none), "{said}");
    Ok(())
}

#[test]
fn service_account_tokens_are_accepted_and_bounded() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "token")?;
    let token = namespace.kubectl(&["create", "token", "default"])?.ok()?;
    let answer = |token: &str| {
        cluster.kubectl(&[
            "--kubeconfig=/dev/null",
            "--server",
            &server(&cluster)?,
            "--insecure-skip-tls-verify",
            "--token",
            token,
            "get",
            "pods",
            "-n",
            &namespace.name,
        ])
    };
    let error = answer(token.trim())?.refused()?;
    let user = format!("system:serviceaccount:{}:default", namespace.name);
    ensure!(
        error.contains("(Forbidden)") && error.contains(&user),
        "{error}"
    );
    let error = answer("not.a.token")?.refused()?;
    ensure!(
        error.contains("Unauthorized") || error.contains("must be logged in"),
        "{error}"
    );
    Ok(())
}

fn server(cluster: &Cluster) -> Result<String> {
    let view = cluster
        .kubectl(&[
            "config",
            "view",
            "-o",
            "jsonpath={.clusters[0].cluster.server}",
        ])?
        .ok()?;
    if view.is_empty() {
        bail!("the kubeconfig names no server");
    }
    Ok(view)
}
