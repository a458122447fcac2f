//! `vetch-echo load`: requests over fresh connections, counted by the pod that answered.
//!
//! One request a connection, or one datagram a socket, one after the other, so that every request is
//! a new choice of backend and a failure is a failure of that choice. The report is one line of JSON on standard output.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

/// How long one request may take before it counts as failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Distinct failure texts kept for the report.
const ERRORS_KEPT: usize = 10;

pub const USAGE: &str = "usage: vetch-echo load --url (http://HOST[:PORT]/PATH | udp://HOST:PORT) (--count N | --seconds S) [--until-stdin-closes]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Udp,
}

/// What to ask, and when to stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    protocol: Protocol,
    host: String,
    port: u16,
    path: String,
    count: Option<u64>,
    seconds: Option<u64>,
    until_stdin_closes: bool,
}

impl Options {
    pub fn parse(args: &[String]) -> Result<Options, String> {
        let mut url = None;
        let mut options = Options {
            protocol: Protocol::Http,
            host: String::new(),
            port: 80,
            path: "/".into(),
            count: None,
            seconds: None,
            until_stdin_closes: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let number = |text: &String| {
                text.parse()
                    .map_err(|_| format!("{arg}: {text:?} is no number"))
            };
            match arg.as_str() {
                "--url" => url = Some(value()?.clone()),
                "--count" => options.count = Some(number(value()?)?),
                "--seconds" => options.seconds = Some(number(value()?)?),
                "--until-stdin-closes" => options.until_stdin_closes = true,
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        if options.count.is_none() && options.seconds.is_none() {
            return Err("one of --count and --seconds bounds the load".into());
        }
        let url = url.ok_or("--url is missing")?;
        let rest = if let Some(rest) = url.strip_prefix("udp://") {
            options.protocol = Protocol::Udp;
            rest
        } else {
            url.strip_prefix("http://")
                .ok_or("only http:// and udp:// are spoken here")?
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.is_empty() {
            options.path = path.into();
        }
        (options.host, options.port) = match authority.rsplit_once(':') {
            // Colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (
                host.into(),
                port.parse().map_err(|_| format!("{port:?} is no port"))?,
            ),
            _ if options.protocol == Protocol::Udp => {
                return Err("udp:// needs a port".into());
            }
            _ => (authority.into(), 80),
        };
        Ok(options)
    }
}

/// Runs the load and prints its report.
pub fn run(options: &Options) -> Result<(), String> {
    let host = options.host.trim_matches(['[', ']']);
    let target = (host, options.port)
        .to_socket_addrs()
        .map_err(|error| format!("{}: {error}", options.host))?
        .next()
        .ok_or_else(|| format!("{} has no address", options.host))?;
    let stop = Arc::new(AtomicBool::new(false));
    if options.until_stdin_closes {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.store(true, Ordering::Relaxed);
        });
    }
    let deadline = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut requests, mut failures) = (0_u64, 0_u64);
    let mut by_pod: BTreeMap<String, u64> = BTreeMap::new();
    let mut errors: Vec<String> = Vec::new();
    while !stop.load(Ordering::Relaxed)
        && options.count.is_none_or(|count| requests < count)
        && deadline.is_none_or(|deadline| Instant::now() < deadline)
    {
        requests += 1;
        let answered = match options.protocol {
            Protocol::Http => request(target, options),
            Protocol::Udp => datagram(target),
        };
        match answered {
            Ok(pod) => *by_pod.entry(pod).or_default() += 1,
            Err(error) => {
                failures += 1;
                if errors.len() < ERRORS_KEPT && !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
    }
    println!(
        "{}",
        json!({"requests": requests, "failures": failures, "errors": errors, "by_pod": by_pod})
    );
    Ok(())
}

fn step(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// One datagram from a socket of its own; answers with the pod's name.
fn datagram(target: SocketAddr) -> Result<String, String> {
    let own: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).map_err(step("bind"))?;
    // Connected, so that a port nobody listens at is an error and not a silence.
    socket.connect(target).map_err(step("connect"))?;
    socket
        .set_read_timeout(Some(TIMEOUT))
        .map_err(step("set timeout"))?;
    socket.send(b"hello").map_err(step("send"))?;
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer).map_err(step("receive"))?;
    std::str::from_utf8(&answer[..count])
        .ok()
        .and_then(|text| text.strip_suffix(": hello"))
        .map(str::to_owned)
        .ok_or_else(|| "the answer names no pod".into())
}

/// One request over a connection of its own; answers with the pod's name.
fn request(target: SocketAddr, options: &Options) -> Result<String, String> {
    let mut stream = TcpStream::connect_timeout(&target, TIMEOUT).map_err(step("connect"))?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .map_err(step("set timeout"))?;
    let Options { host, path, .. } = options;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .map_err(step("send"))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(step("receive"))?;
    answering_pod(&answer)
}

/// The pod's name in an answer of the echo server.
fn answering_pod(answer: &str) -> Result<String, String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the answer ended in its head")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("answered {status:?}"));
    }
    body.lines()
        .find_map(|line| line.strip_prefix("pod: "))
        .map(str::to_owned)
        .ok_or_else(|| "the answer names no pod".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, path) in [
            ("http://10.96.0.1/", "10.96.0.1", 80, "/"),
            ("http://10.96.0.1", "10.96.0.1", 80, "/"),
            ("http://echo:8080/a?b", "echo", 8080, "/a?b"),
            ("http://[fd00::1]:8080/a", "[fd00::1]", 8080, "/a"),
            ("http://[fd00::1]", "[fd00::1]", 80, "/"),
        ] {
            let options = parse(&format!("--count 1 --url {url}")).unwrap();
            assert_eq!(
                (options.host.as_str(), options.port, options.path.as_str()),
                (host, port, path)
            );
        }
    }

    #[test]
    fn a_load_without_bound_or_target_is_refused() {
        for line in [
            "--url http://a/",
            "--count 3",
            "--count x --url http://a/",
            "--count 1 --url https://a/",
            "--count 1 --url udp://a",
            "--count 1 --url udp://[fd00::1]",
            "--what",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_datagram_is_answered_by_its_pod() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = server.local_addr().unwrap();
        let parsed = parse(&format!("--count 1 --url udp://{target}")).unwrap();
        assert_eq!(
            (parsed.protocol, parsed.port),
            (Protocol::Udp, target.port())
        );
        let answers = ["a: hello", "hello"];
        let served = std::thread::spawn(move || {
            for answer in answers {
                let mut question = [0; 16];
                let (count, client) = server.recv_from(&mut question).unwrap();
                assert_eq!(&question[..count], b"hello");
                server.send_to(answer.as_bytes(), client).unwrap();
            }
        });
        assert_eq!(datagram(target), Ok("a".into()));
        assert!(datagram(target).is_err());
        served.join().unwrap();
        // The socket went with its thread.
        assert!(datagram(target).is_err());
    }

    #[test]
    fn an_answer_names_its_pod_or_counts_as_failed() {
        let answer = |head: &str, body: &str| format!("{head}\r\nServer: echo\r\n\r\n{body}");
        assert_eq!(
            answering_pod(&answer("HTTP/1.1 200 OK", "pod: a\nnode: b\n")),
            Ok("a".into())
        );
        assert!(answering_pod(&answer("HTTP/1.1 503 Service Unavailable", "pod: a\n")).is_err());
        assert!(answering_pod(&answer("HTTP/1.1 200 OK", "hello")).is_err());
        assert!(answering_pod("HTTP/1.1 200 OK\r\n").is_err());
    }
}
