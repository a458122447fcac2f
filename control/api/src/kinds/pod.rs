use k8s_openapi::api::core::v1::Pod as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    storage_prefix: "pods",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Pod",
    types: register::<Typed>,
    ..BASE
};
