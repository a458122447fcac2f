//! The runner, with a stand-in for the program: a script that says and does
//! what the runner waits for and cleans up.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use tempfile::TempDir;
use vetch_bench_rules::{Error, KubeProxy, Mode};

use crate::rig::{Lab, NODE, node};

struct StandIn {
    dir: TempDir,
}

impl StandIn {
    /// Runs `main` where the program would serve.
    fn new(main: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let script = format!(
            "#!/bin/sh\ncd {}\ncase $1 in\n--version) echo Kubernetes v1.36.2; exit;;\n--cleanup) echo cleanup >>did; exit 1;;\nesac\nprintf '%s\\n' \"$@\" >arguments\n{main}\n",
            dir.path().display()
        );
        let stand_in = Self { dir };
        fs::write(stand_in.program(), script).unwrap();
        fs::set_permissions(stand_in.program(), fs::Permissions::from_mode(0o755)).unwrap();
        stand_in
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("kube-proxy")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap()
    }

    fn start(&self, lab: &Lab, mode: Mode) -> KubeProxy {
        KubeProxy::start(
            &self.program(),
            &lab.node.path(),
            mode,
            "/etc/kubeconfig".as_ref(),
            "node-1",
            NODE,
            node().pod_cidr,
            self.dir.path(),
        )
        .unwrap()
    }
}

const SAYS: &str =
    r#"echo 'proxier.go:1] "SyncProxyRules complete" ipFamily="IPv6" elapsed="1ms"' >&2"#;

#[test]
fn starts_syncs_and_stops() {
    let stand_in = StandIn::new(&format!(
        "trap 'echo term >>did; exit 0' TERM
         {SAYS}
         nft add table ip kube-proxy
         iptables -t nat -N KUBE-SERVICES; iptables -t nat -A PREROUTING -j KUBE-SERVICES
         {}
         while :; do sleep 0.05; done",
        SAYS.replace("IPv6", "IPv4")
    ));
    let lab = Lab::new();
    let proxy = stand_in.start(&lab, Mode::Nftables);
    let synced = proxy.wait_synced(Duration::from_secs(10)).unwrap();
    assert_eq!(
        proxy.wait_synced(Duration::ZERO).unwrap(),
        synced,
        "once is for ever"
    );
    assert!(
        lab.node.sh("nft list tables").contains("kube-proxy"),
        "it ran inside, and waited for IPv4"
    );
    let command = fs::read_to_string(format!("/proc/{}/cmdline", proxy.pid())).unwrap();
    assert!(command.contains("--proxy-mode=nftables"), "{command}");
    for argument in [
        "--kubeconfig=/etc/kubeconfig",
        "--hostname-override=node-1",
        "--cluster-cidr=10.244.0.0/16",
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
    ] {
        assert!(
            stand_in
                .read("arguments")
                .lines()
                .any(|line| line == argument),
            "{argument}"
        );
    }

    proxy.stop().unwrap();
    assert_eq!(stand_in.read("did"), "term\ncleanup\n");
    assert!(
        stand_in
            .read("kube-proxy.log")
            .contains("SyncProxyRules complete")
    );
    assert!(
        lab.rules().is_clean().unwrap(),
        "what cleanup left is removed"
    );
}

#[test]
fn an_early_end_is_an_error() {
    let stand_in = StandIn::new("echo no such flag >&2; exit 1");
    let lab = Lab::new();
    let proxy = stand_in.start(&lab, Mode::Iptables);
    let error = proxy.wait_synced(Duration::from_secs(10)).unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert_eq!(stand_in.read("kube-proxy.log"), "no such flag\n");
}

#[test]
fn a_slow_one_is_an_error() {
    let stand_in = StandIn::new(&format!("{SAYS}; exec sleep 60"));
    let lab = Lab::new();
    let proxy = stand_in.start(&lab, Mode::Iptables);
    let error = proxy.wait_synced(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Slow { .. }), "{error}");
}

#[test]
fn says_its_version() {
    let stand_in = StandIn::new("");
    assert_eq!(
        KubeProxy::version(&stand_in.program()).unwrap(),
        "Kubernetes v1.36.2"
    );
}
