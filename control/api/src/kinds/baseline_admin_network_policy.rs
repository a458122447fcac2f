//! What holds for pods of the whole cluster where no other policy decides. There is one.

use serde_json::Value;

use super::admin_policy::{self, GROUP, Rules, VERSION};
use crate::decode::decode_schema;
use crate::field::Path;
use crate::print::{AGE, NAME, age, name};
use crate::resource::{FieldError, Resource, Subresource};
use crate::value::ValueExt;
use crate::{meta, names};

const KIND: &str = "BaselineAdminNetworkPolicy";
const SCHEMA: &str = "io.k8s.networking.policy.v1alpha1.BaselineAdminNetworkPolicy";

const RULES: Rules = Rules {
    actions: &["Allow", "Deny"],
    egress_peers: &["namespaces", "pods", "nodes", "networks"],
    no_named_ports: "networks/nodes peer cannot be set with namedPorts since there are no namedPorts for networks/nodes",
};

pub const ROW: Resource = Resource {
    kind: KIND,
    plural: "baselineadminnetworkpolicies",
    singular: "baselineadminnetworkpolicy",
    short_names: &["banp"],
    storage_prefix: "policy.networking.k8s.io/baselineadminnetworkpolicies",
    subresources: &[Subresource::status(GROUP, VERSION, KIND)],
    decode: |value| decode_schema(SCHEMA, "policy.networking.k8s.io/v1alpha1", KIND, value),
    validate_create: |policy| {
        let mut errors = meta::validate(policy, false, names::subdomain);
        validate(policy, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &mut errors);
        errors
    },
    columns: &[NAME, AGE],
    cells: |policy, now| vec![name(policy), age(policy, now)],
    schema: SCHEMA,
    ..admin_policy::BASE
};

fn validate(policy: &Value, errors: &mut Vec<FieldError>) {
    let name = policy.str_at("/metadata/name");
    if name != "default" {
        let words = "Only one baseline admin network policy with metadata.name=\"default\" can be created in the cluster";
        errors.push(Path::new("metadata").child("name").invalid(name, words));
    }
    admin_policy::validate(policy, &RULES, errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_is_one() {
        let rule = |action: &str| json!({"action": action, "from": [{"namespaces": {}}]});
        for (name, action, wrong) in [
            ("default", "Deny", vec![]),
            ("other", "Deny", vec!["metadata.name"]),
            ("default", "Pass", vec!["spec.ingress[0].action"]),
        ] {
            let spec = json!({"subject": {"namespaces": {}}, "ingress": [rule(action)]});
            let policy = json!({"metadata": {"name": name}, "spec": spec});
            let errors = (ROW.validate_create)(&policy);
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, wrong, "{name} {action}: {errors:?}");
        }
    }
}
