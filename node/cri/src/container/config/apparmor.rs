//! Which AppArmor profile a client wants: CRI has a message for it, and the words of before.

use tonic::Status;
use vetch_cri_proto::v1::LinuxContainerSecurityContext;
use vetch_cri_proto::v1::security_profile::ProfileType;
use vetch_runtime::AppArmor;

/// Clients write it before a name, or do not.
const PREFIX: &str = "localhost/";

pub fn apparmor(security: &LinuxContainerSecurityContext) -> Result<AppArmor, Status> {
    let Some(profile) = &security.apparmor else {
        return words(former(security));
    };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(AppArmor::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(AppArmor::Unconfined),
        Ok(ProfileType::Localhost) => loaded(&profile.localhost_ref),
        Err(_) => Err(invalid("unknown profile_type")),
    }
}

#[expect(deprecated, reason = "clients of before still say it so")]
fn former(security: &LinuxContainerSecurityContext) -> &str {
    &security.apparmor_profile
}

fn words(words: &str) -> Result<AppArmor, Status> {
    match words {
        "" => Ok(AppArmor::Unsaid),
        "runtime/default" => Ok(AppArmor::RuntimeDefault),
        "unconfined" => Ok(AppArmor::Unconfined),
        name if name.starts_with(PREFIX) => loaded(name),
        other => Err(invalid(&format!("invalid profile {other:?}"))),
    }
}

fn loaded(name: &str) -> Result<AppArmor, Status> {
    match name.strip_prefix(PREFIX).unwrap_or(name) {
        "" => Err(invalid("localhost_ref is empty")),
        name => Ok(AppArmor::Localhost(name.to_owned())),
    }
}

fn invalid(words: &str) -> Status {
    Status::invalid_argument(format!("apparmor: {words}"))
}

#[cfg(test)]
mod tests {
    use vetch_cri_proto::v1::SecurityProfile;

    use super::*;

    #[test]
    fn the_message_before_the_words() {
        let message = |kind: ProfileType, name: &str| {
            Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.into(),
            })
        };
        let named = |name: &str| Some(AppArmor::Localhost(name.into()));
        for (profile, former, want) in [
            (None, "", Some(AppArmor::Unsaid)),
            (None, "runtime/default", Some(AppArmor::RuntimeDefault)),
            (None, "unconfined", Some(AppArmor::Unconfined)),
            (None, "localhost/p", named("p")),
            (None, "localhost/", None),
            (None, "p", None),
            (
                message(ProfileType::RuntimeDefault, ""),
                "",
                Some(AppArmor::RuntimeDefault),
            ),
            (
                message(ProfileType::Unconfined, ""),
                "localhost/p",
                Some(AppArmor::Unconfined),
            ),
            (message(ProfileType::Localhost, "p"), "", named("p")),
            (
                message(ProfileType::Localhost, "localhost/p"),
                "unconfined",
                named("p"),
            ),
            (message(ProfileType::Localhost, ""), "", None),
        ] {
            #[expect(deprecated, reason = "clients of before still say it so")]
            let security = LinuxContainerSecurityContext {
                apparmor: profile.clone(),
                apparmor_profile: former.into(),
                ..LinuxContainerSecurityContext::default()
            };
            assert_eq!(apparmor(&security).ok(), want, "{profile:?} {former}");
        }
    }
}
