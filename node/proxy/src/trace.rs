//! The programs' log lines, as events of target `vetch_ebpf` at debug level.

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::{debug, warn};

const TARGET: &str = "vetch_ebpf";

/// 0 unless somebody listens: the programs then contain no log code at all.
pub fn level() -> u8 {
    if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
        Level::Debug as u8
    } else {
        0
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        debug!(target: TARGET, "{}: {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Reads log lines until dropped; pends for ever where there are none.
pub async fn forward(logger: Option<EbpfLogger<impl Log>>) {
    let Some(logger) = logger else {
        return std::future::pending().await;
    };
    #[expect(
        unsafe_code,
        reason = "tokio asks for the promise that the descriptor stays open and the same"
    )]
    // SAFETY: the logger owns its ring buffer's descriptor until it is dropped,
    // with the AsyncFd that owns it, and always returns that one.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match registered {
        Ok(logger) => logger,
        Err(error) => {
            warn!(%error, "no log lines from the eBPF programs");
            return std::future::pending().await;
        }
    };
    loop {
        match logger.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => {
                warn!(%error, "the log lines of the eBPF programs cannot be read any more");
                return std::future::pending().await;
            }
        }
    }
}

/// The reader of the programs' ring buffer, if they write to it.
pub fn logger(ebpf: &mut Ebpf) -> Option<EbpfLogger<impl Log + use<>>> {
    if level() == 0 {
        return None;
    }
    EbpfLogger::init_with_logger(ebpf, ToTracing)
        .inspect_err(|error| warn!(%error, "no log lines from the eBPF programs"))
        .ok()
}
