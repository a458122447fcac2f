//! `vetch-node drops`: single calls and packets that did not get through.

use std::{
    io::{ErrorKind, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use vetch_proxy::inspect::{self, Dropped};

use crate::cli::{DropsArgs, Output};
use crate::{single, table};

/// How often a follower looks. The programs wake nobody: a drop costs no more
/// while somebody follows.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Listing {
    drops: Vec<Dropped>,
    /// Counted, and not told of one by one.
    missed: u64,
}

pub fn main(args: &DropsArgs) -> Result<()> {
    let maps = &args.maps;
    let mut drops = inspect::drops(&maps.pin_dir).with_context(|| maps.no_node())?;
    if !args.follow {
        let listing = Listing {
            drops: drops.read(),
            missed: drops.missed()?,
        };
        return table::print(maps.output, &listing, || text(&listing));
    }
    loop {
        let mut text = String::new();
        for drop in drops.read() {
            match maps.output {
                Output::Json => text.push_str(&serde_json::to_string(&drop)?),
                Output::Text => text.push_str(&line(&drop)),
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

fn text(listing: &Listing) -> String {
    single::text(listing.drops.iter().map(line), listing.missed)
}

fn line(drop: &Dropped) -> String {
    let service = drop.service.map(|number| format!("  service {number}"));
    let ifindex = drop.ifindex.map(|index| format!("  interface {index}"));
    format!(
        "{:.6}  {:<8}  {:<7}  {:<18}  {:<4}  {} -> {}{}{}",
        drop.time,
        drop.hook,
        drop.outcome,
        drop.reason,
        drop.protocol.as_deref().unwrap_or("-"),
        single::end(drop.source, drop.source_port),
        single::end(drop.destination, drop.destination_port),
        service.unwrap_or_default(),
        ifindex.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_drop_and_the_rest_as_a_number() {
        let drop = Dropped {
            time: "2026-01-01T00:00:00.25Z".parse().unwrap(),
            outcome: "drop",
            reason: "source-ports",
            hook: "from_net",
            protocol: Some("UDP".into()),
            source: Some("192.0.2.1".parse().unwrap()),
            source_port: Some(40000),
            destination: Some("fd00::1".parse().unwrap()),
            destination_port: Some(53),
            service: Some(3),
            ifindex: None,
        };
        let refusal = Dropped {
            outcome: "refusal",
            reason: "unknown-port",
            hook: "connect",
            source: None,
            source_port: None,
            service: None,
            ifindex: Some(4),
            ..drop.clone()
        };
        let listing = Listing {
            drops: vec![drop, refusal],
            missed: 5,
        };
        assert_eq!(
            text(&listing),
            "2026-01-01T00:00:00.250000Z  from_net  drop     source-ports        UDP   192.0.2.1:40000 -> [fd00::1]:53  service 3\n\
             2026-01-01T00:00:00.250000Z  connect   refusal  unknown-port        UDP   - -> [fd00::1]:53  interface 4\n\
             5 more were counted only: see vetch-node maps\n"
        );
    }
}
