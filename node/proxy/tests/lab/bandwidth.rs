//! Pods that may receive or send so much a second, whoever is at the other end.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    time::Instant,
};

use vetch_network::{Bandwidth, PodOptions};
use vetch_proxy::Kind::Tcx;

use crate::{
    servers::TIMEOUT,
    site::{Namespace, Pod, Site},
};

/// Bits a second.
const LIMIT: u64 = 40_000_000;
/// What passes at once, and what TCP needs to find its pace, is not counted.
const FIRST: usize = 2 << 20;
const ALL: usize = 10 << 20;

fn pod(site: &Site, id: &str, bandwidth: Bandwidth) -> Pod {
    let options = PodOptions {
        bandwidth,
        ..PodOptions::default()
    };
    site.pod_with(id, options)
}

/// What a connection's payload has of the limit; what is over it, frames' headers have (4 %).
fn share(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) -> f64 {
    let mut stream = connect();
    let (mut accepted, _) = listener.accept().unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    accepted.set_read_timeout(Some(TIMEOUT)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stream.write_all(&vec![7; ALL]).unwrap());
        let mut bytes = vec![0; ALL];
        accepted.read_exact(&mut bytes[..FIRST]).unwrap();
        let since = Instant::now();
        accepted.read_exact(&mut bytes[FIRST..]).unwrap();
        let bits = 8.0 * (ALL - FIRST) as f64;
        bits / since.elapsed().as_secs_f64() / LIMIT as f64
    })
}

/// To a server inside `to`; by a client inside `from`, or by the node itself.
fn between(from: Option<&Namespace>, to: &Namespace, at: IpAddr) -> f64 {
    let listener = to.run(|| TcpListener::bind((at, 0)).unwrap());
    let place = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&place, TIMEOUT).unwrap();
    share(&listener, || match from {
        Some(namespace) => namespace.run(connect),
        None => connect(),
    })
}

/// Never more, and as much if the machine lets it: one that others use as well may be too slow
/// for it now and then.
#[track_caller]
fn is_limited(what: &str, mut share: impl FnMut() -> f64) {
    let mut shares = Vec::new();
    for _ in 0..5 {
        let share = share();
        assert!(share < 1.1, "{what}: {share}");
        shares.push(share);
        if share > 0.9 {
            return;
        }
    }
    panic!("{what}: {shares:?}");
}

#[test]
fn what_a_pod_receives() {
    let site = Site::new();
    let limit = Bandwidth {
        ingress: Some(LIMIT),
        egress: None,
    };
    let slow = pod(&site, "slow", limit);
    let other = pod(&site, "other", Bandwidth::default());
    let _daemon = site.started("a", Tcx);
    let inside = &slow.namespace;
    let of = |from| between(from, inside, slow.ip);
    is_limited("from a pod", || of(Some(&other.namespace)));
    is_limited("from outside", || of(Some(&site.outside)));
    is_limited("from the node", || of(None));
    // The other way there is none.
    let sent = between(Some(inside), &other.namespace, other.ip);
    assert!(sent > 2.0, "{sent}");
}

#[test]
fn what_a_pod_sends() {
    let site = Site::new();
    let limit = Bandwidth {
        ingress: None,
        egress: Some(LIMIT),
    };
    let slow = pod(&site, "slow", limit);
    let other = pod(&site, "other", Bandwidth::default());
    let _daemon = site.started("a", Tcx);
    let of = |to: &Namespace, at| between(Some(&slow.namespace), to, at);
    is_limited("to a pod", || of(&other.namespace, other.ip));
    let outside = crate::site::OUTSIDE.parse().unwrap();
    is_limited("to outside", || of(&site.outside, outside));
    let received = between(Some(&other.namespace), &slow.namespace, slow.ip);
    assert!(received > 2.0, "{received}");
}
