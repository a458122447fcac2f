//! Security profiles of pods and containers: AppArmor's and seccomp's say the same in the same shape.

use serde_json::Value;

use super::container::relative_path;
use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

const TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
/// PATH_MAX without the zero.
const MAX: usize = 4095;

/// `path`: of the securityContext.
pub(super) fn validate(context: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (field, of) in [
        ("appArmorProfile", "AppArmor"),
        ("seccompProfile", "seccomp"),
    ] {
        if let Some(profile) = context.get(field).filter(|profile| profile.is_object()) {
            validate_one(profile, &path.child(field), (field, of), errors);
        }
    }
}

fn validate_one(
    profile: &Value,
    path: &Path,
    (field, of): (&str, &str),
    errors: &mut Vec<FieldError>,
) {
    let at = path.child("localhostProfile");
    let name = profile.get("localhostProfile").and_then(Value::as_str);
    let required = || at.required(&format!("must be set when {of} type is Localhost"));
    match (profile.str_at("/type"), name) {
        ("", _) => {
            let words = format!("type is required when {field} is set");
            errors.push(path.child("type").required(&words));
        }
        ("Localhost", None | Some("")) => errors.push(required()),
        ("Localhost", Some(name)) if of == "AppArmor" => {
            if name.trim().is_empty() || name.trim() != name {
                errors.push(at.invalid(name, "must not be padded with whitespace"));
            }
            if name.len() > MAX {
                errors.push(at.too_long(MAX));
            }
        }
        ("Localhost", Some(name)) => relative_path(name, &at, errors),
        (kind, name) if TYPES.contains(&kind) => {
            if let Some(name) = name {
                let words = format!("can only be set when {of} type is Localhost");
                errors.push(at.invalid(name, &words));
            }
        }
        (kind, _) => errors.push(path.child("type").not_supported(kind, TYPES)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_profile() {
        for (profile, armor, seccomp) in [
            (json!({"type": "RuntimeDefault"}), None, None),
            (json!({"type": "Unconfined"}), None, None),
            (
                json!({"type": "Localhost", "localhostProfile": "p"}),
                None,
                None,
            ),
            (json!({}), Some("type: Required"), Some("type: Required")),
            (
                json!({"type": "Strict"}),
                Some("type: Unsupported"),
                Some("type: Unsupported"),
            ),
            (
                json!({"type": "Localhost"}),
                Some(
                    "localhostProfile: Required value: must be set when AppArmor type is Localhost",
                ),
                Some(
                    "localhostProfile: Required value: must be set when seccomp type is Localhost",
                ),
            ),
            (
                json!({"type": "Unconfined", "localhostProfile": "p"}),
                Some(
                    "localhostProfile: Invalid value: \"p\": can only be set when AppArmor type is Localhost",
                ),
                Some(
                    "localhostProfile: Invalid value: \"p\": can only be set when seccomp type is Localhost",
                ),
            ),
            (
                json!({"type": "Localhost", "localhostProfile": " p"}),
                Some("localhostProfile: Invalid value: \" p\": must not be padded with whitespace"),
                None,
            ),
            (
                json!({"type": "Localhost", "localhostProfile": "../p"}),
                None,
                Some("localhostProfile: Invalid value: \"../p\": must not contain '..'"),
            ),
        ] {
            for (field, want) in [("appArmorProfile", armor), ("seccompProfile", seccomp)] {
                let mut errors = Vec::new();
                validate(
                    &json!({field: profile}),
                    &Path::new("securityContext"),
                    &mut errors,
                );
                let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
                match want {
                    None => assert_eq!(got, [""; 0], "{field} {profile}"),
                    Some(words) => {
                        let words = format!("securityContext.{field}.{words}");
                        assert!(
                            got.len() == 1 && got[0].starts_with(&words),
                            "{got:?}, not {words}"
                        );
                    }
                }
            }
        }
    }
}
