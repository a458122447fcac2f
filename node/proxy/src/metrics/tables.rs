//! How full the tables were when they were last swept.

use std::sync::{Arc, RwLock};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use vetch_ebpf_common::{Phase, Sweep};

use crate::{inspect::flow_protocol, pressure::Table};

/// Nothing before the first sweep.
#[derive(Clone, Debug, Default)]
pub struct Tables(Arc<RwLock<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    tables: Vec<Table>,
    flows: Vec<(u8, Phase, u32)>,
}

impl Tables {
    pub fn set(&self, tables: Vec<Table>, sweep: &Sweep) {
        let kinds = Sweep::PROTOCOLS
            .into_iter()
            .flat_map(|protocol| Phase::ALL.map(|phase| (protocol, phase)));
        let flows = kinds.map(|(protocol, phase)| {
            let count = sweep.live[Sweep::index(protocol, phase)];
            (protocol, phase, count)
        });
        let flows = flows.collect();
        // Whoever died with the lock held had replaced all or nothing.
        *self
            .0
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Seen { tables, flows };
    }
}

impl Collector for Tables {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let seen = self
            .0
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let gauges: [(_, _, fn(&Table) -> u32); 2] = [
            (
                "vetch_proxy_table_entries",
                "Entries of a table of the programs' when it was last swept",
                |table| table.entries,
            ),
            (
                "vetch_proxy_table_capacity",
                "The most entries that a table of the programs' takes",
                |table| table.capacity,
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for table in &seen.tables {
                let gauge = ConstGauge::new(i64::from(value(table)));
                gauge.encode(family.encode_family(&[("table", table.name)])?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "vetch_proxy_flows",
            "Conversations that are balanced by the packet or leave the cluster, when they were last swept",
            None,
            MetricType::Gauge,
        )?;
        for (protocol, phase, count) in &seen.flows {
            let labels = [
                ("protocol", flow_protocol(*protocol)),
                ("state", phase.as_str()),
            ];
            let gauge = ConstGauge::new(i64::from(*count));
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
