//! Requests over TCP: on new connections, on kept ones, or for long answers.
//!
//! A new connection is asked with `Connection: close`, and the server closes first, as real clients
//! and servers have it; the client closes when it has seen that. So TIME_WAIT is the server's, where
//! it holds no port that anybody needs: the client's port is free at once, and a server in TIME_WAIT
//! takes a new connection with a later sequence number or timestamp. A client that closed first, or
//! reset, would run out of its 28 thousand ports in seconds, or leave out the packets of the end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::worker::{Core, Driver};
use crate::answer::Answer;
use crate::args::Kind;
use crate::clock::{self, MILLISECOND, Nanos, SECOND};
use crate::net::{self, EventFlags};

/// How long an answer, or the next piece of it, may take.
const TIMEOUT: Nanos = 5 * SECOND;
/// What has waited so long when the time is over counts as failed.
const OVERDUE: Nanos = 500 * MILLISECOND;
/// Long enough that the pauses between two do not count, short enough that many end in a run.
const STREAM: u64 = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    /// For the answer.
    Waiting,
    /// The answer is here; the server's end of the connection is not.
    Closing,
}

struct Connection {
    socket: Option<OwnedFd>,
    state: State,
    target: SocketAddr,
    due: Nanos,
    /// When it last went on.
    touched: Nanos,
    answer: Answer,
    server: Option<usize>,
}

pub struct Connections {
    kind: Kind,
    targets: Vec<SocketAddr>,
    /// Of the next new connection's target.
    turn: usize,
    all: Vec<Connection>,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connections {
    pub fn new(kind: Kind, targets: Vec<SocketAddr>, count: usize) -> Connections {
        let request = match kind {
            Kind::Connect => {
                "GET / HTTP/1.1\r\nHost: vetch-load\r\nConnection: close\r\n\r\n".into()
            }
            Kind::Stream => {
                format!("GET /stream?bytes={STREAM} HTTP/1.1\r\nHost: vetch-load\r\n\r\n")
            }
            Kind::Keepalive | Kind::Udp | Kind::Dns => {
                "GET / HTTP/1.1\r\nHost: vetch-load\r\n\r\n".into()
            }
        };
        let connection = |target: &SocketAddr| Connection {
            socket: None,
            state: State::Idle,
            target: *target,
            due: 0,
            touched: 0,
            answer: Answer::default(),
            server: None,
        };
        Connections {
            kind,
            turn: 0,
            all: targets.iter().cycle().take(count).map(connection).collect(),
            targets,
            request: request.into_bytes(),
            buffer: vec![
                0;
                if kind == Kind::Stream {
                    256 * 1024
                } else {
                    16 * 1024
                }
            ],
        }
    }

    fn dial(&mut self, core: &Core, unit: usize) -> rustix::io::Result<()> {
        let connection = &mut self.all[unit];
        if self.kind == Kind::Connect {
            connection.target = self.targets[self.turn];
            self.turn = (self.turn + 1) % self.targets.len();
        }
        let socket = net::dial(connection.target)?;
        // Once for all that follows: edges, so that a kept connection costs no further call.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        core.epoll.add(&socket, unit, flags)?;
        connection.socket = Some(socket);
        Ok(())
    }

    /// The request is short and the socket's buffer empty: it is taken whole, or the connection is
    /// no good.
    fn send(&mut self, core: &mut Core, unit: usize) {
        let connection = &mut self.all[unit];
        let Some(socket) = &connection.socket else {
            return;
        };
        let step = match connection.state {
            State::Connecting => "connect",
            _ => "send",
        };
        match net::send(socket, &self.request) {
            Ok(count) if count == self.request.len() => connection.state = State::Waiting,
            Ok(_) => self.fail(core, unit, || "send: the socket takes no more".into()),
            Err(Errno::AGAIN) if connection.state == State::Connecting => {}
            Err(error) => self.fail(core, unit, || format!("{step}: {error}")),
        }
    }

    fn receive(&mut self, core: &mut Core, unit: usize, ended: bool) {
        loop {
            let connection = &mut self.all[unit];
            let Some(socket) = &connection.socket else {
                return;
            };
            let count = match net::receive(socket, &mut self.buffer) {
                Ok(0) => {
                    let text = "receive: the connection ended before the answer did";
                    return self.fail(core, unit, || text.into());
                }
                Ok(count) => count,
                Err(Errno::AGAIN) => return,
                Err(error) => return self.fail(core, unit, || format!("receive: {error}")),
            };
            let now = clock::now();
            connection.touched = now;
            let server = &mut connection.server;
            let named = |name: &[u8]| *server = Some(core.tally.server(name));
            match connection.answer.take(&self.buffer[..count], named) {
                Ok(taken) => {
                    core.tally.bytes(taken.body, now);
                    if taken.done {
                        return self.complete(core, unit, now, ended);
                    }
                }
                Err(error) => return self.fail(core, unit, || format!("receive: {error}")),
            }
            // Less than was asked for: the edge of what comes later is still to come.
            if count < self.buffer.len() && !ended {
                return;
            }
        }
    }

    fn complete(&mut self, core: &mut Core, unit: usize, now: Nanos, ended: bool) {
        let connection = &mut self.all[unit];
        core.tally.success(connection.due, now, connection.server);
        if self.kind == Kind::Connect && !ended {
            connection.state = State::Closing;
            return;
        }
        if ended {
            connection.socket = None;
        }
        self.go_on(core, unit, now);
    }

    fn go_on(&mut self, core: &mut Core, unit: usize, now: Nanos) {
        self.all[unit].state = State::Idle;
        if let Some(due) = core.next(unit, now) {
            self.start(core, unit, due, now);
        }
    }

    fn fail(&mut self, core: &mut Core, unit: usize, text: impl FnOnce() -> String) {
        let connection = &mut self.all[unit];
        connection.state = State::Idle;
        if let Some(socket) = connection.socket.take() {
            net::abort(socket);
        }
        core.fail(unit, text);
    }
}

impl Driver for Connections {
    fn units(&self) -> usize {
        self.all.len()
    }

