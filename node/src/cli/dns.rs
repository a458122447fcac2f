//! How names are looked up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};

/// How names are looked up by pods and, by the Service kube-dns, by the node.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// Whether this node answers the Service kube-dns itself: auto, where the Service has no selector
    /// and no endpoints; always, instead of the servers it has; or off
    #[arg(
        long = "dns",
        value_name = "MODE",
        env = "VETCH_DNS",
        value_enum,
        default_value_t = DnsMode::Auto
    )]
    pub mode: DnsMode,
    /// The port of the node's addresses at which cluster DNS is served, to this node and its pods
    #[arg(
        long,
        value_name = "PORT",
        env = "VETCH_DNS_PORT",
        default_value_t = 10053
    )]
    pub dns_port: u16,
    /// Who is asked about names that are not the cluster's [default: the servers of the node's
    /// /etc/resolv.conf]
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        env = "VETCH_DNS_UPSTREAM",
        value_delimiter = ',',
        value_parser = name_server
    )]
    pub dns_upstream: Vec<SocketAddr>,
    /// Who is asked about names of a domain: corp.example=192.0.2.53; given again for more servers
    /// and more domains, of which the longest that fits is asked
    #[arg(
        long,
        value_name = "DOMAIN=ADDRESS[:PORT]",
        env = "VETCH_DNS_DOMAIN_UPSTREAM",
        value_delimiter = ',',
        value_parser = domain_server
    )]
    pub dns_domain_upstream: Vec<(String, SocketAddr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DnsMode {
    Auto,
    Always,
    Off,
}

impl DnsArgs {
    /// Each domain with its servers.
    pub fn domain_upstreams(&self) -> Vec<(String, Vec<SocketAddr>)> {
        let mut domains: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for (domain, server) in &self.dns_domain_upstream {
            domains.entry(domain.clone()).or_default().push(*server);
        }
        domains.into_iter().collect()
    }
}

/// Without a port it is 53.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "a name server is an address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353".into())
}

fn domain_server(text: &str) -> Result<(String, SocketAddr), String> {
    match text.split_once('=') {
        Some((domain, server)) if !domain.is_empty() => {
            let domain = domain.trim_end_matches('.').to_ascii_lowercase();
            Ok((domain, name_server(server)?))
        }
        _ => Err("a domain's name server is given as corp.example=192.0.2.53".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NEEDED, parse};
    use super::*;

    #[test]
    fn name_servers_are_addresses() {
        let more = [
            "--dns-upstream",
            "192.0.2.1,[2001:db8::1]:5353",
            "--dns-domain-upstream",
            "Corp.example.=192.0.2.2:5353,corp.example=2001:db8::2",
            "--dns-domain-upstream",
            "example.org=192.0.2.3",
            "--dns",
            "always",
        ];
        let dns = parse(&[&NEEDED[..], &more].concat()).unwrap().daemon.dns;
        let text = |servers: &[SocketAddr]| {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            servers.join(" ")
        };
        assert_eq!(text(&dns.dns_upstream), "192.0.2.1:53 [2001:db8::1]:5353");
        let domains = dns.domain_upstreams();
        let domains: Vec<(&str, String)> = domains
            .iter()
            .map(|(domain, servers)| (domain.as_str(), text(servers)))
            .collect();
        let corp = "192.0.2.2:5353 [2001:db8::2]:53".to_owned();
        let org = "192.0.2.3:53".to_owned();
        assert_eq!(domains, [("corp.example", corp), ("example.org", org)]);
        assert_eq!(dns.mode, DnsMode::Always);
        let default = parse(&NEEDED).unwrap().daemon.dns;
        assert_eq!((default.mode, default.dns_port), (DnsMode::Auto, 10053));
        for wrong in [
            ["--dns-upstream", "dns.example"],
            ["--dns-domain-upstream", "192.0.2.1"],
            ["--dns-domain-upstream", "=192.0.2.1"],
            ["--dns", "on"],
        ] {
            assert!(parse(&[&NEEDED[..], &wrong].concat()).is_err(), "{wrong:?}");
        }
    }
}
