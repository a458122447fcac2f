//! `up`: from whatever is there to a cluster that is ready. Every step makes only what is missing,
//! so that a second `up` heals what a crash left, and one killed anywhere can be run again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::build::{self, Wanted};
use crate::cli::UpArgs;
use crate::cluster::Cluster;
use crate::plan::{self, Taken, Wishes};
use crate::service::{self, Part};
use crate::state::State;
use crate::steps::{Step, Steps};
use crate::{apt, down, foreground, image, kubectl, machine, namespaces, network, ports};

/// Set by `cargo xtask test` for the scenarios that call xtask, to the folder of target that holds
/// what they start: a build in the middle of measurements would spoil them.
pub const PREBUILT: &str = "VETCH_PREBUILT";

const API_LIMIT: Duration = Duration::from_secs(60);
const ETCD_LIMIT: Duration = Duration::from_secs(30);
const NODES_LIMIT: Duration = Duration::from_secs(120);

pub fn run(cluster: &Cluster, args: &UpArgs) -> Result<()> {
    machine::require_kernel()?;
    let steps = Steps::new();
    let lock = cluster.lock()?;
    build::install(&steps, apt::RUN)?;
    build::unless_there(&steps, &cluster.tree, Wanted::Daemons)?;
    let state = start(&steps, cluster, args)?;
    // Others may work on it while its logs are shown.
    drop(lock);
    println!("\nThe cluster is up. Try this:\n");
    for line in try_this(cluster, &state) {
        println!("  {line}");
    }
    if args.detach {
        println!(
            "\n`cargo xtask down{}` takes it down.",
            name_argument(cluster)
        );
        return Ok(());
    }
    println!("\nCtrl-C takes it down.\n");
    foreground::run(cluster, &state)
}

/// The programs are built; the caller holds the cluster's lock.
pub fn start(steps: &Steps, cluster: &Cluster, args: &UpArgs) -> Result<State> {
    cluster.refuse_foreign()?;
    if cluster.foreign_owner().is_some() {
        // Nothing of it lives; what it left is in the way.
        down::everything(cluster, false)?;
    }
    if args.fresh {
        steps.run("Forget what was there", |_| down::everything(cluster, true))?;
    }
    let (state, choosing) = steps.run("Make the nodes' namespaces and network", |_| {
        let choosing = choosing()?;
        Ok((place(cluster, args)?, choosing))
    })?;
    steps.run("Start etcd", |_| start_etcd(cluster, &state))?;
    steps.run("Start the control plane", |_| {
        start_control(cluster, &state)
    })?;
    // Its ports are seen to be taken now.
    drop(choosing);
    steps.run("Give the nodes the echo image", |_| {
        import_images(cluster, &state)
    })?;
    let what = if state.nodes == 1 {
        "Start the node".to_owned()
    } else {
        format!("Start {} nodes", state.nodes)
    };
    steps.run(&what, |step| start_nodes(step, cluster, &state))?;
    Ok(state)
}

/// Two clusters that start at once would find the same networks and ports free.
fn choosing() -> Result<Flock<File>> {
    Flock::lock(File::open("/run")?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("lock /run")
}

fn place(cluster: &Cluster, args: &UpArgs) -> Result<State> {
    let before = State::load(&cluster.paths.state())?;
    let state = choose(cluster, args, before.as_ref())?;
    for dir in [cluster.paths.data.clone(), cluster.paths.logs()] {
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    state.save(&cluster.paths.state())?;
    namespaces::run_directory(&cluster.paths.run)?;
    fs::write(
        cluster.paths.owner(),
        cluster.tree.root().display().to_string(),
    )?;
    if let Some(before) = before {
        let wanted = state.node_names();
        for name in before
            .node_names()
            .iter()
            .filter(|name| !wanted.contains(name))
        {
            down::node(cluster, name)?;
        }
    }
    cgroups(cluster, &state)?;
    namespaces::machine(&cluster.paths.machine_netns())?;
    namespaces::hub(&cluster.paths.hub_netns())?;
    for name in state.node_names() {
        namespaces::node(&name, &cluster.paths.node(&name), &cluster.paths.run)?;
    }
    network::ensure(cluster, &state)?;
    Ok(state)
}

fn choose(cluster: &Cluster, args: &UpArgs, before: Option<&State>) -> Result<State> {
    let used = network::used(&cluster.name)?;
    let links: BTreeSet<String> = used.links.into_iter().collect();
    let own_ports: Vec<u16> = before
        .iter()
        .flat_map(|state| {
            let etcd =
                [state.etcd_client_port, state.etcd_peer_port].map(|port| (Part::Etcd, port));
            etcd.into_iter().chain([(Part::Control, state.api_port)])
        })
        .filter(|(part, _)| cluster.runs(part))
        .map(|(_, port)| port)
        .collect();
    let taken = Taken {
        networks: &used.networks,
        links: &links,
        ipv6: network::has_ipv6(),
        port: &|port| {
            if own_ports.contains(&port) {
                None
            } else {
                ports::holder(port)
            }
        },
    };
    let wishes = Wishes {
        nodes: args.nodes,
        ip_family: args.ip_family,
        subnet: args.subnet,
        subnets: args.subnets,
        pod_cidr: args.pod_cidr,
        service_cidr: args.service_cidr,
        api_port: args.api_port,
        insecure_registries: args.insecure_registry.clone(),
        max_pods: args.max_pods,
        service_proxy_name: args.service_proxy_name.clone(),
        node_args: args.more.node_args.clone(),
    };
    Ok(plan::decide(&cluster.name, &wishes, before, &taken)?)
}

/// Controllers reach the nodes as far as the machine's root cgroup, which stays as it is, has them on.
fn cgroups(cluster: &Cluster, state: &State) -> Result<()> {
    cluster.cgroup.create()?;
    if let Some(above) = cluster.cgroup.path().parent() {
        crate::cgroup::Cgroup::at(above).delegate();
    }
    cluster.cgroup.delegate();
    for part in service::parts(state) {
        cluster.leaf(&part).create()?;
    }
    Ok(())
}

fn start_etcd(cluster: &Cluster, state: &State) -> Result<()> {
    cluster.start(&Part::Etcd, state)?;
    let address = ("127.0.0.1", state.etcd_client_port);
    cluster.wait_for(&Part::Etcd, "etcd answers", ETCD_LIMIT, || {
        Ok(std::net::TcpStream::connect(address).map(drop)?)
    })
}

fn start_control(cluster: &Cluster, state: &State) -> Result<()> {
    restart_outdated(cluster, &Part::Control)?;
    cluster.start(&Part::Control, state)?;
    let address = ("127.0.0.1", state.api_port);
    cluster.wait_for(&Part::Control, "the API server listens", API_LIMIT, || {
        Ok(std::net::TcpStream::connect(address).map(drop)?)
    })?;
    cluster.wait_for(&Part::Control, "the API server is ready", API_LIMIT, || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).map(drop)
    })
}

