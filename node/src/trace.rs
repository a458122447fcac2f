//! `vetch-node trace`: what would become of a packet, hop by hop, by the kernel's maps and
//! routes.

use anyhow::{Context as _, Result};
use vetch_proxy::inspect::{self, Hop, Question, Trace, Way};

use crate::cli::{End, Kind, TraceArgs};
use crate::ends::{self, Found};
use crate::names::Asker;
use crate::table;

/// Of a service's ways.
const SHOWN: usize = 16;

pub fn main(args: &TraceArgs) -> Result<()> {
    let maps = &args.maps;
    let asked = question(args)?;
    let trace = inspect::trace(&maps.pin_dir, &asked).with_context(|| maps.no_node())?;
    table::print(maps.output, &trace, || text(&trace))
}

fn question(args: &TraceArgs) -> Result<Question> {
    // Asked for once, where anything has a name.
    let mut asker = None;
    let mut find = |end: &End| {
        let named = match end {
            End::Address(ip) => return Ok(Found::Address(ip.to_canonical())),
            End::Named(named) => named,
        };
        let asker = match &asker {
            Some(asker) => asker,
            None => asker.insert(Asker::open(&args.api.kubeconfig)?),
        };
        let namespace = named.namespace.as_deref().unwrap_or(&args.namespace);
        anyhow::Ok(match named.kind {
            Kind::Pod => Found::Pod(asker.pod(namespace, &named.name)?),
            Kind::Service => Found::Service(asker.service(namespace, &named.name)?),
        })
    };
    let (src, dst) = (find(&args.src.0)?, find(&args.dst.end)?);
    ends::question(&src, &dst, args.dst.port.as_deref(), args.protocol)
}

fn text(trace: &Trace) -> String {
    let destination = match trace.port {
        Some(port) => std::net::SocketAddr::new(trace.destination, port).to_string(),
        None => trace.destination.to_string(),
    };
    let mut text = format!("{} {} -> {destination}\n", trace.protocol, trace.source);
    text.push_str(&hops(&trace.hops, 1, ""));
    let next = trace.hops.len() + 1;
    match trace.ways.as_slice() {
        [way] => text.push_str(&(to(way, "") + &hops(&way.hops, next, "") + &end(way, ""))),
        ways => {
            for way in ways.iter().take(SHOWN) {
                let inside = "    ";
                text.push_str(&(to(way, "") + &hops(&way.hops, next, inside) + &end(way, inside)));
            }
            if let Some(more) = ways.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                text.push_str(&format!("and {more} more: -o json has them\n"));
            }
        }
    }
    text
}

fn hops(hops: &[Hop], first: usize, inside: &str) -> String {
    let line = |(number, hop): (usize, &Hop)| {
        let number = number + first;
        format!("{inside}{number:>2}  {:<11}  {}\n", hop.at, hop.what)
    };
    hops.iter().enumerate().map(line).collect()
}

fn to(way: &Way, inside: &str) -> String {
    match (way.backend, way.slots) {
        (Some(backend), Some([own, all])) => {
            format!("{inside}to {backend} ({own} of {all} slots)\n")
        }
        _ => String::new(),
    }
}

fn end(way: &Way, inside: &str) -> String {
    let reason = way
        .reason
        .map_or_else(String::new, |why| format!(": {why}"));
    format!("{inside}=> {}{reason}\n", way.outcome.as_str())
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::Outcome;

    use super::*;

    fn hop(at: &'static str, what: &str) -> Hop {
        Hop {
            at,
            what: what.to_owned(),
        }
    }

    fn way(backend: Option<&str>, outcome: Outcome, reason: Option<&'static str>) -> Way {
        Way {
            backend: backend.map(|backend| backend.parse().unwrap()),
            slots: backend.map(|_| [1, 2]),
            hops: vec![hop("from_pod", "away")],
            outcome,
            reason,
        }
    }

    #[test]
    fn hops_are_numbered_and_ways_apart() {
        let mut trace = Trace {
            source: "10.244.1.2".parse().unwrap(),
            destination: "10.96.0.1".parse().unwrap(),
            port: Some(80),
            protocol: "TCP",
            hops: vec![hop("pod", "here"), hop("connect", "service 3")],
            ways: vec![
                way(Some("10.244.1.3:8080"), Outcome::Delivered, None),
                way(
                    Some("10.244.2.3:8080"),
                    Outcome::Dropped,
                    Some("policy-egress"),
                ),
            ],
        };
        assert_eq!(
            text(&trace),
            "TCP 10.244.1.2 -> 10.96.0.1:80\n \
             1  pod          here\n \
             2  connect      service 3\n\
             to 10.244.1.3:8080 (1 of 2 slots)\n     \
             3  from_pod     away\n    \
             => delivered\n\
             to 10.244.2.3:8080 (1 of 2 slots)\n     \
             3  from_pod     away\n    \
             => dropped: policy-egress\n"
        );
        trace.hops.clear();
        trace.port = None;
        trace.ways = vec![way(None, Outcome::Leaves, None)];
        assert_eq!(
            text(&trace),
            "TCP 10.244.1.2 -> 10.96.0.1\n 1  from_pod     away\n=> leaves\n"
        );
    }
}
