//! Names, looked up inside pods by busybox's own resolver (`nslookup`, which asks what it is told) and by the C
//! library's (`ping`, which says at once what it found, and knows search paths). None of them is known to servers
//! outside, so that nobody has to be reachable there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

use crate::fixture::{
    ECHO, MINUTE, all_ports, apply, cluster_ip, idle, patch, ready, server, service, text,
};

/// Where a node answers its own.
const DNS_PORT: &str = "10053";

/// What a pod's resolver says to a question, without who said it; None where there is no such name.
fn looked_up(
    namespace: &Namespace<'_>,
    pod: &str,
    kind: &str,
    name: &str,
) -> Result<Option<BTreeSet<String>>> {
    let of = format!("-type={kind}");
    let output = namespace.kubectl(&["exec", pod, "--", "nslookup", &of, name])?;
    let (_, answer) = output
        .stdout
        .split_once("\n\n")
        .with_context(|| format!("{kind} {name}: {}{}", output.stdout, output.stderr))?;
    if answer.contains("NXDOMAIN") {
        return Ok(None);
    }
    ensure!(output.success, "{kind} {name}: {answer}{}", output.stderr);
    let lines = answer.lines().filter_map(|line| {
        let data = line.strip_prefix("Address: ");
        let data = data.or_else(|| line.split_once(" = ").map(|(_, data)| data));
        Some(data?.trim().trim_end_matches('.').to_owned())
    });
    Ok(Some(lines.collect()))
}

/// Waits until the pod is told exactly these; none stands for a name that is not there.
fn told(
    namespace: &Namespace<'_>,
    pod: &str,
    (kind, name): (&str, &str),
    wanted: &[&str],
) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|line| (*line).to_owned()).collect();
    eventually(MINUTE, &format!("{kind} {name} is {wanted:?}"), || {
        let found = looked_up(namespace, pod, kind, name)?.unwrap_or_default();
        ensure!(found == wanted, "it is {found:?}");
        Ok(())
    })
}

/// Waits until the C library makes this address of the name, by the pod's search path.
fn found(namespace: &Namespace<'_>, pod: &str, name: &str, address: &str) -> Result<()> {
    eventually(MINUTE, &format!("{name} is {address}"), || {
        let args = ["exec", pod, "--", "ping", "-c", "1", "-w", "1", name];
        let output = namespace.kubectl(&args)?;
        // Whether anything answers there is no matter here.
        let line = format!("PING {name} ({address}):");
        ensure!(
            output.stdout.starts_with(&line),
            "{}{}",
            output.stdout,
            output.stderr
        );
        Ok(())
    })
}

fn clients<'a>(cluster: &'a Cluster, prefix: &str, more: &[Value]) -> Result<Namespace<'a>> {
    let namespace = Namespace::create(cluster, prefix)?;
    apply(&namespace, &[&[idle("client")], more].concat())?;
    let names = more.iter().filter(|object| object["kind"] == "Pod");
    let names = names.filter_map(|pod| pod["metadata"]["name"].as_str());
    ready(&namespace, &names.chain(["client"]).collect::<Vec<_>>())?;
    Ok(namespace)
}

fn of_cluster(cluster: &Cluster, namespace: &str, service: &str) -> Result<String> {
    let path = "jsonpath={.spec.clusterIP}";
    let args = [
        "get",
        "service",
        service,
        "--namespace",
        namespace,
        "-o",
        path,
    ];
    cluster.kubectl(&args)?.ok()
}

fn ip(namespace: &Namespace<'_>, pod: &str) -> Result<String> {
    text(namespace, &format!("pod/{pod}"), "/status/podIP")
}

/// As it is asked for backwards.
fn reversed(ip: &str) -> String {
    let octets: Vec<&str> = ip.split('.').rev().collect();
    format!("{}.in-addr.arpa", octets.join("."))
}

/// What comes back by TCP when a pod asks for the name's IPv4 addresses, in hexadecimal: RFC 1035 4.1, 4.2.2.
fn by_tcp(
    namespace: &Namespace<'_>,
    pod: &str,
    name: &str,
    server: &str,
    port: &str,
) -> Result<String> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len())?);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    let length = u16::try_from(message.len())?.to_be_bytes();
    // As `printf` reads it.
    let mut question = String::new();
    for byte in length.iter().chain(&message) {
        write!(question, "\\{byte:03o}")?;
    }
    let script = r#"printf "$1" | nc -w 5 "$2" "$3" | od -An -v -tx1 | tr -d ' \n'"#;
    let command = ["exec", pod, "--", "sh", "-c", script, "sh"];
    let args = [&command[..], &[&question, server, port]].concat();
    namespace.kubectl(&args)?.ok()
}

/// The address as data of a record, with its length.
fn hex(address: &str) -> Result<String> {
    let [a, b, c, d] = address.parse::<Ipv4Addr>()?.octets();
    Ok(format!("0004{a:02x}{b:02x}{c:02x}{d:02x}"))
}

