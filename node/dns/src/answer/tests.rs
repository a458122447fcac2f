use RecordType::{
    A, AAAA, ANY, CNAME as ALIAS, HTTPS, MX, NS, PTR as POINTER, SOA, SRV as SERVER, TXT as TEXT,
};
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::testing::{list, namespaces, records, service, services, slices};

fn zone() -> Zone {
    Zone::new("cluster.local").unwrap()
}

fn decided(records: &Records, name: &str, kind: RecordType) -> Decision {
    let name = Name::from_ascii(name).unwrap();
    let dns = Key::new("kube-system", "kube-dns");
    decide(records, &zone(), &dns, &name, kind)
}

/// `NAME TTL TYPE DATA`, in short.
fn line(record: &Record) -> String {
    let (kind, data) = (record.record_type(), &record.data);
    let data = match data {
        RData::SRV(srv) => {
            let SRV {
                priority,
                weight,
                port,
                target,
                ..
            } = srv;
            format!("{priority} {weight} {port} {target}")
        }
        RData::TXT(text) => {
            let parts = text
                .txt_data
                .iter()
                .map(|part| String::from_utf8_lossy(part));
            parts.collect::<Vec<_>>().concat()
        }
        RData::SOA(soa) => format!("{} {}", soa.mname, soa.minimum),
        other => other.to_string(),
    };
    format!("{} {} {kind} {data}", record.name, record.ttl)
}

/// The answer's code where it is none, and its records.
fn told(decision: &Decision) -> Vec<String> {
    let answer = match decision {
        Decision::Elsewhere => return vec!["elsewhere".into()],
        Decision::NotYet => return vec!["not yet".into()],
        Decision::Alias(alias, target) => return vec![line(alias), format!("-> {target}")],
        Decision::Answer(answer) => answer,
    };
    let has_soa =
        matches!(answer.authorities.as_slice(), [soa] if soa.record_type() == RecordType::SOA);
    assert_eq!(answer.answers.is_empty(), has_soa, "{answer:?}");
    match (answer.code, has_soa) {
        (ResponseCode::NoError, true) => vec!["no data".into()],
        (ResponseCode::NoError, false) => answer.answers.iter().map(line).collect(),
        (code, _) => vec![code.to_string()],
    }
}

fn check(records: &Records, table: &[(&str, RecordType, &[&str])]) {
    for (name, kind, expected) in table {
        let full = match name.strip_suffix('.') {
            Some(_) => (*name).to_owned(),
            None if name.is_empty() => "cluster.local.".to_owned(),
            None => format!("{name}.cluster.local."),
        };
        let expected: Vec<String> = expected
            .iter()
            .map(|line| line.replace('@', &full).replace('~', "cluster.local."))
            .collect();
        assert_eq!(
            told(&decided(records, &full, *kind)),
            expected,
            "{full} {kind}"
        );
    }
}

const NONE: &[&str] = &["Non-Existent Domain"];
const NO_DATA: &[&str] = &["no data"];

/// 2.2: the version of the schema.
#[test]
fn the_version_is_a_text() {
    check(
        &records(),
        &[
            ("dns-version", TEXT, &["@ 28800 TXT 1.1.0"]),
            ("DNS-Version", TEXT, &["@ 28800 TXT 1.1.0"]),
            ("dns-version", A, NO_DATA),
            ("x.dns-version", TEXT, NONE),
        ],
    );
}

