//! Impersonation: who may act as somebody else says so in headers (`kubectl --as`).

use std::collections::BTreeMap;

use http::HeaderMap;
use vetch_identity::User;

use crate::guard::{Action, forbidden};
use crate::request::decode;
use crate::state::Server;
use crate::status::{Result, Status};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

const ACCOUNT: &str = "system:serviceaccount:";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Who the request is from in the end: `asker`, or whom it may stand in for.
pub(crate) async fn stand_in(server: &Server, asker: User, headers: &HeaderMap) -> Result<User> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(asker);
    };
    for what in &impersonated(&wanted) {
        let action = what.action();
        if let Err(why) = server.guard.authorize(server, &asker, &action).await {
            return Err(forbidden(&asker, &action, &why));
        }
    }
    Ok(with_groups(wanted))
}

/// The user the headers name, as they name it.
fn wanted(headers: &HeaderMap) -> Result<Option<User>> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let one = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra.entry(decode(key)).or_default().push(text(value));
        }
    }
    let wanted = User {
        name: one(USER),
        uid: one(UID),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra,
    };
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    match wanted == User::default() {
        true => Ok(None),
        false => Err(Status::internal(
            "groups, a uid or extra fields were requested without impersonating a user",
        )),
    }
}

/// Something of a user that takes a right of its own to impersonate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Impersonated<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Impersonated<'_> {
    fn action(&self) -> Action<'_> {
        Action {
            verb: "impersonate",
            group: self.group,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            ..Action::default()
        }
    }
}

fn impersonated(wanted: &User) -> Vec<Impersonated<'_>> {
    const GROUP: &str = "authentication.k8s.io";
    let user = match account(&wanted.name) {
        Some((namespace, name)) => Impersonated {
            resource: "serviceaccounts",
            namespace,
            name,
            ..Impersonated::default()
        },
        None => Impersonated {
            resource: "users",
            name: &wanted.name,
            ..Impersonated::default()
        },
    };
    let groups = wanted.groups.iter().map(|name| Impersonated {
        resource: "groups",
        name,
        ..Impersonated::default()
    });
    let extra = wanted.extra.iter().flat_map(|(key, values)| {
        values.iter().map(|name| Impersonated {
            group: GROUP,
            resource: "userextras",
            subresource: key,
            name,
            ..Impersonated::default()
        })
    });
    let uid = (!wanted.uid.is_empty()).then_some(Impersonated {
        group: GROUP,
        resource: "uids",
        name: &wanted.uid,
        ..Impersonated::default()
    });
    [user]
        .into_iter()
        .chain(groups)
        .chain(extra)
        .chain(uid)
        .collect()
}

/// Namespace and name of a service account's user.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups that go without saying.
fn with_groups(mut user: User) -> User {
    if let (true, Some((namespace, _))) = (user.groups.is_empty(), account(&user.name)) {
        let own = format!("system:serviceaccounts:{namespace}");
        user.groups = vec!["system:serviceaccounts".to_owned(), own];
    }
    let told = user.is_in(AUTHENTICATED) || user.is_in(UNAUTHENTICATED);
    match user.name == ANONYMOUS {
        true if !user.is_in(UNAUTHENTICATED) => user.groups.push(UNAUTHENTICATED.to_owned()),
        false if !told => user.groups.push(AUTHENTICATED.to_owned()),
        _ => {}
    }
    user
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::HeaderName;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_headers_name_a_user() {
        let user = wanted(&headers(&[
            ("Impersonate-User", "jane"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Uid", "u"),
            ("Impersonate-Extra-Acme.com%2FProject", "one"),
        ]))
        .unwrap()
        .unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["acme.com/project"], ["one"]);
        assert_eq!(wanted(&headers(&[("Accept", "*/*")])).unwrap(), None);
        let refused = wanted(&headers(&[("Impersonate-Group", "a")])).unwrap_err();
        assert_eq!(refused.code, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn each_part_takes_its_own_right() {
        let mut user = User::new("system:serviceaccount:ns:app", &["g"]);
        user.uid = "u".into();
        user.extra.insert("k".into(), vec!["v".into()]);
        let asked: Vec<_> = impersonated(&user)
            .iter()
            .map(|it| (it.resource, it.subresource.to_owned(), it.name.to_owned()))
            .collect();
        let wanted = [
            ("serviceaccounts", "", "app"),
            ("groups", "", "g"),
            ("userextras", "k", "v"),
            ("uids", "", "u"),
        ];
        assert_eq!(
            asked,
            wanted.map(|(resource, sub, name)| (resource, sub.to_owned(), name.to_owned()))
        );
        let jane = User::new("jane", &[]);
        assert_eq!(impersonated(&jane)[0].resource, "users");
    }

    #[test]
    fn some_groups_go_without_saying() {
        for (name, groups, all) in [
            ("jane", &[][..], &["system:authenticated"][..]),
            ("jane", &["a"], &["a", "system:authenticated"]),
            (
                "jane",
                &["system:unauthenticated"],
                &["system:unauthenticated"],
            ),
            ("system:anonymous", &[], &["system:unauthenticated"]),
            (
                "system:serviceaccount:ns:app",
                &[],
                &[
                    "system:serviceaccounts",
                    "system:serviceaccounts:ns",
                    "system:authenticated",
                ],
            ),
        ] {
            assert_eq!(with_groups(User::new(name, groups)).groups, all, "{name}");
        }
    }
}
