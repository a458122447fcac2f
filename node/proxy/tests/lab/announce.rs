use std::{collections::BTreeSet, fs, net::IpAddr};

use vetch_proxy::{Announcer, who_has};

use crate::{
    cell::{Cell, wait_for},
    wire::{Neighbour, ip},
};

const OURS: &str = "lladdr 02:00:00:00:00:01";

fn addresses(all: &[&str]) -> BTreeSet<IpAddr> {
    all.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_neighbour_that_knew_another_place_learns_the_new_one() {
    let _cell = Cell::enter();
    let neighbour = Neighbour::new(&["192.0.2.2/24", "2001:db8::2/64"]);
    let vips = ["192.0.2.7", "2001:db8::7"];
    for vip in vips {
        neighbour.run(|| {
            ip(&format!(
                "neighbour add {vip} lladdr 02:00:00:00:00:99 dev peer nud stale"
            ))
        });
        assert!(!neighbour.entry(vip).contains(OURS));
    }
    let mut announcer = Announcer::default();
    announcer.set(&[neighbour.uplink], &addresses(&vips));
    for vip in vips {
        let what = format!("the neighbour to find {vip}");
        loop_until(&what, || neighbour.entry(vip).contains(OURS)).await;
    }
}

/// Lets the announcer's task run in between.
async fn loop_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited 60 s for {what}"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn groups_are_joined_while_an_address_is_announced() {
    let _cell = Cell::enter();
    let neighbour = Neighbour::new(&[]);
    // /proc/net is the process's; the thread's shows its own namespace.
    let joined = || {
        let groups = fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
        groups.lines().any(|line| {
            line.contains("uplink") && line.contains("ff0200000000000000000001ff000007")
        })
    };
    let mut announcer = Announcer::default();
    assert!(!joined());
    announcer.set(
        &[neighbour.uplink],
        &addresses(&["2001:db8::7", "192.0.2.7"]),
    );
    assert!(joined());
    announcer.set(&[neighbour.uplink], &addresses(&["192.0.2.7"]));
    wait_for("the group to be left", || !joined());
}

/// A host that has an address says so to who asks for it, and is told from another node of the cluster by
/// what else it has.
#[test]
fn who_has_an_address_is_found_before_it_is_announced() {
    let _cell = Cell::enter();
    let neighbour = Neighbour::new(&[
        "192.0.2.2/24",
        "192.0.2.7/24",
        "2001:db8::2/64",
        "2001:db8::7/64",
    ]);
    let link = neighbour.run(|| ip("-brief link show dev peer"));
    let mac = link.split_whitespace().nth(2).unwrap();
    let (taken, free) = (["192.0.2.7", "2001:db8::7"], ["192.0.2.8", "2001:db8::8"]);
    let vips = addresses(&[taken, free].concat());
    let uplinks = [neighbour.uplink];
    let found = who_has(&uplinks, &vips, &BTreeSet::new()).unwrap();
    let found: Vec<(String, String)> = found
        .iter()
        .map(|(address, mac)| {
            let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            (address.to_string(), mac.join(":"))
        })
        .collect();
    let expected = taken.map(|address| (address.to_owned(), mac.to_owned()));
    assert_eq!(found, expected);
    // Nobody has learnt anything by it.
    for address in vips {
        assert_eq!(neighbour.entry(&address.to_string()), "");
    }

    // A node that announced an address before this one is no stranger.
    let vips = addresses(&taken);
    for (nodes, count) in [
        (&["192.0.2.2"][..], 0),
        (&["2001:db8::2"], 0),
        (&["192.0.2.9"], 2),
    ] {
        let found = who_has(&uplinks, &vips, &addresses(nodes)).unwrap();
        assert_eq!(found.len(), count, "{nodes:?}: {found:?}");
    }
}
