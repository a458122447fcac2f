//! A profile as people write it, in OCI's JSON or Docker's.

use serde::{Deserialize, Deserializer};

use super::ProfileError;

/// The kernel's; more would be this.
const MAX_ERRNO: u32 = 4095;

/// What is not known here is read over, as in Go; an unknown action or operator
/// is an error.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    pub default_action: Option<Action>,
    pub default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "or_null")]
    pub architectures: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub arch_map: Vec<ArchMap>,
    #[serde(deserialize_with = "or_null")]
    pub flags: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub syscalls: Vec<Rule>,
}

/// Docker's: on a machine of the first, the others too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArchMap {
    pub architecture: String,
    #[serde(deserialize_with = "or_null")]
    pub sub_architectures: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// SCMP_ACT_KILL has always been the thread's end.
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default, deserialize_with = "or_null")]
    pub names: Vec<String>,
    /// Docker's first form.
    pub name: Option<String>,
    pub action: Action,
    pub errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "or_null")]
    pub args: Vec<Argument>,
    /// All of it must be so.
    #[serde(default, deserialize_with = "or_null")]
    pub includes: Where,
    /// None of it may be so.
    #[serde(default, deserialize_with = "or_null")]
    pub excludes: Where,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    pub index: u32,
    pub value: u64,
    /// Of a masked comparison what is left; the mask is `value`.
    #[serde(default)]
    pub value_two: u64,
    pub op: Operator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Operator {
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// Docker's: machines and containers that a rule is for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Where {
    #[serde(deserialize_with = "or_null")]
    pub caps: Vec<String>,
    /// In Go's words: amd64, arm64.
    #[serde(deserialize_with = "or_null")]
    pub arches: Vec<String>,
    pub min_kernel: Option<String>,
}

/// Go writes null for a list of none.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Profile {
    /// SECCOMP_FILTER_FLAG_*. TSYNC says nothing to a process of one thread.
    pub fn flags(&self) -> Result<u32, ProfileError> {
        self.flags.iter().try_fold(0, |flags, name| {
            let flag = match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                _ => return Err(ProfileError::UnknownFlag(name.clone())),
            };
            Ok(flags | flag as u32)
        })
    }
}

impl Action {
    /// What the filter returns. Only ERRNO and TRACE have a number, EPERM where
    /// the profile says none.
    pub fn value(self, errno: Option<u32>) -> Result<u32, ProfileError> {
        let errno = errno.unwrap_or(libc::EPERM as u32);
        let with_number = |action: u32| match errno {
            0..=MAX_ERRNO => Ok(action | errno),
            _ => Err(ProfileError::Errno(errno)),
        };
        match self {
            Action::KillThread => Ok(libc::SECCOMP_RET_KILL_THREAD),
            Action::KillProcess => Ok(libc::SECCOMP_RET_KILL_PROCESS),
            Action::Trap => Ok(libc::SECCOMP_RET_TRAP),
            Action::Errno => with_number(libc::SECCOMP_RET_ERRNO),
            Action::Trace => with_number(libc::SECCOMP_RET_TRACE),
            Action::Log => Ok(libc::SECCOMP_RET_LOG),
            Action::Allow => Ok(libc::SECCOMP_RET_ALLOW),
            Action::Notify => Err(ProfileError::Notify),
        }
    }
}

impl Rule {
    /// For all machines and containers.
    pub fn new(names: &[&str], action: Action) -> Rule {
        Rule {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            name: None,
            action,
            errno_ret: None,
            args: Vec::new(),
            includes: Where::default(),
            excludes: Where::default(),
        }
    }

    pub fn names(&self) -> Result<&[String], ProfileError> {
        match (&self.name, self.names.is_empty()) {
            (None, _) => Ok(&self.names),
            (Some(name), true) => Ok(std::slice::from_ref(name)),
            (Some(_), false) => Err(ProfileError::BothNames),
        }
    }
}

/// Major and minor: "6.1.0-31-amd64" is (6, 1).
pub fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit());
    let minor = &rest[..digits.unwrap_or(rest.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_said() {
        for (text, words) in [
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
            (
                r#"{"syscalls": [{"names": ["a"], "action": "ALLOW"}]}"#,
                "`ALLOW`",
            ),
            (
                r#"{"syscalls": [{"action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]}]}"#,
                "SCMP_CMP_LIKE",
            ),
            (r#"{"syscalls": [{"names": ["a"]}]}"#, "action"),
            ("[", "EOF"),
        ] {
            let error = serde_json::from_str::<Profile>(text).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn go_s_nulls_and_fields_of_others_are_read_over() {
        let text = r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": null, "listenerPath": "/x",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null,
                "comment": "", "includes": {}, "excludes": null}]}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        assert_eq!(profile.default_action, Some(Action::KillThread));
        assert_eq!(profile.syscalls[0].names().unwrap(), ["read"]);
    }

    #[test]
    fn what_an_action_returns() {
        for (action, errno, want) in [
            (Action::KillThread, Some(5), Ok(0)),
            (Action::KillProcess, None, Ok(0x8000_0000)),
            (Action::Trap, None, Ok(0x0003_0000)),
            (Action::Errno, None, Ok(0x0005_0001)),
            (Action::Errno, Some(38), Ok(0x0005_0026)),
            (Action::Errno, Some(4096), Err(ProfileError::Errno(4096))),
            (Action::Trace, Some(2), Ok(0x7ff0_0002)),
            (Action::Log, None, Ok(0x7ffc_0000)),
            (Action::Allow, Some(9), Ok(0x7fff_0000)),
            (Action::Notify, None, Err(ProfileError::Notify)),
        ] {
            assert_eq!(action.value(errno), want, "{action:?} {errno:?}");
        }
    }

    #[test]
    fn flags_and_versions() {
        let flags = |names: &[&str]| {
            let flags = names.iter().map(|name| (*name).to_owned()).collect();
            Profile {
                flags,
                ..Profile::default()
            }
            .flags()
        };
        assert_eq!(flags(&["SECCOMP_FILTER_FLAG_TSYNC"]), Ok(0));
        assert_eq!(
            flags(&["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            Ok(6)
        );
        assert_eq!(flags(&["X"]), Err(ProfileError::UnknownFlag("X".into())));
        for (text, want) in [
            ("6.1.0-31-amd64", Some((6, 1))),
            ("4.8", Some((4, 8))),
            ("6.12-rc1", Some((6, 12))),
            ("6", None),
            ("x.1", None),
            ("4.", None),
        ] {
            assert_eq!(version(text), want, "{text}");
        }
    }
}
