//! What clients ask for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use vetch_shim::protocol::{Bundle, CONTAINER_DIR, ContainerRecord, Exec, Reply, Request};

use super::Supervisor;
use super::children::{Executed, Running};
use crate::container::{Stdio, Streams};
use crate::failure::{Context, Failure, complain};
use crate::launch;
use crate::log::LogFile;
use crate::sys;
use vetch_shim::time::now;

impl Supervisor {
    pub(super) fn read_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut requests = Vec::new();
        let ended = connection.read(&mut requests).is_err();
        for (request, fds) in requests {
            self.handle(id, request, fds);
        }
        if ended {
            self.close(id);
        }
    }

    fn handle(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) {
        let outcome = match request {
            Request::State => Ok(Some(Reply::State(self.state.clone()))),
            Request::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.subscribed = true;
                }
                Ok(Some(Reply::State(self.state.clone())))
            }
            Request::Start { container } => self.start(id, container).map(|()| None),
            Request::Kill {
                container,
                signal,
                all,
            } => self
                .kill(&container, signal, all)
                .map(|()| Some(Reply::Done)),
            Request::ReopenLog { container } => {
                self.reopen_log(&container).map(|()| Some(Reply::Done))
            }
            Request::Exec(exec) => self.exec(id, &exec, fds).map(|()| None),
            Request::Attach(attach) => self.attach(id, attach, fds).map(Some),
            Request::ResizeTerminal {
                container,
                rows,
                columns,
            } => self
                .resize_terminal(&container, rows, columns)
                .map(|()| Some(Reply::Done)),
            Request::Shutdown => {
                self.stop(Some(id));
                Ok(None)
            }
        };
        match outcome {
            Ok(Some(reply)) => self.reply(id, &reply),
            Ok(None) => {}
            Err(Failure(message)) => self.reply(id, &Reply::Failed { message }),
        }
    }

    /// Answered when the child has exec'd or failed.
    fn start(&mut self, connection: u64, container: String) -> Result<(), Failure> {
        if self.stopping.is_some() {
            return Err(Failure("the sandbox is being stopped".into()));
        }
        if self.state.containers.contains_key(&container) {
            return Err(Failure("the container was started before".into()));
        }
        self.forget_removed();
        let launched = launch::read_bundle(&container).and_then(|bundle| {
            let log = LogFile::open(&bundle.log)
                .context(|| format!("opening log {}", bundle.log.display()))?;
            let target = self.target(&bundle)?;
            let (config, sandbox) = (&self.config, &self.sandbox);
            let launched = launch::start(&container, &bundle, config, sandbox, target)?;
            Ok((launched, bundle, log))
        });
        let mut record = ContainerRecord {
            started_at: now(),
            ..ContainerRecord::default()
        };
        match launched {
            Ok((launched, bundle, log)) => {
                record.pid = launched.pid;
                self.state.containers.insert(container.clone(), record);
                self.running
                    .insert(container, Running::new(launched, bundle, log, connection));
                Ok(())
            }
            Err(failure) => {
                record.finished_at = Some(record.started_at);
                record.exit_code = Some(128);
                record.error = Some(failure.0.clone());
                self.state.containers.insert(container.clone(), record);
                self.publish(&container);
                Err(failure)
            }
        }
    }

    fn target(&self, bundle: &Bundle) -> Result<Option<&OwnedFd>, Failure> {
        let Some(target) = &bundle.pid_target else {
            return Ok(None);
        };
        match self.runs_its_program(target) {
            Some(running) => Ok(Some(&running.pidfd)),
            None => Err(Failure("the target container is not running".into())),
        }
    }

    fn runs_its_program(&self, container: &str) -> Option<&Running> {
        let running = self.running.get(container);
        running.filter(|running| running.sync.is_none())
    }

    /// The daemon removes a dead container's directory; its record goes when
    /// the next one starts, so that restarts do not pile up here.
    fn forget_removed(&mut self) {
        self.state.containers.retain(|container, record| {
            record.running() || Path::new(CONTAINER_DIR).join(container).exists()
        });
    }

    /// One that is dead already is as good as killed.
    fn kill(&mut self, container: &str, signal: i32, all: bool) -> Result<(), Failure> {
        match self.running.get(container) {
            Some(running) if all => running.kill_all(),
            Some(running) => match sys::pidfd_send_signal(running.pidfd.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    Err(error).context(|| format!("signal {signal}"))
                }
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn reopen_log(&mut self, container: &str) -> Result<(), Failure> {
        let running = self
            .running
            .get_mut(container)
            .ok_or_else(|| Failure("the container is not running".into()))?;
        running.log.reopen().context(|| "reopening the log".into())
    }

    /// Answered when the child has exec'd or failed, again when it exits.
    fn exec(&mut self, connection: u64, exec: &Exec, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let running = self
            .runs_its_program(&exec.container)
            .ok_or_else(|| Failure("the container is not running".into()))?;
        let streams = match exec.tty {
            true => {
                let [master] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| {
                    Failure(format!("a terminal needs 1 descriptor, got {}", fds.len()))
                })?;
                Streams::Terminal(master)
            }
            false => {
                let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds).map_err(|fds| {
                    Failure(format!("exec needs 3 descriptors, got {}", fds.len()))
                })?;
                Streams::Given(Stdio {
                    stdin,
                    stdout,
                    stderr,
                })
            }
        };
        let launched = launch::exec(
            &running.pidfd,
            &running.bundle,
            &self.config,
            &self.sandbox,
            exec,
            streams,
        )?;
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.exec = Some(launched.pid);
        }
        self.execs.insert(
            launched.pid,
            Executed {
                pidfd: launched.pidfd,
                sync: Some(launched.sync),
                error: None,
                connection,
            },
        );
        Ok(())
    }

    /// Kills everything; the loop ends when the last child is reaped.
    pub(super) fn stop(&mut self, connection: Option<u64>) {
        self.stopping.get_or_insert_default().extend(connection);
        for running in self.running.values() {
            if let Err(failure) = running.kill_all() {
                complain(failure);
            }
        }
        if let Some((_, pidfd)) = &self.sandbox.pod_init {
            // It may be dead already.
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}
