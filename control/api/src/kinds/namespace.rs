use k8s_openapi::api::core::v1::Namespace as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    storage_prefix: "namespaces",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Namespace",
    types: register::<Typed>,
    ..BASE
};
