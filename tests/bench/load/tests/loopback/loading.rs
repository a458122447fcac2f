//! Each kind of load, with everything well.

use serde_json::json;

use crate::program::{Server, answered, assert_adds_up, number, run};

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
