//! Whether a program is wanted at an uplink's driver: a shorter way for what
//! comes for other nodes. Without it nothing is different but the time it takes.
//!
//! In the stack instead of a driver (generic mode) it is never: kernels as of 6.9
//! copy the packet for a program that takes packets in pieces, forget the
//! length of the link header, and show the programs behind it, ours among them, a
//! packet without one (seen on 6.18).

use std::str::FromStr;

use super::links::Uplink;

/// Where the program [`super::Program::FromWire`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    /// Many drivers stop the link for a moment, or make their queues anew, when
    /// a program comes; so nobody gets one who did not ask.
    #[default]
    Off,
    /// In the driver, of links that have one of their own and where it takes it;
    /// the other end of a virtual link has to be ready for what comes back.
    Auto,
    /// In the driver of every uplink.
    Native,
}

/// linux/if_link.h
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

impl Xdp {
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    pub fn wants(self, uplink: &Uplink) -> bool {
        match self {
            Self::Off => false,
            Self::Auto => !uplink.is_virtual,
            Self::Native => true,
        }
    }
}

impl FromStr for Xdp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            _ => Err("off, auto or native".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use Xdp::{Auto, Native, Off};

    #[test]
    fn which_links_get_the_program() {
        let uplink = |is_virtual| Uplink {
            name: "eth0".into(),
            mac: [2; 6],
            mtu: 1500,
            is_virtual,
            xdp: None,
            addresses: BTreeSet::new(),
        };
        // Of its own driver, virtual.
        for (mode, wants) in [
            (Off, [false, false]),
            (Auto, [true, false]),
            (Native, [true, true]),
        ] {
            let got = [false, true].map(|is_virtual| mode.wants(&uplink(is_virtual)));
            assert_eq!(got, wants, "{mode:?}");
        }
    }

    #[test]
    fn modes_by_name() {
        let names = ["off", "auto", "native"];
        assert_eq!(names.map(str::parse), [Off, Auto, Native].map(Result::Ok));
        for other in ["on", "generic"] {
            assert!(other.parse::<Xdp>().is_err(), "{other}");
        }
    }
}