/// `[sig-network] DNS should provide DNS for the cluster [Conformance]`
#[test]
fn dns_should_provide_dns_for_the_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut host = idle("host");
    host["spec"]["hostNetwork"] = true.into();
    host["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet".into();
    let namespace = clients(&cluster, "dns-cluster", &[host])?;
    let server = of_cluster(&cluster, "kube-system", "kube-dns")?;
    let api = of_cluster(&cluster, "default", "kubernetes")?;
    let name = "kubernetes.default.svc.cluster.local";
    let port = format!("_https._tcp.{name}");
    // A pod's packets are translated, the node's own sockets are pointed at the server.
    for pod in ["client", "host"] {
        let file = namespace.kubectl(&["exec", pod, "--", "cat", "/etc/resolv.conf"])?;
        let file = file.ok()?;
        ensure!(
            file.contains(&format!("nameserver {server}\n")),
            "{pod}: {file}"
        );
        told(&namespace, pod, ("a", name), &[&api])?;
        found(&namespace, pod, "kubernetes.default", &api)?;
        let (answer, wanted) = (by_tcp(&namespace, pod, name, &server, "53")?, hex(&api)?);
        ensure!(answer.contains(&wanted), "{pod}: no {wanted} in {answer}");
    }
    // Each node answers its own pods, and nobody else's.
    let own = namespace.inside("client")?.address;
    for node in &cluster.nodes {
        let answer = by_tcp(&namespace, "client", name, &node.address, DNS_PORT)?;
        ensure!(
            answer.is_empty() != (node.address == own),
            "{}: {answer:?}",
            node.name
        );
    }
    let services = looked_up(&namespace, "client", "srv", &port)?;
    let services = services.context("no such name")?;
    ensure!(
        services == [format!("0 100 443 {name}")].into(),
        "{services:?}"
    );
    told(
        &namespace,
        "client",
        ("txt", "dns-version.cluster.local"),
        &["\"1.1.0\""],
    )?;
    told(&namespace, "client", ("ptr", &reversed(&api)), &[name])?;
    told(
        &namespace,
        "client",
        ("a", "nobody.default.svc.cluster.local"),
        &[],
    )
}

/// `[sig-network] DNS should provide DNS for services  [Conformance]`
#[test]
fn dns_should_provide_dns_for_services() -> Result<()> {
    let cluster = Cluster::shared()?;
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let web = json!({"selector": {"app": ECHO}, "ports": ports});
    let mut headless = web.clone();
    headless["clusterIP"] = "None".into();
    let one = server("one", ECHO, all_ports());
    let objects = [one, service("web", &web), service("headless", &headless)];
    let namespace = clients(&cluster, "dns-services", &objects)?;
    let (name, pod_ip) = (&namespace.name, ip(&namespace, "one")?);
    let web_ip = cluster_ip(&namespace, "web")?;
    let name = |service: &str| format!("{service}.{name}.svc.cluster.local");
    let dashed = format!("{}.{}", pod_ip.replace('.', "-"), name("headless"));
    for ((kind, asked), wanted) in [
        (("a", name("web")), &web_ip),
        (("ptr", reversed(&web_ip)), &name("web")),
        (("a", name("headless")), &pod_ip),
        (("a", dashed.clone()), &pod_ip),
        (
            ("srv", format!("_http._tcp.{}", name("web"))),
            &format!("0 100 80 {}", name("web")),
        ),
        (
            ("srv", format!("_http._tcp.{}", name("headless"))),
            &format!("0 100 8080 {dashed}"),
        ),
    ] {
        told(&namespace, "client", (kind, &asked), &[wanted])?;
    }
    // What comes and goes has its name for as long.
    apply(&namespace, &[server("two", ECHO, all_ports())])?;
    ready(&namespace, &["two"])?;
    let both = [pod_ip.as_str(), &ip(&namespace, "two")?];
    told(&namespace, "client", ("a", &name("headless")), &both)?;
    namespace.kubectl(&["delete", "pod", "one", "two"])?.ok()?;
    told(&namespace, "client", ("a", &name("headless")), &[])?;
    namespace.kubectl(&["delete", "service", "web"])?.ok()?;
    told(&namespace, "client", ("a", &name("web")), &[])
}

/// `[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]`
#[test]
fn dns_should_resolve_dns_of_partial_qualified_names_for_services() -> Result<()> {
    let cluster = Cluster::shared()?;
    let spec = json!({"selector": {"app": ECHO}, "ports": [{"name": "http", "port": 8080}]});
    let mut headless = spec.clone();
    headless["clusterIP"] = "None".into();
    let one = server("one", ECHO, all_ports());
    let objects = [one, service("web", &spec), service("headless", &headless)];
    let namespace = clients(&cluster, "dns-partial", &objects)?;
    for (service, address) in [
        ("web", cluster_ip(&namespace, "web")?),
        ("headless", ip(&namespace, "one")?),
    ] {
        let inside = format!("{service}.{}", namespace.name);
        for name in [service, &inside, &format!("{inside}.svc")] {
            found(&namespace, "client", name, &address)?;
        }
    }
    Ok(())
}

