use k8s_openapi::api::discovery::v1::EndpointSlice as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    storage_prefix: "endpointslices",
    decode: typed::<Typed>,
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    types: register::<Typed>,
    ..BASE
};
