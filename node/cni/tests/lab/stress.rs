//! A thousand pods come and go, while plugins and the daemon are killed.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::daemon::Daemon;
use crate::namespace::{Bridge, Namespace};
use crate::plugin::{Answered, Call, answered, path_of};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
/// Room for those at once and not many more: what leaks is missed soon.
const CIDR: &str = "10.244.1.0/27";
const AT_ONCE: usize = 16;
const PAIRS: usize = 1000;
/// The daemon is killed after so many of them, again and again.
const KILLED_AFTER: usize = 100;
/// One of so many plugins is killed.
const KILLED: u64 = 8;
/// Calls of one DEL, over the daemon's restarts.
const PATIENCE: usize = 100;

/// Numbers that look like chance, the same in each run (SplitMix64's constants).
fn chance(seed: usize) -> u64 {
    let mut z = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Runs the call, or kills it at some moment.
fn run_or_kill(call: &Call, node: &Namespace, number: usize) -> Option<Answered> {
    let chance = chance(number);
    node.run(|| {
        let mut child = call.start();
        if chance.is_multiple_of(KILLED) {
            let moment = Duration::from_micros((chance >> 8) % 20_000);
            std::thread::sleep(moment);
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        output.status.code()?;
        Some(answered(output))
    })
}

struct Site<'a> {
    node: &'a Namespace,
    run_dir: &'a Path,
    next: AtomicUsize,
    added: AtomicUsize,
    /// Addresses between the answer to an ADD and the call of its DEL.
    live: Mutex<HashSet<String>>,
    done: Mutex<usize>,
    one_more: Condvar,
    failed: AtomicBool,
}

impl Site<'_> {
    /// One pod after the other in the same namespace, as long as there are some to do.
    fn work(&self) {
        let pod = Namespace::new();
        let netns = path_of(&pod);
        loop {
            let n = self.next.fetch_add(1, Relaxed);
            if n >= PAIRS || self.failed.load(Relaxed) {
                return;
            }
            self.pair(n, &netns);
            *self.done.lock().unwrap() += 1;
            self.one_more.notify_all();
        }
    }

    fn pair(&self, n: usize, netns: &str) {
        let call =
            |command: &str| Call::new(command, "1.1.0", self.run_dir).of(&format!("c{n}"), netns);
        let mut address = None;
        if let Some(answered) = run_or_kill(&call("ADD"), self.node, 2 * n) {
            if answered.ok {
                let ip = answered.output["ips"][0]["address"].to_string();
                let fresh = self.live.lock().unwrap().insert(ip.clone());
                assert!(fresh, "{ip} was given twice");
                self.added.fetch_add(1, Relaxed);
                address = Some(ip);
            } else {
                // While there is no daemon; nothing else is an excuse.
                let code = answered.code();
                assert_eq!(code, 11, "{}", answered.output);
                let absent = answered.output["msg"].to_string();
                assert!(absent.contains("does not answer"), "{absent}");
            }
        }
        if let Some(ip) = address {
            self.live.lock().unwrap().remove(&ip);
        }
        // A runtime deletes what it could not add as well, and until it is done.
        let deleted = (0..PATIENCE).any(|again| {
            let number = 2 * n + 1 + again * 2 * PAIRS;
            run_or_kill(&call("DEL"), self.node, number).is_some_and(|answered| answered.ok)
        });
        assert!(deleted, "c{n} cannot be deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pods_leave_nothing() {
    let bridge = Bridge::new().await;
    let node = bridge.node(NODE).await;
    // A run directory is in memory, on a node too.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let run_dir = dir.path();
    let start = || Daemon::start(&node, run_dir, NODE.into(), CIDR);
    let mut daemon = start();
    let site = Site {
        node: &node,
        run_dir,
        next: AtomicUsize::new(0),
        added: AtomicUsize::new(0),
        live: Mutex::default(),
        done: Mutex::default(),
        one_more: Condvar::new(),
        failed: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        site.work();
                    }));
                    if let Err(panic) = worked {
                        site.failed.store(true, Relaxed);
                        site.one_more.notify_all();
                        std::panic::resume_unwind(panic);
                    }
                })
            })
            .collect();
        let mut killed_at = 0;
        loop {
            let done = site.done.lock().unwrap();
            let enough = |done: &mut usize| {
                let due = *done >= PAIRS || *done >= killed_at + KILLED_AFTER;
                !due && !site.failed.load(Relaxed)
            };
            let done = *site.one_more.wait_while(done, enough).unwrap();
            if done >= PAIRS || site.failed.load(Relaxed) {
                break;
            }
            killed_at = done;
            daemon.kill();
            daemon = start();
        }
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let added = site.added.load(Relaxed);
    assert!(added > PAIRS / 2, "only {added} were added");

    // What was ended without a daemon is ended by the next ADD at the latest.
    let pod = Namespace::new();
    let last = |command| Call::new(command, "1.1.0", run_dir).of("last", &path_of(&pod));
    last("ADD").run_in(&node).unwrap();
    last("DEL").run_in(&node).unwrap();
    for kind in ["sandboxes", "deleted"] {
        let left = std::fs::read_dir(run_dir.join("network").join(kind));
        let left: Vec<_> = left
            .into_iter()
            .flatten()
            .map(|one| one.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert_eq!(node.links().await, ["lo", "eth0"]);
    // Nor is there more to find.
    let all = Call::new("GC", "1.1.0", run_dir).field("cni.dev/valid-attachments", json!([]));
    all.run_in(&node).unwrap();
    assert_eq!(node.links().await, ["lo", "eth0"]);
}
