//! The rules in one network namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Error, Features, Mode, Node, Service, accounting, enter, iptables, nftables, parts,
    program::{self, Output},
    removal, script_for,
};

mod conntrack;
mod sweep;
mod tables;

/// iptables is two programs with a rule set each.
const FAMILIES: [(&str, &str); 2] = [("iptables", "ip"), ("ip6tables", "ip6")];

/// As kube-proxy calls it.
const RESTORE: [&str; 4] = ["-w", "5", "--noflush", "--counters"];

/// A path at which a network namespace is bound, or a process's `ns/net`.
#[derive(Clone, Debug)]
pub struct Namespace(pub PathBuf);

impl Namespace {
    /// Lays the rules, in place of those of either mode that are there.
    pub fn lay(&self, mode: Mode, node: &Node, services: &[Service]) -> Result<(), Error> {
        let script = self.prepare(mode, node, services)?;
        match mode {
            Mode::Iptables => {
                for part in parts::iptables(&script) {
                    self.restore("iptables", &part)?;
                }
            }
            Mode::Nftables => {
                for part in parts::nftables(&script) {
                    self.nft(&["-f", "-"], &part)?;
                }
            }
        }
        Ok(())
    }

    /// The same by one run of the program, as kube-proxy does it, and says how long that took. One
    /// that is not done within `limit` is ended: with ten thousands of Services it takes minutes.
    pub fn lay_at_once(
        &self,
        mode: Mode,
        node: &Node,
        services: &[Service],
        limit: Duration,
    ) -> Result<Duration, Error> {
        let script = self.prepare(mode, node, services)?;
        let command = match mode {
            Mode::Iptables => {
                let mut command = program::inside_for(&self.0, limit, "iptables-restore");
                command.args(RESTORE);
                command
            }
            Mode::Nftables => {
                let mut command = program::inside_for(&self.0, limit, "nft");
                command.args(["-f", "-"]);
                command
            }
        };
        let output = program::run_for(command, &script, limit)?;
        Ok(output.took)
    }

    fn prepare(&self, mode: Mode, node: &Node, services: &[Service]) -> Result<String, Error> {
        self.remove(Mode::Iptables)?;
        self.remove(Mode::Nftables)?;
        let features = match mode {
            Mode::Iptables => self.features()?,
            Mode::Nftables => Features::default(),
        };
        Ok(script_for(mode, node, services, features))
    }

    /// Removes what [`Self::lay`] or a kube-proxy laid, whether or not it is
    /// there, and leaves what others laid. Conntrack no longer sees a packet
    /// afterwards, unless it is for others.
    pub fn remove(&self, mode: Mode) -> Result<(), Error> {
        let swept = self.sweep(mode)?;
        match mode {
            Mode::Iptables => {
                for (program, family) in FAMILIES {
                    self.remove_iptables(program, family)?;
                }
                accounting::remove(&self.0)?;
            }
            Mode::Nftables => {
                let tables = self.tables()?;
                for (_, family) in FAMILIES {
                    if tables.contains(&format!("table {family} {}", nftables::TABLE)) {
                        self.nft(&["-f", "-"], &nftables::removal(family))?;
                    }
                }
            }
        }
        if swept && self.tables()?.is_empty() {
            conntrack::wait_gone(&self.0)?;
        }
        Ok(())
    }

    /// Removes tables that are only ours as a whole; false when there are none.
    fn sweep(&self, mode: Mode) -> Result<bool, Error> {
        let listing = self.nft(&["-j", "list", "chains"], "")?;
        let unread = |source| Error::Listing {
            table: "chains".to_owned(),
            source,
        };
        let mut script = String::new();
        for ((family, name), builtin) in sweep::candidates(&listing.stdout).map_err(unread)? {
            let of_mode = match mode {
                Mode::Iptables => name != nftables::TABLE,
                Mode::Nftables => name == nftables::TABLE,
            };
            let known = FAMILIES.iter().any(|(_, known)| *known == family);
            if of_mode && known && self.holds_no_rule_of_others(&family, &name, &builtin)? {
                script.push_str(&format!("delete table {family} {name}\n"));
            }
        }
        if script.is_empty() {
            return Ok(false);
        }
        self.nft(&["-f", "-"], &script)?;
        Ok(true)
    }

    fn holds_no_rule_of_others(
        &self,
        family: &str,
        name: &str,
        builtin: &[String],
    ) -> Result<bool, Error> {
        for chain in builtin {
            let listing = self.nft(&["-j", "list", "chain", family, name, chain], "")?;
            let ours =
                sweep::only_jumps_to_ours(&listing.stdout).map_err(|source| Error::Listing {
                    table: format!("{family} {name}"),
                    source,
                })?;
            if !ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether there is no rule, chain or table of ours, and nothing that
    /// keeps packets in netfilter: an empty table of iptables' still has its
    /// hooks. Conntrack's hooks go with the last rule that needs them.
    ///
    /// Never true again after an iptables of the legacy kind: the kernel keeps
    /// its tables as long as the namespace.
    pub fn is_clean(&self) -> Result<bool, Error> {
        // Asked first: with ten thousands of chains all else takes seconds.
        let listing = self.nft(&["-j", "list", "chains"], "")?;
        let ours = sweep::has_ours(&listing.stdout).map_err(|source| Error::Listing {
            table: "chains".to_owned(),
            source,
        })?;
        if ours {
            return Ok(false);
        }
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
        command.args(RESTORE);
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

/// Which program lays the rules, as it says itself: `iptables v1.8.9 (nf_tables)`, or `(legacy)`;
/// `nftables v1.0.6 (Lester Gooch #5)`.
pub fn version(mode: Mode) -> Result<String, Error> {
    let mut command = Command::new(match mode {
        Mode::Iptables => "iptables",
        Mode::Nftables => "nft",
    });
    command.arg("--version");
    program::run(command, "").map(|output| output.stdout.trim().to_owned())
}
