use k8s_openapi::api::apps::v1::ReplicaSet as Typed;

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

pub const ROW: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    storage_prefix: "replicasets",
    decode: typed::<Typed>,
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    types: register::<Typed>,
    ..BASE
};
