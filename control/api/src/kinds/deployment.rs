use k8s_openapi::api::apps::v1::Deployment as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    storage_prefix: "deployments",
    decode: typed::<Typed>,
    schema: "io.k8s.api.apps.v1.Deployment",
    types: register::<Typed>,
    ..BASE
};
