//! The server by itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Server, free};

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
