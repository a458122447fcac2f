use k8s_openapi::api::apps::v1::ControllerRevision as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name, number, or_none};
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage_prefix: "controllerrevisions",
    decode: typed::<Typed>,
    validate_create: |revision| {
        let mut errors = meta::validate(revision, true, names::subdomain);
        if revision.i64_at("/revision") < 0 {
            errors.push(Path::new("revision").invalid(
                revision.i64_at("/revision"),
                "must be greater than or equal to 0",
            ));
        }
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        if new.get("data") != old.get("data") {
            errors.push(Path::new("data").invalid(Value::Null, "field is immutable"));
        }
        errors
    },
    columns: &[
        NAME,
        column("Controller", "Controller of the object"),
        number(
            "Revision",
            "Revision indicates the revision of the state represented by Data.",
        ),
        AGE,
    ],
    cells: |revision, now| {
        let controller = revision
            .list_at("/metadata/ownerReferences")
            .iter()
            .find(|o| o.bool_at("/controller"))
            .map(|o| {
                let group = o
                    .str_at("/apiVersion")
                    .split_once('/')
                    .map_or("", |(group, _)| group);
                let kind = o.str_at("/kind").to_lowercase();
                let resource = if group.is_empty() {
                    kind
                } else {
                    format!("{kind}.{group}")
                };
                format!("{resource}/{}", o.str_at("/name"))
            })
            .unwrap_or_default();
        vec![
            name(revision),
            or_none(controller),
            revision.i64_at("/revision").into(),
            age(revision, now),
        ]
    },
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    types: register::<Typed>,
    ..BASE
};
