//! `vetch-node flows`: single calls and packets, those that did not get through and those
//! with which a conversation began.

use std::{
    io::{ErrorKind, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use vetch_proxy::inspect::{self, FlowEvent, FlowFilter};

use crate::cli::{FlowsArgs, Output, ServiceQuery};
use crate::{names, single, table};

/// How often a follower looks, and says that somebody does.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Listing {
    events: Vec<FlowEvent>,
    /// Of all kinds, counted and not told of one by one.
    missed: u64,
}

pub fn main(args: &FlowsArgs) -> Result<()> {
    let maps = &args.maps;
    let mut events = inspect::events(&maps.pin_dir).with_context(|| maps.no_node())?;
    let filter = filter(args)?;
    if !args.follow {
        let mut shown = events.read();
        shown.retain(|event| filter.lets(event));
        let listing = Listing {
            events: shown,
            missed: events.missed()?,
        };
        return table::print(maps.output, &listing, || text(&listing));
    }
    loop {
        events
            .follow()
            .context("tell the programs that somebody follows")?;
        let mut text = String::new();
        for event in events.read().iter().filter(|event| filter.lets(event)) {
            match maps.output {
                Output::Json => text.push_str(&serde_json::to_string(event)?),
                Output::Text => text.push_str(&line(event)),
            }
            text.push('\n');
        }
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result.context("write to standard output")?,
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn filter(args: &FlowsArgs) -> Result<FlowFilter> {
    let pin_dir = &args.maps.pin_dir;
    let services = match &args.service {
        None => None,
        Some(ServiceQuery::Frontend(frontend)) => {
            let numbers = inspect::numbers(pin_dir, &[*frontend])?;
            if numbers.is_empty() {
                bail!("no service is at {frontend}: `vetch-node service ls` lists them");
            }
            Some(numbers)
        }
        Some(ServiceQuery::Named {
            namespace,
            name,
            port,
        }) => {
            let frontends =
                names::frontends(&args.api.kubeconfig, namespace, name, port.as_deref())?;
            let numbers = inspect::numbers(pin_dir, &frontends)?;
            if numbers.is_empty() {
                bail!("this node does not serve the Service {namespace}/{name}");
            }
            Some(numbers)
        }
    };
    Ok(FlowFilter {
        pod: args.pod,
        services,
        verdicts: args.verdict.iter().copied().collect(),
    })
}

fn text(listing: &Listing) -> String {
    single::text(listing.events.iter().map(line), listing.missed)
}

fn line(event: &FlowEvent) -> String {
    let mut line = format!(
        "{:.6}  {:<8}  {:<10}  {:<18}  {:<4}  {} -> {}",
        event.time,
        event.hook,
        event.verdict,
        event.reason.unwrap_or("-"),
        event.protocol.as_deref().unwrap_or("-"),
        single::end(event.source, event.source_port),
        single::end(event.destination, event.destination_port),
    );
    if let Some(backend) = event.backend {
        line.push_str(&format!("  at {backend}"));
    }
    if let Some(seen_as) = event.seen_as {
        line.push_str(&format!("  as {seen_as}"));
    }
    if let Some(number) = event.service {
        line.push_str(&format!("  service {number}"));
    }
    if event.source_identity.is_some() || event.destination_identity.is_some() {
        let number = |identity: Option<u32>| identity.map_or("-".into(), |one| one.to_string());
        line.push_str(&format!(
            "  identities {} -> {}",
            number(event.source_identity),
            number(event.destination_identity)
        ));
    }
    if let Some(index) = event.ifindex {
        line.push_str(&format!("  interface {index}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::Verdict;

    use super::*;

    #[test]
    fn a_line_an_event_and_the_rest_as_a_number() {
        let translated = FlowEvent {
            time: "2026-01-01T00:00:00.25Z".parse().unwrap(),
            verdict: Verdict::Translate,
            reason: None,
            hook: "connect",
            protocol: Some("TCP".into()),
            source: Some("10.244.1.2".parse().unwrap()),
            source_port: None,
            source_identity: Some(7),
            destination: Some("10.96.0.1".parse().unwrap()),
            destination_port: Some(80),
            destination_identity: None,
            backend: Some("10.244.2.3:8080".parse().unwrap()),
            seen_as: None,
            service: Some(3),
            ifindex: None,
        };
        let dropped = FlowEvent {
            verdict: Verdict::Drop,
            reason: Some("policy-egress"),
            hook: "from_pod",
            source_port: Some(40000),
            source_identity: None,
            backend: None,
            service: None,
            ifindex: Some(4),
            ..translated.clone()
        };
        let masqueraded = FlowEvent {
            verdict: Verdict::Masquerade,
            reason: None,
            hook: "to_net",
            seen_as: Some("192.0.2.1:61000".parse().unwrap()),
            ..dropped.clone()
        };
        let listing = Listing {
            events: vec![translated, dropped, masqueraded],
            missed: 5,
        };
        assert_eq!(
            text(&listing),
            "2026-01-01T00:00:00.250000Z  connect   translate   -                   TCP   10.244.1.2 -> 10.96.0.1:80  at 10.244.2.3:8080  service 3  identities 7 -> -\n\
             2026-01-01T00:00:00.250000Z  from_pod  drop        policy-egress       TCP   10.244.1.2:40000 -> 10.96.0.1:80  interface 4\n\
             2026-01-01T00:00:00.250000Z  to_net    masquerade  -                   TCP   10.244.1.2:40000 -> 10.96.0.1:80  as 192.0.2.1:61000  interface 4\n\
             5 more were counted only: see vetch-node maps\n"
        );
    }
}
