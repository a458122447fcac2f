use k8s_openapi::api::core::v1::ServiceAccount as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    storage_prefix: "serviceaccounts",
    decode: typed::<Typed>,
    schema: "io.k8s.api.core.v1.ServiceAccount",
    types: register::<Typed>,
    ..BASE
};
