use k8s_openapi::api::core::v1::Endpoints as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    storage_prefix: "services/endpoints",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Endpoints",
    types: register::<Typed>,
    ..BASE
};
