//! By which rules a pod is held. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use vetch_ebpf_common::{Address, Pod};

use super::tables::same_link;

/// What policies say of the pods here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPods {
    /// Whether there are any: then who is not below waits until he is.
    pub in_force: bool,
    /// The numbers of a pod's sets of rules for ingress and egress; 0 where it may do
    /// as it likes.
    pub sets: BTreeMap<IpAddr, [u16; 2]>,
}

/// The pod as the programs are to know it. `now` is how they know it; while nothing
/// is known of policies it stays so, for a daemon that starts closes nothing, and opens
/// nothing either.
pub fn held(policies: Option<&HeldPods>, ip: IpAddr, pod: &Pod, now: Option<&Pod>) -> Pod {
    let (sets, pending) = match policies {
        Some(HeldPods { in_force, sets }) => match sets.get(&ip) {
            Some(sets) => (*sets, false),
            None => ([0; 2], *in_force),
        },
        None => match now.filter(|now| same_link(now, pod)) {
            Some(now) => (
                [now.ingress, now.egress],
                now.flags & Pod::POLICY_PENDING != 0,
            ),
            None => ([0; 2], true),
        },
    };
    let [ingress, egress] = sets;
    let pending = if pending { Pod::POLICY_PENDING } else { 0 };
    Pod {
        ingress,
        egress,
        flags: pod.flags | pending,
        ..*pod
    }
}

/// Of those that are not pending.
pub fn sets(pods: &BTreeMap<Address, Pod>) -> BTreeMap<IpAddr, [u16; 2]> {
    let known = pods.iter().filter(|(_, pod)| !is_pending(pod));
    known
        .map(|(address, pod)| (IpAddr::from(*address), [pod.ingress, pod.egress]))
        .collect()
}

/// With their links.
pub fn guarded(pods: &BTreeMap<Address, Pod>) -> BTreeMap<IpAddr, u32> {
    let known = pods.iter().filter(|(_, pod)| !is_pending(pod));
    known
        .map(|(address, pod)| (IpAddr::from(*address), pod.ifindex))
        .collect()
}

fn is_pending(pod: &Pod) -> bool {
    pod.flags & Pod::POLICY_PENDING != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_and_who_waits() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        let pod = Pod {
            ifindex: 5,
            flags: Pod::BY_STACK,
            ..Pod::default()
        };
        let with = |sets: [u16; 2], pending| Pod {
            ingress: sets[0],
            egress: sets[1],
            flags: Pod::BY_STACK | if pending { Pod::POLICY_PENDING } else { 0 },
            ..pod
        };
        let known = |in_force, ip| {
            Some(HeldPods {
                in_force,
                sets: [(ip, [3, 0])].into(),
            })
        };
        let now = Some(with([7, 8], false));
        let waiting = Some(with([0, 0], true));
        let moved = Some(Pod {
            ifindex: 6,
            ..with([7, 8], false)
        });
        for (what, policies, now, expected) in [
            ("selected", known(true, ip), None, with([3, 0], false)),
            ("changed", known(true, ip), now, with([3, 0], false)),
            (
                "not compiled yet",
                known(true, other),
                None,
                with([0, 0], true),
            ),
            ("no policies", known(false, other), now, with([0, 0], false)),
            ("a daemon that starts", None, now, with([7, 8], false)),
            ("and one that died early", None, waiting, with([0, 0], true)),
            ("new to it", None, None, with([0, 0], true)),
            ("another pod's", None, moved, with([0, 0], true)),
        ] {
            let held = held(policies.as_ref(), ip, &pod, now.as_ref());
            assert_eq!(held, expected, "{what}");
        }
        let pods = BTreeMap::from([
            (Address::from(ip), with([3, 0], false)),
            (Address::from(other), with([0, 0], true)),
        ]);
        assert_eq!(sets(&pods), [(ip, [3, 0])].into());
        assert_eq!(guarded(&pods), [(ip, 5)].into());
    }
}
