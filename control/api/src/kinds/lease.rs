use k8s_openapi::api::coordination::v1::Lease as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    storage_prefix: "leases",
    decode: typed::<Typed>,
    validate_create: |lease| {
        let mut errors = meta::validate(lease, true, names::subdomain);
        validate_spec(lease, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_spec(new, &mut errors);
        errors
    },
    columns: &[
        NAME,
        column(
            "Holder",
            "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
        ),
        AGE,
    ],
    cells: |lease, now| {
        vec![
            name(lease),
            lease.str_at("/spec/holderIdentity").into(),
            age(lease, now),
        ]
    },
    create_on_update: true,
    unconditional_update: false,
    schema: "io.k8s.api.coordination.v1.Lease",
    types: register::<Typed>,
    ..BASE
};

fn validate_spec(lease: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    if let Some(seconds) = lease.opt_i64("/spec/leaseDurationSeconds")
        && seconds <= 0
    {
        errors.push(
            path.child("leaseDurationSeconds")
                .invalid(seconds, "must be greater than 0"),
        );
    }
    let transitions = lease.i64_at("/spec/leaseTransitions");
    if transitions < 0 {
        errors.push(
            path.child("leaseTransitions")
                .invalid(transitions, "must be greater than or equal to 0"),
        );
    }
}
