//! What administrators want for pods of the whole cluster, before NetworkPolicies are asked.

use serde_json::Value;

use super::admin_policy::{self, GROUP, Rules, VERSION, between};
use crate::decode::decode_schema;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::resource::{FieldError, Resource, Subresource};
use crate::value::ValueExt;
use crate::{meta, names};

const KIND: &str = "AdminNetworkPolicy";
const SCHEMA: &str = "io.k8s.networking.policy.v1alpha1.AdminNetworkPolicy";

const RULES: Rules = Rules {
    actions: &["Allow", "Deny", "Pass"],
    egress_peers: &["namespaces", "pods", "nodes", "networks", "domainNames"],
    no_named_ports: "networks/nodes/domainNames peer cannot be set with namedPorts since there are no namedPorts for networks/nodes/domainNames",
};

pub const ROW: Resource = Resource {
    kind: KIND,
    plural: "adminnetworkpolicies",
    singular: "adminnetworkpolicy",
    short_names: &["anp"],
    storage_prefix: "policy.networking.k8s.io/adminnetworkpolicies",
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
    columns: &[NAME, column("Priority", ""), AGE],
    cells: |policy, now| {
        let priority = policy.pointer("/spec/priority");
        let priority = priority.map_or_else(String::new, ToString::to_string);
        vec![name(policy), priority.into(), age(policy, now)]
    },
    schema: SCHEMA,
    ..admin_policy::BASE
};

fn validate(policy: &Value, errors: &mut Vec<FieldError>) {
    if policy.has("/spec") {
        let path = Path::new("spec").child("priority");
        match policy.opt_i64("/spec/priority") {
            None => errors.push(path.required("")),
            Some(priority) => between(priority, 0, 1000, &path, errors),
        }
    }
    admin_policy::validate(policy, &RULES, errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_reads_as_in_kubectl() {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"priority": 7}});
        let cells = (ROW.cells)(&policy, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells, ["p", "7", "<unknown>"]);
    }

    #[test]
    fn priorities() {
        for (priority, wrong) in [
            (json!(0), None),
            (json!(1000), None),
            (json!(null), Some("spec.priority: Required value")),
            (
                json!(1001),
                Some(
                    "spec.priority: Invalid value: 1001: spec.priority in body should be less than or equal to 1000",
                ),
            ),
            (
                json!(-1),
                Some(
                    "spec.priority: Invalid value: -1: spec.priority in body should be greater than or equal to 0",
                ),
            ),
        ] {
            let spec = json!({"priority": priority, "subject": {"namespaces": {}}});
            let policy = json!({"metadata": {"name": "p"}, "spec": spec});
            let errors = (ROW.validate_create)(&policy);
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors, Vec::from_iter(wrong), "{policy}");
        }
    }
}
