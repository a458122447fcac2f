use k8s_openapi::api::apps::v1::ControllerRevision as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage_prefix: "controllerrevisions",
    decode: typed::<Typed>,
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    types: register::<Typed>,
    ..BASE
};
