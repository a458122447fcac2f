//! More connections from a node's pods to one place outside than the node has ports for. Expected: a new one there is
//! dropped, counted with its reason, and the Node says so; those that are open go on, other places are reached as ever,
//! and who ends a connection makes room for another.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use vetch_tests::wait::patient;
use vetch_tests::{Cluster, Namespace, Node, eventually};

use crate::{MINUTE, apply, server};

/// 61000 to 65535.
const PORTS: usize = 4_536;
/// A connection looks at 32 of them, so that it finds none somewhat before there is none.
const FEWEST: usize = PORTS / 4;
/// Of a connection that is dropped. The kernel asks again after a second.
const LIMIT: Duration = Duration::from_millis(300);

/// Both ends.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// None where nothing answers. Called in the pod's network.
    fn open(to: &TcpListener, limit: Duration) -> Result<Option<(Connection, IpAddr)>> {
        let place = to.local_addr()?;
        let client = match TcpStream::connect_timeout(&place, limit) {
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
            client => client?,
        };
        let (server, seen) = to.accept()?;
        Ok(Some((Connection { client, server }, seen.ip())))
    }

    fn talk(&self) -> Result<()> {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            to.set_read_timeout(Some(patient(Duration::from_secs(5))))?;
            from.write_all(b"?")?;
            to.read_exact(&mut [0])?;
        }
        Ok(())
    }
}

/// Two sockets a connection are this process's.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    ensure!(
        most.is_none_or(|most| most > 3 * PORTS as u64),
        "this process may have {most:?} open files: raise the limit (ulimit -Hn)"
    );
    limit.current = most;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// How often the node's programs dropped a packet for want of a source port.
fn dropped(node: &Node) -> Result<u64> {
    let said = node.run("curl", &["-sf", "http://127.0.0.1:10249/metrics"])?;
    let name = "vetch_datapath_refused_total{reason=\"source-ports\"} ";
    let count = said.lines().find_map(|line| line.strip_prefix(name));
    Ok(count.context("no such metric")?.parse()?)
}

fn condition(cluster: &Cluster, node: &Node) -> Result<String> {
    let path =
        "jsonpath={.status.conditions[?(@.type=='ServiceTablesPressure')]['status','message']}";
    cluster
        .kubectl(&["get", "node", &node.name, "-o", path])?
        .ok()
}

#[test]
fn a_node_out_of_source_ports_drops_new_connections_tells_of_it_and_keeps_the_open_ones()
-> Result<()> {
    raise_file_limit()?;
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "ports")?;
    let node = cluster.nodes.last().context("a node")?;
    apply(&namespace, &[server("many", &node.name)])?;
    let ready = [
        "wait",
        "pod",
        "many",
        "--for=condition=Ready",
        "--timeout=90s",
    ];
    namespace.kubectl(&ready)?.ok()?;
    let pod = namespace.inside("many")?;
    let machine = cluster.machine_ips[0];
    let (full, other) = (
        TcpListener::bind((machine, 0))?,
        TcpListener::bind((machine, 0))?,
    );
    let own = node.ips()?[0];
    let before = dropped(node)?;

    let mut held = pod.in_network(|| -> Result<Vec<Connection>> {
        let mut held = Vec::new();
        while held.len() <= PORTS {
            match Connection::open(&full, LIMIT)? {
                Some((connection, seen)) => {
                    ensure!(seen == own, "{seen}, not as the node");
                    held.push(connection);
                }
                // A machine that is busy may take so long, too.
                None if dropped(node)? > before => return Ok(held),
                None => {}
            }
        }
        bail!("{} connections to one place have {PORTS} ports", held.len())
    })??;
    ensure!(
        held.len() >= FEWEST,
        "out of ports after {} connections",
        held.len()
    );

    // The others do not notice.
    for connection in [held.first(), held.get(held.len() / 2), held.last()] {
        connection.context("a connection")?.talk()?;
    }
    let elsewhere: SocketAddr = other.local_addr()?;
    let (connection, _) = pod
        .in_network(|| Connection::open(&other, patient(Duration::from_secs(5))))??
        .with_context(|| format!("{elsewhere} is not reached"))?;
    connection.talk()?;

    // Every half a minute it is looked for, and what is seen is reported within ten seconds.
    eventually(MINUTE, "the Node tells of it", || {
        // Whoever was dropped tries again.
        pod.in_network(|| Connection::open(&full, LIMIT))??;
        let said = condition(&cluster, node)?;
        ensure!(
            said.contains("True") && said.contains("source ports"),
            "{said}"
        );
        Ok(())
    })?;

    held.truncate(held.len() / 2);
    eventually(
        patient(Duration::from_secs(10)),
        "there is room again",
        || {
            let found = pod.in_network(|| Connection::open(&full, Duration::from_secs(2)))??;
            found.context("dropped")?.0.talk()
        },
    )?;
    for connection in [held.first(), held.last()] {
        connection.context("a connection")?.talk()?;
    }
    Ok(())
}
