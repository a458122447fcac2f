//! Which server new connections reach, and since when. All times are CLOCK_MONOTONIC's, which
//! whoever changed the endpoints reads too.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use serde::Serialize;

use crate::answer::Answer;
use crate::args::Follow;
use crate::clock::{self, MILLISECOND, Nanos, SECOND};
use crate::net::{self, Epoll, EventFlags};

/// How long a connection may take. Others begin meanwhile: one that hangs delays nothing.
const TIMEOUT: Nanos = SECOND;
/// Between two looks for those that took longer.
const SWEEP: Nanos = 10 * MILLISECOND;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: vetch-load\r\nConnection: close\r\n\r\n";

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Line {
    /// Another server than before.
    Server {
        server: String,
        connected_at_micros: u64,
        started_at_micros: u64,
    },
    /// The first failure after an answer; those that follow are only counted.
    Failed { failed: String, at_micros: u64 },
    Done {
        done: bool,
        connections: u64,
        failures: u64,
    },
}

pub fn run(options: &Follow) -> Result<()> {
    options.check()?;
    if let Err(error) = net::raise_file_limit() {
        eprintln!("vetch-load: the limit of open files stays as it is: {error}");
    }
    // By default the kernel may wake 50 µs late; where that stays, it does.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut epoll = Epoll::new().context("make an epoll instance")?;
    let mut judge = Judge::default();
    let mut tries: BTreeMap<usize, Try> = BTreeMap::new();
    let interval = options.interval_micros.saturating_mul(1000);
    let start = clock::now();
    let end = start + clock::of_seconds(options.seconds);
    let (mut next, mut sweep, mut number) = (start, start + SWEEP, 0);
    loop {
        let now = clock::now();
        if now >= end {
            break;
        }
        if now >= next {
            // What could not be held is not made up for.
            next = (next + interval).max(now);
            number += 1;
            match Try::start(&epoll, options, number, now) {
                Ok(begun) => drop(tries.insert(number, begun)),
                Err(error) => say(judge.failed(number, format!("connect: {error}"), now))?,
            }
        }
        if now >= sweep {
            sweep = now + SWEEP;
            while let Some(oldest) = tries.first_entry()
                && oldest.get().started + TIMEOUT <= now
            {
                let number = *oldest.key();
                let late = oldest.remove();
                if !late.answered {
                    say(judge.failed(number, format!("{}: nothing in 1 s", late.step()), now))?;
                }
                net::abort(late.socket);
            }
        }
        let until = next.min(sweep).min(end);
        let events = epoll
            .wait(Some(until.saturating_sub(clock::now())))
            .context("wait for events")?;
        for event in &events {
            let (number, flags) = (net::token(event), event.flags);
            let Some(going) = tries.get_mut(&number) else {
                continue;
            };
            match going.go_on(flags) {
                Ok(progress) => {
                    if progress.answered {
                        say(judge.answered(number, &going.server, going.started, going.connected))?;
                    }
                    if progress.closed {
                        tries.remove(&number);
                    }
                }
                Err(error) => {
                    say(judge.failed(number, error, clock::now()))?;
                    if let Some(failed) = tries.remove(&number) {
                        net::abort(failed.socket);
                    }
                }
            }
        }
        epoll.reuse(events);
    }
    say(Some(Line::Done {
        done: true,
        connections: judge.connections,
        failures: judge.failures,
    }))?;
    if judge.connections == judge.failures {
        bail!("{} answered nothing", options.target);
    }
    Ok(())
}

/// Whoever reads wants it now.
fn say(line: Option<Line>) -> Result<()> {
    let Some(line) = line else { return Ok(()) };
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(&line)?)
        .and_then(|()| output.flush())
        .context("write a line")
}

/// What the tries mean, in the order in which they began.
#[derive(Debug, Default)]
struct Judge {
    /// Ended: answered or failed.
    connections: u64,
    failures: u64,
    /// The try that decided last. One that began earlier and ends later is no news.
    newest: usize,
    last: Last,
}

#[derive(Debug, Default, PartialEq)]
enum Last {
    #[default]
    Nothing,
    Failure,
    Server(Vec<u8>),
}

impl Judge {
    fn answered(
        &mut self,
        number: usize,
        name: &[u8],
        started: Nanos,
        connected: Nanos,
    ) -> Option<Line> {
        self.connections += 1;
        if number < self.newest {
            return None;
        }
        self.newest = number;
        if matches!(&self.last, Last::Server(last) if last == name) {
            return None;
        }
        self.last = Last::Server(name.into());
        Some(Line::Server {
            server: String::from_utf8_lossy(name).into(),
            connected_at_micros: connected / 1000,
            started_at_micros: started / 1000,
        })
    }

