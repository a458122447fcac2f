//! What the programs counted, read from their maps at the moment of the question.

use std::path::PathBuf;

use aya::maps::{Map, MapData, PerCpuArray};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};
use tracing::debug;
use vetch_ebpf_common::{Reason, maps};

#[derive(Debug)]
pub struct Counters {
    pub maps: PathBuf,
}

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let reasons = match self.reasons() {
            Ok(reasons) => reasons,
            Err(error) => {
                // Before the first load there is nothing to read.
                debug!(%error, "cannot read the programs' counters");
                return Ok(());
            }
        };
        let mut family = encoder.encode_descriptor(
            "vetch_datapath_refused",
            "Calls and packets refused or dropped by the programs",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for (reason, count) in reasons {
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Counters {
    fn reasons(&self) -> Result<Vec<(Reason, u64)>, aya::maps::MapError> {
        let map = MapData::from_pin(self.maps.join(maps::REASONS))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(map))?;
        let count = |reason: &Reason| Ok((*reason, map.get(&(*reason as u32), 0)?.iter().sum()));
        Reason::ALL.iter().map(count).collect()
    }
}
