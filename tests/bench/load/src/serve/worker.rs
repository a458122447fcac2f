//! One thread's loop over its listeners and connections.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::connection::{Connection, Scratch, Wait};
use super::site::Site;
use crate::net::{self, Epoll, EventFlags};

/// How long to leave a listener alone when no more files may be opened.
const OUT_OF_FILES: Duration = Duration::from_millis(10);
/// Datagrams echoed before others have their turn.
const DATAGRAMS: usize = 64;
/// The largest datagram there is.
const DATAGRAM: usize = 65_535;

/// Where clients come in.
pub enum Door {
    Tcp(OwnedFd, Site),
    Udp(OwnedFd),
}

pub struct Worker {
    epoll: Epoll,
    /// Their indices are the first tokens.
    doors: Vec<Door>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scratch: Scratch,
    datagram: Vec<u8>,
}

impl Worker {
    pub fn new(doors: Vec<Door>) -> Result<Worker> {
        let epoll = Epoll::new()?;
        for (i, door) in doors.iter().enumerate() {
            let (Door::Tcp(socket, _) | Door::Udp(socket)) = door;
            epoll.add(socket, i, EventFlags::IN)?;
        }
        Ok(Worker {
            epoll,
            doors,
            connections: Vec::new(),
            free: Vec::new(),
            scratch: Scratch::default(),
            datagram: vec![0; DATAGRAM],
        })
    }

    /// Returns only when it cannot go on.
    pub fn run(mut self) -> Result<Infallible> {
        loop {
            let events = self.epoll.wait(None)?;
            for event in &events {
                let (token, flags) = (net::token(event), event.flags);
                match self.doors.get(token) {
                    Some(Door::Tcp(..)) => self.accept(token)?,
                    Some(Door::Udp(socket)) => echo(socket, &mut self.datagram),
                    None => self.go_on(token, flags)?,
                }
            }
            self.epoll.reuse(events);
        }
    }

    /// One at a time: the listener says again when there are more, and asking for one too many
    /// would cost a call that depends on how they arrive.
    fn accept(&mut self, door: usize) -> Result<()> {
        let Door::Tcp(listener, _) = &self.doors[door] else {
            return Ok(());
        };
        let socket = match net::accept(listener) {
            Ok(socket) => socket,
            Err(Errno::MFILE | Errno::NFILE) => {
                std::thread::sleep(OUT_OF_FILES);
                return Ok(());
            }
            // The client went away, or the network did: accept(2) says to go on.
            Err(_) => return Ok(()),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = Connection::new(socket, door);
        let token = self.doors.len() + index;
        self.epoll
            .add(&connection.socket, token, flags(Wait::Input))?;
        self.connections[index] = Some(connection);
        Ok(())
    }

    fn go_on(&mut self, token: usize, happened: EventFlags) -> Result<()> {
        let index = token - self.doors.len();
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return Ok(());
        };
        let Door::Tcp(_, site) = &self.doors[connection.door] else {
            return Ok(());
        };
        let ended = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let ended = happened.intersects(ended);
        match connection.go_on(site, &mut self.scratch, ended) {
            Wait::Over => {
                self.connections[index] = None;
                self.free.push(index);
            }
            wait if wait == connection.watched => {}
            wait => {
                self.epoll.change(&connection.socket, token, flags(wait))?;
                connection.watched = wait;
            }
        }
        Ok(())
    }
}

/// Input is told once a time it comes (one call fewer to see that there is no more), room as long as
/// there is some.
fn flags(wait: Wait) -> EventFlags {
    match wait {
        Wait::Input | Wait::Over => EventFlags::IN | EventFlags::RDHUP | EventFlags::ET,
        Wait::Room => EventFlags::OUT,
    }
}

/// Errors are those of one client: what it sent, or where it no longer listens.
fn echo(socket: &OwnedFd, buffer: &mut [u8]) {
    for _ in 0..DATAGRAMS {
        match recvfrom(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((count, _, Some(from))) => {
                let _ = sendto(socket, &buffer[..count], SendFlags::empty(), &from);
            }
            Err(Errno::AGAIN) => return,
            Ok(_) | Err(_) => {}
        }
    }
}