/// 2.3.1, 2.3.2: addresses and ports of a Service with cluster IPs.
#[test]
fn a_service_has_its_addresses_and_ports() {
    check(
        &records(),
        &[
            ("web.ns.svc", A, &["@ 5 A 10.96.0.2"]),
            ("WEB.Ns.Svc", A, &["@ 5 A 10.96.0.2"]),
            ("web.ns.svc", AAAA, &["@ 5 AAAA fd96::2"]),
            ("kube-dns.kube-system.svc", AAAA, NO_DATA),
            ("web.ns.svc", TEXT, NO_DATA),
            ("web.ns.svc", HTTPS, NO_DATA),
            ("web.ns.svc", ANY, NO_DATA),
            (
                "_http._tcp.web.ns.svc",
                SERVER,
                &["@ 5 SRV 0 100 80 web.ns.svc.~"],
            ),
            (
                "_HTTP._TCP.web.ns.svc",
                SERVER,
                &["@ 5 SRV 0 100 80 web.ns.svc.~"],
            ),
            (
                "_dns._udp.kube-dns.kube-system.svc",
                SERVER,
                &["@ 5 SRV 0 100 53 kube-dns.kube-system.svc.~"],
            ),
            ("_http._tcp.web.ns.svc", A, NO_DATA),
            ("_http._udp.web.ns.svc", SERVER, NONE),
            ("_https._tcp.web.ns.svc", SERVER, NONE),
            // Without a name there is no such record.
            ("_._udp.web.ns.svc", SERVER, NONE),
            ("_udp.web.ns.svc", SERVER, NO_DATA),
            ("_tcp.web.ns.svc", A, NO_DATA),
            ("_sctp.web.ns.svc", A, NONE),
            ("http.tcp.web.ns.svc", SERVER, NONE),
            (
                "web.ns.svc",
                SERVER,
                &[
                    "@ 5 SRV 0 50 80 web.ns.svc.~",
                    "@ 5 SRV 0 50 81 web.ns.svc.~",
                ],
            ),
            ("none.ns.svc", A, NONE),
            ("web.other.svc", A, NONE),
            ("_http._tcp.none.ns.svc", SERVER, NONE),
            ("pending.ns.svc", A, NONE),
            ("_http._tcp.pending.ns.svc", SERVER, NONE),
            ("a._http._tcp.web.ns.svc", SERVER, NONE),
        ],
    );
}

/// 2.3.3, 2.4.3: names of addresses.
#[test]
fn an_address_has_the_name_of_its_service_or_its_endpoints() {
    check(
        &records(),
        &[
            (
                "2.0.96.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR web.ns.svc.~"],
            ),
            (
                "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.d.f.ip6.arpa.",
                POINTER,
                &["@ 5 PTR web.ns.svc.~"],
            ),
            (
                "1.0.244.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR db-0.db.ns.svc.~"],
            ),
            (
                "2.0.244.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR 10-244-0-2.db.ns.svc.~"],
            ),
            (
                "9.0.244.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR 10-244-0-9.web.ns.svc.~"],
            ),
            (
                "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
                POINTER,
                &["@ 5 PTR fd00--6.six.ns.svc.~"],
            ),
            ("2.0.96.10.in-addr.arpa.", A, NO_DATA),
            // Not ready, and not the cluster's.
            ("3.0.244.10.in-addr.arpa.", POINTER, &["elsewhere"]),
            ("1.2.0.192.in-addr.arpa.", POINTER, &["elsewhere"]),
            ("0.96.10.in-addr.arpa.", POINTER, &["elsewhere"]),
        ],
    );
}

/// 2.4.1, 2.4.2: a headless Service's endpoints, those that are ready.
#[test]
fn a_headless_service_has_its_endpoints() {
    check(
        &records(),
        &[
            (
                "db.ns.svc",
                A,
                &["@ 5 A 10.244.0.1", "@ 5 A 10.244.0.2", "@ 5 A 10.244.1.1"],
            ),
            ("db.ns.svc", AAAA, NO_DATA),
            ("six.ns.svc", AAAA, &["@ 5 AAAA fd00::6"]),
            ("six.ns.svc", A, NO_DATA),
            ("fd00--6.six.ns.svc", AAAA, &["@ 5 AAAA fd00::6"]),
            // Another spelling is another name.
            ("fd00-0--6.six.ns.svc", AAAA, NONE),
            ("empty.ns.svc", A, NONE),
            ("_http._tcp.empty.ns.svc", SERVER, NONE),
            (
                "db-0.db.ns.svc",
                A,
                &["@ 5 A 10.244.0.1", "@ 5 A 10.244.1.1"],
            ),
            (
                "DB-0.db.ns.svc",
                A,
                &["@ 5 A 10.244.0.1", "@ 5 A 10.244.1.1"],
            ),
            ("db-0.db.ns.svc", AAAA, NO_DATA),
            // It has a hostname, which is its name.
            ("10-244-0-1.db.ns.svc", A, NONE),
            ("10-244-0-2.db.ns.svc", A, &["@ 5 A 10.244.0.2"]),
            ("db-2.db.ns.svc", A, NONE),
            ("db-1.db.ns.svc", A, NONE),
            // Reverse names lead here.
            ("10-244-0-9.web.ns.svc", A, &["@ 5 A 10.244.0.9"]),
            (
                "_http._tcp.db.ns.svc",
                SERVER,
                &[
                    "@ 5 SRV 0 50 8080 10-244-0-2.db.ns.svc.~",
                    "@ 5 SRV 0 50 8080 db-0.db.ns.svc.~",
                ],
            ),
            ("_tcp.db.ns.svc", SERVER, NO_DATA),
            ("_http._udp.db.ns.svc", SERVER, NONE),
            (
                "db-0.db.ns.svc",
                SERVER,
                &["@ 5 SRV 0 100 8080 db-0.db.ns.svc.~"],
            ),
            // No port has a number there.
            ("six.ns.svc", SERVER, NO_DATA),
        ],
    );
}

