//! The daemon is the last to be killed when memory ends.

use std::fs;

use tracing::warn;

/// The kubelet's own.
const SCORE: &str = "-999";

/// False where this machine does not allow it (CAP_SYS_RESOURCE is missing):
/// then pods cannot be protected either.
pub fn protect_this_process() -> bool {
    match fs::write("/proc/self/oom_score_adj", SCORE) {
        Ok(()) => true,
        Err(error) => {
            warn!(%error, "processes cannot be protected from the out-of-memory killer here: no oom_score_adj is lowered");
            false
        }
    }
}
