//! The loop: requests, children, logs, and who is attached.

mod attached;
mod children;
mod output;
mod requests;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use vetch_shim::protocol::{Reply, SOCKET_FILE, STATE_FILE, ShimConfig, State};

use crate::connection::Connection;
use crate::failure::{Context, Failure, complain};
use crate::sandbox::{self, Sandbox};
use attached::{Audience, Waits};
use children::{Executed, Running};

/// Signals the loop reads instead of being interrupted by them.
pub fn block_signals() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(Signal::SIGTERM);
    mask.thread_block().context(|| "blocking signals".into())?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(|| "signalfd".into())
}

pub struct Supervisor {
    config: ShimConfig,
    sandbox: Sandbox,
    socket: OwnedFd,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    state: State,
    running: BTreeMap<String, Running>,
    /// By pid.
    execs: BTreeMap<i32, Executed>,
    audience: Audience,
    /// Shutting down; those connections want to know when it is done.
    stopping: Option<Vec<u64>>,
}

enum Ready {
    Socket,
    Signals,
    Readable(u64),
    Writable(u64),
    Sync(String),
    Output(String),
    ExecSync(i32),
    /// Somebody attached takes more.
    Heard(u64),
    /// Somebody attached says more, or the container takes what was said.
    Said(u64),
}

impl Supervisor {
    pub fn new(
        config: &ShimConfig,
        sandbox: Sandbox,
        socket: OwnedFd,
        signals: SignalFd,
    ) -> Result<Supervisor, Failure> {
        let supervisor = Supervisor {
            config: config.clone(),
            sandbox,
            socket,
            signals,
            connections: BTreeMap::new(),
            next_connection: 0,
            state: State {
                pid: rustix::process::getpid().as_raw_nonzero().get(),
                sets_filters: true,
                maps_users: true,
                sets_profiles: true,
                binds_devices: true,
                ..State::default()
            },
            running: BTreeMap::new(),
            execs: BTreeMap::new(),
            audience: Audience::default(),
            stopping: None,
        };
        supervisor.write_state()?;
        Ok(supervisor)
    }

    /// Returns when the sandbox is stopped.
    pub fn run(&mut self) -> Result<(), Failure> {
        loop {
            for ready in self.wait()? {
                match ready {
                    Ready::Socket => self.accept(),
                    Ready::Signals => self.read_signals()?,
                    Ready::Readable(id) => self.read_connection(id),
                    Ready::Writable(id) => self.flush(id),
                    Ready::Sync(container) => self.read_sync(&container),
                    Ready::Output(container) => self.read_output(&container),
                    Ready::ExecSync(pid) => self.read_exec_sync(pid),
                    Ready::Heard(id) => self.go_on(id),
                    Ready::Said(id) => self.pass_input(id),
                }
            }
            self.give_up_slow(Instant::now());
            if self.stopping.is_some() && self.nothing_runs() {
                return self.finish();
            }
        }
    }

    fn wait(&self) -> Result<Vec<Ready>, Failure> {
        let mut tokens = vec![Ready::Socket, Ready::Signals];
        let mut fds = vec![
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let mut add = |token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        for (id, connection) in &self.connections {
            add(
                Ready::Readable(*id),
                connection.socket.as_fd(),
                PollFlags::IN,
            );
            if connection.wants_to_write() {
                add(
                    Ready::Writable(*id),
                    connection.socket.as_fd(),
                    PollFlags::OUT,
                );
            }
        }
        for (id, running) in &self.running {
            if let Some(sync) = &running.sync {
                add(Ready::Sync(id.clone()), sync.as_fd(), PollFlags::IN);
            }
            for pump in &running.pumps {
                if !self.audience.holds_up(id, pump.stream()) {
                    add(Ready::Output(id.clone()), pump.fd(), PollFlags::IN);
                }
            }
        }
        for (pid, executed) in &self.execs {
            if let Some(sync) = &executed.sync {
                add(Ready::ExecSync(*pid), sync.as_fd(), PollFlags::IN);
            }
        }
        for (id, attached) in self.audience.iter() {
            for pipe in attached.full() {
                add(Ready::Heard(id), pipe, PollFlags::OUT);
            }
            match attached.waits() {
                Some(Waits::Client(pipe)) => add(Ready::Said(id), pipe, PollFlags::IN),
                Some(Waits::Container) => {
                    let running = self.running.get(&attached.container);
                    if let Some(input) = running.and_then(Running::input) {
                        add(Ready::Said(id), input, PollFlags::OUT);
                    }
                }
                None => {}
            }
        }
        let limit = self.audience.patience(Instant::now());
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).context(|| "poll".into()),
        }
        let woken: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok(tokens
            .into_iter()
            .zip(woken)
            .filter_map(|(token, woken)| woken.then_some(token))
            .collect())
    }

    fn accept(&mut self) {
        while let Ok(socket) =
            accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            self.connections
                .insert(self.next_connection, Connection::new(socket));
            self.next_connection += 1;
        }
    }

    fn read_signals(&mut self) -> Result<(), Failure> {
        while let Some(signal) = self.signals.read_signal().context(|| "signalfd".into())? {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                self.stop(None);
            }
        }
        self.reap();
        Ok(())
    }

    fn reply(&mut self, id: u64, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.reply(reply);
            self.flush(id);
        }
    }

    fn flush(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.write().is_err()
        {
            self.close(id);
        }
    }

    fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id)
            && let Some(pid) = connection.exec
        {
            self.kill_exec(pid);
        }
        self.detach(id);
    }

    /// Replaced atomically; what is lost with the machine need not be synced.
    fn write_state(&self) -> Result<(), Failure> {
        let step = || format!("writing {STATE_FILE}");
        let text = serde_json::to_vec(&self.state)
            .map_err(|error| Failure(format!("{}: {error}", step())))?;
        let temporary = format!("{STATE_FILE}.new");
        fs::write(&temporary, text).context(step)?;
        fs::rename(&temporary, STATE_FILE).context(step)
    }

    /// Tells the file and the subscribers about a container.
    fn publish(&mut self, container: &str) {
        if let Err(failure) = self.write_state() {
            complain(failure);
        }
        let Some(record) = self.state.containers.get(container).cloned() else {
            return;
        };
        let changed = Reply::Changed {
            container: container.to_owned(),
            record,
        };
        let subscribers: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.subscribed)
            .map(|(id, _)| *id)
            .collect();
        for id in subscribers {
            self.reply(id, &changed);
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        sandbox::release();
        self.state.stopped = true;
        self.write_state()?;
        let _ = fs::remove_file(SOCKET_FILE);
        for id in self.stopping.take().unwrap_or_default() {
            self.reply(id, &Reply::Done);
        }
        Ok(())
    }
}
