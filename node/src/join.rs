//! `vetch-node join`: the machine becomes a node, and its daemon starts where systemd is.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Taint;
use vetch_join::{JoinOptions, Places, join};

use crate::check;
use crate::cli::JoinArgs;
use crate::logging;

const UNIT: &str = "vetch-node.service";
/// Is there where systemd is the machine's init: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

pub fn main(args: &JoinArgs) -> Result<()> {
    check::root()?;
    logging::start();
    // Installed already is as good: it is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let node_name = match &args.node_name {
        Some(given) => given.clone(),
        None => machine_name()?,
    };
    let node_ips = match &args.node_ip[..] {
        [] => vec![own_address(&args.server)?],
        given => given.to_vec(),
    };
    check::node_ips(&node_ips)?;
    let config_dir = std::path::absolute(&args.config_dir)
        .with_context(|| format!("the path {}", args.config_dir.display()))?;
    let options = JoinOptions {
        server: args.server.clone(),
        token: args.token.clone(),
        ca_hashes: args.ca_hash.clone(),
        node_name,
        places: Places::at(&config_dir),
        patience: Duration::from_secs(args.timeout),
    };
    let joined = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?
        .block_on(join(&options))?;
    let settings = settings(args, &options, &node_ips);
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    options.places.write_env(&settings)?;
    let how = match joined.kept {
        true => "has its certificate already",
        false => "has its certificate",
    };
    println!(
        "{} {how}, good until {}, of the cluster at {}",
        options.node_name, joined.ends, joined.server
    );
    start(&options.places.env())
}

/// What the daemon is told; settings that were not given stay what they were.
fn settings(
    args: &JoinArgs,
    options: &JoinOptions,
    node_ips: &[IpAddr],
) -> Vec<(&'static str, String)> {
    let kubeconfig = options.places.kubeconfig().display().to_string();
    let node_ips: Vec<String> = node_ips.iter().map(IpAddr::to_string).collect();
    let mut settings = vec![
        ("VETCH_KUBECONFIG", kubeconfig),
        ("VETCH_NODE_NAME", options.node_name.clone()),
        ("VETCH_NODE_IP", node_ips.join(",")),
    ];
    if !args.labels.is_empty() {
        let labels = args
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        settings.push(("VETCH_NODE_LABELS", labels.collect::<Vec<_>>().join(",")));
    }
    if !args.taints.is_empty() {
        let taints: Vec<String> = args.taints.iter().map(words).collect();
        settings.push(("VETCH_REGISTER_WITH_TAINTS", taints.join(",")));
    }
    settings
}

fn words(taint: &Taint) -> String {
    match &taint.value {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    }
}

/// As the kubelet has it: node names are in lower case.
fn machine_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("the machine's name")?;
    let name = name.to_string_lossy().trim().to_lowercase();
    ensure!(
        !name.is_empty(),
        "this machine has no name: give the node one with --node-name"
    );
    Ok(name)
}

/// The address from which packets go to the API server. Nothing is sent.
fn own_address(server: &str) -> Result<IpAddr> {
    let host = server.trim_start_matches("https://").trim_end_matches('/');
    let find = || -> std::io::Result<Option<IpAddr>> {
        let Some(peer) = host.to_socket_addrs()?.next() else {
            return Ok(None);
        };
        let any: SocketAddr = match peer {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(peer)?;
        Ok(Some(socket.local_addr()?.ip()))
    };
    let address = find()
        .with_context(|| {
            format!("no way leads from this machine to {host}: give its own address with --node-ip")
        })?
        .with_context(|| format!("{host} has no address"))?;
    Ok(address)
}

fn start(env: &Path) -> Result<()> {
    if !Path::new(BOOTED).exists() {
        println!(
            "no systemd runs here: start the daemon with the settings of {}:\n  set -a; . {}; set +a; vetch-node",
            env.display(),
            env.display()
        );
        return Ok(());
    }
    if env != Path::new("/etc/vetch/node.env") {
        println!(
            "{UNIT} reads /etc/vetch/node.env, and not {}: the daemon is not started",
            env.display()
        );
        return Ok(());
    }
    for action in [
        &["daemon-reload"][..],
        &["enable", UNIT],
        &["restart", UNIT],
    ] {
        let status = Command::new("systemctl")
            .args(action)
            .status()
            .context("run systemctl")?;
        if !status.success() {
            bail!(
                "`systemctl {}` failed: is the package vetch-node installed? `journalctl -u {UNIT}` says more",
                action.join(" ")
            );
        }
    }
    println!("{UNIT} runs: `kubectl get nodes` shows the node in a moment");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as Door};

    fn args(more: &[&str]) -> JoinArgs {
        let hash = format!("sha256:{}", "0".repeat(64));
        let whole = [
            "vetch-node",
            "join",
            "127.0.0.1:6443",
            "--token",
            "abcdef.0123456789abcdef",
            "--ca-hash",
            &hash,
        ];
        match Cli::parse_from([&whole[..], more].concat()).command {
            Some(Door::Join(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    fn settings_of(more: &[&str]) -> Vec<(&'static str, String)> {
        let args = args(more);
        let options = JoinOptions {
            server: args.server.clone(),
            token: args.token.clone(),
            ca_hashes: args.ca_hash.clone(),
            node_name: "n".into(),
            places: Places::at("/e".as_ref()),
            patience: Duration::ZERO,
        };
        settings(&args, &options, &["10.0.0.1".parse().unwrap()])
    }

    #[test]
    fn the_daemon_is_told_what_was_given() {
        let plain = settings_of(&[]);
        assert_eq!(plain[0].1, "/e/node.kubeconfig");
        assert_eq!(plain.len(), 3);
        let more = settings_of(&[
            "--labels",
            "a=b,c=d",
            "--taints",
            "k=v:NoSchedule,l:NoExecute",
        ]);
        assert_eq!(more[3], ("VETCH_NODE_LABELS", "a=b,c=d".into()));
        assert_eq!(
            more[4],
            (
                "VETCH_REGISTER_WITH_TAINTS",
                "k=v:NoSchedule,l:NoExecute".into()
            )
        );
    }

    #[test]
    fn the_own_address_is_that_of_the_way_to_the_server() {
        assert_eq!(
            own_address("127.0.0.1:6443").unwrap().to_string(),
            "127.0.0.1"
        );
        let error = own_address("no host").unwrap_err().to_string();
        assert!(error.contains("--node-ip"), "{error}");
    }
}
