//! Where Services get their addresses from, beside what the API server was started with (KEP-1880).

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{ip, meta, names};

pub const ROW: Resource = Resource {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    storage_prefix: "servicecidrs",
    subresources: &[Subresource::status(
        "networking.k8s.io",
        "v1",
        "ServiceCIDR",
    )],
    decode: typed::<Typed>,
    prepare_create: |cidr| {
        cidr.remove_key("status");
    },
    prepare_update: meta::keep_status,
    validate_create: |cidr| {
        let mut errors = meta::validate(cidr, false, names::subdomain);
        validate(cidr, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_change(new, old, &mut errors);
        errors
    },
    columns: &[
        NAME,
        column(
            "CIDRs",
            "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
        ),
        AGE,
    ],
    cells: |cidr, now| vec![name(cidr), networks(cidr).join(",").into(), age(cidr, now)],
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    types: register::<Typed>,
    ..BASE
};

fn path() -> Path {
    Path::new("spec").child("cidrs")
}

fn networks(cidr: &Value) -> Vec<&str> {
    let listed = cidr.list_at("/spec/cidrs").iter();
    listed.filter_map(Value::as_str).collect()
}

fn validate(cidr: &Value, errors: &mut Vec<FieldError>) {
    let networks = networks(cidr);
    if networks.is_empty() {
        errors.push(path().required("at least one CIDR required"));
        return;
    }
    if networks.len() > 2 {
        errors.push(path().invalid(cidr["spec"].clone(), "may only hold up to 2 values"));
        return;
    }
    for (index, network) in networks.iter().enumerate() {
        let wrong = ip::network(network, [].into_iter());
        errors.extend(wrong.map(|words| path().index(index).invalid(*network, words)));
    }
    let families: Vec<bool> = networks
        .iter()
        .filter_map(|network| network.parse::<IpNet>().ok())
        .map(|network| network.addr().is_ipv4())
        .collect();
    if let [one, other] = families.as_slice()
        && one == other
    {
        errors.push(path().invalid(
            networks,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ));
    }
}

/// A second family may come; otherwise what was given out stays given out.
fn validate_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    const IMMUTABLE: &str = "field is immutable";
    let (now, before) = (networks(new), networks(old));
    let grows = (before.len(), now.len()) == (1, 2);
    if !grows && now.len() != before.len() {
        errors.push(path().invalid(now, IMMUTABLE));
        return;
    }
    for (index, (now, before)) in now.iter().zip(&before).enumerate() {
        if now != before {
            errors.push(path().index(index).invalid(*now, IMMUTABLE));
        }
    }
    if grows {
        validate(new, errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cidr(networks: &[&str]) -> Value {
        json!({"metadata": {"name": "more"}, "spec": {"cidrs": networks}})
    }

    fn fields(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    #[test]
    fn one_network_a_family() {
        for (networks, wrong) in [
            (&["10.97.0.0/24"][..], vec![]),
            (&["10.97.0.0/24", "fd00::/112"], vec![]),
            (&[], vec!["spec.cidrs"]),
            (&["10.97.0.0/24", "10.98.0.0/24"], vec!["spec.cidrs"]),
            (&["10.97.0.1/24"], vec!["spec.cidrs[0]"]),
            (&["10.97.0.0/24", "here"], vec!["spec.cidrs[1]"]),
            (
                &["10.97.0.0/24", "fd00::/112", "fd01::/112"],
                vec!["spec.cidrs"],
            ),
        ] {
            let errors = (ROW.validate_create)(&cidr(networks));
            assert_eq!(fields(&errors), wrong, "{networks:?}: {errors:?}");
        }
    }

    #[test]
    fn a_second_family_may_come_and_nothing_goes() {
        let (one, two) = (&["10.97.0.0/24"][..], &["10.97.0.0/24", "fd00::/112"][..]);
        for (old, new, wrong) in [
            (one, one, vec![]),
            (one, two, vec![]),
            (two, one, vec!["spec.cidrs"]),
            (one, &["10.98.0.0/24"], vec!["spec.cidrs[0]"]),
            (one, &["10.98.0.0/24", "fd00::/112"], vec!["spec.cidrs[0]"]),
            (one, &["10.97.0.0/24", "fd00::/x"], vec!["spec.cidrs[1]"]),
        ] {
            let errors = (ROW.validate_update)(&cidr(new), &cidr(old));
            assert_eq!(fields(&errors), wrong, "{old:?} {new:?}: {errors:?}");
        }
    }

    #[test]
    fn networks_read_as_in_kubectl() {
        let cells = (ROW.cells)(
            &cidr(&["10.97.0.0/24", "fd00::/112"]),
            jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(cells[..2], ["more", "10.97.0.0/24,fd00::/112"]);
    }
}
