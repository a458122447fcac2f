//! The list of rows. Adding a kind is one entry here and one file in `kinds`.

use serde_json::Value;

use crate::kinds;
use crate::resource::{ALL_VERBS, DecodeError, Propagation, Resource};
use crate::{meta, print};

static REGISTRY: &[Resource] = &[
    kinds::config_map::ROW,
    kinds::endpoints::ROW,
    kinds::event::CORE,
    kinds::namespace::ROW,
    kinds::node::ROW,
    kinds::persistent_volume_claim::ROW,
    kinds::persistent_volume::ROW,
    kinds::pod::ROW,
    kinds::secret::ROW,
    kinds::service::ROW,
    kinds::service_account::ROW,
    kinds::controller_revision::ROW,
    kinds::deployment::ROW,
    kinds::replica_set::ROW,
    kinds::review::SELF_SUBJECT,
    kinds::review::TOKEN,
    kinds::review::LOCAL_SUBJECT_ACCESS,
    kinds::review::SELF_SUBJECT_ACCESS,
    kinds::review::SELF_SUBJECT_RULES,
    kinds::review::SUBJECT_ACCESS,
    kinds::certificate_signing_request::ROW,
    kinds::lease::ROW,
    kinds::endpoint_slice::ROW,
    kinds::event::EVENTS,
    kinds::ip_address::ROW,
    kinds::network_policy::ROW,
    kinds::service_cidr::ROW,
    kinds::runtime_class::ROW,
    kinds::pod_disruption_budget::ROW,
    kinds::csi_driver::ROW,
    kinds::csi_node::ROW,
    kinds::storage_class::ROW,
    kinds::admin_network_policy::ROW,
    kinds::baseline_admin_network_policy::ROW,
];

/// Every kind served, in discovery order.
pub fn registry() -> &'static [Resource] {
    REGISTRY
}

/// The row of `(group, version, plural)`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    REGISTRY
        .iter()
        .find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The row of `(group, version, kind)`.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    REGISTRY
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind)
}

/// What most kinds share; a row says where it differs.
pub(crate) const BASE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "",
    verbs: ALL_VERBS,
    subresources: &[],
    decode: |_| {
        Err(DecodeError {
            message: "the row has no type".into(),
        })
    },
    default: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status: meta::keep_all_but_status,
    validate_create: |o: &Value| meta::validate(o, true, crate::names::subdomain),
    validate_update: meta::validate_update,
    validate_status: meta::validate_update,
    warn: None,
    deprecated: None,
    selectable_fields: |_| Vec::new(),
    columns: print::NAME_AGE,
    cells: print::name_age,
    grace_seconds: |_, _| None,
    default_propagation: Propagation::Background,
    create_on_update: false,
    unconditional_update: true,
    ttl_seconds: None,
    to_storage: std::convert::identity,
    from_storage: std::convert::identity,
    schema: "",
    types: |_| {},
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_complete_and_distinct() {
        let mut seen = std::collections::BTreeSet::new();
        for row in registry() {
            assert!(
                seen.insert((row.group, row.version, row.plural)),
                "{} twice",
                row.plural
            );
            assert!(
                crate::schema::schemas().get(row.schema).is_some(),
                "{} has no schema",
                row.schema
            );
            assert!(
                !row.storage_prefix.is_empty() && !row.singular.is_empty(),
                "{}",
                row.kind
            );
            let empty = serde_json::json!({"metadata": {"name": "x"}});
            let now = jiff::Timestamp::UNIX_EPOCH;
            assert_eq!(
                (row.cells)(&empty, now).len(),
                row.columns.len(),
                "{} cells",
                row.kind
            );
            (row.default)(&mut empty.clone());
            (row.validate_create)(&empty);
            (row.prepare_create)(&mut empty.clone());
            (row.prepare_update)(&mut empty.clone(), &empty);
            (row.validate_update)(&empty, &empty);
            if let Some(warn) = row.warn {
                for of in [warn.create, warn.update, warn.status] {
                    assert_eq!(of(&empty), [""; 0], "{}", row.kind);
                }
            }
        }
    }
}
