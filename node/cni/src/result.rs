//! The result of an ADD, in the shape of each version.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use vetch_cni_proto::v1::AddReply;

use crate::version::Version;

/// With what the plugins before in a chain have made.
pub fn shape(
    version: Version,
    before: Option<&Value>,
    reply: &AddReply,
    netns: &str,
    dns: Option<Value>,
) -> Value {
    let mut all = match before {
        Some(Value::Object(before)) => before.clone(),
        _ => Map::new(),
    };
    all.insert("cniVersion".into(), version.name().into());
    let interfaces = list(&mut all, "interfaces");
    let own = interfaces.len() + 1;
    for (link, sandbox) in [(&reply.host, None), (&reply.pod, Some(netns))] {
        let link = link.clone().unwrap_or_default();
        let mut interface = json!({ "name": link.name, "mac": link.mac });
        if let Some(netns) = sandbox {
            interface["sandbox"] = netns.into();
        }
        if version >= Version::V1_1_0 {
            interface["mtu"] = reply.mtu.into();
        }
        interfaces.push(interface);
    }
    for address in &reply.addresses {
        let is_v6 = address.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        let length = if is_v6 { 128 } else { 32 };
        let mut ip = json!({
            "address": format!("{}/{length}", address.ip),
            "gateway": address.gateway,
            "interface": own,
        });
        if version < Version::V1_0_0 {
            ip["version"] = if is_v6 { "6" } else { "4" }.into();
        }
        list(&mut all, "ips").push(ip);
        let default = if is_v6 { "::/0" } else { "0.0.0.0/0" };
        list(&mut all, "routes").push(json!({ "dst": default, "gw": address.gateway }));
    }
    // Who said it first in a chain said it.
    let said = all.get("dns").is_some_and(|dns| *dns != json!({}));
    if let Some(dns) = dns.filter(|_| !said) {
        all.insert("dns".into(), dns);
    }
    all.entry("dns").or_insert_with(|| json!({}));
    Value::Object(all)
}

/// Go's `null` is an empty list.
fn list<'a>(all: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let value = all.entry(name).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made above"),
    }
}

#[cfg(test)]
mod tests {
    use vetch_cni_proto::v1::{Address, Link};

    use super::*;

    fn reply() -> AddReply {
        let address = |ip: &str, gateway: &str| Address {
            ip: ip.into(),
            gateway: gateway.into(),
        };
        let link = |name: &str, mac: &str| {
            Some(Link {
                name: name.into(),
                mac: mac.into(),
            })
        };
        AddReply {
            addresses: vec![
                address("10.1.0.2", "169.254.1.1"),
                address("fd00::2", "fe80::1"),
            ],
            host: link("vt0123456789ab", "0a:00:00:00:00:00"),
            pod: link("eth0", "0a:00:00:00:00:01"),
            mtu: 1450,
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        for version in crate::version::SUPPORTED {
            let shaped = shape(version, None, &reply(), "/n", None);
            assert_eq!(shaped["cniVersion"], version.name());
            assert_eq!(shaped["interfaces"][0].get("sandbox"), None);
            assert_eq!(shaped["interfaces"][1]["sandbox"], "/n");
            assert_eq!(shaped["ips"][0]["address"], "10.1.0.2/32");
            assert_eq!(shaped["ips"][1]["address"], "fd00::2/128");
            assert_eq!(shaped["ips"][1]["interface"], 1);
            assert_eq!(
                shaped["routes"][1],
                json!({ "dst": "::/0", "gw": "fe80::1" })
            );
            assert_eq!(shaped["dns"], json!({}));
            let old = version < Version::V1_0_0;
            let versions = ["4", "6"].map(|name| old.then(|| json!(name)));
            let found = [0, 1].map(|at: usize| shaped["ips"][at].get("version").cloned());
            assert_eq!(found, versions, "{version:?}");
            let mtu = shaped["interfaces"][1].get("mtu").cloned();
            let expected = (version >= Version::V1_1_0).then(|| json!(1450));
            assert_eq!(mtu, expected, "{version:?}");
        }
    }

    #[test]
    fn what_came_before_in_a_chain_stays_in_its_place() {
        let before = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "a" }, { "name": "net1", "sandbox": "/n" }],
            "ips": [{ "address": "192.0.2.7/24", "interface": 1 }],
            "routes": null,
            "dns": { "nameservers": ["192.0.2.1"] },
        });
        let dns = Some(json!({ "nameservers": ["10.96.0.10"] }));
        let shaped = shape(Version::V1_0_0, Some(&before), &reply(), "/n", dns.clone());
        assert_eq!(shaped["interfaces"].as_array().unwrap().len(), 4);
        assert_eq!(shaped["ips"][0], before["ips"][0]);
        assert_eq!(shaped["ips"][1]["interface"], 3);
        assert_eq!(shaped["routes"].as_array().unwrap().len(), 2);
        assert_eq!(shaped["dns"], before["dns"]);
        let alone = shape(Version::V1_0_0, None, &reply(), "/n", dns.clone());
        assert_eq!(Some(alone["dns"].clone()), dns);
    }
}
