//! Which programs are to be where, against which are: the steps between.

use std::collections::{BTreeMap, BTreeSet};

/// A program at links. In the order they are attached: to where translated
/// packets come back before where they are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    ToPod,
    ToNet,
    FromNet,
    FromTunnel,
    FromPod,
    FromWire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Program {
    pub const ALL: [Self; 6] = [
        Self::ToPod,
        Self::ToNet,
        Self::FromNet,
        Self::FromTunnel,
        Self::FromPod,
        Self::FromWire,
    ];
    /// At the node's side of a pod's link.
    pub const POD: [Self; 2] = [Self::ToPod, Self::FromPod];
    /// At an uplink.
    pub const NET: [Self; 2] = [Self::ToNet, Self::FromNet];
    /// At the device of the tunnel to other nodes.
    pub const TUNNEL: [Self; 2] = [Self::ToNet, Self::FromTunnel];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ToPod => "to_pod",
            Self::ToNet => "to_net",
            Self::FromNet => "from_net",
            Self::FromTunnel => "from_tunnel",
            Self::FromPod => "from_pod",
            Self::FromWire => "from_wire",
        }
    }

    /// Of a packet that passes the link, as the node sees it.
    pub const fn direction(self) -> Direction {
        match self {
            Self::FromPod | Self::FromNet | Self::FromTunnel | Self::FromWire => Direction::Ingress,
            Self::ToPod | Self::ToNet => Direction::Egress,
        }
    }

    /// How it is held, where programs of the stack are held by `kind`.
    pub const fn held_by(self, kind: Kind) -> Kind {
        match self {
            Self::FromWire => Kind::Xdp,
            _ => kind,
        }
    }
}

/// A program at a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub program: Program,
    pub ifindex: u32,
}

/// How a program is held there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By a pinned link (6.6).
    Tcx,
    /// By a filter of the link's clsact qdisc.
    Clsact,
    /// By a pinned link to the driver (5.9).
    Xdp,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Clsact, Self::Tcx, Self::Xdp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Xdp => "xdp",
        }
    }
}

/// What of ours is at a place, by the program's number in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub tcx: Option<u32>,
    pub clsact: Option<u32>,
    pub xdp: Option<u32>,
}

impl Found {
    pub fn of(self, kind: Kind) -> Option<u32> {
        match kind {
            Kind::Tcx => self.tcx,
            Kind::Clsact => self.clsact,
            Kind::Xdp => self.xdp,
        }
    }

