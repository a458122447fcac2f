//! The rows themselves.

use jiff::Timestamp;

use super::Kind::{Counter, Gauge};
use super::{Kind, Row, Sample};
use crate::stats::{IoUsage, LinkUsage, MemoryUsage, Pressure, Throttling};

/// The names' unit; the kernel's counters are in nanoseconds.
const SECOND: f64 = 1e9;

const fn row<T>(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
) -> Row<T> {
    Row {
        name,
        help,
        kind,
        label: None,
        value,
    }
}

const fn labelled<T>(label: (&'static str, &'static str), row: Row<T>) -> Row<T> {
    Row {
        label: Some(label),
        ..row
    }
}

fn memory(sample: &Sample, of: fn(&MemoryUsage) -> u64) -> Option<f64> {
    sample.usage.usage.memory.as_ref().map(of).map(number)
}

fn throttling(sample: &Sample, of: fn(&Throttling) -> u64) -> Option<f64> {
    let throttling = sample.usage.usage.cpu.throttling.as_ref();
    throttling.map(of).map(number)
}

fn io(sample: &Sample, of: fn(&IoUsage) -> u64) -> Option<f64> {
    sample.usage.usage.io.as_ref().map(of).map(number)
}

fn some(pressure: &Option<Pressure>) -> Option<f64> {
    pressure
        .as_ref()
        .map(|pressure| seconds(pressure.some.total))
}

fn full(pressure: &Option<Pressure>) -> Option<f64> {
    pressure
        .as_ref()
        .map(|pressure| seconds(pressure.full.total))
}

fn since_1970(time: Timestamp) -> Option<f64> {
    (time >= Timestamp::UNIX_EPOCH).then(|| time.as_nanosecond() as f64 / SECOND)
}

fn seconds(nanoseconds: u64) -> f64 {
    number(nanoseconds) / SECOND
}

/// Whole up to 2^53.
fn number(value: u64) -> f64 {
    value as f64
}

