//! One cluster of machines: made, switched on, waited for, switched off.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::console::{Trouble, Watched};
use super::image::RootImage;
use super::kernel::Kernel;
use super::qemu::{self, Accelerator, Files, Hardware};
use super::seed::{self, Machine, Shared};
use super::ssh::Ssh;
use super::{disk, initramfs};
use crate::cluster::Name;
use crate::image as container_image;
use crate::kubectl;
use crate::paths::Tree;

const POD_CIDR: &str = "10.244.0.0/16";
const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The control plane's machine also holds etcd.
const MEMORY_MIB: [u32; 2] = [1536, 1024];

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: u8,
    pub kernel: Kernel,
    pub accelerator: Accelerator,
}

/// What was chosen for a cluster that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    nodes: u8,
    kernel_image: PathBuf,
    kernel_release: String,
    modules_disk: PathBuf,
    kvm: bool,
    api_port: u16,
    ssh_ports: Vec<u16>,
    link_port: u16,
}

#[derive(Clone, Debug)]
pub struct Machines {
    pub name: Name,
    folder: PathBuf,
    state: State,
}

impl Machines {
    fn folder_of(tree: &Tree, name: &Name) -> PathBuf {
        tree.target().join("vm").join(name.as_str())
    }

    /// The cluster of this name, if it is one of machines.
    pub fn find(tree: &Tree, name: &Name) -> Result<Option<Machines>> {
        let folder = Machines::folder_of(tree, name);
        let path = folder.join("state.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let state =
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        Ok(Some(Machines {
            name: name.clone(),
            folder,
            state,
        }))
    }

    /// Makes disks, keys and certificates; what an earlier cluster of this name left is removed.
    pub fn make(tree: &Tree, name: &Name, plan: &Plan, root: &RootImage) -> Result<Machines> {
        ensure!(
            (1..=9).contains(&plan.nodes),
            "a cluster of machines has 1 to 9 nodes"
        );
        if let Some(old) = Machines::find(tree, name)? {
            old.remove()?;
        }
        let folder = Machines::folder_of(tree, name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let ports = free_ports(usize::from(plan.nodes) + 2)?;
        let machines = Machines {
            name: name.clone(),
            state: State {
                nodes: plan.nodes,
                kernel_image: plan.kernel.image.clone(),
                kernel_release: plan.kernel.release.clone(),
                modules_disk: plan.kernel.modules_disk.clone(),
                kvm: plan.accelerator == Accelerator::Kvm,
                link_port: ports[0],
                api_port: ports[1],
                ssh_ports: ports[2..].to_vec(),
            },
            folder,
        };
        Ssh::prepare(
            &machines.ssh_folder(),
            &machines.sockets(),
            &machines.doors(),
        )?;
        fs::create_dir_all(machines.sockets())?;
        let authority = machines.folder.join("control");
        let issue = |server: &str, user: &str, group: &str, out: &Path| {
            issue(tree, &authority, server, user, group, out)
        };
        issue(
            &format!("https://127.0.0.1:{}", machines.state.api_port),
            "kubernetes-admin",
            "system:masters",
            &machines.kubeconfig(),
        )?;
        let key = Ssh::public_key(&machines.ssh_folder())?;
        let server = format!("https://{}:6443", Machine::new(1).address);
        let busybox = container_image::static_busybox()
            .context("there is no static busybox: run `apt-get install busybox-static`")?;
        let pki = files(&authority.join("pki"))?;
        for machine in machines.all() {
            let places = machines.files(&machine);
            fs::create_dir_all(places.folder())?;
            let kubeconfig = places.folder().join("node.kubeconfig");
            issue(
                &server,
                &format!("system:node:{}", machine.name),
                "system:nodes",
                &kubeconfig,
            )?;
            let seed = seed::of(
                &machine,
                &Shared {
                    authorized_key: &key,
                    kubeconfig: &fs::read(&kubeconfig)?,
                    pod_cidr: POD_CIDR,
                    service_cidr: SERVICE_CIDR,
                    pki: &pki,
                    node_monitor_grace_period: "40s",
                },
            );
            fs::write(
                places.initramfs(),
                initramfs::make(&plan.kernel, &busybox, &seed)?,
            )?;
            disk::over(&root.disk, &places.disk())?;
        }
        let path = machines.folder.join("state.json");
        fs::write(&path, serde_json::to_string_pretty(&machines.state)?)
            .with_context(|| format!("write {}", path.display()))?;
        super::description::write(&machines)?;
        Ok(machines)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn all(&self) -> Vec<Machine> {
        (1..=self.state.nodes).map(Machine::new).collect()
    }

    pub fn machine(&self, name: &str) -> Result<Machine> {
        self.all()
            .into_iter()
            .find(|machine| machine.name == name)
            .with_context(|| format!("cluster {} has no node {name}", self.name))
    }

    pub fn files(&self, machine: &Machine) -> Files {
        Files::new(
            self.folder.join(&machine.name),
            self.sockets().join(&machine.name),
        )
    }

    pub fn ssh(&self) -> Ssh {
        Ssh::at(&self.ssh_folder())
    }

    fn ssh_folder(&self) -> PathBuf {
        self.folder.join("ssh")
    }

    fn sockets(&self) -> PathBuf {
        let user = nix::unistd::geteuid();
        std::env::temp_dir().join(format!("vetch-vm-{user}-{}", self.name))
    }

    fn doors(&self) -> Vec<(String, u16)> {
        self.all()
            .into_iter()
            .map(|machine| machine.name)
            .zip(self.state.ssh_ports.iter().copied())
            .collect()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    pub fn description(&self) -> PathBuf {
        self.folder.join("cluster.json")
    }

    pub fn kernel_release(&self) -> &str {
        &self.state.kernel_release
    }

    pub fn accelerator(&self) -> Accelerator {
        if self.state.kvm {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        }
    }

    pub fn power_on(&self, machine: &Machine) -> Result<()> {
        let files = self.files(machine);
        if qemu::running(&files).is_some() {
            return Ok(());
        }
        let place = usize::from(machine.number) - 1;
        let mut forwards = vec![(self.state.ssh_ports[place], 22)];
        if machine.is_control() {
            forwards.push((self.state.api_port, 6443));
        }
        let hardware = Hardware {
            machine,
            accelerator: self.accelerator(),
            crowded: self.all().len() * qemu::PROCESSORS
                > std::thread::available_parallelism()?.get(),
            memory_mib: MEMORY_MIB[usize::from(!machine.is_control())],
            release: &self.state.kernel_release,
            kernel: &self.state.kernel_image,
            modules: &self.state.modules_disk,
            link_port: self.state.link_port,
            forwards: &forwards,
        };
        qemu::start(&hardware, &files)
    }

    pub fn power_off(&self, machine: &Machine) -> Result<()> {
        self.ssh().forget(&machine.name);
        qemu::power_off(&self.files(machine))
    }

    /// Consoles and journals, to look for troubles in.
    pub fn watched(&self) -> Vec<(String, Watched)> {
        self.all()
            .iter()
            .flat_map(|machine| {
                let files = self.files(machine);
                [files.console(), files.journal()]
                    .map(|path| (machine.name.clone(), Watched::new(&path)))
            })
            .collect()
    }

    /// Waits until every node is ready; a panic or a machine that ended is told at once.
    pub fn wait_ready(&self, limit: Duration, note: impl Fn(&str)) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut watched = self.watched();
        loop {
            let state = match self.unready() {
                Ok(missing) if missing.is_empty() => return Ok(()),
                Ok(missing) => format!("not ready yet: {}", missing.join(", ")),
                Err(error) => format!("{error:#}"),
            };
            note(state.lines().next_back().unwrap_or_default());
            if let Some((machine, trouble)) = first_trouble(&mut watched) {
                bail!("{machine}: {}:\n{}", trouble.kind, trouble.text);
            }
            for machine in self.all() {
                if qemu::running(&self.files(&machine)).is_none() {
                    bail!(
                        "{} is no longer running; {}",
                        machine.name,
                        self.logs(&machine)
                    );
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "not within {} s: {state}; {}",
                    limit.as_secs(),
                    self.logs(&Machine::new(1))
                );
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn logs(&self, machine: &Machine) -> String {
        let files = self.files(machine);
        format!(
            "see {} and {}",
            files.console().display(),
            files.journal().display()
        )
    }

    fn unready(&self) -> Result<Vec<String>> {
        let known = kubectl::nodes(&self.kubeconfig())?;
        let ready = |name: &str| known.iter().any(|node| node.name == name && node.ready);
        Ok(self
            .all()
            .into_iter()
            .map(|machine| machine.name)
            .filter(|name| !ready(name))
            .collect())
    }

    /// Switches all off; their files stay.
    pub fn power_off_all(&self) -> Result<()> {
        for machine in self.all() {
            self.power_off(&machine)?;
        }
        let _ = fs::remove_dir_all(self.sockets());
        Ok(())
    }

    pub fn remove(&self) -> Result<()> {
        self.power_off_all()?;
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))
    }
}

pub fn first_trouble(watched: &mut [(String, Watched)]) -> Option<(String, Trouble)> {
    watched
        .iter_mut()
        .find_map(|(machine, file)| Some((machine.clone(), file.look()?)))
}

/// Free on loopback now. QEMU takes them within seconds.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held until all are known, so that none is given twice.
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()
        .context("find free ports")?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// `vetch-control` makes the CA the first time.
fn issue(
    tree: &Tree,
    authority: &Path,
    server: &str,
    user: &str,
    group: &str,
    out: &Path,
) -> Result<()> {
    fs::create_dir_all(authority)?;
    let output = Command::new(tree.daemon("vetch-control"))
        .arg("kubeconfig")
        .arg("--data-dir")
        .arg(authority)
        .args([
            "--server", server, "--user", user, "--group", group, "--out",
        ])
        .arg(out)
        .stdin(Stdio::null())
        .output()
        .context("run vetch-control")?;
    ensure!(
        output.status.success(),
        "vetch-control kubeconfig: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            all.push((name, fs::read(entry.path())?));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