#[test]
fn ports_come_with_the_addresses_of_their_targets() {
    for (name, expected) in [
        (
            "_http._tcp.db.ns.svc.cluster.local.",
            &[
                "10-244-0-2.db.ns.svc.cluster.local. 5 A 10.244.0.2",
                "db-0.db.ns.svc.cluster.local. 5 A 10.244.0.1",
                "db-0.db.ns.svc.cluster.local. 5 A 10.244.1.1",
            ][..],
        ),
        (
            "_http._tcp.web.ns.svc.cluster.local.",
            &[
                "web.ns.svc.cluster.local. 5 A 10.96.0.2",
                "web.ns.svc.cluster.local. 5 AAAA fd96::2",
            ],
        ),
    ] {
        let Decision::Answer(answer) = decided(&records(), name, SERVER) else {
            panic!("{name}");
        };
        let additionals: Vec<String> = answer.additionals.iter().map(line).collect();
        assert_eq!(additionals, expected, "{name}");
    }
}

/// 2.5: a name outside, or of the cluster.
#[test]
fn an_external_name_is_an_alias() {
    let out = ["@ 5 CNAME www.example.org.", "-> www.example.org."];
    check(
        &records(),
        &[
            ("out.ns.svc", A, &out),
            ("out.ns.svc", AAAA, &out),
            ("out.ns.svc", MX, &out),
            ("out.ns.svc", ALIAS, &out[..1]),
            (
                "alias.ns.svc",
                A,
                &["@ 5 CNAME Web.ns.svc.~", "-> Web.ns.svc.~"],
            ),
            ("x.out.ns.svc", A, NONE),
            ("_http._tcp.out.ns.svc", SERVER, NONE),
            // No name leads to an address.
            ("address.ns.svc", A, NONE),
        ],
    );
}

/// 2.6: any address, whether there is a pod or not.
#[test]
fn pods_are_called_by_their_addresses() {
    check(
        &records(),
        &[
            ("10-244-7-8.ns.pod", A, &["@ 5 A 10.244.7.8"]),
            ("10-244-7-8.bare.pod", A, &["@ 5 A 10.244.7.8"]),
            ("10-244-7-8.ns.pod", AAAA, NO_DATA),
            ("fd00--7.ns.pod", AAAA, &["@ 5 AAAA fd00::7"]),
            ("10-244-7-8.other.pod", A, NONE),
            ("10-244-7-256.ns.pod", A, NONE),
            ("web.ns.pod", A, NONE),
            ("x.10-244-7-8.ns.pod", A, NONE),
        ],
    );
}