    fn start(&mut self, core: &mut Core, unit: usize, due: Nanos, now: Nanos) {
        let connection = &mut self.all[unit];
        connection.due = due;
        connection.touched = now;
        connection.answer.reset();
        connection.server = None;
        if connection.socket.is_some() {
            return self.send(core, unit);
        }
        connection.state = State::Connecting;
        if let Err(error) = self.dial(core, unit) {
            self.fail(core, unit, || format!("connect: {error}"));
        }
    }

    fn event(&mut self, core: &mut Core, token: usize, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let ended = broken || flags.contains(EventFlags::RDHUP);
        if self.all[token].state == State::Connecting {
            if broken || flags.contains(EventFlags::OUT) {
                self.send(core, token);
            }
            return;
        }
        match self.all[token].state {
            State::Waiting if ended || flags.contains(EventFlags::IN) => {
                self.receive(core, token, ended);
            }
            State::Closing if ended => {
                self.all[token].socket = None;
                self.go_on(core, token, clock::now());
            }
            // A server may end a connection that nobody uses.
            State::Idle if ended => self.all[token].socket = None,
            _ => {}
        }
    }

    fn sweep(&mut self, core: &mut Core, now: Nanos) {
        for unit in 0..self.all.len() {
            let connection = &self.all[unit];
            if connection.touched + TIMEOUT > now {
                continue;
            }
            match connection.state {
                State::Idle => {}
                State::Connecting => self.fail(core, unit, || "connect: no answer in 5 s".into()),
                State::Waiting => self.fail(core, unit, || "receive: nothing in 5 s".into()),
                State::Closing => {
                    self.fail(core, unit, || "the server did not close in 5 s".into());
                }
            }
        }
    }

    fn finish(&mut self, core: &mut Core) {
        let last = core.last();
        for connection in &mut self.all {
            // Closed first and in order, it would leave a TIME_WAIT here.
            if let Some(socket) = connection.socket.take() {
                net::abort(socket);
            }
            let step = match connection.state {
                State::Idle | State::Closing => continue,
                State::Connecting => "connect",
                State::Waiting => "receive",
            };
            core.tally.unanswered(connection.due);
            if connection.touched + OVERDUE < last {
                let text = || format!("{step}: nothing for 0.5 s or more when the time was over");
                core.tally.failure(text, last);
            } else if self.kind == Kind::Stream && connection.touched >= core.window.begin {
                core.tally.answered_by(connection.server);
            }
        }
    }
}
