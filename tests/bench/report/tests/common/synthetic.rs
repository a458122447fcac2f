//! A report such as a whole run of the service bench writes, of made-up numbers.

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use vetch_bench_record::{Better, Figure, Machine, Report, SCHEMA, Skipped};

const SUBJECTS: [&str; 4] = ["direct", "vetch", "iptables", "nftables"];

pub fn service(services: &[u32], rounds: usize) -> Report {
    let started = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56);
    let mut report = Report {
        schema: SCHEMA,
        bench: "service".into(),
        tool: "vetch-bench 0.1.0 (bb20bb7)".into(),
        command: [
            "cargo",
            "xtask",
            "bench",
            "service",
            "--services",
            "1,10,100,1000,10000",
            "--proxies",
            "vetch,iptables,nftables",
            "--seconds",
            "3",
            "--out",
            "target/bench/a b",
        ]
        .map(String::from)
        .into(),
        started,
        finished: started + SignedDuration::from_secs(2771),
        complete: true,
        machine: Machine {
            kernel: "6.12.9-amd64".into(),
            distribution: "Debian GNU/Linux 12 (bookworm)".into(),
            processor: "AMD EPYC 9B14 96-Core Processor".into(),
            processors: 2,
            memory_bytes: 8_000_000_000,
            cluster: "2 nodes in namespaces of one machine".into(),
        },
        settings: [
            ("seconds".to_owned(), json!(3)),
            ("rounds".to_owned(), json!(rounds)),
            ("connections".to_owned(), json!(64)),
            ("services".to_owned(), json!(services)),
            ("latencyRate".to_owned(), json!("half of the closed loop's")),
        ]
        .into(),
        figures: Vec::new(),
        skipped: vec![
            Skipped {
                what: "kube-proxy-iptables".into(),
                why: "no --kube-proxy PATH was given".into(),
            },
            Skipped {
                what: "cycles per request".into(),
                why: "perf has no hardware counters on this machine; CPU time is from cpu.stat"
                    .into(),
            },
        ],
    };
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..rounds {
        traffic(&mut report, services, round, &mut random);
        costs(&mut report, services, round, &mut random);
    }
    report
}

/// Of the pods bench: one subject, whose conditions are what is compared.
pub fn pods(rounds: usize) -> Report {
    let mut report = service(&[1], 0);
    report.bench = "pods".into();
    report.settings.clear();
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..rounds {
        let mut put = |figure: Figure, value: f64| {
            report.add(figure, round, Some(value * noise(&mut random, 0.05)));
        };
        let lower = |measure: &str, unit: &str| Figure::new(measure, "vetch", unit, Better::Lower);
        for (mode, slow) in [("one-at-a-time", 1.0), ("100-at-once", 9.0)] {
            for (quantile, factor) in [("p50", 1.0), ("p99", 1.9)] {
                for (measure, value) in [("created-ready", 410.0), ("deleted-gone", 120.0)] {
                    let figure = lower(measure, "ms")
                        .with("mode", mode)
                        .with("quantile", quantile);
                    put(figure, value * slow * factor);
                }
            }
            for (step, value) in [
                ("scheduled", 4.0),
                ("sandbox", 61.0),
                ("running", 38.0),
                ("ready", 300.0),
            ] {
                let figure = lower(&format!("step-{step}"), "ms")
                    .with("mode", mode)
                    .with("quantile", "p50");
                put(figure, value * slow);
            }
        }
        for pods in [0, 50, 200] {
            for (counted, factor) in [("rss", 1.0), ("pss", 0.8)] {
                let figure = lower("daemon-memory", "MiB")
                    .with("pods", pods)
                    .with("counted", counted);
                put(figure, factor * (21.0 + f64::from(pods) * 0.04));
            }
        }
    }
    report
}

fn traffic(report: &mut Report, services: &[u32], round: usize, random: &mut StdRng) {
    let heat = noise(random, 0.02);
    for n in services {
        for (placement, level) in [("same-node", 1.0), ("across-nodes", 0.72)] {
            for frontend in ["ClusterIP", "NodePort"] {
                for subject in SUBJECTS {
                    let share = share(subject, placement, frontend, *n);
                    let mut put = |measure: &str, unit: &str, better, value: f64| {
                        let figure = Figure::new(measure, subject, unit, better)
                            .with("placement", placement)
                            .with("frontend", frontend)
                            .with("services", *n)
                            .with("endpoints", 2);
                        let sample = value * noise(random, 0.012);
                        // One cut off, as happens.
                        let lost =
                            round == 1 && subject == "nftables" && *n == 1 && measure == "udp";
                        report.add(figure, round, (!lost).then_some(sample));
                    };
                    let rate = level * share * heat;
                    put("keepalive", "requests/s", Better::Higher, 128_000.0 * rate);
                    put("connect", "connections/s", Better::Higher, 21_500.0 * rate);
                    put("stream", "MiB/s", Better::Higher, 2_900.0 * rate);
                    put("udp", "round trips/s", Better::Higher, 61_000.0 * rate);
                    for (quantile, micros) in [("p50", 92.0), ("p99", 310.0), ("p999", 2_100.0)] {
                        let measure = format!("keepalive-latency-{quantile}");
                        put(&measure, "µs", Better::Lower, micros / rate);
                        let measure = format!("connect-latency-{quantile}");
                        put(&measure, "µs", Better::Lower, micros * 2.6 / rate);
                    }
                    put("keepalive-cpu", "µs/request", Better::Lower, 11.0 / rate);
                }
            }
        }
    }
}

fn costs(report: &mut Report, services: &[u32], round: usize, random: &mut StdRng) {
    for n in services {
        let size = f64::from(*n);
        for (subject, factor) in [("vetch", 0.0), ("iptables", 1.0), ("nftables", 0.6)] {
            let mut put = |measure: &str, unit: &str, value: f64| {
                let figure = Figure::new(measure, subject, unit, Better::Lower)
                    .with("services", *n)
                    .with("endpoints", 2);
                report.add(figure, round, Some(value * noise(random, 0.06)));
            };
            put("endpoint-effect", "ms", 2.1 + factor * (14.0 + size * 0.15));
            put(
                "program-from-nothing",
                "s",
                0.02 + size * (0.00006 + factor * 0.0004),
            );
            put("update-cost", "ms", 0.4 + factor * size * 0.02);
            put(
                "proxy-memory",
                "MiB",
                9.0 + size * (0.0016 + factor * 0.004),
            );
            if subject == "vetch" {
                put("map-memory", "MiB", 6.0 + size * 0.002);
            }
        }
    }
}

fn share(subject: &str, placement: &str, frontend: &str, services: u32) -> f64 {
    let size = f64::from(services);
    let near = if placement == "same-node" { 1.0 } else { 0.0 };
    let port = if frontend == "NodePort" { 0.98 } else { 1.0 };
    match subject {
        "direct" => 1.0,
        "vetch" => (1.0 + 0.16 * near) * port,
        "iptables" => 0.93 / (1.0 + size * 0.0006) * port,
        _ => 0.95 / (1.0 + size.ln_1p() * 0.004) * port,
    }
}

/// About normal, around one.
fn noise(random: &mut StdRng, deviation: f64) -> f64 {
    let sum: f64 = (0..12).map(|_| random.random::<f64>()).sum();
    1.0 + (sum - 6.0) * deviation
}
