//! The versions of the specification.

use vetch_cni_proto::{Failure, code};

use crate::environment::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

pub const SUPPORTED: [Version; 5] = [
    Version::V0_3_0,
    Version::V0_3_1,
    Version::V0_4_0,
    Version::V1_0_0,
    Version::V1_1_0,
];

impl Version {
    pub const NEWEST: Self = Self::V1_1_0;

    pub fn name(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    pub fn find(name: &str) -> Option<Self> {
        SUPPORTED.into_iter().find(|one| one.name() == name)
    }

    /// # Errors
    /// For what this version has not got.
    pub fn check(self, command: Command) -> Result<(), Failure> {
        let since = match command {
            Command::Add | Command::Del | Command::Version => Self::V0_3_0,
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
        };
        if self >= since {
            return Ok(());
        }
        let words = format!(
            "{} came with CNI {}, and the configuration is of {}",
            command.name(),
            since.name(),
            self.name()
        );
        Err(Failure::new(code::INCOMPATIBLE_VERSION, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_verbs_want_newer_versions() {
        use Command::{Add, Check, Del, Gc, Status};
        for (version, verbs) in [
            (Version::V0_3_0, &[Add, Del][..]),
            (Version::V0_3_1, &[Add, Del]),
            (Version::V0_4_0, &[Add, Del, Check]),
            (Version::V1_0_0, &[Add, Del, Check]),
            (Version::V1_1_0, &[Add, Del, Check, Gc, Status]),
        ] {
            for verb in [Add, Del, Check, Gc, Status] {
                let fits = version.check(verb).is_ok();
                assert_eq!(fits, verbs.contains(&verb), "{version:?} {verb:?}");
            }
            assert_eq!(Version::find(version.name()), Some(version));
        }
        for unknown in ["0.1.0", "0.2.0", "1.2.0", "1.0", ""] {
            assert_eq!(Version::find(unknown), None, "{unknown}");
        }
    }
}
