use k8s_openapi::api::coordination::v1::Lease as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    storage_prefix: "leases",
    decode: typed::<Typed>,
    schema: "io.k8s.api.coordination.v1.Lease",
    types: register::<Typed>,
    ..BASE
};
