//! What vetch-load says of a run, and what becomes of it in the report.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use serde::Deserialize;

use super::plan::Kind;

const MIB: f64 = 1024.0 * 1024.0;

/// The last line of `vetch-load run`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub seconds: f64,
    /// CLOCK_MONOTONIC, when they began.
    pub begin_micros: Option<u64>,
    pub requests: u64,
    pub failures: u64,
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
    #[serde(default)]
    pub bytes: u64,
    pub latency_micros: Option<Latency>,
    pub cpu_micros: Option<u64>,
    pub server_cpu_micros: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// A line of `vetch-load follow`: from now on this server answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `HOSTNAME:PORT`
    pub server: String,
    /// CLOCK_MONOTONIC, when the connection was there.
    pub connected_at_micros: u64,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub kind: Kind,
    pub targets: Vec<SocketAddrV4>,
    pub connections: u32,
    pub threads: u32,
    pub seconds: f64,
    pub warmup: f64,
    /// Of an open loop.
    pub rate: Option<f64>,
    /// Where servers tell their CPU time.
    pub usage: Vec<SocketAddrV4>,
}

impl Load {
    pub fn words(&self) -> Vec<String> {
        let list = |addresses: &[SocketAddrV4]| {
            let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            words.join(",")
        };
        let mut words = vec!["run".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        flag("--kind", self.kind.as_str().into());
        flag("--targets", list(&self.targets));
        flag("--connections", self.connections.to_string());
        flag("--threads", self.threads.to_string());
        flag("--seconds", self.seconds.to_string());
        flag("--warmup", self.warmup.to_string());
        if let Some(rate) = self.rate {
            flag("--rate", format!("{rate:.0}"));
        }
        if !self.usage.is_empty() {
            flag("--usage", list(&self.usage));
        }
        words
    }
}

impl Outcome {
    /// From a pod's log: the last line of JSON.
    pub fn read(log: &str) -> Result<Outcome, String> {
        let line = log
            .lines()
            .rfind(|line| line.starts_with('{'))
            .ok_or_else(|| format!("no figures in the client's log: {}", last_words(log)))?;
        serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))
    }

    /// A sample stands for what it says only when nothing failed.
    pub fn trouble(&self) -> Option<String> {
        if self.failures == 0 && self.requests > 0 {
            return None;
        }
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|(words, count)| format!("{words} ({count})"))
            .collect();
        Some(format!(
            "{} of {} requests failed: {}",
            self.failures,
            self.requests + self.failures,
            errors.join(", ")
        ))
    }

    /// A second's worth, in the kind's unit.
    pub fn value(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Stream => self.bytes as f64 / MIB / self.seconds,
            Kind::Keepalive | Kind::Connect | Kind::Udp => self.requests as f64 / self.seconds,
        }
    }

    /// Microseconds of the client's and the servers' CPU time for one request.
    pub fn cpu_micros_per_request(&self) -> Option<f64> {
        let cpu = self.cpu_micros? + self.server_cpu_micros?;
        (self.requests > 0).then(|| cpu as f64 / self.requests as f64)
    }
}

/// The end of what a program said, for an error's text.
pub fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len().checked_sub(3) {
        None if lines.is_empty() => "(it says nothing)".into(),
        from => lines[from.unwrap_or(0)..].join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"connect","loop":"closed","seconds":2.0,"beginMicros":77,"requests":4000,
        "failures":0,"errors":{},"bytes":4194304,"rate":2000.0,"askedRate":null,
        "latencyMicros":{"p50":80,"p90":90,"p99":100.5,"p999":120,"max":200,"mean":81.0},
        "cpuMicros":30000,"serverCpuMicros":50000,"answeredBy":{"a:8080":4000}}"#;

    fn outcome(line: &str) -> Result<Outcome, String> {
        Outcome::read(&format!("a line\n{}\n\n", line.replace('\n', "")))
    }

    #[test]
    fn the_last_line_counts() {
        let outcome = outcome(LINE).unwrap();
        assert_eq!(outcome.value(Kind::Connect), 2000.0);
        assert_eq!(outcome.value(Kind::Stream), 2.0);
        assert_eq!(outcome.cpu_micros_per_request(), Some(20.0));
        assert_eq!(outcome.latency_micros.unwrap().p99, 100.5);
        assert_eq!(outcome.trouble(), None);
    }

    #[test]
    fn a_log_without_figures_is_told() {
        for (log, words) in [
            ("", "says nothing"),
            ("usage: …\nbad flag", "usage: … / bad flag"),
            ("{\"seconds\": 1}", "requests"),
        ] {
            let error = Outcome::read(log).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_sample_with_failures_is_none() {
        let failed = LINE
            .replace("\"failures\":0", "\"failures\":2")
            .replace("\"errors\":{}", "\"errors\":{\"connection refused\":2}");
        let words = outcome(&failed).unwrap().trouble().unwrap();
        assert_eq!(words, "2 of 4002 requests failed: connection refused (2)");
        let idle = LINE.replace("\"requests\":4000", "\"requests\":0");
        assert!(outcome(&idle).unwrap().trouble().is_some());
    }

    #[test]
    fn a_client_is_told_all_it_needs() {
        let address = |port| SocketAddrV4::new([10, 0, 0, 1].into(), port);
        let mut load = Load {
            kind: Kind::Udp,
            targets: vec![address(80), address(81)],
            connections: 16,
            threads: 1,
            seconds: 0.3,
            warmup: 0.5,
            rate: None,
            usage: Vec::new(),
        };
        assert_eq!(
            load.words().join(" "),
            "run --kind udp --targets 10.0.0.1:80,10.0.0.1:81 --connections 16 --threads 1 \
             --seconds 0.3 --warmup 0.5"
        );
        load.rate = Some(1234.5);
        load.usage = vec![address(9000)];
        let words = load.words().join(" ");
        assert!(
            words.ends_with("--rate 1234 --usage 10.0.0.1:9000"),
            "{words}"
        );
    }
}
