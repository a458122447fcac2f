use k8s_openapi::api::core::v1::ServiceAccount as Typed;

use crate::decode::typed;
use crate::print::{AGE, NAME, age, name, number};
use crate::registry::BASE;
use crate::resource::{Resource, Subresource, SubresourceKind};
use crate::schema::register;
use crate::value::ValueExt;

pub const ROW: Resource = Resource {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    storage_prefix: "serviceaccounts",
    subresources: &[Subresource {
        name: "token",
        kind: SubresourceKind::Token,
        verbs: &["create"],
        group: "authentication.k8s.io",
        version: "v1",
        object_kind: "TokenRequest",
    }],
    decode: typed::<Typed>,
    columns: &[
        NAME,
        number(
            "Secrets",
            "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use. Pods are only limited to this list if this service account has a \"kubernetes.io/enforce-mountable-secrets\" annotation set to \"true\". More info: https://kubernetes.io/docs/concepts/configuration/secret",
        ),
        AGE,
    ],
    cells: |account, now| {
        vec![
            name(account),
            account.list_at("/secrets").len().into(),
            age(account, now),
        ]
    },
    schema: "io.k8s.api.core.v1.ServiceAccount",
    types: register::<Typed>,
    ..BASE
};
