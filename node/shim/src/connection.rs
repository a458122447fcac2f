//! One client of the supervisor's socket.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use crate::failure::complain;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use vetch_shim::protocol::{Reply, Request};
use vetch_shim::wire;

const MAX_FDS: usize = 3;

pub struct Connection {
    pub socket: OwnedFd,
    input: Vec<u8>,
    output: VecDeque<u8>,
    fds: Vec<OwnedFd>,
    /// Gets every change.
    pub subscribed: bool,
    /// The process it asked for, killed when it goes away.
    pub exec: Option<i32>,
}

impl Connection {
    pub fn new(socket: OwnedFd) -> Connection {
        Connection {
            socket,
            input: Vec::new(),
            output: VecDeque::new(),
            fds: Vec::new(),
            subscribed: false,
            exec: None,
        }
    }

    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whole requests, each with the descriptors that came so far. After an
    /// error or the end of the stream, `Err`, there come no more.
    pub fn read(&mut self, requests: &mut Vec<(Request, Vec<OwnedFd>)>) -> io::Result<()> {
        loop {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.socket,
                &mut [io::IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            );
            let received = match received {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.fds.extend(fds);
                }
            }
            if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.extend_from_slice(&bytes[..received.bytes]);
            while let Some(request) = wire::decode(&mut self.input).map_err(io::Error::other)? {
                requests.push((request, std::mem::take(&mut self.fds)));
            }
        }
    }

    pub fn reply(&mut self, reply: &Reply) {
        match wire::encode(reply) {
            Ok(frame) => self.output.extend(frame),
            Err(error) => complain(format_args!("a reply was lost: {error}")),
        }
    }

    /// Sends what fits.
    pub fn write(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let (front, _) = self.output.as_slices();
            match send(
                &self.socket,
                front,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(sent) => {
                    self.output.drain(..sent);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output = VecDeque::new();
        Ok(())
    }
}
