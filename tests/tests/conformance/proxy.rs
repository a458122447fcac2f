//! Pods and Services reached through the API server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace};

use crate::fixture::{ECHO, all_ports, apply, ready, server, service, wait_endpoints};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// `kubectl proxy`, for as long as the value lives.
struct Proxy {
    child: Child,
    /// `http://127.0.0.1:PORT`
    url: String,
}

impl Proxy {
    fn start(cluster: &Cluster) -> Result<Proxy> {
        let mut child = cluster
            .kubectl_command(&["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .context("run kubectl proxy")?;
        let stdout = child.stdout.take().context("kubectl's stdout")?;
        let mut proxy = Proxy {
            child,
            url: String::new(),
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        ensure!(address.contains(':'), "kubectl proxy said {line:?}");
        proxy.url = format!("http://{address}");
        Ok(proxy)
    }

    /// Code, Location and body of an answer.
    fn ask(&self, method: &str, path: &str) -> Result<(u16, String, String)> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "30", "--path-as-is"])
            .args(["-w", "\n%{http_code} %header{location}"]);
        match method {
            "HEAD" => curl.args(["--head", "-o", "/dev/null"]),
            method => curl.args(["-X", method]),
        };
        let output = curl.arg(format!("{}{path}", self.url)).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl {method} {path}: {error}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').context("curl's own line")?;
        let (code, location) = status.split_once(' ').context("a code")?;
        Ok((code.parse()?, location.to_owned(), body.to_owned()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An echo server and a Service before it, whose endpoints are there.
fn serve<'a>(cluster: &'a Cluster, prefix: &str) -> Result<Namespace<'a>> {
    let namespace = Namespace::create(cluster, prefix)?;
    let spec = json!({"selector": {"app": ECHO}, "ports": [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "number", "port": 81, "targetPort": 8080},
    ]});
    apply(
        &namespace,
        &[server("one", ECHO, all_ports()), service("web", &spec)],
    )?;
    ready(&namespace, &["one"])?;
    wait_endpoints(&namespace, "web", &[("one", 8080)])?;
    Ok(namespace)
}

/// What a pod or a Service is called in a path, with the ports a client may name.
fn base(namespace: &Namespace<'_>, name: &str) -> String {
    format!("/api/v1/namespaces/{}/{name}/proxy", namespace.name)
}

fn assert_responses(prefix: &str, path: &str, body: &str) -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = serve(&cluster, prefix)?;
    let proxy = Proxy::start(&cluster)?;
    for name in ["pods/one", "services/web:http"] {
        let path = format!("{}{path}", base(&namespace, name));
        for method in METHODS {
            let (code, _, said) = proxy.ask(method, &path)?;
            ensure!(code == 200, "{method} {path}: {code} {said}");
            let wanted = if method == "HEAD" { "" } else { body };
            ensure!(said.starts_with(wanted), "{method} {path}: {said:?}");
        }
    }
    // Without its slash the way leads to it.
    let bare = base(&namespace, "pods/one");
    let (code, location, _) = proxy.ask("GET", &bare)?;
    ensure!(
        code == 301 && location.ends_with(&format!("{bare}/")),
        "{code} {location}"
    );
    Ok(())
}

/// `[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy`
#[test]
fn proxy_version_v1_a_set_of_valid_responses_are_returned_for_both_pod_and_service_proxy()
-> Result<()> {
    assert_responses("proxy", "/", "pod: one\n")
}

/// `[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath`
#[test]
fn proxy_version_v1_a_set_of_valid_responses_are_returned_for_both_pod_and_service_proxy_with_path()
-> Result<()> {
    assert_responses("proxy-path", "/healthz?some=query", "ok\n")
}

/// `[sig-network] Proxy version v1 should proxy through a service and a pod`
#[test]
fn proxy_version_v1_should_proxy_through_a_service_and_a_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = serve(&cluster, "proxy-names")?;
    for name in [
        "services/web:http",
        "services/web:80",
        "services/web:number",
        "services/web:81",
        "services/http:web:http",
        "services/http:web:81",
        "pods/one",
        "pods/one:8080",
        "pods/http:one:8080",
    ] {
        let path = format!("{}/", base(&namespace, name));
        let said = cluster.kubectl(&["get", "--raw", &path])?.ok()?;
        ensure!(said.starts_with("pod: one\n"), "{path}: {said:?}");
    }
    for (name, words) in [
        ("services/web:82", "no service port 82 found for service"),
        ("services/web:none", "no endpoints available for service"),
        ("services/none", "services \"none\" not found"),
        ("pods/none", "pods \"none\" not found"),
        ("pods/one:9", "connection refused"),
    ] {
        let path = format!("{}/", base(&namespace, name));
        let said = cluster.kubectl(&["get", "--raw", &path])?.refused()?;
        ensure!(said.contains(words), "{path}: {said:?}");
    }
    Ok(())
}
