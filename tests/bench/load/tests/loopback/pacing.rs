//! The open loop.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::program::{Server, assert_adds_up, number, run};

#[test]
fn a_schedule_is_held_or_seen_not_to_be() {
    let server = Server::any("127.0.0.33");
    let line = format!(
        "--kind keepalive --targets {} --seconds 0.5 --warmup 0.1",
        server.tcp
    );
    let held = |_| {
        let report = run(&format!("{line} --rate 2000 --threads 2"));
        assert_adds_up(&report);
        assert_eq!(report["loop"], "open");
        assert_eq!(number(&report, "askedRate"), 2000.0);
        let rate = number(&report, "rate");
        assert!(rate <= 2000.0, "{report:#}");
        rate >= 1700.0
    };
    // Not while others have the processors.
    assert!((0..10).any(held), "none of ten runs held its schedule");

    let report = run(&format!("{line} --rate 5000000 --connections 2"));
    assert!(number(&report, "rate") < 2_500_000.0, "{report:#}");
    // Most arrivals were due long before they were sent, or never were.
    assert!(
        number(&report, "latencyMicros.p50") > 50_000.0,
        "{report:#}"
    );
}

/// A server of one connection at a time, that stalls once.
fn stalling_server(address: &str, after: u64, stall: Duration) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 1024];
        for i in 0_u64.. {
            // Requests come one at a time on one connection.
            if stream.read(&mut buffer).unwrap_or(0) == 0 {
                return;
            }
            if i == after {
                std::thread::sleep(stall);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX-Server: s:1\r\n\r\n!";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    target
}

#[test]
fn a_stall_is_charged_for_all_who_would_have_come() {
    let stall = Duration::from_millis(200);
    let target = stalling_server("127.0.0.34", 200, stall);
    let line = "--connections 1 --seconds 0.8 --warmup 0";
    let report = run(&format!(
        "--kind keepalive --targets {target} {line} --rate 1000"
    ));
    assert!(
        number(&report, "latencyMicros.max") >= 199_000.0,
        "{report:#}"
    );
    // A quarter of the 800 arrivals fell into the stall and waited 100 ms on average. Counted from
    // when it was sent, only one request would have been slow, and p99 would not know of it.
    assert!(
        number(&report, "latencyMicros.p90") > 80_000.0,
        "{report:#}"
    );
    assert!(
        number(&report, "latencyMicros.p99") > 150_000.0,
        "{report:#}"
    );
    // Those of the stall were made up for.
    assert!(number(&report, "requests") > 650.0, "{report:#}");

    // The same stall in a closed loop: one slow request.
    let target = stalling_server("127.0.0.34", 200, stall);
    let report = run(&format!("--kind keepalive --targets {target} {line}"));
    assert!(
        number(&report, "latencyMicros.max") >= 199_000.0,
        "{report:#}"
    );
    assert!(
        number(&report, "latencyMicros.p99") < 100_000.0,
        "{report:#}"
    );
}
