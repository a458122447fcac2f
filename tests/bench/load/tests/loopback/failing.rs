//! What goes wrong is counted.

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program::{PROGRAM, Server, answered, free, number, output, run};

#[test]
fn lost_datagrams_are_counted() {
    let socket = UdpSocket::bind("127.0.0.32:0").unwrap();
    let target = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for i in 0_u64.. {
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            // Every tenth is dropped.
            if i % 10 != 9 {
                let _ = socket.send_to(&buffer[..count], from);
            }
        }
    });
    let report = run(&format!(
        "--kind udp --targets {target} --seconds 0.7 --warmup 0 --connections 2 --rate 200"
    ));
    let (requests, lost) = (number(&report, "requests"), number(&report, "failures"));
    assert_eq!(number(&report["errors"], "lost: no answer in 250 ms"), lost);
    // Of 140; of those lost in the last 250 ms it is not known by the end.
    assert!((115.0..=127.0).contains(&requests), "{report:#}");
    assert!((7.0..=9.0).contains(&lost), "{report:#}");
}

#[test]
fn a_server_that_ends_midway_is_a_failure_not_the_end() {
    for kind in ["connect", "keepalive", "stream", "udp"] {
        let mut server = Server::any("127.0.0.35");
        let target = if kind == "udp" {
            server.udp
        } else {
            server.tcp
        };
        let control = server.control;
        let client = Command::new(PROGRAM)
            .args(["run", "--kind", kind, "--targets", &target.to_string()])
            .args(["--usage", &control.to_string()])
            .args("--seconds 0.6 --warmup 0.1 --connections 4".split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // What is measured begins after 100 ms: this is the middle of it.
        std::thread::sleep(Duration::from_millis(400));
        server.process.kill().unwrap();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{kind}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (failures, errors) = (number(&report, "failures"), &report["errors"]);
        assert!(number(&report, "bytes") > 0.0, "{report:#}");
        assert!(failures >= 4.0, "{report:#}");
        // It rests after each: no storm of refusals.
        assert!(failures < 4000.0, "{report:#}");
        let errors = errors.as_object().unwrap();
        let (of_usage, of_load): (Vec<_>, Vec<_>) = errors
            .iter()
            .partition(|(text, _)| text.starts_with("usage of "));
        assert_eq!(of_usage.len(), 1, "{report:#}");
        let counted: f64 = of_load
            .iter()
            .map(|(_, count)| count.as_f64().unwrap())
            .sum();
        assert_eq!(counted, failures, "{report:#}");
        assert!(
            errors.keys().any(|text| text.contains("refused")),
            "{report:#}"
        );
        assert!(report["serverCpuMicros"].is_null(), "{report:#}");
    }
}

#[test]
fn nothing_to_measure_is_an_error() {
    let free = free("127.0.0.36");
    for (line, expected) in [
        (
            format!("run --kind connect --targets {free} --seconds 0.1 --warmup 0"),
            "nothing was answered: ",
        ),
        (
            format!("run --kind udp --targets {free} --seconds 0.1 --warmup 0"),
            "nothing was answered: ",
        ),
        (
            format!("run --kind udp --targets {free} --seconds 1 --usage {free}"),
            "usage of 127.0.0.36:",
        ),
        (
            format!("run --kind udp --targets {free} --seconds -1"),
            "unexpected argument",
        ),
        (
            format!("run --kind stream --targets {free} --seconds 1 --rate 4"),
            "--rate makes no schedule of streams",
        ),
        (
            format!("follow --target {free} --seconds 0.1"),
            "answered nothing",
        ),
    ] {
        let output = output(&line);
        assert!(!output.status.success(), "{line}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn who_never_answers_is_a_failure_when_the_time_is_over() {
    let server = Server::any("127.0.0.38");
    // The kernel completes the handshakes; nobody accepts.
    let silent = TcpListener::bind("127.0.0.38:0").unwrap();
    let targets = format!("{},{}", server.tcp, silent.local_addr().unwrap());
    let line = format!("--targets {targets} --seconds 0.7 --warmup 0 --connections 6");
    let report = run(&format!("--kind keepalive {line}"));
    assert_eq!(number(&report, "failures"), 3.0, "{report:#}");
    assert_eq!(answered(&report), number(&report, "requests"));
    // All connections come to it, one after the other, and stay.
    let report = run(&format!("--kind connect {line}"));
    assert_eq!(number(&report, "failures"), 6.0, "{report:#}");
    let text = "receive: nothing for 0.5 s or more when the time was over";
    assert_eq!(report["errors"][text], 6, "{report:#}");
}
