//! The follower.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program::{PROGRAM, Server, number};

#[test]
fn following_tells_of_another_server() {
    let mut first = Server::any("127.0.0.37");
    let target = first.tcp;
    let mut follower = Command::new(PROGRAM)
        .args([
            "follow",
            "--target",
            &target.to_string(),
            "--seconds",
            "0.9",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let line = next();
    assert_eq!(line["server"], first.name());
    let times = ["startedAtMicros", "connectedAtMicros"].map(|name| number(&line, name));
    let now = monotonic_micros();
    assert!(times.is_sorted() && times[1] <= now, "{line} {now}");
    assert!(times[0] > now - 900_000.0, "{line} {now}");

    let before = monotonic_micros();
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    // Refused, or reset in the middle: only the first of them is told.
    let line = next();
    assert!(line["failed"].is_string(), "{line}");
    assert!(number(&line, "atMicros") >= before, "{line}");
    // Another host on the same port.
    let listener = TcpListener::bind(target).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Server: other:1\r\nConnection: close\r\n\r\n",
            );
        }
    });
    let line = next();
    assert_eq!(line["server"], "other:1");
    assert!(number(&line, "startedAtMicros") > before, "{line}");
    let done = next();
    assert_eq!(done["done"], true, "{done}");
    assert!(number(&done, "failures") >= 1.0, "{done}");
    assert!(number(&done, "connections") > 300.0, "{done}");
    assert!(follower.wait().unwrap().success());
}

/// The clock of the follower's lines, read as any process may.
fn monotonic_micros() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
