//! `vetch-node ct`: conversations that the programs balance by the packet.

use anyhow::{Context as _, Result};
use vetch_proxy::inspect::{self, Flow};

use crate::cli::CtCommand;
use crate::table::{self, Table};

pub fn main(command: &CtCommand) -> Result<()> {
    let CtCommand::Ls(maps) = command;
    let flows = inspect::flows(&maps.pin_dir).with_context(|| maps.no_node())?;
    table::print(maps.output, &flows, || list(&flows))
}

fn list(flows: &[Flow]) -> String {
    let mut table = Table::new([
        "PROTOCOL", "CLIENT", "DIALLED", "BACKEND", "SEEN AS", "STATE", "IDLE", "LIFETIME",
    ]);
    for flow in flows {
        table.row([
            flow.protocol.to_owned(),
            flow.client.to_string(),
            flow.dialled.to_string(),
            flow.backend.to_string(),
            flow.translated
                .map_or_else(|| "-".into(), |seen| seen.to_string()),
            flow.state.to_owned(),
            format!("{}s", flow.idle_seconds),
            format!("{}s", flow.lifetime_seconds),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_conversation() {
        let flow = Flow {
            protocol: "UDP",
            client: "[fd00::1]:40000".parse().unwrap(),
            dialled: "[fd96::1]:53".parse().unwrap(),
            backend: "[fd00::2]:5353".parse().unwrap(),
            translated: None,
            service: Some(3),
            direct: false,
            state: "answered",
            idle_seconds: 2,
            lifetime_seconds: 120,
        };
        let text = list(&[flow]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "UDP",
                "[fd00::1]:40000",
                "[fd96::1]:53",
                "[fd00::2]:5353",
                "-",
                "answered",
                "2s",
                "120s"
            ]
        );
    }
}
