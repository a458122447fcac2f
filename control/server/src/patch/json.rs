//! RFC 6902: one operation after the other, and none makes more of an object than kube-apiserver lets it.

use http::StatusCode;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::status::{Result, Status};

/// kube-apiserver's maxJSONPatchOperations.
const MOST_OPERATIONS: usize = 10_000;
/// Bytes of JSON that a patch's copies may add: kube-apiserver's JSONPatchMaxCopyBytes.
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// Lists and objects within each other. serde_json reads no more, so neither a body nor a stored object has more.
const DEEPEST: usize = 127;

pub(super) fn parse(body: &[u8]) -> Result<Patch> {
    let patch: Patch = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    match patch.len() {
        0..=MOST_OPERATIONS => Ok(patch),
        got => Err(Status::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {got}"
        ))),
    }
}

/// Where it is refused, what is left of the object is of no use.
pub(super) fn apply(patch: &[PatchOperation], object: &mut Value) -> Result<()> {
    let mut copied = 0;
    for (index, operation) in patch.iter().enumerate() {
        let placed = match operation {
            PatchOperation::Add(own) => Some(&own.value),
            PatchOperation::Replace(own) => Some(&own.value),
            PatchOperation::Move(own) => object.pointer(own.from.as_str()),
            PatchOperation::Copy(own) => object.pointer(own.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        if let Some(value) = placed {
            let above = operation.path().as_str().matches('/').count();
            if DEEPEST
                .checked_sub(above)
                .is_none_or(|left| !is_within(value, left))
            {
                return Err(refused("exceeded max depth"));
            }
            if matches!(operation, PatchOperation::Copy(_)) {
                copied += value.to_string().len();
            }
            if copied > MOST_COPIED {
                return Err(refused(&format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MOST_COPIED}"
                )));
            }
        }
        // Nothing is undone: an object whose patch fails is thrown away.
        json_patch::patch_unsafe(object, std::slice::from_ref(operation)).map_err(
            |mut error| {
                error.operation = index;
                refused(&error.to_string())
            },
        )?;
    }
    Ok(())
}

/// No more lists and objects within each other than this.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(list) => levels > 0 && list.iter().all(|own| is_within(own, levels - 1)),
        Value::Object(map) => levels > 0 && map.values().all(|own| is_within(own, levels - 1)),
        _ => true,
    }
}

