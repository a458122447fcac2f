//! The rules in one network namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Error, Features, Mode, Node, Service, accounting, enter, iptables, nftables,
    program::{self, Output},
    removal, script_for,
};

mod tables;

/// iptables is two programs with a rule set each.
const FAMILIES: [(&str, &str); 2] = [("iptables", "ip"), ("ip6tables", "ip6")];

/// A path at which a network namespace is bound, or a process's `ns/net`.
#[derive(Clone, Debug)]
pub struct Namespace(pub PathBuf);

impl Namespace {
    /// Lays the rules, in place of those of either mode that are there, and
    /// says how long the program that lays them took.
    pub fn lay(&self, mode: Mode, node: &Node, services: &[Service]) -> Result<Duration, Error> {
        self.remove(Mode::Iptables)?;
        self.remove(Mode::Nftables)?;
        let features = match mode {
            Mode::Iptables => self.features()?,
            Mode::Nftables => Features::default(),
        };
        let script = script_for(mode, node, services, features);
        let output = match mode {
            Mode::Iptables => self.restore("iptables", &script)?,
            Mode::Nftables => self.nft(&["-f", "-"], &script)?,
        };
        Ok(output.took)
    }

    /// Removes what [`Self::lay`] or a kube-proxy laid, whether or not it is
    /// there, and leaves what others laid.
    pub fn remove(&self, mode: Mode) -> Result<(), Error> {
        match mode {
            Mode::Iptables => {
                for (program, family) in FAMILIES {
                    self.remove_iptables(program, family)?;
                }
                accounting::remove(&self.0)
            }
            Mode::Nftables => {
                let tables = self.tables()?;
                for (_, family) in FAMILIES {
                    if tables.contains(&format!("table {family} {}", nftables::TABLE)) {
                        self.nft(&["-f", "-"], &nftables::removal(family))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether there is no rule, chain or table of ours, and nothing that
    /// keeps packets in netfilter: an empty table of iptables' still has its
    /// hooks. Conntrack's hooks go with the last rule that needs them.
    ///
    /// Never true again after an iptables of the legacy kind: the kernel keeps
    /// its tables as long as the namespace.
    pub fn is_clean(&self) -> Result<bool, Error> {
        let tables = self.tables()?;
        for (program, family) in FAMILIES {
            if tables.contains(&format!("table {family} {}", nftables::TABLE)) {
                return Ok(false);
            }
            for name in tables::IPTABLES {
                if tables.contains(&format!("table {family} {name}"))
                    && self.is_idle(family, name)?
                {
                    return Ok(false);
                }
            }
            if removal(Mode::Iptables, &self.save(program)?).is_some() {
                return Ok(false);
            }
        }
        self.read("/proc/thread-self/net/ip_tables_names")
            .map(|names| names.trim().is_empty())
    }

    fn remove_iptables(&self, program: &str, family: &str) -> Result<(), Error> {
        if let Some(script) = iptables::removal(&self.save(program)?) {
            self.restore(program, &script)?;
        }
        let tables = self.tables()?;
        for name in tables::IPTABLES {
            if tables.contains(&format!("table {family} {name}")) && self.is_idle(family, name)? {
                self.nft(&["delete", "table", family, name], "")?;
            }
        }
        Ok(())
    }

    /// Whether a table of iptables' holds nothing but its built-in chains.
    fn is_idle(&self, family: &str, name: &str) -> Result<bool, Error> {
        let listing = self.nft(&["-j", "list", "table", family, name], "")?;
        tables::is_idle(&listing.stdout).map_err(|source| Error::Listing {
            table: format!("{family} {name}"),
            source,
        })
    }

    /// What kube-proxy would find out about the kernel.
    fn features(&self) -> Result<Features, Error> {
        let liberal = self.read("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")?;
        Ok(Features {
            accounting: accounting::ensure(&self.0)?,
            tcp_be_liberal: !matches!(liberal.trim(), "" | "0"),
        })
    }

    /// A file of this namespace's /proc; empty when there is none.
    fn read(&self, path: &str) -> Result<String, Error> {
        enter::within(&self.0, || fs::read_to_string(path).unwrap_or_default())
    }

    /// `table FAMILY NAME`, a line each.
    fn tables(&self) -> Result<Vec<String>, Error> {
        let listing = self.nft(&["list", "tables"], "")?;
        Ok(listing.stdout.lines().map(str::to_owned).collect())
    }

    fn save(&self, program: &str) -> Result<String, Error> {
        let command = program::inside(&self.0, format!("{program}-save"));
        program::run(command, "").map(|output| output.stdout)
    }

    fn restore(&self, program: &str, script: &str) -> Result<Output, Error> {
        let mut command = program::inside(&self.0, format!("{program}-restore"));
        command.args(["-w", "5", "--noflush", "--counters"]);
        program::run(command, script)
    }

    fn nft(&self, arguments: &[&str], input: &str) -> Result<Output, Error> {
        let mut command = program::inside(&self.0, "nft");
        command.args(arguments);
        program::run(command, input)
    }
}

impl AsRef<Path> for Namespace {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Which iptables lays the rules: `iptables v1.8.9 (nf_tables)`, or `(legacy)`.
pub fn iptables_version() -> Result<String, Error> {
    let mut command = Command::new("iptables");
    command.arg("--version");
    program::run(command, "").map(|output| output.stdout.trim().to_owned())
}
