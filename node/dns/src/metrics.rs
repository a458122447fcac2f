//! What Prometheus is told: CoreDNS' names where it has one for the thing, ours
//! for the rest.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Who knew the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Cluster,
    Cache,
    Upstream,
    /// What cannot be asked here.
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    proto: &'static str,
    family: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    rcode: &'static str,
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Upstream {
    to: String,
    rcode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: String,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Asked, Counter>,
    responses: Family<Answered, Counter>,
    duration: Histogram,
    upstream: Family<Upstream, Histogram>,
    upstream_failures: Family<To, Counter>,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    cache_entries: Gauge,
    /// Questions for others beyond the limit.
    pub rejected: Counter,
    /// Of clients that are no pods of this node, nor the node.
    pub strangers: Counter,
    /// Beyond what one client, or all, may have under way.
    pub dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            responses: Family::default(),
            duration: seconds(),
            upstream: Family::new_with_constructor(seconds),
            upstream_failures: Family::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_entries: Gauge::default(),
            rejected: Counter::default(),
            strangers: Counter::default(),
            dropped: Counter::default(),
        }
    }
}

/// CoreDNS' buckets begin at 0.25 ms; finer ones below: 15.6 µs to 8 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_015_625, 2.0, 20))
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("coredns_dns_requests", "Questions", self.requests.clone());
        registry.register(
            "coredns_dns_responses",
            "Answers, by who knew them",
            self.responses.clone(),
        );
        registry.register(
            "coredns_dns_request_duration_seconds",
            "From a question to its answer",
            self.duration.clone(),
        );
        registry.register(
            "coredns_proxy_request_duration_seconds",
            "From a question to another server to its answer",
            self.upstream.clone(),
        );
        registry.register(
            "vetch_dns_upstream_failures",
            "Questions to another server that it did not answer",
            self.upstream_failures.clone(),
        );
        registry.register(
            "coredns_cache_hits",
            "Answers of other servers from the cache",
            self.cache_hits.clone(),
        );
        registry.register(
            "coredns_cache_misses",
            "Questions to other servers that were not in the cache",
            self.cache_misses.clone(),
        );
        registry.register(
            "coredns_cache_entries",
            "Answers in the cache",
            self.cache_entries.clone(),
        );
        registry.register(
            "coredns_forward_max_concurrent_rejects",
            "Questions to other servers beyond the number that may be under way",
            self.rejected.clone(),
        );
        registry.register(
            "vetch_dns_strangers",
            "Questions of clients that are neither this node nor its pods, not answered",
            self.strangers.clone(),
        );
        registry.register(
            "vetch_dns_dropped",
            "Questions and connections beyond what one client, or all, may have at once",
            self.dropped.clone(),
        );
    }

    pub fn asked(&self, transport: Transport, from: SocketAddr, kind: Option<RecordType>) {
        let asked = Asked {
            proto: match transport {
                Transport::Udp => "udp",
                Transport::Tcp => "tcp",
            },
            family: if from.ip().to_canonical().is_ipv4() {
                "1"
            } else {
                "2"
            },
            r#type: kind.map_or("other", type_name),
        };
        self.requests.get_or_create(&asked).inc();
    }

    pub fn answered(&self, code: ResponseCode, source: Source, took: Duration) {
        let answered = Answered {
            rcode: code_name(code),
            plugin: match source {
                Source::Cluster => "kubernetes",
                Source::Cache => "cache",
                Source::Upstream => "forward",
                Source::Server => "server",
            },
        };
        self.responses.get_or_create(&answered).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub fn upstream(&self, to: SocketAddr, code: ResponseCode, took: Duration) {
        let upstream = Upstream {
            to: to.to_string(),
            rcode: code_name(code),
        };
        self.upstream
            .get_or_create(&upstream)
            .observe(took.as_secs_f64());
    }

    pub fn upstream_failed(&self, to: SocketAddr) {
        let to = To { to: to.to_string() };
        self.upstream_failures.get_or_create(&to).inc();
    }

    pub fn cache_entries(&self, count: usize) {
        self.cache_entries
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// The types that CoreDNS counts by themselves and pods ask for: a client must not
/// make series.
fn type_name(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::CNAME => "CNAME",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code_name(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn names_are_those_of_coredns() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let from = "10.244.1.2:4000".parse().unwrap();
        metrics.asked(Transport::Udp, from, Some(RecordType::A));
        metrics.asked(Transport::Tcp, from, Some(RecordType::Unknown(4711)));
        let took = Duration::from_millis(1);
        metrics.answered(ResponseCode::NXDomain, Source::Cluster, took);
        metrics.upstream("192.0.2.1:53".parse().unwrap(), ResponseCode::NoError, took);
        metrics.upstream_failed("192.0.2.2:53".parse().unwrap());
        metrics.cache_entries(3);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "coredns_dns_requests_total{proto=\"udp\",family=\"1\",type=\"A\"} 1",
            "coredns_dns_requests_total{proto=\"tcp\",family=\"1\",type=\"other\"} 1",
            "coredns_dns_responses_total{rcode=\"NXDOMAIN\",plugin=\"kubernetes\"} 1",
            "coredns_dns_request_duration_seconds_count 1",
            "coredns_proxy_request_duration_seconds_count{to=\"192.0.2.1:53\",rcode=\"NOERROR\"} 1",
            "vetch_dns_upstream_failures_total{to=\"192.0.2.2:53\"} 1",
            "coredns_cache_entries 3",
            "coredns_cache_hits_total 0",
            "vetch_dns_strangers_total 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
