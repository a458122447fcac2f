use k8s_openapi::api::core::v1::ConfigMap as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    storage_prefix: "configmaps",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.ConfigMap",
    types: register::<Typed>,
    ..BASE
};
