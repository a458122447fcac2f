use k8s_openapi::api::core::v1::Node as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    storage_prefix: "minions",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Node",
    types: register::<Typed>,
    ..BASE
};
