//! One thread's loop over its connections. The listeners are shared by all threads.

use std::io::{ErrorKind, Result};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::connection::{Connection, Protocol, Scratch};
use crate::serve::Shared;
use crate::sys::{Epoll, Interest};

const HTTP: u64 = 0;
const LINE: u64 = 1;
const FIRST: u64 = 2;

/// How long to leave a listener alone when no more files may be opened.
const OUT_OF_FILES: Duration = Duration::from_millis(10);

pub struct Worker<'a> {
    shared: &'a Shared,
    epoll: Epoll,
    /// With what each is watched for; by token.
    connections: Vec<Option<(Connection, Interest)>>,
    free: Vec<usize>,
    scratch: Scratch,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared) -> Result<Worker<'a>> {
        let epoll = Epoll::new()?;
        epoll.add(&shared.http, Interest::Connections, HTTP)?;
        epoll.add(&shared.line, Interest::Connections, LINE)?;
        Ok(Worker {
            shared,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    pub fn run(mut self) -> Result<()> {
        let mut tokens = Vec::new();
        loop {
            self.epoll.wait(&mut tokens)?;
            for token in &tokens {
                match *token {
                    HTTP => self.accept(&self.shared.http, Protocol::Http)?,
                    LINE => self.accept(&self.shared.line, Protocol::Line)?,
                    token => self.go_on(token)?,
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, protocol: Protocol) -> Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.begin(stream, protocol)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    std::thread::sleep(OUT_OF_FILES);
                    return Ok(());
                }
                // The client went away, or the network did: accept(2) says to go on.
                Err(_) => {}
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, protocol: Protocol) -> Result<()> {
        stream.set_nonblocking(true)?;
        let mut connection = Connection::new(stream, protocol);
        // The request is often there already, and then many connections end without ever waiting.
        let Some(interest) = connection.go_on(self.shared, &mut self.scratch) else {
            return Ok(());
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let token = FIRST + u64::try_from(index).unwrap_or(u64::MAX - FIRST);
        self.epoll.add(&connection.stream, interest, token)?;
        self.connections[index] = Some((connection, interest));
        Ok(())
    }

    fn go_on(&mut self, token: u64) -> Result<()> {
        let Ok(index) = usize::try_from(token - FIRST) else {
            return Ok(());
        };
        let Some(Some((connection, watched))) = self.connections.get_mut(index) else {
            return Ok(());
        };
        match connection.go_on(self.shared, &mut self.scratch) {
            Some(interest) if interest == *watched => {}
            Some(interest) => {
                self.epoll.change(&connection.stream, interest, token)?;
                *watched = interest;
            }
            None => {
                self.connections[index] = None;
                self.free.push(index);
            }
        }
        Ok(())
    }
}
