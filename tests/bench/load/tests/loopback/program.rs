//! The program, as server and as client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_vetch-load");

pub struct Server {
    pub process: Child,
    _log: BufReader<ChildStdout>,
    pub host: String,
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
    pub control: SocketAddr,
}

impl Server {
    /// `rest` are further arguments.
    pub fn start(address: &str, rest: &[&str]) -> Server {
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

    pub fn any(address: &str) -> Server {
        Server::start(address, &["--tcp", "0"])
    }

    /// What X-Server says.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.tcp.port())
    }

    pub fn get(&self, at: SocketAddr, target: &str) -> (String, Vec<u8>) {
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
pub fn free(address: &str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

pub fn output(line: &str) -> Output {
    let arguments = line.split_whitespace();
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// Runs the client to its end; its report.
pub fn run(line: &str) -> Value {
    let output = output(&format!("run {line}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

pub fn number(report: &Value, name: &str) -> f64 {
    let value = name.split('.').fold(report, |value, name| &value[name]);
    let number = value.as_f64();
    number.unwrap_or_else(|| panic!("{name} is no number in {report:#}"))
}

pub fn assert_adds_up(report: &Value) {
    let requests = number(report, "requests");
    assert!(requests > 0.0, "{report:#}");
    assert_eq!(number(report, "failures"), 0.0, "{report:#}");
    assert_eq!(report["errors"], json!({}));
    let latency = ["p50", "p90", "p99", "p999", "max"];
    let latency = latency.map(|name| number(report, &format!("latencyMicros.{name}")));
    assert!(latency[0] > 0.0 && latency.is_sorted(), "{report:#}");
    assert!(number(report, "cpuMicros") > 0.0, "{report:#}");
}

pub fn answered(report: &Value) -> f64 {
    let by = report["answeredBy"].as_object().unwrap();
    by.values().map(|count| count.as_f64().unwrap()).sum()
}