pub const CONTAINER: &[Row<Sample>] = &[
    row(
        "container_cpu_usage_seconds_total",
        Counter,
        "Processor time used, in seconds",
        |sample| Some(seconds(sample.usage.usage.cpu.total)),
    ),
    row(
        "container_cpu_user_seconds_total",
        Counter,
        "Processor time used by programs, in seconds",
        |sample| Some(seconds(sample.usage.usage.cpu.user)),
    ),
    row(
        "container_cpu_system_seconds_total",
        Counter,
        "Processor time used by the kernel for the container, in seconds",
        |sample| Some(seconds(sample.usage.usage.cpu.system)),
    ),
    row(
        "container_cpu_cfs_periods_total",
        Counter,
        "Periods of the processor limit in which there was work",
        |sample| throttling(sample, |of| of.periods),
    ),
    row(
        "container_cpu_cfs_throttled_periods_total",
        Counter,
        "Periods in which the processor limit was used up",
        |sample| throttling(sample, |of| of.throttled),
    ),
    row(
        "container_cpu_cfs_throttled_seconds_total",
        Counter,
        "Time spent waiting for the next period, in seconds",
        |sample| Some(throttling(sample, |of| of.waited)? / SECOND),
    ),
    row(
        "container_memory_usage_bytes",
        Gauge,
        "Memory in use, with all that could be dropped",
        |sample| memory(sample, |of| of.usage),
    ),
    row(
        "container_memory_working_set_bytes",
        Gauge,
        "Memory in use, without inactive pages of files",
        |sample| memory(sample, |of| of.working_set),
    ),
    row(
        "container_memory_rss",
        Gauge,
        "Memory of no file, in bytes",
        |sample| memory(sample, |of| of.rss),
    ),
    row(
        "container_memory_cache",
        Gauge,
        "Memory of files, in bytes",
        |sample| memory(sample, |of| of.cache),
    ),
    row(
        "container_memory_mapped_file",
        Gauge,
        "Memory of files that are mapped, in bytes",
        |sample| memory(sample, |of| of.mapped_file),
    ),
    row(
        "container_memory_kernel_usage",
        Gauge,
        "Memory of the kernel's for the container, in bytes",
        |sample| memory(sample, |of| of.kernel),
    ),
    row(
        "container_memory_max_usage_bytes",
        Gauge,
        "The most memory that ever was in use",
        |sample| sample.usage.usage.memory.as_ref()?.peak.map(number),
    ),
    row(
        "container_memory_swap",
        Gauge,
        "Swap in use, in bytes",
        |sample| sample.usage.usage.memory.as_ref()?.swap.map(number),
    ),
    row(
        "container_memory_failcnt",
        Counter,
        "How often the memory limit was met",
        |sample| memory(sample, |of| of.limit_hits),
    ),
    labelled(
        ("failure_type", "pgfault"),
        row(
            "container_memory_failures_total",
            Counter,
            "Page faults, by type",
            |sample| memory(sample, |of| of.page_faults),
        ),
    ),
    labelled(
        ("failure_type", "pgmajfault"),
        row(
            "container_memory_failures_total",
            Counter,
            "Page faults, by type",
            |sample| memory(sample, |of| of.major_page_faults),
        ),
    ),
    row(
        "container_oom_events_total",
        Counter,
        "Processes that the kernel killed for want of memory",
        |sample| memory(sample, |of| of.oom_kills),
    ),
    row(
        "container_fs_usage_bytes",
        Gauge,
        "Bytes written into the root file system",
        |sample| Some(number(sample.usage.writable.bytes)),
    ),
    row(
        "container_fs_limit_bytes",
        Gauge,
        "Size of the file system that the container writes to, in bytes",
        |sample| Some(number(sample.disk.bytes)),
    ),
    row(
        "container_fs_inodes_total",
        Gauge,
        "Inodes of the file system that the container writes to",
        |sample| Some(number(sample.disk.inodes)),
    ),
    row(
        "container_fs_inodes_free",
        Gauge,
        "Free inodes of the file system that the container writes to",
        |sample| Some(number(sample.disk.inodes_free)),
    ),
    row(
        "container_fs_reads_bytes_total",
        Counter,
        "Bytes read from disks",
        |sample| io(sample, |of| of.read_bytes),
    ),
    row(
        "container_fs_writes_bytes_total",
        Counter,
        "Bytes written to disks",
        |sample| io(sample, |of| of.written_bytes),
    ),
    row(
        "container_fs_reads_total",
        Counter,
        "Reads from disks",
        |sample| io(sample, |of| of.reads),
    ),
    row(
        "container_fs_writes_total",
        Counter,
        "Writes to disks",
        |sample| io(sample, |of| of.writes),
    ),
    labelled(
        ("operation", "Read"),
        row(
            "container_blkio_device_usage_total",
            Counter,
            "Bytes of block devices, by operation",
            |sample| io(sample, |of| of.read_bytes),
        ),
    ),
    labelled(
        ("operation", "Write"),
        row(
            "container_blkio_device_usage_total",
            Counter,
            "Bytes of block devices, by operation",
            |sample| io(sample, |of| of.written_bytes),
        ),
    ),
    row("container_processes", Gauge, "Processes", |sample| {
        Some(number(sample.processes.processes))
    }),
    row("container_threads", Gauge, "Threads", |sample| {
        Some(number(sample.processes.threads))
    }),
    row(
        "container_threads_max",
        Gauge,
        "How many threads there may be; 0 is any number",
        |sample| Some(number(sample.usage.usage.pids_limit.unwrap_or(0))),
    ),
    row(
        "container_file_descriptors",
        Gauge,
        "Open descriptors",
        |sample| Some(number(sample.processes.descriptors)),
    ),
    row("container_sockets", Gauge, "Open sockets", |sample| {
        Some(number(sample.processes.sockets))
    }),
    row(
        "container_pressure_cpu_waiting_seconds_total",
        Counter,
        "Time in which some process waited for a processor, in seconds",
        |sample| some(&sample.usage.usage.cpu_pressure),
    ),
    row(
        "container_pressure_cpu_stalled_seconds_total",
        Counter,
        "Time in which all processes waited for a processor, in seconds",
        |sample| full(&sample.usage.usage.cpu_pressure),
    ),
    row(
        "container_pressure_memory_waiting_seconds_total",
        Counter,
        "Time in which some process waited for memory, in seconds",
        |sample| some(&sample.usage.usage.memory_pressure),
    ),
    row(
        "container_pressure_memory_stalled_seconds_total",
        Counter,
        "Time in which all processes waited for memory, in seconds",
        |sample| full(&sample.usage.usage.memory_pressure),
    ),
    row(
        "container_pressure_io_waiting_seconds_total",
        Counter,
        "Time in which some process waited for a disk, in seconds",
        |sample| some(&sample.usage.usage.io_pressure),
    ),
    row(
        "container_pressure_io_stalled_seconds_total",
        Counter,
        "Time in which all processes waited for a disk, in seconds",
        |sample| full(&sample.usage.usage.io_pressure),
    ),
    row(
        "container_start_time_seconds",
        Gauge,
        "When it was started, in seconds since 1970",
        |sample| since_1970(sample.started_at?),
    ),
    row(
        "container_last_seen",
        Gauge,
        "When it was looked at, in seconds since 1970",
        |sample| since_1970(sample.usage.usage.at),
    ),
    row(
        "container_spec_cpu_period",
        Gauge,
        "Period of the processor limit, in microseconds",
        |sample| Some(number(sample.resources.cpu_max.unwrap_or_default().1)),
    ),
    row(
        "container_spec_cpu_quota",
        Gauge,
        "Processor time in each period, in microseconds",
        |sample| {
            let (quota, _) = sample.resources.cpu_max?;
            (quota > 0).then_some(quota as f64)
        },
    ),
    row(
        "container_spec_memory_limit_bytes",
        Gauge,
        "Memory limit; 0 is none",
        |sample| {
            let limit = sample.resources.memory_max.unwrap_or(0);
            u64::try_from(limit).ok().map(number)
        },
    ),
];

pub const LINK: &[Row<LinkUsage>] = &[
    row(
        "container_network_receive_bytes_total",
        Counter,
        "Bytes received",
        |link| Some(number(link.rx.bytes)),
    ),
    row(
        "container_network_receive_packets_total",
        Counter,
        "Packets received",
        |link| Some(number(link.rx.packets)),
    ),
    row(
        "container_network_receive_packets_dropped_total",
        Counter,
        "Packets dropped while receiving",
        |link| Some(number(link.rx.dropped)),
    ),
    row(
        "container_network_receive_errors_total",
        Counter,
        "Errors while receiving",
        |link| Some(number(link.rx.errors)),
    ),
    row(
        "container_network_transmit_bytes_total",
        Counter,
        "Bytes sent",
        |link| Some(number(link.tx.bytes)),
    ),
    row(
        "container_network_transmit_packets_total",
        Counter,
        "Packets sent",
        |link| Some(number(link.tx.packets)),
    ),
    row(
        "container_network_transmit_packets_dropped_total",
        Counter,
        "Packets dropped while sending",
        |link| Some(number(link.tx.dropped)),
    ),
    row(
        "container_network_transmit_errors_total",
        Counter,
        "Errors while sending",
        |link| Some(number(link.tx.errors)),
    ),
];
