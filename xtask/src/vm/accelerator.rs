//! Whether KVM works here is found out by trying: there are machines whose /dev/kvm opens, and whose
//! guests hang in the firmware or later.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use super::qemu::{Accelerator, PROCESSORS};
use crate::process;

/// A kernel that is run by the processor is there within two seconds. Where it hangs, all of this is waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// What a kernel without a disk ends with: until then it has needed interrupts, timers and each of its processors.
const SIGN: &str = "Kernel panic - not syncing: VFS";

pub fn find(kernel: &Kernel, folder: &Path) -> Result<Accelerator> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    Ok(if kvm_runs(kernel, folder)? {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    })
}

fn kvm_runs(kernel: &Kernel, folder: &Path) -> Result<bool> {
    let console = folder.join("kvm-trial.log");
    let _ = std::fs::remove_file(&console);
    let mut child = Command::new(process::find("qemu-system-x86_64").context("find QEMU")?)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args([
            "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256",
        ])
        .args(["-smp", &PROCESSORS.to_string()])
        .arg("-kernel")
        .arg(&kernel.image)
        .args(["-append", "console=ttyS0 panic=-1", "-serial"])
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("run QEMU")?;
    let deadline = Instant::now() + LIMIT;
    let runs = loop {
        let said = std::fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&said).contains(SIGN) {
            break true;
        }
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let _ = child.kill();
    child.wait()?;
    Ok(runs)
}
