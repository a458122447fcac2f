//! Two of three nodes lose the link between them. Expected, as of Kubernetes anywhere: nobody is evicted and no endpoint
//! goes, for both nodes reach the API server. What has to go over the link waits for it; everything else goes on. When
//! the link is there again so is everything, and an open connection says what it had to say.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use vetch_tests::wait::patient;
use vetch_tests::{Cluster, Namespace, Node, eventually};

use crate::{MINUTE, apply, containers, server, text};

/// From the link's return on.
const BACK: Duration = Duration::from_secs(20);
/// Chance chooses of three: that it leaves one out so often is one in twenty thousand.
const TIMES: usize = 24;
const NOBODY: &str = "nobody";

/// Who answers each of many connections to the Service, within so many seconds.
fn answers(from: &Node, url: &str, limit: &str) -> Result<BTreeMap<String, usize>> {
    const ASK: &str = r#"for _ in $(seq "$3"); do
curl -s --max-time "$2" "$1" | sed -n 's/^pod: //p' | grep . || echo nobody; done"#;
    let times = TIMES.to_string();
    let said = from.run("bash", &["-c", ASK, "ask", url, limit, &times])?;
    let mut answers = BTreeMap::new();
    for name in said.lines() {
        *answers.entry(name.to_owned()).or_default() += 1;
    }
    Ok(answers)
}

fn by(names: &[&str], answers: &BTreeMap<String, usize>) -> Result<()> {
    let found: Vec<&str> = answers.keys().map(String::as_str).collect();
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    ensure!(
        found == wanted,
        "answered by {answers:?}, not by {wanted:?}"
    );
    Ok(())
}

/// A connection from pod to pod that stays open.
struct Open(BufReader<TcpStream>);

impl Open {
    fn new(from: &Node, to: SocketAddr) -> Result<Open> {
        let stream =
            from.in_network(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))??;
        Ok(Open(BufReader::new(stream)))
    }

    fn say(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.0.get_mut(), "{word}")?)
    }

    /// None where nothing comes in this time.
    fn hear(&mut self, limit: Duration) -> Result<Option<String>> {
        self.0.get_ref().set_read_timeout(Some(limit))?;
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => bail!("the connection ended"),
            Ok(_) => Ok(Some(line.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn renewed(cluster: &Cluster, node: &Node) -> Result<String> {
    let path = "jsonpath={.spec.renewTime}";
    let args = [
        "get",
        "lease",
        &node.name,
        "--namespace",
        "kube-node-lease",
        "-o",
        path,
    ];
    cluster.kubectl(&args)?.ok()
}

#[test]
fn a_link_lost_between_two_nodes_costs_what_goes_over_it_and_returns_whole() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let [one, two, three, ..] = &cluster.nodes[..] else {
        bail!("three nodes are needed");
    };
    let namespace = Namespace::create(&cluster, "link")?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"},
        "spec": {"selector": {"app": "echo"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    let servers = [("one", one), ("two", two), ("three", three)];
    let mut items = servers
        .map(|(name, node)| server(name, &node.name))
        .to_vec();
    items.push(service);
    apply(&namespace, &items)?;
    namespace.wait_endpoints("echo", 3)?;
    let url = format!(
        "http://{}/",
        text(&namespace, "service/echo", "/spec/clusterIP")?
    );
    let pods = [
        namespace.inside("one")?,
        namespace.inside("two")?,
        namespace.inside("three")?,
    ];
    for pod in &pods {
        eventually(MINUTE, "all three answer", || {
            by(&["one", "two", "three"], &answers(pod, &url, "5")?)
        })?;
    }
    let before = containers(&namespace)?;
    let ip = text(&namespace, "pod/two", "/status/podIP")?;
    let mut open = Open::new(&pods[0], SocketAddr::new(ip.parse()?, 8081))?;
    open.say("before")?;
    let heard = open.hear(patient(Duration::from_secs(5)))?;
    ensure!(heard.as_deref() == Some("two: before"), "{heard:?}");

    let leases = [renewed(&cluster, one)?, renewed(&cluster, two)?];
    let apart = cluster.part(one, two)?;
    // Each of the two has the other's third of its connections nowhere to go, and nobody else has.
    by(&["one", "three", NOBODY], &answers(&pods[0], &url, "0.5")?)?;
    by(&["two", "three", NOBODY], &answers(&pods[1], &url, "0.5")?)?;
    by(&["one", "two", "three"], &answers(&pods[2], &url, "5")?)?;
    // Processes of the nodes are no better off.
    by(&["one", "three", NOBODY], &answers(one, &url, "0.5")?)?;
    // Both nodes go on telling that they live, so that nothing is taken from them.
    for (node, lease) in [one, two].into_iter().zip(leases) {
        eventually(MINUTE, &format!("{} renews its lease", node.name), || {
            ensure!(renewed(&cluster, node)? != lease, "not since {lease}");
            Ok(())
        })?;
        cluster.wait_node(&node.name, "Ready", Duration::ZERO)?;
    }
    namespace.wait_endpoints("echo", 3)?;
    open.say("meanwhile")?;
    let heard = open.hear(Duration::from_secs(1))?;
    ensure!(
        heard.is_none(),
        "{heard:?} came over a link that is not there"
    );

    apart.join()?;
    // When the sender tries again, whose pauses have doubled meanwhile.
    let heard = open
        .hear(patient(BACK))?
        .context("the open connection stays silent")?;
    ensure!(heard == "two: meanwhile", "{heard}");
    for from in pods.iter().chain([one, two]) {
        eventually(BACK, "all three answer again", || {
            by(&["one", "two", "three"], &answers(from, &url, "1")?)
        })?;
    }
    let after = containers(&namespace)?;
    ensure!(after == before, "pods were disturbed: {before:?} {after:?}");
    Ok(())
}
