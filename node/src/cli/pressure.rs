//! When pods and images have to go: for what the node lacks, and with the machine.

use std::time::Duration;

use clap::Args;
use vetch_agent::node::image_gc::Thresholds;
use vetch_agent::node::pressure::{Eviction, HARD};
use vetch_agent::pods::{Periods, parse_go_duration};

/// When images go that no container has.
#[derive(Debug, Args)]
pub struct ImageGcArgs {
    /// How full the images' disk is, in per cent, when those that no container has begin to go; 100 for
    /// never
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VETCH_IMAGE_GC_HIGH_THRESHOLD",
        default_value_t = 85,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub image_gc_high_threshold: u8,
    /// How full it is then; below the other one
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VETCH_IMAGE_GC_LOW_THRESHOLD",
        default_value_t = 80,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub image_gc_low_threshold: u8,
}

/// What pods are ended for.
#[derive(Debug, Args)]
pub struct EvictionArgs {
    /// What the node has to have left; where it has less, pods are ended at once. Signals are
    /// memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and
    /// pid.available, amounts like 100Mi or 10%; empty for never
    #[arg(
        long,
        value_name = "SIGNAL<AMOUNT,…",
        env = "VETCH_EVICTION_HARD",
        default_value = HARD
    )]
    pub eviction_hard: String,
    /// The same, of what it may miss for a while
    #[arg(
        long,
        value_name = "SIGNAL<AMOUNT,…",
        env = "VETCH_EVICTION_SOFT",
        default_value = ""
    )]
    pub eviction_soft: String,
    /// For how long it may, of each of these: memory.available=1m30s
    #[arg(
        long,
        value_name = "SIGNAL=DURATION,…",
        env = "VETCH_EVICTION_SOFT_GRACE_PERIOD",
        default_value = ""
    )]
    pub eviction_soft_grace_period: String,
    /// How long a pod has at most to end, of those that go for these
    #[arg(
        long,
        value_name = "SECONDS",
        env = "VETCH_EVICTION_MAX_POD_GRACE_PERIOD",
        default_value_t = 0
    )]
    pub eviction_max_pod_grace_period: u32,
}

/// How long pods have when the machine goes down.
#[derive(Debug, Args)]
pub struct ShutdownArgs {
    /// How long the machine waits for its pods to end when it goes down, by systemd's logind; 0 for not
    /// at all
    #[arg(
        long,
        value_name = "DURATION",
        env = "VETCH_SHUTDOWN_GRACE_PERIOD",
        default_value = "0s",
        value_parser = duration
    )]
    pub shutdown_grace_period: Duration,
    /// How much of that critical pods have, which end after all others
    #[arg(
        long,
        value_name = "DURATION",
        env = "VETCH_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS",
        default_value = "0s",
        value_parser = duration
    )]
    pub shutdown_grace_period_critical_pods: Duration,
}

impl ImageGcArgs {
    pub fn thresholds(&self) -> Result<Thresholds, String> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        if low >= high {
            return Err(format!(
                "--image-gc-low-threshold is {low}, and has to be below --image-gc-high-threshold, \
                 which is {high}"
            ));
        }
        Ok(Thresholds { high, low })
    }
}

impl EvictionArgs {
    pub fn parsed(&self) -> Result<Eviction, String> {
        Eviction::parse(
            &self.eviction_hard,
            &self.eviction_soft,
            &self.eviction_soft_grace_period,
            Duration::from_secs(self.eviction_max_pod_grace_period.into()),
        )
    }
}

impl ShutdownArgs {
    pub fn periods(&self) -> Result<Periods, String> {
        let periods = Periods {
            grace: self.shutdown_grace_period,
            critical: self.shutdown_grace_period_critical_pods,
        };
        periods.check()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_go_duration(text).ok_or_else(|| "a duration is like 30s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NEEDED, parse};
    use super::*;

    #[test]
    fn what_the_node_keeps() {
        let with = |flags: &[&str]| {
            parse(&[&NEEDED[..], flags].concat())
                .unwrap()
                .daemon
                .eviction
                .parsed()
        };
        assert_eq!(with(&[]), Ok(Eviction::default()));
        assert_eq!(with(&["--eviction-hard", ""]).unwrap().all().count(), 0);
        let soft = "memory.available<1Gi";
        let told = with(&["--eviction-soft", soft]).unwrap_err();
        assert!(told.contains("has no grace period"), "{told}");
        let graces = "memory.available=90s";
        let flags = [
            "--eviction-soft",
            soft,
            "--eviction-soft-grace-period",
            graces,
            "--eviction-max-pod-grace-period",
            "30",
        ];
        let eviction = with(&flags).unwrap();
        assert_eq!(eviction.soft[0].grace, Some(Duration::from_secs(90)));
        assert_eq!(eviction.max_pod_grace, Duration::from_secs(30));
    }

    #[test]
    fn critical_pods_have_a_part_of_the_whole() {
        let flags = |grace, critical| {
            let named = ["--shutdown-grace-period", grace];
            let more = ["--shutdown-grace-period-critical-pods", critical];
            parse(&[&NEEDED[..], &named, &more].concat()).map(|cli| cli.daemon.shutdown.periods())
        };
        assert_eq!(flags("1m30s", "10s").unwrap().unwrap().grace.as_secs(), 90);
        assert!(flags("10s", "30s").unwrap().is_err());
        assert!(flags("soon", "0").is_err());
    }

    #[test]
    fn images_go_from_one_threshold_down_to_a_lower_one() {
        let with = |high: &str, low: &str| {
            let flags = [
                "--image-gc-high-threshold",
                high,
                "--image-gc-low-threshold",
                low,
            ];
            parse(&[&NEEDED[..], &flags].concat()).map(|cli| cli.daemon.image_gc.thresholds())
        };
        assert_eq!(with("90", "70"), Ok(Ok(Thresholds { high: 90, low: 70 })));
        assert!(
            with("80", "80")
                .unwrap()
                .unwrap_err()
                .contains("has to be below")
        );
        assert!(with("101", "80").is_err());
    }
}
