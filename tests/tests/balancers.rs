//! Services that people outside reach, as kubectl shows them: node ports, load balancers, and names; and the way out,
//! to people outside. These are the machine that the nodes stand on.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const ANNOUNCED_BY: &str = "/metadata/annotations/vetch.dev~1announced-by";

fn apply(namespace: &Namespace<'_>, name: &str, spec: &Value) -> Result<String> {
    let mut spec = spec.clone();
    spec["ports"] = json!([{"name": "http", "port": 80}]);
    let manifest =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    namespace.apply(&manifest.to_string())
}

/// The cells of `kubectl get service NAME`.
fn row(namespace: &Namespace<'_>, name: &str) -> Result<Vec<String>> {
    let line = namespace
        .kubectl(&["get", "service", name, "--no-headers"])?
        .ok()?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

fn patch(namespace: &Namespace<'_>, name: &str, spec: &Value) -> Result<String> {
    let patch = json!({"spec": spec}).to_string();
    namespace
        .kubectl(&["patch", "service", name, "--patch", &patch])?
        .ok()
}

#[test]
fn a_load_balancer_gets_an_address_and_a_node_that_announces_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "balancer")?;
    apply(&namespace, "web", &json!({"type": "LoadBalancer"}))?;
    let ip = eventually(MINUTE, "an address", || {
        let ip = namespace.field("service/web", "/status/loadBalancer/ingress/0/ip")?;
        Ok(ip.as_str().context("no text")?.to_owned())
    })?;
    ip.parse::<IpAddr>().with_context(|| format!("{ip:?}"))?;
    let mode = namespace.field("service/web", "/status/loadBalancer/ingress/0/ipMode")?;
    ensure!(mode == "VIP", "ipMode {mode}");
    let node = namespace.field("service/web", ANNOUNCED_BY)?;
    ensure!(
        cluster.nodes.iter().any(|own| node == own.name.as_str()),
        "{node}"
    );

    let cells = row(&namespace, "web")?;
    ensure!(cells[1] == "LoadBalancer" && cells[3] == ip, "{cells:?}");
    let port = namespace.field("service/web", "/spec/ports/0/nodePort")?;
    ensure!(cells[4] == format!("80:{port}/TCP"), "{cells:?}");
    let said = namespace.kubectl(&["describe", "service", "web"])?.ok()?;
    let shows = |line: &str| line.starts_with("LoadBalancer Ingress:") && line.contains(&ip);
    ensure!(said.lines().any(shows), "{said}");

    // The address is this service's: another one that asks for it is told.
    apply(
        &namespace,
        "other",
        &json!({"type": "LoadBalancer", "loadBalancerIP": ip}),
    )?;
    eventually(MINUTE, "an event that says who has it", || {
        let said = namespace.kubectl(&["describe", "service", "other"])?.ok()?;
        let words = format!("{ip} is held by service {}/web", namespace.name);
        ensure!(said.contains(&words), "{said}");
        Ok(())
    })?;
    ensure!(row(&namespace, "other")?[3] == "<pending>");

    patch(&namespace, "web", &json!({"type": "ClusterIP"}))?;
    ensure!(row(&namespace, "web")?[3] == "<none>");
    eventually(MINUTE, "the address goes to who asked for it", || {
        let cells = row(&namespace, "other")?;
        ensure!(cells[3] == ip, "{cells:?}");
        let web = namespace.get(&["service/web"])?;
        ensure!(web.pointer(ANNOUNCED_BY).is_none(), "{web}");
        Ok(())
    })
}

