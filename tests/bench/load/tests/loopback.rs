//! The program over loopback: a server and a client of ours, or one of them against a peer that
//! misbehaves on purpose.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vetch-load");

struct Server {
    process: Child,
    _log: BufReader<ChildStdout>,
    host: String,
    tcp: SocketAddr,
    udp: SocketAddr,
    control: SocketAddr,
}

impl Server {
    /// `rest` are further arguments.
    fn start(address: &str, rest: &[&str]) -> Server {
        let mut process = Command::new(PROGRAM)
            .args([
                "serve",
                "--udp",
                "0",
                "--control",
                "0",
                "--address",
                address,
            ])
            .args(rest)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let at = |port: &Value| {
            let port = u16::try_from(port.as_u64().unwrap()).unwrap();
            SocketAddr::new(address.parse().unwrap(), port)
        };
        Server {
            process,
            _log: log,
            host: said["host"].as_str().unwrap().into(),
            tcp: at(&said["tcp"][0]),
            udp: at(&said["udp"][0]),
            control: at(&said["control"]),
        }
    }

    fn any(address: &str) -> Server {
        Server::start(address, &["--tcp", "0"])
    }

    /// What X-Server says.
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.tcp.port())
    }

    fn get(&self, at: SocketAddr, target: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(at).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        (String::from_utf8(answer).unwrap(), body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free just now.
fn free(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn output(line: &str) -> Output {
    let arguments = line.split_whitespace();
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// Runs the client to its end; its report.
fn run(line: &str) -> Value {
    let output = output(&format!("run {line}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn number(report: &Value, name: &str) -> f64 {
    let value = name.split('.').fold(report, |value, name| &value[name]);
    let number = value.as_f64();
    number.unwrap_or_else(|| panic!("{name} is no number in {report:#}"))
}

fn assert_adds_up(report: &Value) {
    let requests = number(report, "requests");
    assert!(requests > 0.0, "{report:#}");
    assert_eq!(number(report, "failures"), 0.0, "{report:#}");
    assert_eq!(report["errors"], json!({}));
    let latency = ["p50", "p90", "p99", "p999", "max"];
    let latency = latency.map(|name| number(report, &format!("latencyMicros.{name}")));
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{report:#}");
    assert!(number(report, "cpuMicros") > 0.0, "{report:#}");
}

fn answered(report: &Value) -> f64 {
    let by = report["answeredBy"].as_object().unwrap();
    by.values().map(|count| count.as_f64().unwrap()).sum()
}

#[test]
fn the_server_says_who_answers_on_each_port() {
    // Two ports in a row that are free now; somebody may take them meanwhile, then others will do.
    let (server, first) = (0..50)
        .find_map(|_| {
            let first = free("127.0.0.21").port();
            let second = first.checked_add(1)?;
            TcpListener::bind(("127.0.0.21", second)).ok()?;
            let range = format!("{first}-{second}");
            Some((Server::start("127.0.0.21", &["--tcp", &range]), first))
        })
        .unwrap();
    for port in [first, first + 1] {
        let (head, body) = server.get(SocketAddr::new(server.tcp.ip(), port), "/");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let name = format!("\r\nX-Server: {}:{port}\r\n", server.host);
        assert!(head.contains(&name), "{head}");
        assert_eq!(body.len(), 64);
    }
    let (head, body) = server.get(server.tcp, "/stream?bytes=3000000");
    assert!(head.contains("\r\nContent-Length: 3000000\r\n"), "{head}");
    assert_eq!(body.len(), 3_000_000);
    assert!(
        server
            .get(server.tcp, "/usage")
            .0
            .starts_with("HTTP/1.1 404 ")
    );
    let (_, usage) = server.get(server.control, "/usage");
    let usage: Value = serde_json::from_slice(&usage).unwrap();
    assert!(usage["cpuMicros"].is_u64(), "{usage}");
    assert!(["cgroup", "rusage"].contains(&usage["source"].as_str().unwrap()));

    let socket = UdpSocket::bind("127.0.0.21:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.send_to(b"hello", server.udp).unwrap();
    let mut buffer = [0; 64];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], from), (&b"hello"[..], server.udp));
}

#[test]
fn requests_come_in_pieces_and_in_heaps() {
    let server = Server::any("127.0.0.22");
    let mut stream = TcpStream::connect(server.tcp).unwrap();
    let heap = "GET /stream?bytes=1000000 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n".repeat(20);
    let pieces = ["GET / HT", "TP/1.1\r\n\r", "\n", &heap];
    let mut writer = stream.try_clone().unwrap();
    for piece in pieces {
        writer.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    write!(writer, "GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 41);
    assert_eq!(text.matches('\0').count(), 20_000_000);
    assert!(text.ends_with("not found\n"));
}

#[test]
fn told_to_end_it_ends_at_once_and_well() {
    let mut server = Server::any("127.0.0.23");
    let _kept = TcpStream::connect(server.tcp).unwrap();
    let pid = server.process.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let told = Instant::now();
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(1));
}

#[test]
fn new_connections_go_around_the_targets() {
    let servers = [Server::any("127.0.0.24"), Server::any("127.0.0.25")];
    let (one, two) = (&servers[0], &servers[1]);
    let report = run(&format!(
        "--kind connect --targets {},{} --seconds 0.4 --warmup 0.1 --connections 5 --usage {},{}",
        one.tcp, two.tcp, one.control, two.control
    ));
    assert_adds_up(&report);
    assert_eq!(report["kind"], "connect");
    assert_eq!(report["loop"], "closed");
    assert_eq!(answered(&report), number(&report, "requests"));
    for server in &servers {
        let share = number(&report["answeredBy"], &server.name()) / answered(&report);
        assert!((0.4..0.6).contains(&share), "{report:#}");
    }
    let rate = number(&report, "requests") / 0.4;
    assert!((number(&report, "rate") / rate - 1.0).abs() < 1e-9);
    assert_eq!(number(&report, "bytes"), number(&report, "requests") * 64.0);
    assert!(number(&report, "serverCpuMicros") > 0.0);
    assert!(report["askedRate"].is_null());
}

#[test]
fn new_connections_leave_no_port_behind() {
    let server = Server::any("127.0.0.26");
    let line = format!(
        "--kind connect --targets {} --seconds 0.3 --warmup 0",
        server.tcp
    );
    assert_adds_up(&run(&line));
    // The server's side of each waits in TIME_WAIT; of the client's, all are gone.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let server = format!("1A00007F:{:04X}", server.tcp.port());
    let (mut servers, mut clients) = (0, 0);
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        const TIME_WAIT: &str = "06";
        servers += usize::from(fields[1] == server && fields[3] == TIME_WAIT);
        clients += usize::from(fields[2] == server && fields[3] == TIME_WAIT);
    }
    assert_eq!(clients, 0, "{servers} on the server's side");
    assert!(servers > 0, "did the client close first?");
}

#[test]
fn kept_connections_are_spread_over_targets_and_threads() {
    let servers = ["127.0.0.27", "127.0.0.28", "127.0.0.29"]
        .map(|address| Server::start(address, &["--tcp", "0", "--threads", "2"]));
    let targets = servers.each_ref().map(|server| server.tcp.to_string());
    let report = run(&format!(
        "--kind keepalive --targets {} --seconds 0.4 --warmup 0.1 --connections 6 --threads 2",
        targets.join(",")
    ));
    assert_adds_up(&report);
    assert_eq!(answered(&report), number(&report, "requests"));
    for server in &servers {
        assert!(number(&report["answeredBy"], &server.name()) > 0.0);
    }
    assert!(report["serverCpuMicros"].is_null());
}

#[test]
fn streams_count_bytes() {
    let server = Server::any("127.0.0.30");
    let report = run(&format!(
        "--kind stream --targets {} --seconds 0.5 --warmup 0.1 --connections 2",
        server.tcp
    ));
    assert_adds_up(&report);
    let bytes = number(&report, "bytes");
    assert_eq!(number(&report, "rate"), bytes / 0.5);
    // Whole ones are 8 MiB; at both ends of the window, each connection may have a part of one.
    let whole = number(&report, "requests") * f64::from(8 << 20);
    let parts = 2.0 * f64::from(8 << 20);
    assert!((bytes - whole).abs() <= parts, "{bytes} {whole}");
    assert!(answered(&report) >= number(&report, "requests"));
}

#[test]
fn datagrams_go_round() {
    let server = Server::any("127.0.0.31");
    let report = run(&format!(
        "--kind udp --targets {} --seconds 0.4 --warmup 0.1 --connections 4",
        server.udp
    ));
    assert_adds_up(&report);
    assert_eq!(number(&report, "bytes"), number(&report, "requests") * 64.0);
    assert_eq!(report["answeredBy"], json!({}));
}

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
fn a_schedule_is_held_or_seen_not_to_be() {
    let server = Server::any("127.0.0.33");
    let line = format!(
        "--kind keepalive --targets {} --seconds 0.5 --warmup 0.1",
        server.tcp
    );
    let report = run(&format!("{line} --rate 2000 --threads 2"));
    assert_adds_up(&report);
    assert_eq!(report["loop"], "open");
    assert_eq!(number(&report, "askedRate"), 2000.0);
    let rate = number(&report, "rate");
    assert!((1900.0..=2000.0).contains(&rate), "{report:#}");

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
    assert!(number(&report, "requests") >= 790.0, "{report:#}");

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
