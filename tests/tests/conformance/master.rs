//! The Service of the API server itself.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use vetch_tests::{Cluster, Namespace, Node};

use crate::fixture::serve;

/// The API server's answer to a client that trusts nothing but this authority.
fn version(from: &Node, url: &str, authority: &str) -> Result<String> {
    let args = ["-sS", "--max-time", "30", "--cacert", "/dev/stdin", url];
    let mut curl = from
        .command("curl", &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = curl.stdin.take().context("curl's stdin")?;
    stdin.write_all(authority.as_bytes())?;
    drop(stdin);
    let output = curl.wait_with_output()?;
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "curl {url}: {error}");
    Ok(said.into_owned())
}

/// `[sig-network] API Server should provide secure master service`
#[test]
fn api_server_should_provide_secure_master_service() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "master")?;
    let client = serve(&namespace, &[], &[])?;
    let kubernetes = cluster
        .kubectl(&[
            "get",
            "service",
            "kubernetes",
            "-n",
            "default",
            "--no-headers",
        ])?
        .ok()?;
    let cells: Vec<&str> = kubernetes.split_whitespace().collect();
    ensure!(
        cells.len() == 6 && cells[1] == "ClusterIP" && cells[4] == "443/TCP",
        "{kubernetes}"
    );
    // What every pod is given to know the API server by.
    let authority = namespace.field("configmap/kube-root-ca.crt", "/data/ca.crt")?;
    let authority = authority.as_str().context("no certificate")?;
    let url = format!("https://{}/version", cells[2]);
    for from in [&client, &cluster.nodes[0]] {
        let said = version(from, &url, authority)?;
        ensure!(said.contains("\"gitVersion\""), "{said}");
    }
    Ok(())
}
