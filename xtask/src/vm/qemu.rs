//! One virtual machine: how QEMU is asked for it, started, steered and ended.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::seed::Machine;
use crate::process;

/// How the machine's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By software: ten times slower, and everywhere.
    Tcg,
}

impl Accelerator {
    pub fn words(self) -> &'static str {
        match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "software emulation",
        }
    }
}

/// Each machine's.
pub const PROCESSORS: usize = 2;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Hardware<'a> {
    pub machine: &'a Machine,
    pub accelerator: Accelerator,
    /// Whether the machines have more processors together than this computer.
    pub crowded: bool,
    pub memory_mib: u32,
    /// The kernel's, as `uname -r` says it.
    pub release: &'a str,
    pub kernel: &'a Path,
    pub modules: &'a Path,
    /// The multicast port of the link between the machines, on loopback.
    pub link_port: u16,
    /// (port on loopback, port of the machine)
    pub forwards: &'a [(u16, u16)],
}

/// Where one machine's files are.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    /// Short: a socket's path has at most 107 bytes (unix(7)).
    sockets: PathBuf,
}

impl Files {
    pub fn new(folder: PathBuf, sockets: PathBuf) -> Files {
        Files { folder, sockets }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }

    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio")
    }

    /// The serial console: firmware and kernel.
    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// What journald forwards.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal.log")
    }

    fn pid(&self) -> PathBuf {
        self.folder.join("qemu.pid")
    }

    fn errors(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }

    fn monitor(&self) -> PathBuf {
        self.sockets.join("monitor")
    }
}

/// What QEMU's `-cpu` is told for this kernel.
///
/// QEMU 7.2 gets cmpxchg16b wrong where it is not locked. The slab allocator's lists of each processor
/// use it so since Linux 6.5 (6.12 died in five of five boots), until 7.0 has these lists no more. Since
/// 6.19, on the other hand, eBPF's storage of sockets is had by kmalloc_nolock(), which refuses wherever
/// cmpxchg16b is missing: `connect()` then fails for every Service. So it is there from 7.0 on.
fn emulated_processor(release: &str) -> &'static str {
    let major: Option<u32> = release
        .split('.')
        .next()
        .and_then(|number| number.parse().ok());
    match major {
        Some(..7) => "max,cx16=off",
        _ => "max",
    }
}

/// QEMU's arguments.
pub fn arguments(hardware: &Hardware<'_>, files: &Files) -> Vec<String> {
    let Hardware { machine, .. } = hardware;
    let (accelerator, processor) = match hardware.accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        // A thread for each processor only where they run at once: where they wait for each other, one
        // was seen to run into the breakpoint of a patch to the kernel's text that another had finished
        // (`Oops: int3`).
        Accelerator::Tcg if hardware.crowded => {
            ("tcg,thread=single", emulated_processor(hardware.release))
        }
        Accelerator::Tcg => ("tcg,thread=multi", emulated_processor(hardware.release)),
    };
    let forwards: String = hardware
        .forwards
        .iter()
        .map(|(outside, inside)| format!(",hostfwd=tcp:127.0.0.1:{outside}-:{inside}"))
        .collect();
    let words = [
        ("-name", machine.name.clone()),
        ("-machine", "q35".into()),
        ("-accel", accelerator.into()),
        ("-cpu", processor.into()),
        ("-smp", PROCESSORS.to_string()),
        ("-m", hardware.memory_mib.to_string()),
        ("-display", "none".into()),
        ("-rtc", "base=utc".into()),
        ("-pidfile", text(&files.pid())),
        ("-kernel", text(hardware.kernel)),
        ("-initrd", text(&files.initramfs())),
        // The flaws of a processor that is not there need no care; a panic stays on the console. The time stamp
        // counters of emulated processors are the host's one, but Linux cannot know and takes the HPET, of which
        // each reading is a system call and an exit to QEMU under the lock of all its devices.
        (
            "-append",
            "console=ttyS0 rw tsc=reliable net.ifnames=0 mitigations=off systemd.unified_cgroup_hierarchy=1 systemd.show_status=0 quiet loglevel=5 panic=0".into(),
        ),
        (
            "-drive",
            format!("file={},if=virtio,format=qcow2,cache=writeback", text(&files.disk())),
        ),
        (
            "-drive",
            format!("file={},if=virtio,format=raw,readonly=on", text(hardware.modules)),
        ),
        (
            "-chardev",
            format!("file,id=console,path={},append=on", text(&files.console())),
        ),
        ("-serial", "chardev:console".into()),
        ("-device", "virtio-serial-pci".into()),
        (
            "-chardev",
            format!("file,id=journal,path={},append=on", text(&files.journal())),
        ),
        ("-device", "virtconsole,chardev=journal".into()),
        ("-device", "virtio-rng-pci".into()),
        ("-netdev", format!("user,id=outside,restrict=on{forwards}")),
        (
            "-device",
            format!("virtio-net-pci,netdev=outside,romfile=,mac={}", machine.mac(0)),
        ),
        // Datagrams on loopback: nobody is the switch, so a lost machine takes no link with it.
        (
            "-netdev",
            format!(
                "socket,id=link,mcast=230.0.0.76:{},localaddr=127.0.0.1",
                hardware.link_port
            ),
        ),
        (
            "-device",
            format!(
                "virtio-net-pci,id=card,netdev=link,romfile=,mac={}",
                machine.mac(1)
            ),
        ),
        (
            "-qmp",
            format!("unix:{},server=on,wait=off", text(&files.monitor())),
        ),
    ];
    ["-nodefaults", "-no-user-config"]
        .map(str::to_owned)
        .into_iter()
        .chain(
            words
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value]),
        )
        .collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Starts it in a session of its own, and returns when QEMU lives.