    fn failed(&mut self, number: usize, text: String, now: Nanos) -> Option<Line> {
        self.connections += 1;
        self.failures += 1;
        if number < self.newest {
            return None;
        }
        self.newest = number;
        if self.last == Last::Failure {
            return None;
        }
        self.last = Last::Failure;
        Some(Line::Failed {
            failed: text,
            at_micros: now / 1000,
        })
    }
}

/// One connection.
struct Try {
    socket: OwnedFd,
    started: Nanos,
    /// 0: not yet.
    connected: Nanos,
    answer: Answer,
    server: Vec<u8>,
    answered: bool,
}

/// What an event brought.
#[derive(Default)]
struct Progress {
    answered: bool,
    /// The server has closed, and so the connection leaves nothing here.
    closed: bool,
}

impl Try {
    fn start(
        epoll: &Epoll,
        options: &Follow,
        number: usize,
        now: Nanos,
    ) -> rustix::io::Result<Try> {
        let socket = net::dial(options.target)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP;
        epoll.add(&socket, number, flags | EventFlags::ET)?;
        Ok(Try {
            socket,
            started: now,
            connected: 0,
            answer: Answer::default(),
            server: Vec::new(),
            answered: false,
        })
    }

    /// The error is what failed, in words.
    fn go_on(&mut self, flags: EventFlags) -> std::result::Result<Progress, String> {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let ended = broken || flags.contains(EventFlags::RDHUP);
        let mut progress = Progress::default();
        if self.connected == 0 {
            if !broken && !flags.contains(EventFlags::OUT) {
                return Ok(progress);
            }
            let now = clock::now();
            match net::send(&self.socket, REQUEST) {
                Ok(count) if count == REQUEST.len() => self.connected = now,
                Ok(_) => return Err("send: the socket takes no more".into()),
                Err(Errno::AGAIN) => return Ok(progress),
                Err(error) => return Err(format!("connect: {error}")),
            }
        }
        if !self.answered && (ended || flags.contains(EventFlags::IN)) {
            progress.answered = self.receive(ended)?;
            self.answered = progress.answered;
        }
        progress.closed = ended && self.answered;
        Ok(progress)
    }

    /// True: the answer is whole.
    fn receive(&mut self, ended: bool) -> std::result::Result<bool, String> {
        let mut buffer = [0; 4096];
        loop {
            let count = match net::receive(&self.socket, &mut buffer) {
                Ok(0) => return Err("receive: the connection ended before the answer did".into()),
                Ok(count) => count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(format!("receive: {error}")),
            };
            let server = &mut self.server;
            let named = |name: &[u8]| server.extend_from_slice(name);
            let taken = self.answer.take(&buffer[..count], named);
            if taken.map_err(|error| format!("receive: {error}"))?.done {
                return Ok(true);
            }
            if count < buffer.len() && !ended {
                return Ok(false);
            }
        }
    }

    fn step(&self) -> &'static str {
        match self.connected {
            0 => "connect",
            _ => "receive",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(judge: &mut Judge, number: usize, name: &str) -> Option<Line> {
        let started = number as Nanos * 1000;
        judge.answered(number, name.as_bytes(), started, started + 5000)
    }

    fn server(name: &str, started: u64) -> Option<Line> {
        Some(Line::Server {
            server: name.into(),
            connected_at_micros: started + 5,
            started_at_micros: started,
        })
    }

    #[test]
    fn a_line_is_a_change() {
        let mut judge = Judge::default();
        assert_eq!(answered(&mut judge, 1, "a"), server("a", 1));
        assert_eq!(answered(&mut judge, 2, "a"), None);
        assert_eq!(answered(&mut judge, 4, "b"), server("b", 4));
        // It began before the one that met b.
        assert_eq!(answered(&mut judge, 3, "a"), None);
        assert_eq!(answered(&mut judge, 5, "b"), None);
        let failed = Some(Line::Failed {
            failed: "no".into(),
            at_micros: 9,
        });
        assert_eq!(judge.failed(6, "no".into(), 9000), failed);
        assert_eq!(judge.failed(7, "other".into(), 9000), None);
        assert_eq!(answered(&mut judge, 8, "b"), server("b", 8));
        assert_eq!((judge.connections, judge.failures), (8, 2));
    }

    #[test]
    fn lines_have_the_shape_promised() {
        let done = Line::Done {
            done: true,
            connections: 8,
            failures: 2,
        };
        let failed = Line::Failed {
            failed: "no".into(),
            at_micros: 9,
        };
        for (line, expected) in [
            (
                server("a", 1).unwrap(),
                r#"{"server":"a","connectedAtMicros":6,"startedAtMicros":1}"#,
            ),
            (failed, r#"{"failed":"no","atMicros":9}"#),
            (done, r#"{"done":true,"connections":8,"failures":2}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), expected);
        }
    }
}
