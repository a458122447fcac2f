//! What the programs counted, read from their maps at the moment of the question.

use std::path::PathBuf;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};
use tracing::debug;

use crate::counters;

#[derive(Debug)]
pub struct Counters {
    pub maps: PathBuf,
}

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let reasons = match counters::reasons(&self.maps) {
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
