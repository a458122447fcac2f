//! What the programs counted of each service-port, read from their maps at the
//! moment of the question.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use tracing::debug;
use vetch_ebpf_common::{Latency, Traffic, maps};

use crate::{
    counters::{Latencies, TrafficCounters},
    diff::{Pointer, ServiceId},
    maps::{MapsError, frontends},
    model::Frontend,
};

/// How many service-ports are told of: those with the most connections. Each
/// has 35 series.
const MOST: usize = 1_000;

#[derive(Debug)]
pub struct Services {
    pub maps: PathBuf,
}

/// A service-port that had a client.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    frontend: Frontend,
    service: ServiceId,
    traffic: Traffic,
    latency: Option<Latency>,
}

impl Collector for Services {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (rows, left_out) = match read(&self.maps) {
            Ok(read) => read,
            Err(error) => {
                // Before the first load there is nothing to read.
                debug!(%error, "cannot read the programs' counters");
                return Ok(());
            }
        };
        let labelled: Vec<(String, &Row)> = rows
            .iter()
            .map(|row| (row.frontend.to_string(), row))
            .collect();
        counters(
            &mut encoder,
            "vetch_proxy_service_connections",
            "Connections and datagram flows sent to a backend",
            &labelled,
            |traffic| traffic.connections,
        )?;
        counters(
            &mut encoder,
            "vetch_proxy_service_refused",
            "Connections and datagrams refused or dropped for want of a backend",
            &labelled,
            |traffic| traffic.refused,
        )?;
        bytes(&mut encoder, &labelled)?;
        durations(&mut encoder, &labelled)?;
        let gauge = encoder.encode_descriptor(
            "vetch_proxy_service_ports_left_out",
            "Service-ports with fewer connections than those that are told of",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(left_out as u64).encode(gauge)
    }
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[(String, &Row)],
    value: impl Fn(&Traffic) -> u64,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (frontend, row) in rows {
        let labels = [("frontend", frontend.as_str())];
        ConstCounter::new(value(&row.traffic)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn bytes(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[(String, &Row)],
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "vetch_proxy_service_bytes",
        "Bytes from clients (in) and from backends (out): payload of TCP connections that have ended, IP packets of what is balanced by the packet",
        None,
        MetricType::Counter,
    )?;
    for (frontend, row) in rows {
        for (direction, bytes) in [("in", row.traffic.bytes_in), ("out", row.traffic.bytes_out)] {
            let labels = [("frontend", frontend.as_str()), ("direction", direction)];
            ConstCounter::new(bytes).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn durations(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[(String, &Row)],
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "vetch_proxy_connect_duration_seconds",
        "From a connection's first packet to its being established, of TCP balanced at the socket",
        None,
        MetricType::Histogram,
    )?;
    for (frontend, row) in rows {
        let Some(latency) = &row.latency else {
            continue;
        };
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let buckets: Vec<(f64, u64)> = latency
            .counts
            .iter()
            .enumerate()
            .map(|(bucket, count)| {
                let bound = Latency::bound(bucket).map_or(f64::MAX, seconds);
                (bound, *count)
            })
            .collect();
        let labels = [("frontend", frontend.as_str())];
        family
            .encode_family(&labels)?
            .encode_histogram::<[(&str, &str); 0]>(
                seconds(latency.nanoseconds),
                latency.counts.iter().sum(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

fn read(dir: &Path) -> Result<(Vec<Row>, usize), MapsError> {
    let error = |name| {
        move |error| MapsError::Read {
            name,
            source: Box::new(error),
        }
    };
    let traffic = TrafficCounters::open(dir).and_then(|counters| counters.read());
    let traffic = traffic.map_err(error(maps::TRAFFIC))?;
    let (mut rows, left_out) = rows(&traffic, frontends(dir)?);
    let latencies = Latencies::open(dir).map_err(error(maps::LATENCIES))?;
    for row in &mut rows {
        row.latency = latencies.of(row.service).map_err(error(maps::LATENCIES))?;
    }
    Ok((rows, left_out))
}

/// By frontend; and how many there are besides. Who is known by several names
/// is told by the one inside of the cluster.
fn rows(
    traffic: &BTreeMap<ServiceId, Traffic>,
    frontends: impl IntoIterator<Item = (Frontend, Pointer)>,
) -> (Vec<Row>, usize) {
    let mut names: BTreeMap<ServiceId, (bool, bool, Frontend)> = BTreeMap::new();
    for (frontend, to) in frontends {
        let name = (
            to.exposure.external,
            frontend.addr.is_unspecified(),
            frontend,
        );
        let known = names.entry(to.service).or_insert(name);
        *known = name.min(*known);
    }
    let mut rows: Vec<Row> = traffic
        .iter()
        .filter_map(|(service, traffic)| {
            let (_, _, frontend) = *names.get(service)?;
            Some(Row {
                frontend,
                service: *service,
                traffic: *traffic,
                latency: None,
            })
        })
        .collect();
    rows.sort_by_key(|row| (Reverse(row.traffic.connections), row.frontend));
    let left_out = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    rows.sort_by_key(|row| row.frontend);
    (rows, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Exposure;

    fn pointer(service: ServiceId, exposure: Exposure) -> Pointer {
        Pointer { service, exposure }
    }

    #[test]
    fn a_service_port_is_told_once_by_its_name_inside() {
        let frontends = [
            ("0.0.0.0:30080/TCP", 3, Exposure::EXTERNAL),
            ("192.0.2.1:80/TCP", 3, Exposure::EXTERNAL),
            ("198.51.100.1:80/TCP", 3, Exposure::CLUSTER),
            ("0.0.0.0:30053/UDP", 4, Exposure::EXTERNAL),
            ("10.96.0.3:80/TCP", 5, Exposure::CLUSTER),
        ];
        let frontends = frontends
            .map(|(text, service, exposure)| (text.parse().unwrap(), pointer(service, exposure)));
        let counts = |connections| Traffic {
            connections,
            ..Traffic::default()
        };
        // 9 has no frontend any more; 5 had no client.
        let traffic = [(3, counts(7)), (4, counts(1)), (9, counts(2))].into();
        let (rows, left_out) = rows(&traffic, frontends);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.frontend.to_string(), row.traffic.connections))
            .collect();
        assert_eq!(
            told,
            [
                ("0.0.0.0:30053/UDP".to_owned(), 1),
                ("198.51.100.1:80/TCP".to_owned(), 7)
            ]
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn those_with_the_most_connections_are_told() {
        let count = MOST as u32 + 3;
        let frontends = (0..count).map(|service| {
            let addr = std::net::Ipv4Addr::from_bits(0x0a60_0000 + service);
            let text = format!("{addr}:80/TCP");
            (text.parse().unwrap(), pointer(service, Exposure::CLUSTER))
        });
        let traffic = (0..count).map(|service| {
            let connections = u64::from(service);
            let traffic = Traffic {
                connections,
                ..Traffic::default()
            };
            (service, traffic)
        });
        let (rows, left_out) = rows(&traffic.collect(), frontends);
        assert_eq!((rows.len(), left_out), (MOST, 3));
        assert!(rows.iter().all(|row| row.traffic.connections >= 3));
    }

    #[test]
    fn families_have_prometheus_shape() {
        let mut latency = Latency::NONE;
        latency.add(1_500);
        latency.add(3_000);
        latency.add(100_000_000_000);
        let row = Row {
            frontend: "10.96.0.1:80/TCP".parse().unwrap(),
            service: 1,
            traffic: Traffic::default(),
            latency: Some(latency),
        };
        #[derive(Debug)]
        struct Durations(Row);
        impl Collector for Durations {
            fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
                let rows = [(self.0.frontend.to_string(), &self.0)];
                bytes(&mut encoder, &rows)?;
                durations(&mut encoder, &rows)
            }
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Durations(row)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let name = "vetch_proxy_connect_duration_seconds";
        for line in [
            r#"vetch_proxy_service_bytes_total{frontend="10.96.0.1:80/TCP",direction="in"} 0"#,
            &format!(r#"{name}_bucket{{le="0.000001",frontend="10.96.0.1:80/TCP"}} 0"#),
            &format!(r#"{name}_bucket{{le="0.000002",frontend="10.96.0.1:80/TCP"}} 1"#),
            &format!(r#"{name}_bucket{{le="0.000004",frontend="10.96.0.1:80/TCP"}} 2"#),
            &format!(r#"{name}_bucket{{le="0.001024",frontend="10.96.0.1:80/TCP"}} 2"#),
            &format!(r#"{name}_bucket{{le="+Inf",frontend="10.96.0.1:80/TCP"}} 3"#),
            &format!(r#"{name}_count{{frontend="10.96.0.1:80/TCP"}} 3"#),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