#[test]
fn what_has_names_below_exists_itself() {
    check(
        &records(),
        &[
            ("", A, NO_DATA),
            ("", SOA, &["@ 5 SOA ns.dns.~ 5"]),
            ("", NS, &["@ 5 NS ns.dns.~"]),
            ("ns.dns", A, &["@ 5 A 10.96.0.10"]),
            ("ns.dns", AAAA, NO_DATA),
            ("dns", A, NO_DATA),
            ("svc", A, NO_DATA),
            ("pod", A, NO_DATA),
            ("ns.svc", A, NO_DATA),
            ("bare.svc", A, NO_DATA),
            ("bare.pod", A, NO_DATA),
            ("other.svc", A, NONE),
            ("other.pod", A, NONE),
            ("x", A, NONE),
            ("x.y", A, NONE),
            ("web.ns.x", A, NONE),
            ("www.example.org.", A, &["elsewhere"]),
            ("cluster.local.example.org.", A, &["elsewhere"]),
            ("local.", A, &["elsewhere"]),
            (".", NS, &["elsewhere"]),
        ],
    );
}

#[test]
fn nothing_is_denied_before_everything_was_listed() {
    let mut records = Records::default();
    let asked = |records: &Records| {
        ["web.ns.svc", "none.ns.svc"]
            .map(|name| told(&decided(records, &format!("{name}.cluster.local."), A)).concat())
    };
    let not_yet = ["not yet", "not yet"].map(str::to_owned);
    assert_eq!(asked(&records), not_yet);
    assert_eq!(
        told(&decided(&records, "www.example.org.", A)),
        ["elsewhere"]
    );
    assert_eq!(
        told(&decided(&records, "1.0.96.10.in-addr.arpa.", POINTER)),
        ["not yet"]
    );
    list(&services(), |event| records.service(event));
    assert_eq!(asked(&records), not_yet);
    list(&slices(), |event| records.slice(event));
    assert_eq!(asked(&records), not_yet);
    records.namespaces(Some(namespaces()));
    let [web, none] = asked(&records);
    assert_eq!(web, "web.ns.svc.cluster.local. 5 A 10.96.0.2");
    assert_eq!(none, NONE[0]);
    // A list that begins anew takes nothing away.
    records.service(&Event::Init);
    assert_eq!(asked(&records)[0], web);
}

#[test]
fn names_follow_what_is_told() {
    let mut records = records();
    let dns = json!({"clusterIP": "10.96.0.3", "ports": [{"port": 1}]});
    records.service(&Event::Apply(service("ns", "web", &dns)));
    check(
        &records,
        &[
            ("web.ns.svc", A, &["@ 5 A 10.96.0.3"]),
            ("web.ns.svc", AAAA, NO_DATA),
            (
                "3.0.96.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR web.ns.svc.~"],
            ),
            ("2.0.96.10.in-addr.arpa.", POINTER, &["elsewhere"]),
        ],
    );
    let told_before = slices();
    records.slice(&Event::Delete(told_before[1].clone()));
    check(
        &records,
        &[
            ("db.ns.svc", A, &["@ 5 A 10.244.0.1", "@ 5 A 10.244.1.1"]),
            (
                "1.0.244.10.in-addr.arpa.",
                POINTER,
                &["@ 5 PTR db-0.db.ns.svc.~"],
            ),
            ("2.0.244.10.in-addr.arpa.", POINTER, &["elsewhere"]),
        ],
    );
    records.slice(&Event::Delete(told_before[2].clone()));
    check(
        &records,
        &[
            ("db.ns.svc", A, NONE),
            ("1.0.244.10.in-addr.arpa.", POINTER, &["elsewhere"]),
        ],
    );
    records.namespace("new", true);
    records.namespace("bare", false);
    check(&records, &[("new.svc", A, NO_DATA), ("bare.svc", A, NONE)]);
    // A list at whose end the rest is gone.
    list(&services()[..1], |event| records.service(event));
    check(
        &records,
        &[
            ("web.ns.svc", A, NONE),
            ("3.0.96.10.in-addr.arpa.", POINTER, &["elsewhere"]),
            ("kube-dns.kube-system.svc", A, &["@ 5 A 10.96.0.10"]),
        ],
    );
}

#[test]
fn where_namespaces_are_not_told_each_may_exist() {
    let mut records = records();
    records.namespaces(None);
    assert!(records.is_complete());
    check(
        &records,
        &[
            ("other.svc", A, NO_DATA),
            ("10-244-7-8.other.pod", A, &["@ 5 A 10.244.7.8"]),
            ("web.other.svc", A, NONE),
        ],
    );
}
