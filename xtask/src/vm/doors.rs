//! The doors `node`, `control`, `etcd`, `exec` and `machine` of a cluster of machines.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::cluster::Machines;
use super::qemu;
use super::seed::Machine;
use super::ssh;
use crate::service::{Action, Part};

/// What can happen to a whole machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Happening {
    /// Its plug is pulled: what was not handed to the disk is lost.
    PowerOff,
    PowerOn,
    /// Its reset button is pushed.
    Reset,
    /// Its cable to the other machines is pulled.
    Cut,
    /// And plugged in again.
    Join,
}

impl Machines {
    pub fn happen(&self, name: &str, happening: Happening) -> Result<()> {
        let machine = self.machine(name)?;
        let files = self.files(&machine);
        match happening {
            Happening::PowerOff => self.power_off(&machine),
            Happening::PowerOn => {
                self.power_on(&machine)?;
                self.wait_shell(&machine)
            }
            Happening::Reset => {
                self.ssh().forget(name);
                qemu::reset(&files)?;
                self.wait_shell(&machine)
            }
            Happening::Cut => qemu::set_link(&files, false),
            Happening::Join => qemu::set_link(&files, true),
        }
    }

    /// Until the machine lets one in.
    pub fn wait_shell(&self, machine: &Machine) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            match self.ssh().run(&machine.name, "true") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("{} does not boot", machine.name));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// One of the doors that clusters of namespaces have too.
    pub fn act(&self, part: &Part, action: Action) -> Result<()> {
        let (machine, unit) = match part {
            Part::Etcd => (Machine::new(1), "etcd.service"),
            Part::Control => (Machine::new(1), "vetch-control.service"),
            Part::Node(name) => (self.machine(name)?, "vetch-node.service"),
        };
        self.ssh()
            .run(&machine.name, &words(unit, action))
            .map(drop)
    }

    /// Becomes the command on that node.
    pub fn exec(&self, node: &str, command: &[OsString]) -> Result<ExitCode> {
        self.machine(node)?;
        let words: Vec<String> = command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Err(self.ssh().command(node, &ssh::quote(&words)).exec()).context("run ssh")
    }

    /// A shell for a person.
    pub fn shell(&self, node: &str) -> Result<()> {
        let status = self
            .ssh()
            .command(node, "exec ${SHELL:-/bin/sh} -l")
            .arg("-t")
            .status()
            .context("run ssh")?;
        if !status.success() {
            bail!("the shell ended with {status}");
        }
        Ok(())
    }
}

/// A killed daemon stays down until it is started, as on a cluster of namespaces.
fn words(unit: &str, action: Action) -> String {
    match action {
        Action::Start => format!("systemctl reset-failed {unit}; systemctl start {unit}"),
        Action::Stop => format!("systemctl stop {unit}"),
        Action::Kill => {
            format!("systemctl kill --kill-who=main --signal=KILL {unit}; systemctl stop {unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_a_kill_and_lasts() {
        let words = words("vetch-node.service", Action::Kill);
        assert!(words.starts_with("systemctl kill --kill-who=main --signal=KILL vetch-node"));
        assert!(words.ends_with("systemctl stop vetch-node.service"));
    }
}
