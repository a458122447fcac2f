//! The way into a machine: OpenSSH over a port on loopback, with a key of the run's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// `ssh -F config NODE command`.
#[derive(Clone, Debug)]
pub struct Ssh {
    config: PathBuf,
}

impl Ssh {
    /// Makes the key, and the configuration that knows each machine by its name.
    ///
    /// `sockets` holds the connections that commands share: under emulation a new one costs a second.
    pub fn prepare(folder: &Path, sockets: &Path, ports: &[(String, u16)]) -> Result<Ssh> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let key = folder.join("key");
        if !key.exists() {
            let output = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "vetch", "-f"])
                .arg(&key)
                .stdin(Stdio::null())
                .output()
                .context("run ssh-keygen")?;
            ensure!(
                output.status.success(),
                "ssh-keygen: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let config = folder.join("config");
        fs::write(&config, text(&key, sockets, ports))
            .with_context(|| format!("write {}", config.display()))?;
        Ok(Ssh { config })
    }

    pub fn at(folder: &Path) -> Ssh {
        Ssh {
            config: folder.join("config"),
        }
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn public_key(folder: &Path) -> Result<String> {
        let path = folder.join("key.pub");
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// A command on the machine; its words reach the shell there.
    pub fn command(&self, machine: &str, words: &str) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&self.config).arg(machine).arg(words);
        command
    }

    /// What the command printed, if it went well.
    pub fn run(&self, machine: &str, words: &str) -> Result<String> {
        let output = self
            .command(machine, words)
            .stdin(Stdio::null())
            .output()
            .context("run ssh")?;
        ensure!(
            output.status.success(),
            "{machine}: `{words}`: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Forgets the shared connection: the machine behind it was switched off.
    pub fn forget(&self, machine: &str) {
        let _ = Command::new("ssh")
            .arg("-F")
            .arg(&self.config)
            .args(["-O", "exit", machine])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// See ssh_config(5).
fn text(key: &Path, sockets: &Path, ports: &[(String, u16)]) -> String {
    let mut text: String = ports
        .iter()
        .map(|(name, port)| format!("Host {name}\n    Port {port}\n"))
        .collect();
    text.push_str(&format!(
        "Host *\n    HostName 127.0.0.1\n    User root\n    IdentityFile {}\n    IdentitiesOnly yes\n\
         \x20   StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n\
         \x20   ControlMaster auto\n    ControlPersist yes\n    ControlPath {}/ssh-%n\n\
         \x20   ConnectTimeout 10\n    ServerAliveInterval 5\n    ServerAliveCountMax 6\n\
         \x20   BatchMode yes\n",
        key.display(),
        sockets.display()
    ));
    text
}

/// Words for the shell at the other end.
pub fn quote<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    words
        .into_iter()
        .map(|word| format!("'{}'", word.as_ref().replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_other_shell_as_they_are() {
        assert_eq!(quote(["a b", "it's", "$x"]), r"'a b' 'it'\''s' '$x'");
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("printf '%s|' {}", quote(["a b", "it's", "$x;"])))
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"a b|it's|$x;|");
    }

    #[test]
    fn each_machine_has_its_own_port() {
        let ports = [("node-1".to_owned(), 4001), ("node-2".to_owned(), 4002)];
        let text = text(Path::new("/k"), Path::new("/s"), &ports);
        assert!(text.contains("Host node-2\n    Port 4002\n"));
        assert!(text.contains("ControlPath /s/ssh-%n\n"));
    }
}