pub fn start(hardware: &Hardware<'_>, files: &Files) -> Result<()> {
    fs::create_dir_all(&files.sockets)
        .with_context(|| format!("create {}", files.sockets.display()))?;
    let _ = fs::remove_file(files.monitor());
    let errors = File::create(files.errors())?;
    let program = process::find("qemu-system-x86_64")
        .context("there is no qemu-system-x86_64: run `apt-get install qemu-system-x86`")?;
    let mut command = Command::new("setsid");
    command
        .arg(program)
        .args(arguments(hardware, files))
        .stdin(Stdio::null())
        .stdout(errors.try_clone()?)
        .stderr(errors);
    let mut child = command.spawn().context("run qemu-system-x86_64")?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !files.monitor().exists() || running(files).is_none() {
        if let Some(status) = child.try_wait()? {
            bail!(
                "QEMU for {}: {status}\n{}",
                hardware.machine.name,
                crate::tools::read(&files.errors())
            );
        }
        if Instant::now() > deadline {
            bail!("QEMU for {} does not start", hardware.machine.name);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Its end is seen by its pid; reaping it is for whoever is there then.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// The pid, while QEMU runs for this machine.
pub fn running(files: &Files) -> Option<i32> {
    let pid: i32 = fs::read_to_string(files.pid()).ok()?.trim().parse().ok()?;
    let own = process::arguments(pid);
    let path = text(&files.pid());
    (own.contains(&path) && !is_zombie(pid)).then_some(pid)
}

fn is_zombie(pid: i32) -> bool {
    // proc_pid_stat(5): the state comes after the name in parentheses.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| rest.starts_with('Z'))
        })
        .unwrap_or(true)
}

/// As when the plug is pulled: what the guest has not handed to its disk is gone.
pub fn power_off(files: &Files) -> Result<()> {
    let Some(pid) = running(files) else {
        return Ok(());
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    while running(files).is_some() {
        if Instant::now() > deadline {
            bail!("QEMU (pid {pid}) does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Plugs the card of the link between the machines in or out.
pub fn set_link(files: &Files, up: bool) -> Result<()> {
    monitor(files, "set_link", json!({"name": "card", "up": up})).map(drop)
}

/// The reset button.
pub fn reset(files: &Files) -> Result<()> {
    monitor(files, "system_reset", json!({})).map(drop)
}

/// One command of QEMU's machine protocol (QMP).
fn monitor(files: &Files, command: &str, arguments: Value) -> Result<Value> {
    let path = files.monitor();
    let stream =
        UnixStream::connect(&path).with_context(|| format!("reach QEMU at {}", path.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    // The greeting.
    lines.next().context("QEMU says nothing")??;
    for (name, arguments) in [("qmp_capabilities", json!({})), (command, arguments)] {
        writeln!(
            writer,
            "{}",
            json!({"execute": name, "arguments": arguments})
        )?;
        let answer = loop {
            let line = lines.next().context("QEMU hung up")??;
            let value: Value = serde_json::from_str(&line)?;
            // Events come in between.
            if value.get("event").is_none() {
                break value;
            }
        };
        if let Some(error) = answer.get("error") {
            bail!("QEMU refuses {name}: {}", error["desc"]);
        }
        if name == command {
            return Ok(answer);
        }
    }
    bail!("no answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_own_disk_cards_and_doors_on_loopback_alone() {
        let machine = Machine::new(2);
        let hardware = Hardware {
            machine: &machine,
            accelerator: Accelerator::Tcg,
            crowded: false,
            memory_mib: 1024,
            release: "6.12.1-x",
            kernel: Path::new("/k/vmlinuz"),
            modules: Path::new("/k/modules.ext4"),
            link_port: 4000,
            forwards: &[(4001, 22), (4002, 6443)],
        };
        let files = Files::new("/run/node-2".into(), "/tmp/s".into());
        let line = arguments(&hardware, &files).join(" ");
        for part in [
            "-name node-2 ",
            "-accel tcg,thread=multi ",
            "file=/run/node-2/disk.qcow2,",
            "user,id=outside,restrict=on,hostfwd=tcp:127.0.0.1:4001-:22,hostfwd=tcp:127.0.0.1:4002-:6443 ",
            "mcast=230.0.0.76:4000,localaddr=127.0.0.1 ",
            "unix:/tmp/s/monitor,",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!line.contains("0.0.0.0"));
        let crowded = Hardware {
            crowded: true,
            ..hardware
        };
        assert!(arguments(&crowded, &files).contains(&"tcg,thread=single".to_owned()));
    }

    #[test]
    fn cmpxchg16b_is_there_where_the_kernel_needs_it() {
        for (release, wanted) in [
            ("6.1.0-39-cloud-amd64", "max,cx16=off"),
            ("6.12.57+deb12-cloud-amd64", "max,cx16=off"),
            ("7.0.1", "max"),
            ("7.2.13+deb14-cloud-amd64", "max"),
            ("10.0-rc1", "max"),
            ("mine", "max"),
        ] {
            assert_eq!(emulated_processor(release), wanted, "{release}");
        }
    }
}