/// A headless Service `sub`, and a pod with a name of its own in it.
fn named<'a>(cluster: &'a Cluster, prefix: &str) -> Result<Namespace<'a>> {
    let spec = json!({"clusterIP": "None", "selector": {"app": ECHO}, "ports": [{"name": "http", "port": 8080}]});
    let mut pod = server("one", ECHO, all_ports());
    pod["spec"]["hostname"] = "known".into();
    pod["spec"]["subdomain"] = "sub".into();
    clients(cluster, prefix, &[service("sub", &spec), pod])
}

/// `[sig-network] DNS should provide DNS for pods for Hostname [Conformance]`
#[test]
fn dns_should_provide_dns_for_pods_for_hostname() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = named(&cluster, "dns-hostname")?;
    let address = ip(&namespace, "one")?;
    let name = format!("known.sub.{}.svc.cluster.local", namespace.name);
    told(&namespace, "client", ("a", &name), &[&address])?;
    told(&namespace, "client", ("ptr", &reversed(&address)), &[&name])?;
    found(&namespace, "client", "known.sub", &address)?;
    // Its own name is in its own file.
    found(&namespace, "one", "known", &address)
}

/// `[sig-network] DNS should provide DNS for pods for Subdomain [Conformance]`
#[test]
fn dns_should_provide_dns_for_pods_for_subdomain() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = named(&cluster, "dns-subdomain")?;
    let address = ip(&namespace, "one")?;
    let name = format!("sub.{}.svc.cluster.local", namespace.name);
    told(&namespace, "client", ("a", &name), &[&address])?;
    found(&namespace, "client", "sub", &address)?;
    // By its address as well, whoever it is.
    let dashed = address.replace('.', "-");
    let name = format!("{dashed}.{}.pod.cluster.local", namespace.name);
    told(&namespace, "client", ("a", &name), &[&address])
}

/// `[sig-network] DNS should provide DNS for ExternalName services [Conformance]`
#[test]
fn dns_should_provide_dns_for_external_name_services() -> Result<()> {
    let cluster = Cluster::shared()?;
    let spec = json!({"type": "ExternalName", "externalName": "foo.example.com"});
    let namespace = clients(&cluster, "dns-external", &[service("out", &spec)])?;
    let name = format!("out.{}.svc.cluster.local", namespace.name);
    told(&namespace, "client", ("cname", &name), &["foo.example.com"])?;
    patch(
        &namespace,
        "out",
        &json!({"externalName": "bar.example.com"}),
    )?;
    told(&namespace, "client", ("cname", &name), &["bar.example.com"])?;
    // With its addresses, where they are known.
    let inside = "kubernetes.default.svc.cluster.local";
    patch(&namespace, "out", &json!({"externalName": inside}))?;
    let api = of_cluster(&cluster, "default", "kubernetes")?;
    told(&namespace, "client", ("a", &name), &[inside, &api])?;
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let own = json!({"type": "ClusterIP", "externalName": null, "ports": ports});
    patch(&namespace, "out", &own)?;
    let address = cluster_ip(&namespace, "out")?;
    told(&namespace, "client", ("a", &name), &[&address])
}

/// `[sig-network] DNS should support configurable pod DNS nameservers [Conformance]`
#[test]
fn dns_should_support_configurable_pod_dns_nameservers() -> Result<()> {
    let cluster = Cluster::shared()?;
    let server = of_cluster(&cluster, "kube-system", "kube-dns")?;
    let mut pod = idle("own");
    pod["spec"]["dnsPolicy"] = "None".into();
    pod["spec"]["dnsConfig"] = json!({
        "nameservers": [server], "searches": ["default.svc.cluster.local"],
        "options": [{"name": "ndots", "value": "2"}],
    });
    let namespace = clients(&cluster, "dns-config", &[pod])?;
    let file = namespace.kubectl(&["exec", "own", "--", "cat", "/etc/resolv.conf"])?;
    let wanted =
        format!("search default.svc.cluster.local\nnameserver {server}\noptions ndots:2\n");
    let file = file.ok()?;
    ensure!(file == wanted, "{file}");
    let api = of_cluster(&cluster, "default", "kubernetes")?;
    found(&namespace, "own", "kubernetes", &api)
}

/// `[sig-network] DNS should provide /etc/hosts entries for the cluster [Conformance]`
#[test]
fn dns_should_provide_etc_hosts_entries_for_the_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = named(&cluster, "dns-hosts")?;
    let address = ip(&namespace, "one")?;
    let file = namespace.kubectl(&["exec", "one", "--", "cat", "/etc/hosts"])?;
    let file = file.ok()?;
    let full = format!("known.sub.{}.svc.cluster.local", namespace.name);
    let line = format!("{address}\t{full}\tknown\n");
    ensure!(file.contains(&line), "no {line:?} in {file}");
    found(&namespace, "one", &full, &address)
}
