use k8s_openapi::api::discovery::v1::EndpointSlice as Typed;
use serde_json::{Value, json};

use super::endpoints::with_more;
use crate::decode::typed;
use crate::field::Path;
use crate::ip::warnings::address;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource, Warn};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Their addresses are canonical.
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];

pub const ROW: Resource = Resource {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    storage_prefix: "endpointslices",
    decode: typed::<Typed>,
    default: |slice| {
        for port in slice.list_mut("ports") {
            port.default_to("name", "");
            port.default_to("protocol", "TCP");
        }
    },
    prepare_create: meta::first_generation,
    prepare_update: |new, old| {
        let changed = ["endpoints", "ports", "addressType"]
            .iter()
            .any(|k| new.get(k) != old.get(k))
            || new.pointer("/metadata/labels") != old.pointer("/metadata/labels");
        let generation = old.i64_at("/metadata/generation") + i64::from(changed);
        if let Some(meta) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("generation".into(), json!(generation));
        }
    },
    validate_create: |slice| {
        let mut errors = meta::validate(slice, true, names::subdomain);
        validate(slice, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        if new.get("addressType") != old.get("addressType") {
            let kind = new.str_at("/addressType");
            errors.push(Path::new("addressType").invalid(kind, "field is immutable"));
        }
        validate(new, &mut errors);
        errors
    },
    warn: Some(Warn {
        create: |slice| {
            let mut told = Vec::new();
            if slice.str_at("/addressType") == "FQDN" {
                told.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
            }
            told.extend(warnings(slice));
            told
        },
        update: warnings,
        status: |_| Vec::new(),
    }),
    columns: &[
        NAME,
        column(
            "AddressType",
            "addressType specifies the type of address carried by this EndpointSlice. All addresses in this slice must be the same type. This field is immutable after creation. The following address types are currently supported: * IPv4: Represents an IPv4 Address. * IPv6: Represents an IPv6 Address. * FQDN: Represents a Fully Qualified Domain Name.",
        ),
        column(
            "Ports",
            "ports specifies the list of network ports exposed by each endpoint in this slice. Each port must have a unique name. When ports is empty, it indicates that there are no defined ports. When a port is defined with a nil port value, it indicates \"all ports\". Each slice may include a maximum of 100 ports.",
        ),
        column(
            "Endpoints",
            "endpoints is a list of unique endpoints in this slice. Each slice may include a maximum of 1000 endpoints.",
        ),
        AGE,
    ],
    cells: |slice, now| {
        vec![
            name(slice),
            slice.str_at("/addressType").into(),
            ports(slice).into(),
            endpoints(slice).into(),
            age(slice, now),
        ]
    },
    create_on_update: false,
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    types: register::<Typed>,
    ..BASE
};

fn validate(slice: &Value, errors: &mut Vec<FieldError>) {
    let kind = slice.str_at("/addressType");
    if kind.is_empty() {
        errors.push(Path::new("addressType").required(""));
    } else if !ADDRESS_TYPES.contains(&kind) {
        errors.push(Path::new("addressType").not_supported(kind, ADDRESS_TYPES));
    }
    let endpoints = slice.list_at("/endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(Path::new("endpoints").too_many(endpoints.len(), MAX_ENDPOINTS));
    }
    for (i, endpoint) in endpoints.iter().take(MAX_ENDPOINTS).enumerate() {
        let at = Path::new("endpoints").index(i).child("addresses");
        let addresses = endpoint.list_at("/addresses");
        if addresses.is_empty() {
            errors.push(at.required("must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(at.too_many(addresses.len(), MAX_ADDRESSES));
        }
        for (j, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let at = at.index(j);
            match kind {
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    errors.push(at.invalid(address, "must be a valid IPv4 address"));
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    errors.push(at.invalid(address, "must be a valid IPv6 address"));
                }
                "FQDN" => errors.extend(
                    names::subdomain(address)
                        .iter()
                        .map(|m| at.invalid(address, m)),
                ),
                _ => {}
            }
        }
    }
    let ports = slice.list_at("/ports");
    if ports.len() > MAX_PORTS {
        errors.push(Path::new("ports").too_many(ports.len(), MAX_PORTS));
    }
    for (i, port) in ports.iter().enumerate() {
        let at = Path::new("ports").index(i);
        let port_name = port.str_at("/name");
        if !port_name.is_empty() {
            errors.extend(
                names::label(port_name)
                    .iter()
                    .map(|m| at.child("name").invalid(port_name, m)),
            );
        }
        if ports[..i].iter().any(|p| p.str_at("/name") == port_name) {
            errors.push(at.child("name").duplicate(port_name));
        }
        let protocol = port.str_at("/protocol");
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            errors.push(
                at.child("protocol")
                    .not_supported(protocol, &["SCTP", "TCP", "UDP"]),
            );
        }
    }
}

fn warnings(slice: &Value) -> Vec<String> {
    let mut told = Vec::new();
    let manager = slice
        .pointer("/metadata/labels")
        .map(|own| &own[MANAGED_BY]);
    if manager.is_some_and(|own| CONTROLLERS.iter().any(|known| own == known)) {
        return told;
    }
    for (i, endpoint) in slice.list_at("/endpoints").iter().enumerate() {
        let at = Path::new("endpoints").index(i).child("addresses");
        let addresses = endpoint.list_at("/addresses").iter();
        for (j, text) in addresses.filter_map(Value::as_str).enumerate() {
            told.extend(address(&at.index(j), text));
        }
    }
    told
}

fn ports(slice: &Value) -> String {
    let all: Vec<String> = slice
        .list_at("/ports")
        .iter()
        .map(|port| match (port.opt_i64("/port"), port.str_at("/name")) {
            (Some(number), _) => number.to_string(),
            (None, "") => "*".to_string(),
            (None, name) => name.to_string(),
        })
        .collect();
    if all.is_empty() {
        "<unset>".to_string()
    } else {
        with_more(&all)
    }
}

fn endpoints(slice: &Value) -> String {
    let all: Vec<String> = slice
        .list_at("/endpoints")
        .iter()
        .flat_map(|e| e.list_at("/addresses"))
        .filter_map(|a| a.as_str().map(str::to_string))
        .collect();
    if all.is_empty() {
        "<unset>".to_string()
    } else {
        with_more(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_read_as_in_kubectl() {
        let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]});
        let cells = (ROW.cells)(&slice, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells,
            ["s", "IPv4", "80,x", "10.0.0.1,10.0.0.2", "<unknown>"]
        );
        assert_eq!(ports(&json!({})), "<unset>");
    }

    #[test]
    fn addresses_of_people_are_told_of() {
        let told = "endpoints[0].addresses[1]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")";
        let deprecated = "spec.addressType: FQDN endpoints are deprecated";
        let table: [(&str, &[&str], &str, &[&str], &[&str]); 3] = [
            (
                "IPv6",
                &["2001:db8::1", "2001:DB8::1"],
                "me",
                &[told],
                &[told],
            ),
            ("IPv6", &["2001:DB8::1"], CONTROLLERS[0], &[], &[]),
            ("FQDN", &["a.example"], "me", &[deprecated], &[]),
        ];
        let warn = ROW.warn.expect("it warns");
        for (kind, addresses, manager, create, update) in table {
            let slice = json!({"metadata": {"labels": {MANAGED_BY: manager}}, "addressType": kind,
                "endpoints": [{"addresses": addresses}]});
            assert_eq!((warn.create)(&slice), create, "{slice}");
            assert_eq!((warn.update)(&slice), update, "{slice}");
        }
    }
}
