//! The program itself: its ports, its readiness, its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

struct Echo {
    process: Child,
    _log: BufReader<ChildStdout>,
    http: SocketAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl Echo {
    fn start(drain: &str) -> Echo {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vetch-echo"))
            .args(["--http", "0", "--tcp", "0", "--udp", "0", "--drain", drain])
            .env("POD_NAME", "pod-1")
            .env("NODE_NAME", "node-1")
            .env("VERSION", "v1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let port = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name} [::]:")).unwrap();
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            SocketAddr::from(([127, 0, 0, 1], digits.parse().unwrap()))
        };
        let (http, tcp, udp) = (port("http"), port("tcp"), port("udp"));
        Echo {
            process,
            _log: log,
            http,
            tcp,
            udp,
        }
    }

    /// Status line and body of a request over a connection of its own.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = connect(self.http);
        write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn signal(&self) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

#[test]
fn it_says_who_answers() {
    let echo = Echo::start("0");
    let (status, body) = echo.get("/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(
        body.starts_with("pod: pod-1\nnode: node-1\nversion: v1\nremote: 127.0.0.1:"),
        "{body}"
    );
    assert!(body.ends_with(&format!("local: {}\n", echo.http)), "{body}");
    assert_eq!(echo.get("/nowhere").0, "HTTP/1.1 404 Not Found");
}

#[test]
fn connections_are_kept_and_requests_come_in_pieces_and_in_heaps() {
    let echo = Echo::start("0");
    let mut stream = connect(echo.http);
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ok = || {
        let mut line = String::new();
        let mut length = 0;
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        while line != "\r\n" {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
            answers.read_line(&mut line).unwrap();
        }
        let mut body = vec![0; length];
        answers.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    };
    for piece in ["GET /heal", "thz HTTP/1.1\r\n", "Host: a\r\n\r", "\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ok(), "ok\n");
    let post =
        "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n".to_owned() + &"x".repeat(100_000);
    stream
        .write_all(format!("{post}GET /healthz HTTP/1.1\r\n\r\n").as_bytes())
        .unwrap();
    assert!(ok().starts_with("pod: pod-1\n"));
    assert_eq!(ok(), "ok\n");
    // Far more than the buffers between us hold, before one answer is read.
    let reader = std::thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || {
            let heap = "GET /healthz HTTP/1.1\r\n\r\n".repeat(100_000);
            stream.write_all(heap.as_bytes()).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..100_000 {
        assert_eq!(ok(), "ok\n");
    }
    reader.join().unwrap();
}

#[test]
fn readiness_is_switched_and_the_rest_goes_on() {
    let echo = Echo::start("0");
    assert_eq!(echo.get("/ready").0, "HTTP/1.1 200 OK");
    assert_eq!(echo.get("/ready?off").0, "HTTP/1.1 200 OK");
    assert_eq!(echo.get("/ready").0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(echo.get("/").0, "HTTP/1.1 200 OK");
    assert_eq!(echo.get("/ready?on").0, "HTTP/1.1 200 OK");
    assert_eq!(echo.get("/ready").0, "HTTP/1.1 200 OK");
}

#[test]
fn lines_and_datagrams_come_back() {
    let echo = Echo::start("0");
    let mut stream = connect(echo.tcp);
    stream.write_all(b"one\ntwo\n").unwrap();
    let mut answers = BufReader::new(stream).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "pod-1: one");
    assert_eq!(answers.next().unwrap().unwrap(), "pod-1: two");

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.send_to(b"hallo", echo.udp).unwrap();
    let mut buffer = [0; 64];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..count], from),
        (b"pod-1: hallo".as_slice(), echo.udp)
    );
}

#[test]
fn told_to_end_it_serves_a_while_and_ends_well() {
    let mut echo = Echo::start("1");
    let mut kept = connect(echo.http);
    let told = Instant::now();
    echo.signal();
    while echo.get("/ready").0 != "HTTP/1.1 503 Service Unavailable" {
        assert!(told.elapsed() < Duration::from_millis(900), "still ready");
    }
    assert_eq!(echo.get("/").0, "HTTP/1.1 200 OK");
    write!(kept, "GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    assert!(echo.process.wait().unwrap().success());
    assert!(told.elapsed() >= Duration::from_secs(1), "ended too early");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let echo = Echo::start("0");
    let port = echo.http.port().to_string();
    let refused = Command::new(env!("CARGO_BIN_EXE_vetch-echo"))
        .args(["--http", &port])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains(&format!("listen on TCP port {port}")),
        "{error}"
    );
}
