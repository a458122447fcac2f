//! What the control plane's daemons keep in memory.

use std::time::Duration;

use vetch_bench_record::{Better, Figure};

use crate::pods::process::memory_of;
use crate::run::Run;

/// After the objects are gone.
pub const SETTLE: Duration = Duration::from_secs(5);

/// Only where they run on this machine; elsewhere that is said once.
pub fn read(run: &mut Run, subject: &str, round: usize, when: &str) {
    let Some(local) = &run.target.local else {
        if when == "idle" {
            run.skip(
                "memory of the control plane",
                "the cluster is none of `cargo xtask up` on this machine: its processes cannot be read",
            );
        }
        return;
    };
    let daemons = [
        ("control-memory", memory_of(&local.daemons.control.pids)),
        ("etcd-memory", memory_of(&local.daemons.etcd.pids)),
    ];
    for (measure, memory) in daemons {
        if let Err(error) = &memory {
            run.skip(format!("{measure} {when}"), format!("{error:#}"));
        }
        let memory = memory.ok();
        for (counted, mib) in [
            ("rss", memory.map(|memory| memory.rss_mib())),
            ("pss", memory.map(|memory| memory.pss_mib())),
        ] {
            let figure = Figure::new(measure, subject, "MiB", Better::Lower)
                .with("when", when)
                .with("counted", counted);
            run.add(figure, round, mib);
        }
    }
}
