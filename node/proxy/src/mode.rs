//! By which way the answers of backends on other nodes come back.

use std::str::FromStr;

/// For clients outside; flows go on as they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancerMode {
    /// As they went: the node that was dialled gives its own address as source.
    #[default]
    Snat,
    /// From the backend's node: it gets the packets as they came, in a tunnel.
    /// Nodes of the cluster open it whatever their own mode.
    Dsr,
}

impl FromStr for LoadBalancerMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "snat" => Ok(Self::Snat),
            "dsr" => Ok(Self::Dsr),
            _ => Err("snat or dsr".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_by_name() {
        for (name, mode) in [
            ("snat", Some(LoadBalancerMode::Snat)),
            ("dsr", Some(LoadBalancerMode::Dsr)),
            ("DSR", None),
            ("", None),
        ] {
            assert_eq!(name.parse().ok(), mode, "{name}");
        }
    }
}
