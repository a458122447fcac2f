//! `securityContext.sysctls` of a pod: names that may be, each once, and none of a namespace that is the node's.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

const LONGEST: usize = 253;
/// Kubernetes' words for what [`is_name`] looks at.
const FORM: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// `path`: of the pod's spec.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let path = path.child("securityContext").child("sysctls");
    let mut seen = BTreeSet::new();
    for (i, sysctl) in spec.list_at("/securityContext/sysctls").iter().enumerate() {
        let name = sysctl.str_at("/name");
        let at = path.index(i).child("name");
        if name.is_empty() {
            errors.push(at.required(""));
        } else if !is_name(name) {
            errors.push(at.invalid(name, FORM));
        } else if !seen.insert(name) {
            errors.push(at.duplicate(name));
        }
        for (field, is_of) in [
            ("hostNetwork", is_network as fn(&str) -> bool),
            ("hostIPC", is_ipc),
        ] {
            if spec.bool_at(&format!("/{field}")) && is_of(&normal(name)) {
                let words = format!("may not be specified when '{field}' is true");
                errors.push(at.invalid(name, &words));
            }
        }
    }
}

/// Parts of lower-case letters, digits, `-` and `_`, which begin and end with a letter or digit.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| plain(*byte))
            && bytes.last().is_some_and(|byte| plain(*byte))
            && bytes
                .iter()
                .all(|byte| plain(*byte) || b"-_".contains(byte))
    };
    name.len() <= LONGEST && name.split(['.', '/']).all(is_part)
}

/// With dots: where the first separator is a slash, the two have changed their places, sysctl(8).
fn normal(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name
            .chars()
            .map(|letter| match letter {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn is_network(name: &str) -> bool {
    name.starts_with("net.")
}

/// ipc_namespaces(7)
fn is_ipc(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
    ];
    NAMES.contains(&name) || name.starts_with("fs.mqueue.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let long = "a".repeat(254);
        for (names, more, wrong) in [
            (
                &[
                    "kernel.shmmax",
                    "net.ipv4.ip_local_port_range",
                    "safe-and-unsafe",
                ][..],
                json!({}),
                &[][..],
            ),
            (
                &["kernel/shm_rmid_forced", "net/ipv4/conf/eth0.1/rp_filter"],
                json!({}),
                &[],
            ),
            (
                &["foo-", "kernel.shmmax", "bar.."],
                json!({}),
                &[(0, "match regex"), (2, "match regex")],
            ),
            (
                &["A", "a b", ".a", "_a", "a//b"],
                json!({}),
                &[
                    (0, "match"),
                    (1, "match"),
                    (2, "match"),
                    (3, "match"),
                    (4, "match"),
                ],
            ),
            (&[""], json!({}), &[(0, "Required value")]),
            (&[&long], json!({}), &[(0, "at most 253")]),
            (&["a.b", "a.b"], json!({}), &[(1, "Duplicate value")]),
            (
                &["net.core.somaxconn", "kernel.sem"],
                json!({"hostNetwork": true}),
                &[(0, "'hostNetwork' is true")],
            ),
            (
                &["net/core/somaxconn"],
                json!({"hostNetwork": true}),
                &[(0, "'hostNetwork' is true")],
            ),
            (
                &["net.core.somaxconn", "kernel.sem", "fs.mqueue.msg_max"],
                json!({"hostIPC": true}),
                &[(1, "'hostIPC' is true"), (2, "'hostIPC' is true")],
            ),
        ] {
            let sysctls: Vec<Value> = names
                .iter()
                .map(|name| json!({"name": name, "value": "1"}))
                .collect();
            let mut spec = more;
            spec["securityContext"] = json!({"sysctls": sysctls});
            let mut errors = Vec::new();
            validate(&spec, &Path::new("spec"), &mut errors);
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(said.len(), wrong.len(), "{names:?}: {said:?}");
            for (said, (index, words)) in said.iter().zip(wrong) {
                let at = format!("spec.securityContext.sysctls[{index}].name: ");
                assert!(said.starts_with(&at) && said.contains(words), "{said}");
            }
        }
    }
}
