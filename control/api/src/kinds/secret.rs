use k8s_openapi::api::core::v1::Secret as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    storage_prefix: "secrets",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.Secret",
    types: register::<Typed>,
    ..BASE
};
