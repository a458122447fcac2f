//! What the controllers of volumes look at: a claim or a volume.

use std::fmt;

use crate::key::ObjectKey;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeKey {
    Claim(ObjectKey),
    Volume(ObjectKey),
}

impl fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeKey::Claim(key) => write!(f, "claim {key}"),
            VolumeKey::Volume(key) => write!(f, "volume {key}"),
        }
    }
}
