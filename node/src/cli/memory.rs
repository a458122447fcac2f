//! How the kernel shares memory between pods (KEP-2570).

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Slow containers down before they reach their memory limit, or the node's, unless their pod is
    /// Guaranteed: the kubelet's feature gate MemoryQoS, alpha in 1.36
    #[arg(long, env = "VETCH_MEMORY_QOS")]
    pub memory_qos: bool,
    /// With --memory-qos: how much a container has of what lies between its request and its limit
    /// before that; more than 0, 1 for all
    #[arg(
        long,
        value_name = "FACTOR",
        env = "VETCH_MEMORY_THROTTLING_FACTOR",
        default_value_t = 0.9,
        value_parser = factor
    )]
    pub memory_throttling_factor: f64,
    /// With --memory-qos: whether what pods ask for is kept for them. TieredReservation: that of
    /// Guaranteed pods always (memory.min), that of Burstable ones as long as there is other memory
    /// to be had (memory.low)
    #[arg(
        long,
        value_name = "POLICY",
        env = "VETCH_MEMORY_RESERVATION_POLICY",
        value_enum,
        default_value_t = MemoryReservationPolicy::None
    )]
    pub memory_reservation_policy: MemoryReservationPolicy,
}

/// By the kubelet's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MemoryReservationPolicy {
    #[value(name = "None")]
    None,
    #[value(name = "TieredReservation")]
    TieredReservation,
}

impl MemoryArgs {
    /// The factor, and whether memory is reserved.
    pub fn qos(&self) -> Option<(f64, bool)> {
        let reserves = self.memory_reservation_policy == MemoryReservationPolicy::TieredReservation;
        self.memory_qos
            .then_some((self.memory_throttling_factor, reserves))
    }
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok();
    factor
        .filter(|factor| *factor > 0.0 && *factor <= 1.0)
        .ok_or_else(|| "a factor is more than 0 and at most 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NEEDED, parse};

    #[test]
    fn memory_is_shared_by_limits_alone_unless_it_is_said() {
        let qos = |flags: &[&str]| {
            let parsed = parse(&[&NEEDED[..], flags].concat());
            parsed.map(|cli| cli.daemon.memory.qos())
        };
        let (on, factor) = ("--memory-qos", "--memory-throttling-factor");
        let policy = "--memory-reservation-policy";
        assert_eq!(qos(&[]), Ok(None));
        assert_eq!(qos(&[factor, "0.5"]), Ok(None));
        assert_eq!(qos(&[on]), Ok(Some((0.9, false))));
        assert_eq!(qos(&[on, factor, "1"]), Ok(Some((1.0, false))));
        assert_eq!(
            qos(&[on, policy, "TieredReservation"]),
            Ok(Some((0.9, true)))
        );
        for wrong in [
            [factor, "0"],
            [factor, "1.1"],
            [factor, "NaN"],
            [policy, "Hard"],
        ] {
            assert!(qos(&wrong).is_err(), "{wrong:?}");
        }
    }
}
