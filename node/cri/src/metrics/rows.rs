//! What is configured in cgroup v1's numbers, which are the interface's.

use vetch_runtime::metrics::{Kind::Gauge, Row, Sample};

use crate::resources;

pub const CONFIGURED: &[Row<Sample>] = &[
    Row {
        name: "container_spec_cpu_shares",
        help: "Share of the processors",
        kind: Gauge,
        label: None,
        value: |sample| Some(resources::report(&sample.resources).cpu_shares as f64),
    },
    Row {
        name: "container_spec_memory_swap_limit_bytes",
        help: "Limit of memory and swap; 0 is none",
        kind: Gauge,
        label: None,
        value: |sample| {
            let limit = resources::report(&sample.resources).memory_swap_limit_in_bytes;
            Some(limit as f64)
        },
    },
];
