//! Questions that are answered and not stored: who am I, whose token is this, may somebody do that.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::Resource;
use crate::schema::register;

const ANSWERED: Resource = Resource {
    namespaced: false,
    verbs: &["create"],
    ..BASE
};

pub const SELF_SUBJECT: Resource = Resource {
    group: "authentication.k8s.io",
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    storage_prefix: "selfsubjectreviews",
    decode: typed::<SelfSubjectReview>,
    schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
    types: register::<SelfSubjectReview>,
    ..ANSWERED
};

pub const TOKEN: Resource = Resource {
    group: "authentication.k8s.io",
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    storage_prefix: "tokenreviews",
    decode: typed::<TokenReview>,
    schema: "io.k8s.api.authentication.v1.TokenReview",
    types: register::<TokenReview>,
    ..ANSWERED
};

pub const LOCAL_SUBJECT_ACCESS: Resource = Resource {
    group: "authorization.k8s.io",
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    storage_prefix: "localsubjectaccessreviews",
    decode: typed::<LocalSubjectAccessReview>,
    schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    types: register::<LocalSubjectAccessReview>,
    ..ANSWERED
};

pub const SELF_SUBJECT_ACCESS: Resource = Resource {
    group: "authorization.k8s.io",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    storage_prefix: "selfsubjectaccessreviews",
    decode: typed::<SelfSubjectAccessReview>,
    schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    types: register::<SelfSubjectAccessReview>,
    ..ANSWERED
};

pub const SELF_SUBJECT_RULES: Resource = Resource {
    group: "authorization.k8s.io",
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    storage_prefix: "selfsubjectrulesreviews",
    decode: typed::<SelfSubjectRulesReview>,
    schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    types: register::<SelfSubjectRulesReview>,
    ..ANSWERED
};

pub const SUBJECT_ACCESS: Resource = Resource {
    group: "authorization.k8s.io",
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    storage_prefix: "subjectaccessreviews",
    decode: typed::<SubjectAccessReview>,
    schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
    types: register::<SubjectAccessReview>,
    ..ANSWERED
};