fn restart_outdated(cluster: &Cluster, part: &Part) -> Result<()> {
    if cluster.is_outdated(part)? {
        cluster.stop(part)
    } else {
        Ok(())
    }
}

fn import_images(cluster: &Cluster, state: &State) -> Result<()> {
    let archive = cluster.tree.echo_image();
    let digest = image::write(&cluster.tree.echo(), &archive)?;
    for name in state.node_names() {
        let paths = cluster.paths.node(&name);
        if image::imported(&paths.imported).as_deref() == Some(digest.as_str())
            && paths.root.exists()
        {
            continue;
        }
        fs::create_dir_all(&paths.root)
            .with_context(|| format!("create {}", paths.root.display()))?;
        import_image(cluster, &paths.root, &archive)?;
        image::record_import(&paths.imported, &digest)?;
    }
    Ok(())
}

/// Into the store of a node, whose daemon may run.
pub fn import_image(cluster: &Cluster, root: &Path, archive: &Path) -> Result<()> {
    let mut import = Command::new(cluster.tree.daemon("vetch-node"));
    import
        .args(["image", "import", "--root-dir"])
        .arg(root)
        .arg(archive);
    succeed(&mut import)
}

fn start_nodes(step: &Step, cluster: &Cluster, state: &State) -> Result<()> {
    let names = state.node_names();
    for name in &names {
        let part = Part::Node(name.clone());
        restart_outdated(cluster, &part)?;
        if cluster.runs(&part) {
            continue;
        }
        let paths = cluster.paths.node(name);
        for dir in [&paths.root, &paths.run, &paths.pod_logs, &paths.manifests] {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        if let Some(parent) = paths.kubeconfig.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut issue = Command::new(cluster.tree.daemon("vetch-control"));
        issue.args(service::node_kubeconfig(name, &cluster.paths, state));
        succeed(&mut issue)?;
        cluster.start(&part, state)?;
    }
    cluster.describe(state)?;
    forget_nodes(step, cluster, &names)?;
    for name in &names {
        let part = Part::Node(name.clone());
        cluster.wait_for(&part, &format!("{name} is ready"), NODES_LIMIT, || {
            let nodes = cluster.node_conditions()?;
            match nodes.iter().find(|node| node.name == *name) {
                Some(node) if node.ready => Ok(()),
                Some(node) => bail!("{name} is not ready: {}", node.message),
                None => bail!("{name} has not registered"),
            }
        })?;
    }
    Ok(())
}

/// Nodes of an earlier `up` that had more of them.
fn forget_nodes(step: &Step, cluster: &Cluster, wanted: &[String]) -> Result<()> {
    for node in cluster.node_conditions()? {
        let ours = matches!(node.name.parse(), Ok(Part::Node(_)));
        if ours && !wanted.contains(&node.name) {
            step.tell(&format!("{} is no longer a node", node.name));
            cluster.kubectl(&["delete", "--raw", &format!("/api/v1/nodes/{}", node.name)])?;
        }
    }
    Ok(())
}

pub fn succeed(command: &mut Command) -> Result<()> {
    let words = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {words}"))?;
    if !output.status.success() {
        bail!(
            "{words}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn name_argument(cluster: &Cluster) -> String {
    if cluster.name == Default::default() {
        return String::new();
    }
    format!(" --name {}", cluster.name)
}

fn try_this(cluster: &Cluster, state: &State) -> [String; 3] {
    let kubectl = kubectl::program().map_or_else(
        |_| "kubectl".into(),
        |path| {
            let found = crate::process::find("kubectl");
            if found.as_ref() == Some(&path) {
                "kubectl".to_owned()
            } else {
                path.display().to_string()
            }
        },
    );
    let node = state.node_names().first().cloned().unwrap_or_default();
    [
        format!(
            "export KUBECONFIG={}",
            cluster.paths.admin_kubeconfig().display()
        ),
        format!("{kubectl} apply -f examples/echo.yaml"),
        format!(
            "cargo xtask exec{} {node} -- curl -s http://$({kubectl} get service echo -o jsonpath='{{.spec.clusterIP}}')/",
            name_argument(cluster)
        ),
    ]
}