    pub fn set(&mut self, kind: Kind, program: Option<u32>) {
        match kind {
            Kind::Tcx => self.tcx = program,
            Kind::Clsact => self.clsact = program,
            Kind::Xdp => self.xdp = program,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Attach(Place, Kind),
    /// At one instant.
    Replace(Place, Kind),
    Detach(Place, Kind),
}

/// In their order: where both kinds meet, the new one is there before the old
/// one goes. A pair of programs there at once is less than none: the second
/// finds nothing left to translate.
pub fn plan(
    wanted: &BTreeSet<Place>,
    found: &BTreeMap<Place, Found>,
    loaded: impl Fn(Program) -> u32,
    kind: Kind,
) -> Vec<Step> {
    let at = |place: &Place| found.get(place).copied().unwrap_or_default();
    let put = wanted.iter().filter_map(|place| {
        let kind = place.program.held_by(kind);
        match at(place).of(kind) {
            None => Some(Step::Attach(*place, kind)),
            Some(id) if id != loaded(place.program) => Some(Step::Replace(*place, kind)),
            Some(_) => None,
        }
    });
    let take = found.iter().flat_map(|(place, held)| {
        let right = place.program.held_by(kind);
        let is_doomed = move |kind: &Kind| *kind != right || !wanted.contains(place);
        Kind::ALL
            .into_iter()
            .filter(is_doomed)
            .filter(|kind| held.of(*kind).is_some())
            .map(|kind| Step::Detach(*place, kind))
    });
    put.chain(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Clsact, Tcx, Xdp};
    use Program::{FromNet, FromPod, FromWire, ToNet, ToPod};

    const NEW: u32 = 9;
    const OLD: u32 = 3;

    fn place(program: Program, ifindex: u32) -> Place {
        Place { program, ifindex }
    }

    fn steps(wanted: &[Place], found: &[(Place, Found)], kind: Kind) -> Vec<Step> {
        let wanted = wanted.iter().copied().collect();
        plan(&wanted, &found.iter().copied().collect(), |_| NEW, kind)
    }

    fn tcx(id: u32) -> Found {
        Found {
            tcx: Some(id),
            ..Found::default()
        }
    }

    fn clsact(id: u32) -> Found {
        Found {
            clsact: Some(id),
            ..Found::default()
        }
    }

    #[test]
    fn what_is_missing_is_attached_and_what_undoes_comes_first() {
        let places = [
            place(FromPod, 4),
            place(FromNet, 2),
            place(ToPod, 4),
            place(ToNet, 2),
            place(FromPod, 3),
        ];
        assert_eq!(
            steps(&places, &[], Tcx),
            [
                Step::Attach(place(ToPod, 4), Tcx),
                Step::Attach(place(ToNet, 2), Tcx),
                Step::Attach(place(FromNet, 2), Tcx),
                Step::Attach(place(FromPod, 3), Tcx),
                Step::Attach(place(FromPod, 4), Tcx),
            ]
        );
    }

    #[test]
    fn each_state_of_one_place() {
        let at = place(FromPod, 4);
        let both = |tcx, clsact| Found {
            tcx: Some(tcx),
            clsact: Some(clsact),
            xdp: None,
        };
        let table: [(&str, bool, Found, Kind, &[Step]); 12] = [
            ("right", true, tcx(NEW), Tcx, &[]),
            ("right", true, clsact(NEW), Clsact, &[]),
            ("upgrade", true, tcx(OLD), Tcx, &[Step::Replace(at, Tcx)]),
            (
                "upgrade",
                true,
                clsact(OLD),
                Clsact,
                &[Step::Replace(at, Clsact)],
            ),
            (
                "gone",
                true,
                Found::default(),
                Clsact,
                &[Step::Attach(at, Clsact)],
            ),
            (
                "to the new kind",
                true,
                clsact(OLD),
                Tcx,
                &[Step::Attach(at, Tcx), Step::Detach(at, Clsact)],
            ),
            (
                "to the old kind",
                true,
                tcx(NEW),
                Clsact,
                &[Step::Attach(at, Clsact), Step::Detach(at, Tcx)],
            ),
            (
                "killed between the two",
                true,
                both(NEW, OLD),
                Tcx,
                &[Step::Detach(at, Clsact)],
            ),
            (
                "and older than both",
                true,
                both(OLD, OLD),
                Tcx,
                &[Step::Replace(at, Tcx), Step::Detach(at, Clsact)],
            ),
            ("unwanted", false, tcx(NEW), Tcx, &[Step::Detach(at, Tcx)]),
            (
                "unwanted twice",
                false,
                both(NEW, OLD),
                Tcx,
                &[Step::Detach(at, Clsact), Step::Detach(at, Tcx)],
            ),
            ("nothing", false, Found::default(), Tcx, &[]),
        ];
        for (name, is_wanted, found, kind, expected) in table {
            let wanted: &[Place] = if is_wanted { &[at] } else { &[] };
            assert_eq!(
                steps(wanted, &[(at, found)], kind),
                expected,
                "{name} {kind:?}"
            );
        }
    }

    #[test]
    fn the_program_at_the_driver_comes_last_whatever_holds_the_others() {
        let (early, late) = (place(FromWire, 2), place(ToNet, 2));
        let xdp = |id| Found {
            xdp: Some(id),
            ..Found::default()
        };
        for kind in [Tcx, Clsact] {
            let table: [(&[Place], &[(Place, Found)], &[Step]); 4] = [
                (
                    &[early, late],
                    &[],
                    &[Step::Attach(late, kind), Step::Attach(early, Xdp)],
                ),
                (&[early], &[(early, xdp(NEW))], &[]),
                (&[early], &[(early, xdp(OLD))], &[Step::Replace(early, Xdp)]),
                (&[], &[(early, xdp(NEW))], &[Step::Detach(early, Xdp)]),
            ];
            for (wanted, found, expected) in table {
                assert_eq!(steps(wanted, found, kind), expected, "{kind:?}");
            }
        }
    }

    #[test]
    fn nothing_is_taken_away_before_all_is_put() {
        let steps = steps(
            &[place(FromPod, 7)],
            &[
                (place(FromPod, 4), tcx(NEW)),
                (place(ToPod, 7), clsact(OLD)),
            ],
            Tcx,
        );
        assert_eq!(
            steps,
            [
                Step::Attach(place(FromPod, 7), Tcx),
                Step::Detach(place(ToPod, 7), Clsact),
                Step::Detach(place(FromPod, 4), Tcx),
            ]
        );
    }
}
