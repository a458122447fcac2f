use k8s_openapi::api::core::v1::Endpoints as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::ip::warnings::address;
use crate::meta;
use crate::names;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource, Warn};
use crate::schema::register;
use crate::value::ValueExt;

/// How many are shown before `+ N more...`.
const SHOWN: usize = 3;
/// Whose addresses are taken from pods, where they are canonical.
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

pub const ROW: Resource = Resource {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    storage_prefix: "services/endpoints",
    decode: typed::<Typed>,
    default: |endpoints| {
        for subset in endpoints.list_mut("subsets") {
            for port in subset.list_mut("ports") {
                port.default_to("protocol", "TCP");
            }
        }
    },
    validate_create: |endpoints| {
        let mut errors = meta::validate(endpoints, true, names::subdomain);
        validate_subsets(endpoints, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_subsets(new, &mut errors);
        errors
    },
    warn: Some(Warn {
        create: warnings,
        update: warnings,
        status: |_| Vec::new(),
    }),
    deprecated: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    columns: &[
        NAME,
        column(
            "Endpoints",
            "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
        ),
        AGE,
    ],
    cells: |endpoints, now| {
        vec![
            name(endpoints),
            listed(endpoints).into(),
            age(endpoints, now),
        ]
    },
    create_on_update: true,
    schema: "io.k8s.api.core.v1.Endpoints",
    types: register::<Typed>,
    ..BASE
};

fn validate_subsets(endpoints: &Value, errors: &mut Vec<FieldError>) {
    for (i, subset) in endpoints.list_at("/subsets").iter().enumerate() {
        let at = Path::new("subsets").index(i);
        let (ready, waiting) = (
            subset.list_at("/addresses"),
            subset.list_at("/notReadyAddresses"),
        );
        if ready.is_empty() && waiting.is_empty() {
            errors.push(at.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for (key, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (j, address) in list.iter().enumerate() {
                let ip = address.str_at("/ip");
                if ip.parse::<std::net::IpAddr>().is_err() {
                    errors.push(at.child(key).index(j).child("ip").invalid(
                        ip,
                        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    ));
                }
            }
        }
        let ports = subset.list_at("/ports");
        for (j, port) in ports.iter().enumerate() {
            let at = at.child("ports").index(j);
            let (port_name, number) = (port.str_at("/name"), port.i64_at("/port"));
            if port_name.is_empty() && ports.len() > 1 {
                errors.push(at.child("name").required(""));
            } else if !port_name.is_empty() {
                errors.extend(
                    names::label(port_name)
                        .iter()
                        .map(|m| at.child("name").invalid(port_name, m)),
                );
            }
            errors.extend(
                names::port_number(number)
                    .iter()
                    .map(|m| at.child("port").invalid(number, m)),
            );
            let protocol = port.str_at("/protocol");
            if !["SCTP", "TCP", "UDP"].contains(&protocol) {
                errors.push(
                    at.child("protocol")
                        .not_supported(protocol, &["SCTP", "TCP", "UDP"]),
                );
            }
        }
    }
}

fn warnings(endpoints: &Value) -> Vec<String> {
    let mut told = Vec::new();
    let labels = endpoints.pointer("/metadata/labels");
    if labels.is_some_and(|labels| labels[MANAGED_BY.0] == MANAGED_BY.1) {
        return told;
    }
    for (i, subset) in endpoints.list_at("/subsets").iter().enumerate() {
        for key in ["addresses", "notReadyAddresses"] {
            let at = Path::new("subsets").index(i).child(key);
            let list = subset.get(key).and_then(Value::as_array);
            for (j, own) in list.into_iter().flatten().enumerate() {
                told.extend(address(&at.index(j).child("ip"), own.str_at("/ip")));
            }
        }
    }
    told
}

fn listed(endpoints: &Value) -> String {
    let subsets = endpoints.list_at("/subsets");
    if subsets.is_empty() {
        return "<none>".to_string();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || subset.list_at("/addresses").iter().map(|a| a.str_at("/ip"));
        let ports = subset.list_at("/ports");
        if ports.is_empty() {
            all.extend(addresses().map(str::to_string));
        }
        for port in ports {
            let port = port.i64_at("/port");
            all.extend(addresses().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            }));
        }
    }
    with_more(&all)
}

/// `a,b,c + 2 more...`
pub(super) fn with_more(all: &[String]) -> String {
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(","),
        Some(more) => format!("{} + {more} more...", all[..SHOWN].join(",")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_listed_as_in_kubectl() {
        let of = |ips: &[&str]| {
            let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            listed(&json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}))
        };
        assert_eq!(listed(&json!({})), "<none>");
        assert_eq!(of(&["10.0.0.1", "::1"]), "10.0.0.1:80,[::1]:80");
        assert_eq!(of(&["a", "b", "c", "d", "e"]), "a:80,b:80,c:80 + 2 more...");
    }

    #[test]
    fn addresses_of_people_are_told_of() {
        let mut endpoints = json!({"metadata": {}, "subsets": [
            {"addresses": [{"ip": "192.0.2.1"}]},
            {"notReadyAddresses": [{"ip": "2001:db8::1"}, {"ip": "2001:DB8::1"}]},
        ]});
        assert_eq!(
            warnings(&endpoints),
            [
                "subsets[1].notReadyAddresses[1].ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            ]
        );
        endpoints["metadata"]["labels"] = json!({MANAGED_BY.0: MANAGED_BY.1});
        assert_eq!(warnings(&endpoints), [""; 0]);
    }
}
