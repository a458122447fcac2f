use k8s_openapi::api::core::v1::Service as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    storage_prefix: "services/specs",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Service",
    types: register::<Typed>,
    ..BASE
};
