//! One client: what it sent and is not answered yet, what it has not taken yet.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};

use super::request::{HEAD_LIMIT, Parsed, parse};
use super::site::Site;
use crate::net;

/// Streams are sent in pieces of this size …
const PIECE: usize = 256 * 1024;
/// … and after so many the other connections have their turn.
const PIECES: usize = 4;

static ZEROS: [u8; PIECE] = [0; PIECE];

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Input,
    Room,
    /// Nothing: it is over.
    Over,
}

pub struct Connection {
    pub socket: OwnedFd,
    /// Index of the listener it came by.
    pub door: usize,
    /// What the socket is watched for.
    pub watched: Wait,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of a stream still to be sent after the output.
    stream: u64,
    /// No more input is taken; the end comes when the output is gone.
    closing: bool,
}

/// Buffers a worker lends to its connections, so that most need none of their own.
pub struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            input: vec![0; HEAD_LIMIT],
            output: Vec::new(),
        }
    }
}

impl Connection {
    pub fn new(socket: OwnedFd, door: usize) -> Connection {
        Connection {
            socket,
            door,
            watched: Wait::Input,
            input: Vec::new(),
            output: Vec::new(),
            stream: 0,
            closing: false,
        }
    }

    /// Goes on as far as the socket allows. `ended`: the client sends no more.
    pub fn go_on(&mut self, site: &Site, scratch: &mut Scratch, ended: bool) -> Wait {
        self.advance(site, scratch, ended).unwrap_or(Wait::Over)
    }

    fn advance(&mut self, site: &Site, scratch: &mut Scratch, ended: bool) -> Result<Wait> {
        loop {
            // A client that does not read is not read from.
            if !self.flush()? {
                return Ok(Wait::Room);
            }
            if self.closing {
                return Ok(Wait::Over);
            }
            let Scratch { input, output } = scratch;
            output.clear();
            let mut more = true;
            // A stream may have stopped it in the middle of a heap of requests.
            let waiting = std::mem::take(&mut self.input);
            let mut done = self.answer(&waiting, site, output);
            if done > 0 {
                self.input.extend_from_slice(&waiting[done..]);
            } else {
                let count = match net::receive(&self.socket, input) {
                    Ok(0) => return Ok(Wait::Over),
                    Ok(count) => count,
                    Err(Errno::AGAIN) => {
                        self.input = waiting;
                        return Ok(Wait::Input);
                    }
                    Err(error) => return Err(error),
                };
                // The edge of what comes later is still to come; that of the end has been.
                more = count == input.len() || ended;
                if waiting.is_empty() {
                    done = self.answer(&input[..count], site, output);
                    self.input.extend_from_slice(&input[done..count]);
                } else {
                    self.input = waiting;
                    self.input.extend_from_slice(&input[..count]);
                    let joined = std::mem::take(&mut self.input);
                    done = self.answer(&joined, site, output);
                    self.input.extend_from_slice(&joined[done..]);
                }
            }
            if !output.is_empty() {
                let sent = send(&self.socket, output)?;
                self.output.extend_from_slice(&output[sent..]);
            }
            if !more && self.output.is_empty() && self.stream == 0 && !self.closing {
                return Ok(Wait::Input);
            }
        }
    }

    /// Answers what is complete. Returns how much of the input is done with.
    fn answer(&mut self, input: &[u8], site: &Site, output: &mut Vec<u8>) -> usize {
        let mut done = 0;
        while !self.closing && self.stream == 0 && done < input.len() {
            match parse(&input[done..]) {
                Parsed::Partial => break,
                Parsed::Asked {
                    route,
                    keep_alive,
                    length,
                } => {
                    done += length;
                    self.closing = !keep_alive;
                    self.stream = site.answer(route, keep_alive, output);
                }
                Parsed::Refused(status) => {
                    done = input.len();
                    self.closing = true;
                    site.refuse(status, output);
                }
            }
        }
        done
    }

    /// False: there is more to send.
    fn flush(&mut self) -> Result<bool> {
        if !self.output.is_empty() {
            let sent = send(&self.socket, &self.output)?;
            self.output.drain(..sent);
            if !self.output.is_empty() {
                return Ok(false);
            }
        }
        for _ in 0..PIECES {
            if self.stream == 0 {
                return Ok(true);
            }
            let length = usize::try_from(self.stream).unwrap_or(PIECE).min(PIECE);
            let sent = send(&self.socket, &ZEROS[..length])?;
            self.stream -= sent as u64;
            if sent < length {
                return Ok(false);
            }
        }
        Ok(self.stream == 0)
    }
}

/// As much as the socket takes now; nothing is no error.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    match net::send(socket, bytes) {
        Err(Errno::AGAIN) => Ok(0),
        done => done,
    }
}
