use serde_json::json;

use super::*;

fn service(type_: &str, by: Option<&str>, ingress: serde_json::Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "annotations": by.map(|by| json!({ANNOUNCED_BY: by}))},
        "spec": {"type": type_},
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
    .unwrap()
}

#[test]
fn a_node_announces_the_vips_that_are_given_to_it() {
    let ip = |ip: &str| json!([{ "ip": ip }]);
    let both = json!([{"ip": "192.0.2.7", "ipMode": "VIP"}, {"ip": "2001:db8::7"}]);
    for (what, service, expected) in [
        (
            "ours",
            service("LoadBalancer", Some("one"), ip("192.0.2.7")),
            vec!["192.0.2.7"],
        ),
        (
            "both families",
            service("LoadBalancer", Some("one"), both),
            vec!["192.0.2.7", "2001:db8::7"],
        ),
        (
            "another's",
            service("LoadBalancer", Some("two"), ip("192.0.2.7")),
            vec![],
        ),
        (
            "nobody's",
            service("LoadBalancer", None, ip("192.0.2.7")),
            vec![],
        ),
        (
            "no longer a balancer's",
            service("ClusterIP", Some("one"), ip("192.0.2.7")),
            vec![],
        ),
        (
            "a proxy's beside a VIP",
            service(
                "LoadBalancer",
                Some("one"),
                json!([{"ip": "192.0.2.8", "ipMode": "Proxy"}, {"ip": "192.0.2.7"}]),
            ),
            vec!["192.0.2.7"],
        ),
        (
            "a host name",
            service(
                "LoadBalancer",
                Some("one"),
                json!([{"hostname": "a.example"}]),
            ),
            vec![],
        ),
        (
            "not an address",
            service("LoadBalancer", Some("one"), ip("192.0.2")),
            vec![],
        ),
        (
            "none yet",
            service("LoadBalancer", Some("one"), json!(null)),
            vec![],
        ),
        ("nothing at all", Service::default(), vec![]),
    ] {
        let expected: BTreeSet<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(announced(&service, "one"), expected, "{what}");
    }
}

#[test]
fn solicitations_go_to_the_group_of_the_last_24_bits() {
    for (address, group) in [
        ("2001:db8::7", "ff02::1:ff00:7"),
        ("fd00::12ab:cdef:3456:789a", "ff02::1:ff56:789a"),
    ] {
        let address: Ipv6Addr = address.parse().unwrap();
        assert_eq!(solicited_node(address).to_string(), group);
    }
}

#[test]
fn frames_byte_by_byte() {
    let mac = [2, 0, 0, 0, 0, 1];
    let arp = frame(mac, "192.0.2.7".parse().unwrap());
    let expected = [
        [0xff; 6].to_vec(),
        mac.to_vec(),
        vec![8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        mac.to_vec(),
        vec![192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7],
    ];
    assert_eq!(arp, expected.concat());
    let advertisement = frame(mac, "2001:db8::7".parse().unwrap());
    assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(advertisement[6..12], mac);
    assert_eq!(advertisement[12..14], [0x86, 0xdd]);
    assert_eq!(advertisement.len(), 14 + 72);
}
