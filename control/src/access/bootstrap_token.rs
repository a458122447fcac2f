//! Bootstrap tokens: `ID.SECRET`, known by a Secret `bootstrap-token-ID` in kube-system.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use vetch_identity::User;
use vetch_server::Server;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";
const AUTHENTICATED: &str = "system:authenticated";

/// Who the token stands for. `Ok(None)`: it has not the form of a bootstrap token, and may be one of another kind.
/// `Err` says what is wrong with it, fit for a log and not for whoever showed it.
pub(super) async fn authenticate(server: &Server, token: &str) -> Result<Option<User>, String> {
    let Some((id, secret)) = parts(token) else {
        return Ok(None);
    };
    let name = format!("bootstrap-token-{id}");
    let found = server
        .find("", "secrets", Some(NAMESPACE), &name)
        .await
        .map_err(|status| status.message)?;
    let found = found.ok_or_else(|| format!("there is no secret {NAMESPACE}/{name}"))?;
    user(&found.value, id, secret, Timestamp::now()).map(Some)
}

/// Six and sixteen characters of a to z and 0 to 9.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The Secret's user, if the token is its and still stands.
fn user(found: &Value, id: &str, secret: &str, now: Timestamp) -> Result<User, String> {
    if !found["metadata"]["deletionTimestamp"].is_null() {
        return Err("its secret is being deleted".to_owned());
    }
    if found["type"] != TYPE {
        return Err(format!("its secret is not of type {TYPE}"));
    }
    let data = |key: &str| -> String {
        let encoded = found["data"][key].as_str().unwrap_or_default();
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    if !same(&data("token-secret"), secret) {
        return Err("its secret part is another".to_owned());
    }
    if data("token-id") != id {
        return Err("its secret is of another token-id".to_owned());
    }
    let expiration = data("expiration");
    // A time that nobody can read is over.
    let ends = expiration.parse::<Timestamp>().unwrap_or(Timestamp::MIN);
    if !expiration.is_empty() && ends <= now {
        return Err(format!("it expired at {expiration}"));
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("it is not for authentication".to_owned());
    }
    let mut groups = vec![GROUP.to_owned()];
    let extra = data("auth-extra-groups");
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return Err(format!("the group {group:?} is not of {GROUP}:…"));
        }
        if !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups.push(AUTHENTICATED.to_owned());
    Ok(User {
        name: format!("{USER_PREFIX}{id}"),
        groups,
        ..User::default()
    })
}

/// `system:bootstrappers:` and `[a-z0-9:-]{0,255}[a-z0-9]`.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().last().is_some_and(plain)
        && rest
            .bytes()
            .all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
}

/// In a time that does not tell where they differ.
fn same(known: &str, shown: &str) -> bool {
    let (known, shown) = (known.as_bytes(), shown.as_bytes());
    known.len() == shown.len()
        && std::hint::black_box(
            known
                .iter()
                .zip(shown)
                .fold(0, |differ, (one, other)| differ | (one ^ other)),
        ) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "abcdef";
    const SECRET: &str = "0123456789abcdef";

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        for (key, value) in [
            ("token-id", ID),
            ("token-secret", SECRET),
            ("usage-bootstrap-authentication", "true"),
        ]
        .iter()
        .chain(changes)
        {
            data[*key] = STANDARD.encode(value).into();
        }
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": TYPE, "data": data})
    }

    #[test]
    fn only_six_and_sixteen_characters_are_a_token() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some((ID, SECRET)));
        for other in [
            "",
            "abcdef",
            "abcdef.0123456789abcde",
            "abcde.0123456789abcdef",
            "abcdeF.0123456789abcdef",
            "abcdef.0123456789abcde/",
            "abcdef.0123456789abcdef.",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_its_secrets() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut typed = secret(&[]);
        typed["type"] = "Opaque".into();
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        for (found, why) in [
            (secret(&[]), None),
            (secret(&[("expiration", "2026-01-01T00:00:01Z")]), None),
            (secret(&[("expiration", "2026-01-01T02:00:01+02:00")]), None),
            (
                secret(&[("expiration", "2026-01-01T00:00:00Z")]),
                Some("it expired at 2026-01-01T00:00:00Z"),
            ),
            (
                secret(&[("expiration", "tomorrow")]),
                Some("it expired at tomorrow"),
            ),
            (
                secret(&[("token-secret", "0123456789abcdee")]),
                Some("its secret part is another"),
            ),
            (
                secret(&[("token-secret", "")]),
                Some("its secret part is another"),
            ),
            (
                secret(&[("token-id", "abcdee")]),
                Some("its secret is of another token-id"),
            ),
            (
                secret(&[("usage-bootstrap-authentication", "false")]),
                Some("it is not for authentication"),
            ),
            (
                secret(&[("auth-extra-groups", "system:masters")]),
                Some("the group \"system:masters\" is not of system:bootstrappers:…"),
            ),
            (
                typed,
                Some("its secret is not of type bootstrap.kubernetes.io/token"),
            ),
            (going, Some("its secret is being deleted")),
        ] {
            let told = user(&found, ID, SECRET, now);
            assert_eq!(told.err().as_deref(), why, "{found}");
        }
    }

    #[test]
    fn groups_are_the_bootstrappers_and_those_below() {
        let groups = "system:bootstrappers:b-1,system:bootstrappers:a:b,system:bootstrappers:b-1";
        let found = secret(&[("auth-extra-groups", groups)]);
        let user = user(&found, ID, SECRET, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:b-1",
                "system:bootstrappers:a:b",
                "system:authenticated"
            ]
        );
        for other in [
            "system:nodes",
            "system:bootstrappers:",
            "system:bootstrappers:a-",
            "system:bootstrappers:A",
        ] {
            assert!(!is_group(other), "{other}");
        }
    }
}
