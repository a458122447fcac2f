//! ipFamilies and ipFamilyPolicy, in a cluster whose services have addresses of one family.

use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::FieldError;

use crate::admission::{list, text};

/// Fills what the client left out; refuses what one family cannot give.
pub fn check_and_fill(service: &mut Value, family: &'static str) -> Result<(), FieldError> {
    if text(service, "/spec/type") == "ExternalName" {
        return Ok(());
    }
    let headless = text(service, "/spec/clusterIP") == "None";
    let selects = service
        .pointer("/spec/selector")
        .and_then(Value::as_object)
        .is_some_and(|selector| !selector.is_empty());
    if headless && !selects {
        // Its endpoints are the user's own, of whatever family.
        fill_open(service, family);
        return Ok(());
    }
    let path = Path::new("spec");
    let foreign = list(service, "/spec/ipFamilies")
        .iter()
        .position(|own| own != family);
    if let Some(index) = foreign {
        let own = service["spec"]["ipFamilies"][index].clone();
        let at = path.child("ipFamilies").index(index);
        return Err(at.invalid(own, "not configured on this cluster"));
    }
    if text(service, "/spec/ipFamilyPolicy") == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        return Err(path
            .child("ipFamilyPolicy")
            .invalid("RequireDualStack", detail));
    }
    let addresses = list(service, "/spec/clusterIPs");
    if addresses.len() > 1 {
        let detail =
            "may only hold up to 1 values: this cluster is not configured for dual-stack services";
        return Err(path.child("clusterIPs").invalid(addresses.to_vec(), detail));
    }
    fill(service, "ipFamilyPolicy", json!("SingleStack"));
    fill(service, "ipFamilies", json!([family]));
    Ok(())
}

fn fill_open(service: &mut Value, family: &str) {
    fill(service, "ipFamilyPolicy", json!("RequireDualStack"));
    let first = list(service, "/spec/ipFamilies")
        .first()
        .and_then(Value::as_str)
        .unwrap_or(family);
    let other = match first {
        "IPv4" => "IPv6",
        _ => "IPv4",
    };
    let families = match text(service, "/spec/ipFamilyPolicy") {
        "SingleStack" => json!([first]),
        _ => json!([first, other]),
    };
    if list(service, "/spec/ipFamilies").len() < 2 {
        service["spec"]["ipFamilies"] = families;
    }
}

fn fill(service: &mut Value, field: &str, value: Value) {
    let unset = match &service["spec"][field] {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if unset {
        service["spec"][field] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_the_clusters() {
        for (spec, policy, families) in [
            (json!({"type": "ClusterIP"}), "SingleStack", json!(["IPv4"])),
            (
                json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack",
                json!(["IPv4"]),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "selector": {"a": "b"}}),
                "SingleStack",
                json!(["IPv4"]),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None"}),
                "RequireDualStack",
                json!(["IPv4", "IPv6"]),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "ipFamilyPolicy": "SingleStack"}),
                "SingleStack",
                json!(["IPv4"]),
            ),
        ] {
            let mut service = json!({"spec": spec});
            check_and_fill(&mut service, "IPv4").unwrap();
            let filled = (
                &service["spec"]["ipFamilyPolicy"],
                &service["spec"]["ipFamilies"],
            );
            assert_eq!(filled, (&json!(policy), &families), "{spec}");
        }
    }

    #[test]
    fn what_one_family_cannot_give_is_refused() {
        for (spec, error) in [
            (
                json!({"type": "ClusterIP", "ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1", "10.96.0.2"]}),
                "spec.clusterIPs: Invalid value: [\"10.96.0.1\",\"10.96.0.2\"]: may only hold up to 1 values: this cluster is not configured for dual-stack services",
            ),
        ] {
            let refused = check_and_fill(&mut json!({"spec": spec}), "IPv4").unwrap_err();
            assert_eq!(refused.to_string(), error);
        }
    }

    #[test]
    fn a_mere_name_has_no_family() {
        let mut service = json!({"spec": {"type": "ExternalName"}});
        check_and_fill(&mut service, "IPv4").unwrap();
        assert_eq!(service, json!({"spec": {"type": "ExternalName"}}));
    }
}
