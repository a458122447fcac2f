//! Pods and Services of both families, and of IPv6 alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::wait::patient;
use vetch_tests::{Cluster, Namespace, Node, Own, eventually};

use crate::get;

const MINUTE: Duration = Duration::from_secs(60);

/// A server with a port of its node and what it is told of addresses, and a Service for it.
fn objects(node: &Node, host_port: u16) -> [Value; 2] {
    let told = |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
    let container = json!({
        "name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
        "env": [told("POD_IPS", "status.podIPs"), told("HOST_IPS", "status.hostIPs")],
        "ports": [{"containerPort": 8080, "hostPort": host_port}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "livenessProbe": {"tcpSocket": {"port": 8081}, "periodSeconds": 1},
    });
    [
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "six", "labels": {"app": "six"}},
            "spec": {
                "nodeName": node.name, "terminationGracePeriodSeconds": 1, "containers": [container],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "six"},
            "spec": {
                "type": "NodePort", "selector": {"app": "six"}, "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"port": 80, "targetPort": 8080}],
            },
        }),
    ]
}

fn texts(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    let text = |one: &Value| match one {
        Value::String(text) => text.clone(),
        one => one[key].as_str().unwrap_or_default().to_owned(),
    };
    list.map(text).collect()
}

/// What must be so of a pod and its Service, whatever the families of the cluster.
fn holds(cluster: &Cluster, prefix: &str, host_port: u16) -> Result<()> {
    let node = &cluster.nodes[1];
    let node_ips = node.ips()?;
    let namespace = Namespace::create(cluster, prefix)?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(node, host_port)});
    namespace.apply(&list.to_string())?;
    let limit = format!("--timeout={}s", patient(MINUTE).as_secs());
    let wait = ["wait", "pod/six", "--for=condition=Ready", &limit];
    namespace.kubectl(&wait)?.ok()?;

    // One address a family, the node's main family first, wherever they are told.
    let pod = namespace.get(&["pod/six"])?;
    let ips = texts(&pod["status"]["podIPs"], "ip");
    let own: Vec<IpAddr> = ips
        .iter()
        .map(|ip| Ok(ip.parse()?))
        .collect::<Result<_>>()?;
    let families = |ips: &[IpAddr]| ips.iter().map(IpAddr::is_ipv4).collect::<Vec<_>>();
    ensure!(
        families(&own) == families(&node_ips),
        "{own:?} on {node_ips:?}"
    );
    ensure!(pod["status"]["podIP"] == ips[0], "{}", pod["status"]);
    let hosts = texts(&pod["status"]["hostIPs"], "ip");
    let expected: Vec<String> = node_ips.iter().map(IpAddr::to_string).collect();
    ensure!(hosts == expected, "{hosts:?}");
    let exec = |command: &[&str]| {
        let all = [&["exec", "six", "--"], command].concat();
        namespace.kubectl(&all)?.ok()
    };
    let told = exec(&["sh", "-c", "echo $POD_IPS $HOST_IPS"])?;
    let expected = format!("{} {}", ips.join(","), hosts.join(","));
    ensure!(told.trim() == expected, "{told}");
    let file = exec(&["cat", "/etc/hosts"])?;
    for ip in &ips {
        ensure!(file.contains(&format!("\n{ip}\tsix\n")), "{file}");
    }

    // The Service has an address and endpoints of each family, and all of them answer: from another node, …
    let service = namespace.get(&["service/six"])?;
    let cluster_ips = texts(&service["spec"]["clusterIPs"], "");
    ensure!(cluster_ips.len() == own.len(), "{}", service["spec"]);
    let selector = "kubernetes.io/service-name=six";
    eventually(MINUTE, "endpoints of each family", || {
        let slices = namespace.get(&["endpointslices", "-l", selector])?;
        let slices = slices["items"].as_array().into_iter().flatten();
        let mut found: Vec<String> = slices
            .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
            .flat_map(|endpoint| texts(&endpoint["addresses"], ""))
            .collect();
        found.sort();
        let mut all = ips.clone();
        all.sort();
        ensure!(found == all, "{found:?}");
        Ok(())
    })?;
    for ip in &cluster_ips {
        let place = SocketAddr::new(ip.parse()?, 80);
        eventually(MINUTE, &format!("{place} answers"), || {
            let report = cluster.nodes[0].requests(&format!("http://{place}/"), 1)?;
            ensure!(report.only_pod()? == "six", "{:?}", report.by_pod);
            Ok(())
        })?;
    }
    // … and at ports of the nodes, from outside.
    let port = &service["spec"]["ports"][0]["nodePort"];
    let node_port = u16::try_from(port.as_u64().context("no node port")?)?;
    for dialled in &cluster.nodes {
        for ip in dialled.ips()? {
            let place = SocketAddr::new(ip, node_port);
            let said = eventually(MINUTE, &format!("{place} answers"), || get(place))?.0;
            ensure!(said.contains("pod: six\n"), "{place}: {said}");
        }
    }
    for ip in node_ips {
        let place = SocketAddr::new(ip, host_port);
        let (said, client) = eventually(MINUTE, &format!("{place} answers"), || get(place))?;
        ensure!(
            said.contains(&format!("remote: {client}\n")),
            "{place}: {said}"
        );
    }
    Ok(())
}

#[test]
fn pods_and_services_have_each_family_of_the_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    ensure!(
        cluster.machine_ips.len() == 2,
        "the suite's cluster has one family alone: this machine has IPv6 switched off"
    );
    holds(&cluster, "both-families", 18_206)
}

#[test]
fn a_cluster_may_have_ipv6_alone() -> Result<()> {
    let cluster = Own::up("vtsix", &["--nodes", "2", "--ip-family", "ipv6"])?;
    ensure!(cluster.machine_ips.iter().all(IpAddr::is_ipv6));
    holds(&cluster, "six-alone", 18_207)?;
    // The API server's own Service leads to it, also from the node, whose own cgroup decides where calls go.
    let kubernetes = cluster.kubectl(&["get", "service", "kubernetes", "-o", "json"])?;
    let kubernetes: Value = serde_json::from_str(&kubernetes.ok()?)?;
    let ip: IpAddr = kubernetes["spec"]["clusterIP"]
        .as_str()
        .context("no address")?
        .parse()?;
    ensure!(ip.is_ipv6(), "{ip}");
    let url = format!("http://[{ip}]:443/");
    eventually(MINUTE, "the API server's Service connects", || {
        // It speaks TLS, and says so to whom speaks plainly.
        let report = cluster.nodes[0].requests(&url, 1)?;
        let refused = report
            .errors
            .iter()
            .any(|error| error.starts_with("connect: "));
        ensure!(!refused, "{:?}", report.errors);
        Ok(())
    })
}
