//! cgroup v2's counters (Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::Usage;
use crate::Error;

/// Nanoseconds; the kernel counts microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub total: u64,
    pub user: u64,
    pub system: u64,
    /// None without the controller.
    pub throttling: Option<Throttling>,
}

/// By cpu.max: periods that had work, those in which its time was used up, and how long it waited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled: u64,
    pub waited: u64,
}

/// Bytes and counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    pub usage: u64,
    /// Without what the kernel would drop first: inactive pages of files.
    pub working_set: u64,
    /// Of no file.
    pub rss: u64,
    /// Of files.
    pub cache: u64,
    pub mapped_file: u64,
    /// 5.18; 0 before.
    pub kernel: u64,
    /// The most it ever was (5.19).
    pub peak: Option<u64>,
    pub swap: Option<u64>,
    /// Where there is one.
    pub limit: Option<u64>,
    /// How often it met its limit, and how often the kernel killed for it.
    pub limit_hits: u64,
    pub oom_kills: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
}

/// Over all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoUsage {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

/// How some, or all, of its processes waited for want of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pressure {
    pub some: Stall,
    pub full: Stall,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stall {
    /// Nanoseconds.
    pub total: u64,
    /// Per cent of the last 10, 60 and 300 seconds.
    pub averages: [f64; 3],
}

const MICROSECOND: u64 = 1000;

