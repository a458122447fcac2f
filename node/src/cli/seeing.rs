//! Arguments of the commands that show what becomes of calls and packets.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::Args;
use vetch_proxy::{Frontend, Protocol, inspect::Verdict};

use super::MapsArgs;
use super::ends::{Place, Sender};

#[derive(Debug, Args)]
pub struct FlowsArgs {
    #[command(flatten)]
    pub maps: MapsArgs,
    /// Stay, and print what comes; JSON is one object a line then. What begins is told of only while
    /// somebody does, and for three seconds more
    #[arg(long, short)]
    pub follow: bool,
    /// Only what has this address at one of its ends
    #[arg(long, value_name = "IP")]
    pub pod: Option<IpAddr>,
    /// Only what is for a Service, by NAMESPACE/NAME[:PORT], which asks the API server; or for what is
    /// at ADDRESS:PORT/PROTOCOL, which asks the kernel alone
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<ServiceQuery>,
    /// Only these: drop, refusal, translate, masquerade, allow
    #[arg(long, value_name = "VERDICT,…", value_delimiter = ',')]
    pub verdict: Vec<Verdict>,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Args)]
pub struct ApiArgs {
    /// Of the API server, which is asked where something has a name
    #[arg(
        long,
        value_name = "FILE",
        env = "VETCH_KUBECONFIG",
        default_value = "/etc/vetch/node.kubeconfig"
    )]
    pub kubeconfig: PathBuf,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub maps: MapsArgs,
    /// Who sends: a pod of this node, the node itself, or anybody outside; NAMESPACE/POD or pod/NAME asks
    /// the API server
    #[arg(value_name = "SRC")]
    pub src: Sender,
    /// For whom: ADDRESS:PORT, or an address alone for a ping; NAMESPACE/POD, pod/NAME, svc/NAME and
    /// NAMESPACE/svc/NAME, each with :PORT by name or number or without, ask the API server. A Service
    /// without a port is that of its only one
    #[arg(value_name = "DST[:PORT]")]
    pub dst: Place,
    /// tcp, udp or sctp [default: tcp, where there is a port]
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// Of what is named without one
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Which service-ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceQuery {
    Frontend(Frontend),
    Named {
        namespace: String,
        name: String,
        /// By name or number; None for all.
        port: Option<String>,
    },
}

impl FromStr for ServiceQuery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(frontend) = text.parse() {
            return Ok(Self::Frontend(frontend));
        }
        let wrong = || {
            "a Service is NAMESPACE/NAME, NAMESPACE/NAME:PORT or ADDRESS:PORT/PROTOCOL, such as \
             default/web:http or 10.96.0.1:443/TCP"
                .to_owned()
        };
        let (namespace, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (rest, None),
        };
        let is_name = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let port_is_right = port.as_deref().is_none_or(is_name);
        if !is_name(namespace) || !is_name(name) || !port_is_right {
            return Err(wrong());
        }
        Ok(Self::Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        })
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err("a protocol is tcp, udp or sctp".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, Output};

    fn parse(args: &[&str]) -> Result<Command, String> {
        let cli = Cli::try_parse_from([&["vetch-node"][..], args].concat());
        cli.map(|cli| cli.command.unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn services_are_named_or_dialled() {
        let named = |namespace: &str, name: &str, port: Option<&str>| ServiceQuery::Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port: port.map(str::to_owned),
        };
        let frontend = ServiceQuery::Frontend("10.96.0.1:443/TCP".parse().unwrap());
        for (text, expected) in [
            ("default/web", Some(named("default", "web", None))),
            (
                "default/web:http",
                Some(named("default", "web", Some("http"))),
            ),
            ("default/web:80", Some(named("default", "web", Some("80")))),
            ("10.96.0.1:443/TCP", Some(frontend)),
            ("web", None),
            ("/web", None),
            ("default/", None),
            ("default/web:", None),
            ("10.96.0.1:443", None),
            ("10.96.0.1:443/ICMP", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_followed_and_traced() {
        let more = [
            "flows",
            "-f",
            "--pod",
            "10.244.1.2",
            "--service",
            "default/web",
            "--verdict",
            "drop,allow",
            "-o",
            "json",
        ];
        let Command::Flows(args) = parse(&more).unwrap() else {
            panic!("{more:?}");
        };
        assert!(args.follow && args.service.is_some());
        assert_eq!(args.maps.output, Output::Json);
        assert_eq!(args.verdict, [Verdict::Drop, Verdict::Allow]);
        assert!(parse(&["flows", "--verdict", "passed"]).is_err());
        let Command::Trace(args) = parse(&["trace", "a/b", "svc/web", "-n", "shop"]).unwrap()
        else {
            panic!("no trace");
        };
        assert_eq!(args.namespace, "shop");
        assert!(parse(&["trace", "svc/web", "a/b"]).is_err());
        for (dst, protocol, expected) in [
            (
                "10.96.0.1:443",
                "TCP",
                Some((Some("443"), Some(Protocol::Tcp))),
            ),
            (
                "[fd96::1]:53",
                "udp",
                Some((Some("53"), Some(Protocol::Udp))),
            ),
            ("fd96::1", "sctp", Some((None, Some(Protocol::Sctp)))),
            ("10.96.0.1:443", "icmp", None),
            ("web:80", "tcp", None),
        ] {
            let traced = parse(&["trace", "10.244.1.2", dst, "--protocol", protocol]);
            let read = traced.ok().map(|command| match command {
                Command::Trace(args) => (args.dst.port, args.protocol),
                other => panic!("{other:?}"),
            });
            let expected = expected.map(|(port, protocol)| (port.map(str::to_owned), protocol));
            assert_eq!(read, expected, "{dst}");
        }
    }
}
