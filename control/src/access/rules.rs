//! The rules a user falls under, told for `kubectl auth can-i --list`.

use serde_json::{Value, json};
use vetch_identity::User;

use super::AUTHENTICATED;
use super::decide::{ABOUT_ONESELF, DISCOVERY, is_unlimited};
use super::node;

/// A SubjectRulesReviewStatus. What a node may do depends on its pods, so that no list of rules tells it.
pub fn rules(user: &User) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    if is_unlimited(user) {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    if user.is_in(AUTHENTICATED) {
        resources.extend(ABOUT_ONESELF.iter().map(|(group, resource)| {
            json!({"verbs": ["create"], "apiGroups": [group], "resources": [resource]})
        }));
        let below = |path: &&str| match path.ends_with('/') {
            true => format!("{path}*"),
            false => (*path).to_owned(),
        };
        let discovery: Vec<String> = DISCOVERY.iter().map(below).collect();
        paths.push(json!({"verbs": ["get"], "nonResourceURLs": discovery}));
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if node::name(user).is_some() {
        status["incomplete"] = true.into();
        status["evaluationError"] = "node authorizer does not support user rule resolution".into();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_learns_their_own_rules() {
        for (name, groups, first, incomplete) in [
            ("admin", ["system:masters", AUTHENTICATED], "*", false),
            ("jane", ["devs", AUTHENTICATED], "create", false),
            (
                "system:node:a",
                ["system:nodes", AUTHENTICATED],
                "create",
                true,
            ),
        ] {
            let told = rules(&User::new(name, &groups));
            assert_eq!(told["resourceRules"][0]["verbs"][0], first, "{name}");
            assert_eq!(told["incomplete"], incomplete, "{name}");
        }
        let nobody = rules(&User::new("nobody", &[]));
        assert_eq!(nobody["resourceRules"], json!([]));
    }
}
