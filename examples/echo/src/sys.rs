//! The system calls std has not: epoll, waiting for signals, limits. The one door to unsafe code.
#![expect(
    unsafe_code,
    reason = "std knows neither epoll nor signals; each call says what makes it sound"
)]

use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Instant;

/// Events a worker takes at once.
const BATCH: usize = 256;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Readable,
    Writable,
    /// Of several threads that watch a listener, one is woken. Linux 4.5.
    Connections,
}

impl Interest {
    #[expect(
        clippy::cast_sign_loss,
        reason = "libc has the flags as int, the struct as unsigned"
    )]
    fn flags(self) -> u32 {
        let flags = match self {
            Interest::Readable => libc::EPOLLIN | libc::EPOLLRDHUP,
            Interest::Writable => libc::EPOLLOUT,
            Interest::Connections => libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
        };
        flags as u32
    }
}

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> Result<Epoll> {
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made it, and nobody else knows of it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// A closed socket leaves by itself.
    pub fn add(&self, socket: &impl AsFd, interest: Interest, token: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, interest, token)
    }

    pub fn change(&self, socket: &impl AsFd, interest: Interest, token: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, interest, token)
    }

    fn control(
        &self,
        operation: i32,
        socket: &impl AsFd,
        interest: Interest,
        token: u64,
    ) -> Result<()> {
        let mut event = libc::epoll_event {
            events: interest.flags(),
            u64: token,
        };
        let (epoll, socket) = (self.0.as_raw_fd(), socket.as_fd().as_raw_fd());
        // SAFETY: both descriptors are borrowed for the call, and the event lives through it.
        check(unsafe { libc::epoll_ctl(epoll, operation, socket, &raw mut event) })?;
        Ok(())
    }

    /// Waits for events and puts their tokens in the place of those there.
    pub fn wait(&self, tokens: &mut Vec<u64>) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let limit = i32::try_from(BATCH).unwrap_or(i32::MAX);
        // SAFETY: the array has as many places as is said.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), limit, -1) };
        tokens.clear();
        match check(count) {
            Ok(count) => {
                let count = usize::try_from(count).unwrap_or(0);
                tokens.extend(events.iter().take(count).map(|event| event.u64));
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Lets more connections wait to be accepted than std does.
pub fn lengthen_backlog(listener: &impl AsFd, length: i32) -> Result<()> {
    // SAFETY: the descriptor is borrowed for the call. Linux takes a second listen() as a new length.
    check(unsafe { libc::listen(listener.as_fd().as_raw_fd(), length) })?;
    Ok(())
}

/// As many open files as the hard limit allows.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}

/// SIGTERM and SIGINT, waited for instead of handled.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks them for this thread and those it starts: call it before there are any. A blocked
    /// signal reaches even the first process of a PID namespace, for which the default is to ignore.
    /// Such a process also inherits orphans, so ended children are left to the kernel.
    pub fn block() -> Result<Signals> {
        // SAFETY: a sigset_t is plain integers, and sigemptyset writes all of it before it is used;
        // SIG_IGN runs no code.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            check(libc::sigemptyset(&raw mut set))?;
            check(libc::sigaddset(&raw mut set, libc::SIGTERM))?;
            check(libc::sigaddset(&raw mut set, libc::SIGINT))?;
            check(libc::sigprocmask(
                libc::SIG_BLOCK,
                &raw const set,
                std::ptr::null_mut(),
            ))?;
            if libc::signal(libc::SIGCHLD, libc::SIG_IGN) == libc::SIG_ERR {
                return Err(Error::last_os_error());
            }
            Ok(Signals(set))
        }
    }

    pub fn wait(&self) -> Result<()> {
        loop {
            // SAFETY: the set lives through the call; no information is asked for.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.0, std::ptr::null_mut()) };
            match check(signal) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Until one comes, or the time is over.
    pub fn wait_until(&self, deadline: Instant) -> Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let time = libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // SAFETY: set and time live through the call; no information is asked for.
            let signal = unsafe {
                libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const time)
            };
            match check(signal) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn check(result: i32) -> Result<i32> {
    match result {
        -1 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}
