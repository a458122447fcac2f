//! The daemons' command lines.

use anyhow::{Context as _, Result};

use crate::hold::{BPF_ROOT, CGROUP_ROOT};
use crate::paths::{Paths, Tree};
use crate::plan::{NODE_MASK, families};
use crate::state::State;

use super::text;

pub fn etcd(paths: &Paths, state: &State) -> Vec<String> {
    let client = state.etcd_endpoint();
    let peer = format!("http://127.0.0.1:{}", state.etcd_peer_port);
    [
        ("--name", "default".to_owned()),
        ("--data-dir", text(&paths.data.join("etcd"))),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer.clone()),
        ("--initial-cluster", format!("default={peer}")),
        ("--logger", "zap".to_owned()),
        ("--log-level", "warn".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

pub fn control(paths: &Paths, state: &State) -> Vec<String> {
    let machine = state.segments().machine_address();
    let port = state.api_port;
    // A Service's address and what it leads to are of one family.
    let advertised = families::machine_ips(state)[..1].to_vec();
    let mut listen = vec![format!("127.0.0.1:{port}"), format!("{machine}:{port}")];
    let v6 = advertised.iter().filter(|ip| ip.is_ipv6());
    listen.extend(v6.map(|ip| format!("[{ip}]:{port}")));
    let mut arguments = vec![
        ("--data-dir", text(&paths.data)),
        ("--host-path-volumes", text(&paths.data.join("volumes"))),
        ("--etcd", state.etcd_endpoint()),
        ("--listen", listen.join(",")),
        ("--advertise-address", list(&advertised)),
        ("--service-cidr", list(&families::service_cidrs(state))),
        ("--pod-cidr", list(&families::pod_cidrs(state))),
        ("--node-cidr-mask-size-ipv4", NODE_MASK.to_string()),
    ];
    let pools = families::pools(state);
    if !pools.is_empty() {
        arguments.push(("--load-balancer-pool", list(&pools)));
    }
    arguments
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

/// When pods and images of a node of `up` go: unless its owner says so the disk is this
/// machine's, which may be as full as it likes, and images that were brought here by hand stay.
const ROOM: [(&str, &str); 2] = [
    (
        "--eviction-hard",
        "memory.available<100Mi,nodefs.available<100Mi,nodefs.inodesFree<1%",
    ),
    ("--image-gc-high-threshold", "100"),
];

pub fn node(name: &str, tree: &Tree, cluster: &Paths, state: &State) -> Result<Vec<String>> {
    let paths = cluster.node(name);
    let number = (1..)
        .zip(state.node_names())
        .find_map(|(number, other)| (other == name).then_some(number))
        .with_context(|| format!("{name} is no node of this cluster"))?;
    let mut arguments: Vec<String> = [
        ("--kubeconfig", text(&paths.kubeconfig)),
        ("--node-name", name.to_owned()),
        ("--node-ip", list(&families::node_ips(state, number))),
        ("--root-dir", text(&paths.root)),
        ("--run-dir", text(&paths.run)),
        ("--pod-log-dir", text(&paths.pod_logs)),
        ("--pod-manifest-path", text(&paths.manifests)),
        ("--cgroup-root", CGROUP_ROOT.to_owned()),
        ("--pin-dir", format!("{BPF_ROOT}/vetch")),
        ("--mount-namespace", text(&paths.mount_namespace)),
        ("--shim", text(&tree.shim())),
        ("--pull-netns", text(&cluster.machine_netns())),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect();
    for registry in &state.insecure_registries {
        arguments.extend(["--insecure-registry".to_owned(), registry.clone()]);
    }
    if let Some(name) = &state.service_proxy_name {
        arguments.extend(["--service-proxy-name".to_owned(), name.clone()]);
    }
    for (flag, value) in ROOM {
        if !state.node_args.iter().any(|own| own.starts_with(flag)) {
            arguments.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    if let Some(count) = state.max_pods {
        arguments.extend(["--max-pods".to_owned(), count.to_string()]);
    }
    arguments.extend_from_slice(&state.node_args);
    Ok(arguments)
}

fn list<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(T::to_string).collect();
    texts.join(",")
}

/// `vetch-control` issues a client certificate that only lets this node do a node's work.
pub fn node_kubeconfig(name: &str, paths: &Paths, state: &State) -> Vec<String> {
    [
        ("--data-dir", text(&paths.data)),
        ("--server", state.api_for_nodes()),
        ("--user", format!("system:node:{name}")),
        ("--group", "system:nodes".to_owned()),
        ("--out", text(&paths.node(name).kubeconfig)),
    ]
    .into_iter()
    .fold(vec!["kubeconfig".to_owned()], |mut all, (flag, value)| {
        all.extend([flag.to_owned(), value]);
        all
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::IpFamily;

    fn state() -> State {
        State {
            ip_family: IpFamily::Ipv4,
            nodes: 2,
            link: "vetch0".into(),
            subnet: "172.30.0.0/24".parse().unwrap(),
            subnets: 1,
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            api_port: 6443,
            etcd_client_port: 2379,
            etcd_peer_port: 2380,
            insecure_registries: vec!["registry:5000".into()],
            max_pods: Some(250),
            service_proxy_name: Some("vetch".into()),
            node_args: vec!["--xdp=auto".into()],
            moved: Default::default(),
        }
    }

    fn paths(tree: &Tree) -> Paths {
        Paths::new(tree, &"vetch".parse().unwrap(), Path::new("/cg"))
    }

    #[test]
    fn the_control_plane_listens_for_this_machine_and_for_the_nodes() {
        let line = control(&paths(&Tree::at("/src")), &state()).join(" ");
        for part in [
            "--data-dir /src/target/vetch ",
            "--etcd http://127.0.0.1:2379 ",
            "--listen 127.0.0.1:6443,172.30.0.1:6443 ",
            "--advertise-address 172.30.0.1 ",
            "--load-balancer-pool 172.30.0.239-172.30.0.254",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn families_are_those_of_the_cluster() {
        let tree = Tree::at("/src");
        let paths = paths(&tree);
        let lines = |ip_family: IpFamily| {
            let state = State {
                ip_family,
                ..state()
            };
            let node = node("node-1", &tree, &paths, &state).unwrap().join(" ");
            (control(&paths, &state).join(" "), node)
        };
        let dual = lines(IpFamily::Dual);
        for part in [
            "--listen 127.0.0.1:6443,172.30.0.1:6443 ",
            "--advertise-address 172.30.0.1 ",
            "--service-cidr 10.96.0.0/16,fd00:10:96::/112 ",
            "--pod-cidr 10.244.0.0/16,fd00:10:244::/56 ",
            "--load-balancer-pool 172.30.0.239-172.30.0.254,fd00:172:30::1:0:0-fd00:172:30::1:0:f",
        ] {
            assert!(dual.0.contains(part), "{}", dual.0);
        }
        assert!(dual.1.contains("--node-ip 172.30.0.2,fd00:172:30::2 "));
        let v6 = lines(IpFamily::Ipv6);
        for part in [
            "--listen 127.0.0.1:6443,172.30.0.1:6443,[fd00:172:30::1]:6443 ",
            "--advertise-address fd00:172:30::1 ",
            "--service-cidr fd00:10:96::/112 ",
            "--pod-cidr fd00:10:244::/56 ",
        ] {
            assert!(v6.0.contains(part), "{}", v6.0);
        }
        assert!(v6.1.contains("--node-ip fd00:172:30::2 "), "{}", v6.1);
    }

    #[test]
    fn a_node_that_moved_keeps_its_new_addresses() {
        let tree = Tree::at("/src");
        let moved = ["172.30.0.77", "fd00:172:30::77"].map(|ip| ip.parse().unwrap());
        let state = State {
            ip_family: IpFamily::Dual,
            moved: [("node-2".to_owned(), moved.to_vec())].into(),
            ..state()
        };
        let line = |name: &str| node(name, &tree, &paths(&tree), &state).unwrap().join(" ");
        let new = "--node-ip 172.30.0.77,fd00:172:30::77 ";
        assert!(line("node-2").contains(new), "{}", line("node-2"));
        assert!(line("node-1").contains("--node-ip 172.30.0.2,fd00:172:30::2 "));
        let addresses = [1, 2].map(|number| state.node_address(number).to_string());
        assert_eq!(addresses, ["172.30.0.2", "172.30.0.77"]);
    }

    #[test]
    fn etcd_is_reached_from_this_machine_only() {
        let line = etcd(&paths(&Tree::at("/src")), &state()).join(" ");
        assert!(
            line.contains("--data-dir /src/target/vetch/etcd "),
            "{line}"
        );
        assert_eq!(
            line.matches("http://").count(),
            line.matches("http://127.0.0.1:").count()
        );
    }

    #[test]
    fn every_node_has_its_own_address_and_places() {
        let tree = Tree::at("/src");
        let paths = paths(&tree);
        let line = |name: &str| node(name, &tree, &paths, &state()).map(|line| line.join(" "));
        let second = line("node-2").unwrap();
        for part in [
            "--node-ip 172.30.0.3 ",
            "--root-dir /src/target/vetch/nodes/node-2 ",
            "--pod-manifest-path /src/target/vetch/manifests/node-2 ",
            "--run-dir /run/vetch/vetch/node-2/run ",
            "--cgroup-root /sys/fs/cgroup ",
            "--pull-netns /run/vetch/vetch/machine/ns/net",
            "--insecure-registry registry:5000",
            "--service-proxy-name vetch",
            "--max-pods 250",
            "--eviction-hard memory.available<100Mi,nodefs.available<100Mi",
            "--image-gc-high-threshold 100",
            "--xdp=auto",
        ] {
            assert!(second.contains(part), "{second}");
        }
        let wishes = State {
            node_args: vec!["--eviction-hard=pid.available<5%".into()],
            ..state()
        };
        let own = node("node-1", &tree, &paths, &wishes).unwrap().join(" ");
        assert_eq!(own.matches("--eviction-hard").count(), 1, "{own}");
        assert!(!line("node-1").unwrap().contains("node-2"));
        assert!(line("node-3").is_err());
        let issue = node_kubeconfig("node-2", &paths, &state()).join(" ");
        assert!(issue.starts_with(
            "kubeconfig --data-dir /src/target/vetch --server https://172.30.0.1:6443 "
        ));
        assert!(
            issue.contains("--user system:node:node-2 --group system:nodes "),
            "{issue}"
        );
    }
}