fn refused(why: &str) -> Status {
    let message = format!("the server rejected our request due to an error in our request: {why}");
    Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(patch: Value, object: Value) -> Result<Value, (u16, String)> {
        let told = |status: Status| (status.code.as_u16(), status.message);
        let patch = parse(patch.to_string().as_bytes()).map_err(told)?;
        let mut object = object;
        apply(&patch, &mut object).map_err(told)?;
        Ok(object)
    }

    fn repeated(count: usize, operations: &[Value]) -> Value {
        let all = operations.iter().cycle().take(count * operations.len());
        all.cloned().collect()
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn operations_follow_one_another() {
        let object = json!({"a": {"b": 1}});
        for (patch, wanted) in [
            (json!([]), Ok(object.clone())),
            (
                json!([
                    {"op": "test", "path": "/a/b", "value": 1},
                    {"op": "copy", "from": "/a", "path": "/c"},
                    {"op": "move", "from": "/a/b", "path": "/c/d"},
                    {"op": "replace", "path": "/c/b", "value": 2},
                    {"op": "remove", "path": "/a"},
                ]),
                Ok(json!({"c": {"b": 2, "d": 1}})),
            ),
            (
                json!([
                    {"op": "add", "path": "/e", "value": 1},
                    {"op": "remove", "path": "/f"},
                ]),
                Err((
                    422,
                    "the server rejected our request due to an error in our request: operation '/1' failed at path '/f': path is invalid",
                )),
            ),
        ] {
            let wanted = wanted.map_err(|(code, text)| (code, text.to_owned()));
            assert_eq!(applied(patch.clone(), object.clone()), wanted, "{patch}");
        }
    }

    #[test]
    fn operations_are_counted() {
        let test = json!({"op": "test", "path": "/a", "value": 1});
        let all = |count| {
            applied(
                repeated(count, std::slice::from_ref(&test)),
                json!({"a": 1}),
            )
        };
        assert_eq!(all(10_000), Ok(json!({"a": 1})));
        let message = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
        assert_eq!(all(10_001), Err((413, message.to_owned())));
    }

    #[test]
    fn copies_are_measured() {
        let message = |size: usize| {
            format!(
                "the server rejected our request due to an error in our request: Unable to complete the copy, \
                 the accumulated size increase of copy is {size}, exceeding the limit 3145728"
            )
        };
        // With its quotes a MiB.
        let object = json!({"a": "x".repeat(1024 * 1024 - 2), "b": 1});
        let copy = |from: &str| json!({"op": "copy", "from": from, "path": "/c"});
        let thrice = repeated(3, &[copy("/a")]);
        assert_eq!(
            applied(thrice.clone(), object.clone()).map(|own| own["c"] == own["a"]),
            Ok(true)
        );
        let mut more = thrice;
        more.as_array_mut().unwrap().push(copy("/b"));
        assert_eq!(
            applied(more, object),
            Err((422, message(3 * 1024 * 1024 + 1)))
        );

        // Each doubles it.
        let double = json!({"op": "copy", "from": "/a", "path": "/a/b"});
        let grown = |count: usize| {
            let operations: Vec<Value> = (0..count)
                .map(|at| {
                    let mut one = double.clone();
                    one["path"] = format!("/a/{at}").into();
                    one
                })
                .collect();
            applied(operations.into(), json!({"a": {"x": "1"}}))
        };
        assert!(grown(10).is_ok());
        let (code, text) = grown(40).unwrap_err();
        assert!(
            code == 422 && text.contains("exceeding the limit"),
            "{text}"
        );
    }

    #[test]
    fn objects_stay_as_shallow_as_can_be_read() {
        let message =
            "the server rejected our request due to an error in our request: exceeded max depth";
        let deep = || Err((422, message.to_owned()));
        // A list in an object in the root.
        let object = |levels: usize| json!({"a": {}, "b": nested(levels)});
        for (patch, object, fits) in [
            (
                json!([{"op": "add", "path": "/a", "value": nested(110)}]),
                object(0),
                true,
            ),
            (
                json!([{"op": "copy", "from": "/b", "path": "/c"}]),
                object(126),
                true,
            ),
            (
                json!([{"op": "copy", "from": "/b", "path": "/a/c"}]),
                object(126),
                false,
            ),
            (
                json!([{"op": "copy", "from": "/b", "path": "/a/c"}]),
                object(125),
                true,
            ),
            (
                json!([{"op": "move", "from": "/b", "path": "/a/c"}]),
                object(126),
                false,
            ),
            (
                json!([{"op": "move", "from": "/b", "path": "/a/c"}]),
                object(125),
                true,
            ),
            (
                json!([{"op": "replace", "path": "", "value": nested(110)}]),
                object(0),
                true,
            ),
        ] {
            let found = applied(patch.clone(), object).map(|own| {
                // What was let through can be read again.
                serde_json::from_str::<Value>(&own.to_string()).is_ok()
            });
            assert_eq!(found, if fits { Ok(true) } else { deep() }, "{patch}");
        }
        let wrapped = repeated(
            3_333,
            &[
                json!({"op": "add", "path": "/t", "value": {}}),
                json!({"op": "move", "from": "/s", "path": "/t/s"}),
                json!({"op": "move", "from": "/t", "path": "/s"}),
            ],
        );
        assert_eq!(applied(wrapped, json!({"s": {}})).map(|_| true), deep());
    }
}
