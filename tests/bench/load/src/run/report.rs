//! The line of JSON that a run prints.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::tally::Tally;
use crate::args::{Kind, Run};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    kind: &'static str,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pace: &'static str,
    /// The time that was measured, without the warm-up.
    seconds: f64,
    /// CLOCK_MONOTONIC, when that began.
    begin_micros: u64,
    /// Answered: round trips for udp and dns, whole streams for stream.
    requests: u64,
    failures: u64,
    /// How often each, at most 10 texts.
    errors: BTreeMap<String, u64>,
    /// Of the answers' bodies.
    bytes: u64,
    /// Requests a second; of stream, bytes a second.
    rate: f64,
    asked_rate: Option<f64>,
    /// Null where no request was answered to its end, only bytes came.
    latency_micros: Option<Latency>,
    /// The client's own.
    cpu_micros: u64,
    server_cpu_micros: Option<u64>,
    /// By X-Server; empty for udp and dns, where answers do not say it. Of stream also those unfinished.
    answered_by: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    mean: f64,
}

impl Report {
    pub fn new(options: &Run, tally: &Tally, cpu: u64, server_cpu: Option<u64>) -> Report {
        let counted = match options.kind {
            Kind::Stream => tally.bytes,
            Kind::Connect | Kind::Keepalive | Kind::Udp | Kind::Dns => tally.requests,
        };
        Report {
            kind: options.kind.name(),
            pace: match options.rate {
                Some(_) => "open",
                None => "closed",
            },
            seconds: options.seconds,
            begin_micros: tally.begin() / 1000,
            requests: tally.requests,
            failures: tally.failures,
            errors: tally.errors.clone(),
            bytes: tally.bytes,
            rate: counted as f64 / options.seconds,
            asked_rate: options.rate,
            latency_micros: Latency::of(&tally.latency),
            cpu_micros: cpu,
            server_cpu_micros: server_cpu,
            answered_by: tally.answered(),
        }
    }
}

impl Latency {
    /// Of a histogram of nanoseconds.
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Latency {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p999: micros(0.999),
            max: histogram.max() as f64 / 1000.0,
            mean: histogram.mean() / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use serde_json::json;

    use super::super::tally::Window;
    use super::*;
    use crate::args::Answer;

    fn options(kind: Kind, rate: Option<f64>) -> Run {
        Run {
            kind,
            targets: Vec::new(),
            connections: NonZeroUsize::MIN,
            threads: NonZeroUsize::MIN,
            rate,
            seconds: 2.0,
            warmup: 0.0,
            usage: Vec::new(),
            name: None,
            answer: Answer::Address,
        }
    }

    fn tally() -> Tally {
        let window = Window {
            begin: 0,
            end: 2_000_000_000,
        };
        let mut tally = Tally::new(window, false);
        let server = tally.server(b"pod-1:8080");
        // 1 to 1000 microseconds.
        for micros in 1..=1000 {
            tally.success(5, 5 + micros * 1000, Some(server));
            tally.bytes(64, 5 + micros * 1000);
        }
        tally.failure(|| "connect: Connection refused".into(), 9);
        tally
    }

    #[test]
    fn the_shape_is_the_one_promised() {
        let report = Report::new(&options(Kind::Connect, Some(600.0)), &tally(), 70, Some(80));
        let mut value = serde_json::to_value(&report).unwrap();
        let latency = value["latencyMicros"].take();
        for (name, expected) in [
            ("p50", 500.0),
            ("p90", 900.0),
            ("p99", 990.0),
            ("p999", 999.0),
            ("max", 1000.0),
            ("mean", 500.5),
        ] {
            let found = latency[name].as_f64().unwrap();
            // Three digits.
            assert!((found / expected - 1.0).abs() < 0.002, "{name}: {found}");
        }
        let expected = json!({
            "kind": "connect", "loop": "open", "seconds": 2.0, "beginMicros": 0, "requests": 1000, "failures": 1,
            "errors": {"connect: Connection refused": 1}, "bytes": 64000, "rate": 500.0,
            "askedRate": 600.0, "latencyMicros": null, "cpuMicros": 70, "serverCpuMicros": 80,
            "answeredBy": {"pod-1:8080": 1000},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_streams_rate_is_bytes_and_what_is_unknown_is_null() {
        let report = Report::new(&options(Kind::Stream, None), &tally(), 0, None);
        assert_eq!((report.pace, report.rate), ("closed", 32_000.0));
        let value = serde_json::to_value(&report).unwrap();
        assert!(value["askedRate"].is_null() && value["serverCpuMicros"].is_null());
        let empty = Histogram::new(3).unwrap();
        assert_eq!(Latency::of(&empty), None);
    }
}
