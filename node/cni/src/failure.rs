//! The error object on stdout.

use serde_json::{Value, json};
use vetch_cni_proto::Failure;

pub fn object(failure: &Failure, version: &str) -> Value {
    let mut object = json!({
        "cniVersion": version,
        "code": failure.code,
        "msg": failure.msg,
    });
    if !failure.details.is_empty() {
        object["details"] = failure.details.clone().into();
    }
    object
}

/// An error with its causes, but for what it repeats of them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        next = cause.source();
    }
    words
}