#[test]
fn a_service_changes_its_type_and_its_row() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "types")?;
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    apply(&namespace, "web", &name)?;
    let cells = row(&namespace, "web")?;
    ensure!(
        cells[1..4] == ["ExternalName", "<none>", "a.example"],
        "{cells:?}"
    );

    patch(
        &namespace,
        "web",
        &json!({"type": "NodePort", "externalName": null}),
    )?;
    let cells = row(&namespace, "web")?;
    ensure!(cells[1] == "NodePort" && cells[3] == "<none>", "{cells:?}");
    ensure!(cells[2].parse::<IpAddr>().is_ok(), "{cells:?}");
    let port = cells[4]
        .strip_prefix("80:")
        .and_then(|port| port.strip_suffix("/TCP"));
    let port = port.context("no node port")?.to_owned();

    let taken =
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port.parse::<u16>()?}]});
    let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken"}, "spec": taken});
    let refused = cluster
        .kubectl_stdin(
            &["--namespace", &namespace.name, "create"],
            &manifest.to_string(),
        )?
        .refused()?;
    let words = format!(
        "The Service \"taken\" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"
    );
    ensure!(refused.contains(&words), "{refused}");

    patch(&namespace, "web", &json!({"type": "ClusterIP"}))?;
    let cells = row(&namespace, "web")?;
    ensure!(cells[1] == "ClusterIP" && cells[4] == "80/TCP", "{cells:?}");
    cluster
        .kubectl_stdin(
            &["--namespace", &namespace.name, "create"],
            &manifest.to_string(),
        )?
        .ok()?;

    patch(&namespace, "web", &name)?;
    let cells = row(&namespace, "web")?;
    ensure!(
        cells[1..4] == ["ExternalName", "<none>", "a.example"],
        "{cells:?}"
    );
    Ok(())
}

/// The machine's address on the nodes' link.
fn machine(node: &Node) -> Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node.address.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Whom a server of this machine takes the pod for, by TCP and by UDP.
fn seen_as(pod: &Node, at: IpAddr) -> Result<[SocketAddr; 2]> {
    let listener = TcpListener::bind((at, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = std::thread::spawn(move || -> Result<SocketAddr> {
        let (mut stream, peer) = listener.accept()?;
        let mut head = [0; 1024];
        ensure!(stream.read(&mut head)? > 0, "nothing was asked");
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(peer)
    });
    let said = pod.run("curl", &["-sS", "--max-time", "10", &url])?;
    ensure!(said == "ok", "{said}");
    let tcp = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server died"))??;

    let socket = UdpSocket::bind((at, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let place = socket.local_addr()?;
    let server = std::thread::spawn(move || -> Result<SocketAddr> {
        let (_, peer) = socket.recv_from(&mut [0; 16])?;
        socket.send_to(b"heard", peer)?;
        Ok(peer)
    });
    let ask = format!(
        "exec 3<>/dev/udp/{}/{} && printf word >&3 && head -c 5 <&3",
        place.ip(),
        place.port()
    );
    let said = pod.run("timeout", &["10", "bash", "-c", &ask])?;
    ensure!(said == "heard", "{said}");
    let udp = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server died"))??;
    Ok([tcp, udp])
}

#[test]
fn people_outside_see_a_pods_node() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "outside")?;
    let container =
        json!({"name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    namespace.apply(&pod.to_string())?;
    namespace.wait_field("pod/one", "/status/phase", &json!("Running"), MINUTE)?;
    let inside = eventually(MINUTE, "a running container", || namespace.inside("one"))?;
    let node: IpAddr = inside.address.parse()?;
    let at = machine(&inside)?;
    for peer in seen_as(&inside, at)? {
        ensure!(
            peer.ip() == node && peer.port() >= 61_000,
            "{peer}, not {node}"
        );
    }
    inside.run("busybox", &["ping", "-c", "1", "-W", "5", &at.to_string()])?;
    // Who knows the way to pods and dials one is answered by it: a socket that is connected takes nobody else's word.
    let ip: IpAddr = namespace
        .field("pod/one", "/status/podIP")?
        .as_str()
        .context("podIP")?
        .parse()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((ip, 8082))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    eventually(MINUTE, "a datagram is answered", || {
        socket.send(b"word")?;
        let count = socket.recv(&mut [0; 64])?;
        ensure!(count > 4, "{count} bytes");
        Ok(())
    })
}

/// As with the kubelet: it says what is wrong, again and again.
#[test]
fn a_bandwidth_that_is_none_starts_no_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "bandwidth")?;
    let container =
        json!({"name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "fast", "annotations": {"kubernetes.io/egress-bandwidth": "fast"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    namespace.apply(&pod.to_string())?;
    eventually(MINUTE, "an event that says why", || {
        let said = namespace.kubectl(&["describe", "pod", "fast"])?.ok()?;
        let words = "annotation kubernetes.io/egress-bandwidth is \"fast\", which is no quantity of bits a second";
        ensure!(
            said.contains("FailedCreatePodSandBox") && said.contains(words),
            "{said}"
        );
        Ok(())
    })?;
    let phase = namespace.field("pod/fast", "/status/phase")?;
    ensure!(phase == "Pending", "{phase}");
    Ok(())
}
