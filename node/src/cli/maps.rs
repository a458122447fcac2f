//! What is read from the kernel's maps, whether a daemon runs or not.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vetch_proxy::Frontend;

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Lists every address, port and protocol that is served
    Ls(MapsArgs),
    /// Shows one of them with its backends
    Show {
        #[command(flatten)]
        maps: MapsArgs,
        /// Such as 10.96.0.1:443/TCP; a NodePort's address is 0.0.0.0 or [::]
        #[arg(value_name = "ADDRESS:PORT/PROTOCOL")]
        frontend: Frontend,
    },
}

#[derive(Debug, Subcommand)]
pub enum CtCommand {
    /// Lists them by protocol and client. A socket whose backend was chosen when it connected is
    /// none of them
    Ls(MapsArgs),
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Lists the pods' addresses with their sets of rules
    Ls(MapsArgs),
    /// Shows the rules of one of them
    Show {
        #[command(flatten)]
        maps: MapsArgs,
        /// Of a pod on this node: `kubectl get pod -o wide` has it
        #[arg(value_name = "ADDRESS")]
        address: IpAddr,
    },
}

#[derive(Debug, Args)]
pub struct MapsArgs {
    /// Where the eBPF maps and links are pinned
    #[arg(long, env = "VETCH_PIN_DIR", default_value = "/sys/fs/bpf/vetch")]
    pub pin_dir: PathBuf,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DropsArgs {
    #[command(flatten)]
    pub maps: MapsArgs,
    /// Stay, and print what comes; JSON is one object a line then
    #[arg(long, short)]
    pub follow: bool,
}

impl MapsArgs {
    /// The likely reason when nothing can be read there.
    pub fn no_node(&self) -> String {
        format!(
            "no node has its maps at {}: on a node of `cargo xtask up` run this by \
             `cargo xtask exec --mounts`",
            self.pin_dir.display()
        )
    }
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only this program
    pub program: Option<String>,
    /// Text: the counts of each, or the whole log of the one that is named
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::testing::parse;
    use super::*;

    #[test]
    fn maps_need_no_node() {
        let show = [
            "vetch-node",
            "service",
            "show",
            "[fd96::1]:53/udp",
            "-o",
            "json",
        ];
        let Some(Command::Service(ServiceCommand::Show { maps, frontend })) =
            parse(&show).unwrap().command
        else {
            panic!("{show:?}");
        };
        assert_eq!(
            (maps.output, frontend.to_string()),
            (Output::Json, "[fd96::1]:53/UDP".into())
        );
        for wrong in [
            "10.96.0.1:53",
            "10.96.0.1/UDP",
            "10.96.0.1:53/ICMP",
            "dns:53/UDP",
        ] {
            let error = parse(&["vetch-node", "service", "show", wrong]).unwrap_err();
            assert!(error.contains("ADDRESS:PORT/PROTOCOL"), "{error}");
        }
        let cli = parse(&["vetch-node", "drops", "--follow", "--output", "json"]).unwrap();
        let Some(Command::Drops(args)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!((args.follow, args.maps.output), (true, Output::Json));
    }
}
