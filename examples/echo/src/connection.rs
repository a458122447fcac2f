//! One client: what it sent and is not answered yet, what it has not taken yet.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use crate::http::{self, Parsed, Request, Route, Status};
use crate::line;
use crate::serve::Shared;
use crate::sys::Interest;

/// Answered alike; a client that tries what stands between sees whether they get through.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Line,
}

pub struct Connection {
    pub stream: TcpStream,
    protocol: Protocol,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of a request's body still to be skipped.
    body: u64,
    /// No more input is taken; the end comes when the output is gone.
    closing: bool,
    /// What GET / answers; the addresses do not change.
    identity: String,
}

/// Buffers a worker lends to its connections, so that most need none of their own.
pub struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            input: vec![0; 64 * 1024],
            output: Vec::new(),
        }
    }
}

impl Connection {
    pub fn new(stream: TcpStream, protocol: Protocol) -> Connection {
        Connection {
            stream,
            protocol,
            input: Vec::new(),
            output: Vec::new(),
            body: 0,
            closing: false,
            identity: String::new(),
        }
    }

    /// Goes on as far as the socket allows. None: it is over.
    pub fn go_on(&mut self, shared: &Shared, scratch: &mut Scratch) -> Option<Interest> {
        self.advance(shared, scratch).ok().flatten()
    }

    fn advance(&mut self, shared: &Shared, scratch: &mut Scratch) -> Result<Option<Interest>> {
        loop {
            // A client that does not read is not read from.
            if !self.flush()? {
                return Ok(Some(Interest::Writable));
            }
            if self.closing {
                return Ok(None);
            }
            let count = match self.stream.read(&mut scratch.input) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Some(Interest::Readable));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            scratch.output.clear();
            if self.input.is_empty() {
                let received = &scratch.input[..count];
                let done = self.answer(received, shared, &mut scratch.output);
                self.input.extend_from_slice(&received[done..]);
            } else {
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(&scratch.input[..count]);
                let done = self.answer(&input, shared, &mut scratch.output);
                input.drain(..done);
                self.input = input;
            }
            let sent = send(&mut self.stream, &scratch.output)?;
            self.output.extend_from_slice(&scratch.output[sent..]);
            // Less than was asked for: there is no more, and asking again would say so.
            if count < scratch.input.len() && self.output.is_empty() && !self.closing {
                return Ok(Some(Interest::Readable));
            }
        }
    }

    fn flush(&mut self) -> Result<bool> {
        if self.output.is_empty() {
            return Ok(true);
        }
        let sent = send(&mut self.stream, &self.output)?;
        self.output.drain(..sent);
        Ok(self.output.is_empty())
    }

    /// Answers what is complete. Returns how much of the input is done with.
    fn answer(&mut self, input: &[u8], shared: &Shared, output: &mut Vec<u8>) -> usize {
        if self.protocol == Protocol::Line {
            let done = line::answer(input, &shared.identity.pod, output);
            self.closing = done.is_none();
            return done.unwrap_or(input.len());
        }
        let mut done = 0;
        while !self.closing {
            let rest = &input[done..];
            let skipped = usize::try_from(self.body)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            self.body -= u64::try_from(skipped).unwrap_or(0);
            done += skipped;
            let rest = &rest[skipped..];
            if rest.is_empty() {
                break;
            }
            match http::parse(rest) {
                Parsed::Partial => break,
                Parsed::Request {
                    mut request,
                    length,
                } => {
                    done += length;
                    self.body = request.body;
                    // Clients that keep connections shall look for another pod.
                    request.keep_alive &= !shared.draining.load(Ordering::Relaxed);
                    self.closing = !request.keep_alive;
                    self.request(&request, shared, output);
                }
                Parsed::Refused(status) => {
                    self.closing = true;
                    http::answer(output, status, "", None);
                }
            }
        }
        done
    }

    fn request(&mut self, request: &Request<'_>, shared: &Shared, output: &mut Vec<u8>) {
        let (status, body) = match Route::of(request.target) {
            _ if !METHODS.contains(&request.method) => (Status::MethodNotAllowed, ""),
            Route::Identity => {
                if self.identity.is_empty() {
                    self.identity = self.introduce(shared);
                }
                (Status::Ok, self.identity.as_str())
            }
            Route::Health => (Status::Ok, "ok\n"),
            Route::Ready if shared.is_ready() => (Status::Ok, "ready\n"),
            Route::Ready => (Status::Unavailable, "not ready\n"),
            Route::SetReady(ready) => {
                shared.ready.store(ready, Ordering::Relaxed);
                let body = if ready {
                    "ready is on\n"
                } else {
                    "ready is off\n"
                };
                (Status::Ok, body)
            }
            Route::Unknown => (Status::NotFound, "not found\n"),
        };
        http::answer(output, status, body, Some(request));
    }

    fn introduce(&self, shared: &Shared) -> String {
        let identity = &shared.identity;
        let mut text = format!(
            "pod: {}\nnode: {}\nversion: {}\n",
            identity.pod, identity.node, identity.version
        );
        let addresses = [
            ("remote", self.stream.peer_addr()),
            ("local", self.stream.local_addr()),
        ];
        for (name, address) in addresses {
            if let Ok(address) = address {
                // A socket of both families has IPv4's addresses in IPv6's clothes.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                // Writing to memory does not fail.
                let _ = writeln!(text, "{name}: {address}");
            }
        }
        text
    }
}

/// As much as the socket takes now.
fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