/// One that is gone uses nothing any more, which is an error to say.
pub fn usage(path: &Path) -> Result<Usage, Error> {
    let cpu = fs::read_to_string(path.join("cpu.stat"))
        .map_err(Error::io("reading", path.join("cpu.stat")))?;
    // Of a controller that is not there.
    let read = |name: &str| match fs::read_to_string(path.join(name)) {
        Ok(text) => Ok(Some(text)),
        // Pressure that is switched off says so when it is read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::io("reading", path.join(name))(error)),
    };
    let memory = match read("memory.current")? {
        Some(current) => Some(MemoryUsage {
            peak: read("memory.peak")?.and_then(|text| number(&text)),
            swap: read("memory.swap.current")?.and_then(|text| number(&text)),
            // "max" is none.
            limit: read("memory.max")?.and_then(|text| number(&text)),
            ..memory(
                &current,
                &read("memory.stat")?.unwrap_or_default(),
                &read("memory.events")?.unwrap_or_default(),
            )
        }),
        None => None,
    };
    let pressure = |name: &str| Ok::<_, Error>(read(name)?.as_deref().map(pressure));
    Ok(Usage {
        at: Timestamp::now(),
        cpu: self::cpu(&cpu),
        memory,
        io: read("io.stat")?.as_deref().map(io),
        pids: read("pids.current")?.and_then(|text| number(&text)),
        pids_limit: read("pids.max")?.and_then(|text| number(&text)),
        cpu_pressure: pressure("cpu.pressure")?,
        memory_pressure: pressure("memory.pressure")?,
        io_pressure: pressure("io.pressure")?,
    })
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Of `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| number(value))?
    })
}

fn cpu(stat: &str) -> CpuUsage {
    let micros = |name: &str| field(stat, name).map(|micros| micros.saturating_mul(MICROSECOND));
    CpuUsage {
        total: micros("usage_usec").unwrap_or(0),
        user: micros("user_usec").unwrap_or(0),
        system: micros("system_usec").unwrap_or(0),
        throttling: field(stat, "nr_periods").map(|periods| Throttling {
            periods,
            throttled: field(stat, "nr_throttled").unwrap_or(0),
            waited: micros("throttled_usec").unwrap_or(0),
        }),
    }
}

/// Older kernels leave some lines out.
fn memory(current: &str, stat: &str, events: &str) -> MemoryUsage {
    let of = |name: &str| field(stat, name).unwrap_or(0);
    let usage = number(current).unwrap_or(0);
    MemoryUsage {
        usage,
        working_set: usage.saturating_sub(of("inactive_file")),
        rss: of("anon"),
        cache: of("file"),
        mapped_file: of("file_mapped"),
        kernel: of("kernel"),
        limit_hits: field(events, "max").unwrap_or(0),
        oom_kills: field(events, "oom_kill").unwrap_or(0),
        page_faults: of("pgfault"),
        major_page_faults: of("pgmajfault"),
        ..MemoryUsage::default()
    }
}

/// `major:minor key=value …`, a line a device.
fn io(stat: &str) -> IoUsage {
    let sum = |key: &str| {
        let values = stat.split_whitespace().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            (name == key).then(|| number(value))?
        });
        values.sum()
    };
    IoUsage {
        read_bytes: sum("rbytes"),
        written_bytes: sum("wbytes"),
        reads: sum("rios"),
        writes: sum("wios"),
    }
}

/// `some avg10=… total=MICROSECONDS`, and a line `full` likewise (Documentation/accounting/psi.rst).
fn pressure(text: &str) -> Pressure {
    let stall = |kind: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        let field = |name: &str| {
            let mut fields = line.split_whitespace();
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let average = |name| field(name).and_then(|text| text.parse().ok());
        Some(Stall {
            total: number(field("total")?)?.saturating_mul(MICROSECOND),
            averages: ["avg10", "avg60", "avg300"].map(|name| average(name).unwrap_or(0.0)),
        })
    };
    Pressure {
        some: stall("some").unwrap_or_default(),
        full: stall("full").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        assert!(usage(dir.path()).is_err());
        write("cpu.stat", "usage_usec 12\nuser_usec 10\nsystem_usec 2\n");
        let got = usage(dir.path()).unwrap();
        let want = CpuUsage {
            total: 12_000,
            user: 10_000,
            system: 2000,
            throttling: None,
        };
        assert_eq!(got.cpu, want);
        assert_eq!((got.memory, got.io, got.pids), (None, None, None));
        assert_eq!(got.cpu_pressure, None);

        write(
            "cpu.stat",
            "usage_usec 1\nnr_periods 9\nnr_throttled 3\nthrottled_usec 7\n",
        );
        write("memory.current", "1000\n");
        write(
            "memory.stat",
            "anon 300\nfile 700\ninactive_file 200\npgfault 5\npgmajfault 1\n",
        );
        write("memory.events", "low 0\nmax 4\noom 2\noom_kill 1\n");
        write("memory.max", "max\n");
        write("pids.current", "3\n");
        write("pids.max", "max\n");
        write(
            "io.stat",
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\n8:16 rbytes=5 rios=1\n",
        );
        write(
            "cpu.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=8\n",
        );
        let got = usage(dir.path()).unwrap();
        let throttling = Throttling {
            periods: 9,
            throttled: 3,
            waited: 7000,
        };
        assert_eq!(got.cpu.throttling, Some(throttling));
        let mut want = MemoryUsage {
            usage: 1000,
            working_set: 800,
            rss: 300,
            cache: 700,
            limit_hits: 4,
            oom_kills: 1,
            page_faults: 5,
            major_page_faults: 1,
            ..MemoryUsage::default()
        };
        assert_eq!(got.memory.as_ref(), Some(&want));
        assert_eq!((got.pids, got.pids_limit), (Some(3), None));
        let io = IoUsage {
            read_bytes: 15,
            written_bytes: 20,
            reads: 2,
            writes: 2,
        };
        assert_eq!(got.io, Some(io));
        assert_eq!(
            got.cpu_pressure,
            Some(Pressure {
                some: Stall {
                    total: 8000,
                    averages: [1.5, 0.25, 0.0],
                },
                full: Stall::default(),
            })
        );
        write("memory.max", "4096\n");
        write("memory.peak", "2000\n");
        want.limit = Some(4096);
        want.peak = Some(2000);
        assert_eq!(usage(dir.path()).unwrap().memory, Some(want));
    }
}
