//! Which AppArmor profile a container's processes have: the kernel has it loaded, and confines a
//! program by it from its exec on (`vetch_shim::protocol::Bundle::apparmor`).
//!
//! | asked for | the kernel has AppArmor | it has not |
//! |---|---|---|
//! | nothing | the profile of `default.rs`, if the machine has the parser | nothing |
//! | RuntimeDefault | the profile of `default.rs` | refused |
//! | Localhost | a profile that somebody loaded | refused |
//! | Unconfined | nothing | nothing |
//!
//! A privileged container has only a profile it names, as containerd does it.

mod default;
mod host;

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::types::{AppArmor, ContainerSpec};
use host::Host;

#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    #[error("apparmor is not supported: {0}")]
    Host(String),
    #[error("apparmor profile not found {0}")]
    NotLoaded(String),
    #[error("cannot read which AppArmor profiles are loaded: {path}", path = path.display())]
    Profiles {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot load AppArmor profile {name:?}: {words}")]
    Load { name: &'static str, words: String },
}

/// The machine's profiles, as far as containers need them.
pub struct Profiles {
    host: Host,
    /// What became of ours: it is loaded once.
    default: Mutex<Option<Result<(), String>>>,
}

impl Profiles {
    /// `dir`: where our profile's text is kept.
    pub fn new(dir: PathBuf) -> Profiles {
        Profiles {
            host: Host::of_machine(dir),
            default: Mutex::default(),
        }
    }

    /// Why no profile can be enforced here.
    pub fn problem(&self) -> Option<String> {
        self.host.problem()
    }

    /// The name of the profile the container's programs get. Blocks on a process where ours has to be
    /// loaded first.
    pub fn of(&self, spec: &ContainerSpec) -> Result<Option<String>, AppArmorError> {
        match wanted(&spec.apparmor, spec.privileged) {
            Wanted::Nothing => Ok(None),
            Wanted::DefaultIfPossible => match self.host.problem() {
                Some(_) => Ok(None),
                None => Ok(self.default_or_warning()),
            },
            Wanted::Default => {
                self.enforces()?;
                match self.load(true) {
                    Ok(()) => Ok(Some(default::NAME.to_owned())),
                    Err(words) => Err(AppArmorError::Load {
                        name: default::NAME,
                        words,
                    }),
                }
            }
            Wanted::Loaded(name) => {
                self.enforces()?;
                match self.host.loaded()?.iter().any(|loaded| *loaded == name) {
                    true => Ok(Some(name)),
                    false => Err(AppArmorError::NotLoaded(name)),
                }
            }
        }
    }

    fn enforces(&self) -> Result<(), AppArmorError> {
        self.host
            .problem()
            .map_or(Ok(()), |words| Err(AppArmorError::Host(words)))
    }

    /// Nobody asked for it: a machine without the parser has containers all the same.
    fn default_or_warning(&self) -> Option<String> {
        self.load(false).is_ok().then(|| default::NAME.to_owned())
    }

    /// `again`: also where it failed before.
    fn load(&self, again: bool) -> Result<(), String> {
        let mut known = self.default.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(Err(_)) if again => {}
            Some(done) => return done.clone(),
            None => {}
        }
        let done = self.host.load(default::NAME, default::text);
        if let Err(words) = &done
            && known.is_none()
        {
            tracing::warn!("containers that name no AppArmor profile have none: {words}");
        }
        *known = Some(done.clone());
        done
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    DefaultIfPossible,
    Default,
    Loaded(String),
}

fn wanted(asked: &AppArmor, privileged: bool) -> Wanted {
    match asked {
        AppArmor::Unconfined => Wanted::Nothing,
        AppArmor::Unsaid | AppArmor::RuntimeDefault if privileged => Wanted::Nothing,
        AppArmor::Unsaid => Wanted::DefaultIfPossible,
        AppArmor::RuntimeDefault => Wanted::Default,
        AppArmor::Localhost(name) => Wanted::Loaded(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_profile_is_wanted() {
        let named = || AppArmor::Localhost("p".into());
        for (asked, privileged, want) in [
            (AppArmor::Unsaid, false, Wanted::DefaultIfPossible),
            (AppArmor::Unsaid, true, Wanted::Nothing),
            (AppArmor::Unconfined, false, Wanted::Nothing),
            (AppArmor::RuntimeDefault, false, Wanted::Default),
            (AppArmor::RuntimeDefault, true, Wanted::Nothing),
            (named(), false, Wanted::Loaded("p".into())),
            (named(), true, Wanted::Loaded("p".into())),
        ] {
            assert_eq!(wanted(&asked, privileged), want, "{asked:?} {privileged}");
        }
    }
}
