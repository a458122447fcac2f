//! What becomes of an object with owners, from its live state and theirs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, ORPHAN};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Absent,
    /// Deleted, and waits for its dependents to go first.
    Waiting,
    /// There, or not to be judged.
    Solid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Keep,
    /// Keep the object, without these owners.
    Disown(Vec<String>),
    Delete {
        propagation: Propagation,
        /// First stop blocking the owners: the object is part of a circle.
        unblock: bool,
    },
}

pub fn decide(
    owners: &[(OwnerReference, Owner)],
    has_dependents: bool,
    dependent_waits: bool,
    finalizers: &[String],
) -> Action {
    let are = |state: Owner| owners.iter().filter(move |(_, own)| *own == state);
    if owners.is_empty() {
        return Action::Keep;
    }
    if are(Owner::Solid).next().is_some() {
        let gone = owners.iter().filter(|(_, own)| *own != Owner::Solid);
        let gone: Vec<String> = gone.map(|(owner, _)| owner.uid.clone()).collect();
        return match gone.is_empty() {
            true => Action::Keep,
            false => Action::Disown(gone),
        };
    }
    if has_dependents && are(Owner::Waiting).next().is_some() {
        return Action::Delete {
            propagation: Propagation::Foreground,
            unblock: dependent_waits,
        };
    }
    // What an earlier delete asked for stands.
    let has = |finalizer: &str| finalizers.iter().any(|own| own == finalizer);
    let propagation = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Propagation::Orphan,
        (_, true) => Propagation::Foreground,
        _ => Propagation::Background,
    };
    Action::Delete {
        propagation,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates() {
        use Owner::{Absent, Solid, Waiting};
        use Propagation::{Background, Foreground, Orphan};
        let delete = |propagation, unblock| Action::Delete {
            propagation,
            unblock,
        };
        let disown =
            |uids: &[&str]| Action::Disown(uids.iter().map(|uid| uid.to_string()).collect());
        // (owners, has dependents, a dependent waits, finalizers) -> action
        type Row = (
            &'static [Owner],
            bool,
            bool,
            &'static [&'static str],
            Action,
        );
        let table: [Row; 12] = [
            (&[], false, false, &[], Action::Keep),
            (&[Solid], false, false, &[], Action::Keep),
            (&[Absent], false, false, &[], delete(Background, false)),
            (&[Absent], true, false, &[], delete(Background, false)),
            (&[Absent, Solid], false, false, &[], disown(&["0"])),
            (
                &[Solid, Waiting, Absent],
                true,
                false,
                &[],
                disown(&["1", "2"]),
            ),
            (&[Waiting], false, false, &[], delete(Background, false)),
            (&[Waiting], true, false, &[], delete(Foreground, false)),
            (
                &[Absent, Waiting],
                true,
                false,
                &[],
                delete(Foreground, false),
            ),
            (&[Waiting], true, true, &[], delete(Foreground, true)),
            (&[Absent], false, false, &["orphan"], delete(Orphan, false)),
            (
                &[Absent],
                false,
                false,
                &["x/y", "foregroundDeletion"],
                delete(Foreground, false),
            ),
        ];
        for (states, has_dependents, waits, finalizers, wanted) in table {
            let owners: Vec<(OwnerReference, Owner)> = states
                .iter()
                .enumerate()
                .map(|(uid, state)| {
                    let reference = OwnerReference {
                        uid: uid.to_string(),
                        ..OwnerReference::default()
                    };
                    (reference, *state)
                })
                .collect();
            let finalizers: Vec<String> = finalizers.iter().map(|own| own.to_string()).collect();
            assert_eq!(
                decide(&owners, has_dependents, waits, &finalizers),
                wanted,
                "{states:?} {has_dependents} {waits} {finalizers:?}"
            );
        }
    }
}
