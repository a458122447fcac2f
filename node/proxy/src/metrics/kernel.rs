//! What the programs counted, read from their maps at the moment of the question.

use std::path::PathBuf;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
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
            MetricType::Counter,
        )?;
        for (reason, count) in reasons {
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        if let Ok(missed) = counters::beginnings_missed(&self.maps) {
            let counter = ConstCounter::new(missed);
            counter.encode(encoder.encode_descriptor(
                "vetch_datapath_beginnings_missed",
                "Conversations that began while somebody followed, and were not told of",
                None,
                MetricType::Counter,
            )?)?;
        }
        if let Ok(missed) = counters::events_missed(&self.maps) {
            let counter = ConstCounter::new(missed);
            counter.encode(encoder.encode_descriptor(
                "vetch_datapath_events_missed",
                "Drops and refusals that were counted and not told of one by one",
                None,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}
