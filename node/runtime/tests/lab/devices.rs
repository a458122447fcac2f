//! What a container may do with the machine's devices.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper here")]

use std::fs::{self, File};
use std::mem::forget;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::CgroupDevice;
use vetch_runtime::*;

use crate::guard::Lab;
use crate::specs::*;

const REFUSED: &str = "Operation not permitted";

/// A block device that root may open, such as an idle loop: a machine that is
/// lent out keeps its disk to itself.
fn disk_path() -> PathBuf {
    fs::read_dir("/sys/class/block")
        .unwrap()
        .map(|entry| Path::new("/dev").join(entry.unwrap().file_name()))
        .find(|path| File::open(path).is_ok())
        .expect("a block device that root may open")
}

/// Its numbers.
fn disk() -> String {
    let disk = disk_path();
    let name = disk.file_name().unwrap();
    let dev = Path::new("/sys/class/block").join(name).join("dev");
    fs::read_to_string(dev).unwrap().trim().replace(':', " ")
}

/// Makes a node for the disk and reads one sector of it, if it has one.
fn read_disk(node: &str) -> String {
    let disk = disk();
    format!("mknod {node} b {disk} && dd if={node} bs=512 count=1 2>&1 >/dev/null")
}

fn privileged(script: &str) -> ContainerSpec {
    ContainerSpec {
        privileged: true,
        ..shell(script)
    }
}

#[test]
fn a_disk_is_for_privileged_containers() {
    with_sandbox(async |lab, runtime, pod| {
        assert_eq!(runtime.device_problem(), None);
        let volume = lab.path("volume");
        fs::create_dir(&volume).unwrap();
        let spec = |script: &str| ContainerSpec {
            // With it, the flags of mounts hold back nobody.
            capabilities_add: vec!["SYS_ADMIN".into()],
            mounts: vec![bind(&volume, "/volume"), bind("/dev".as_ref(), "/machine")],
            ..shell(script)
        };
        let own = "mkdir /mnt && mount -t tmpfs own /mnt && ";
        for script in [
            read_disk("/tmp/disk"),
            read_disk("/dev/disk"),
            read_disk("/volume/disk"),
            own.to_owned() + &read_disk("/mnt/disk"),
            // Opened to write, and nothing written.
            ": >>/volume/disk".into(),
            "mknod /tmp/x c 10 237 && : </tmp/x".into(),
            ": </machine/loop-control".into(),
        ] {
            let (code, said) = outcome(runtime, pod, spec(&script)).await;
            assert_ne!(code, 0, "{script}: {said}");
            assert!(said.contains(REFUSED), "{script}: {said}");
        }
        for script in [
            read_disk("/tmp/disk"),
            "mknod /tmp/x c 10 237 && : </tmp/x".into(),
        ] {
            let (code, said) = outcome(runtime, pod, privileged(&script)).await;
            assert_eq!(code, 0, "{script}: {said}");
        }

        let id = run(runtime, &pod.id, sleeper()).await;
        let words = ["sh", "-c", &read_disk("/tmp/disk")].map(str::to_owned);
        let limit = Duration::from_secs(20);
        let output = runtime.exec(&id, words.into(), limit).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(REFUSED), "{said}");
    });
}

fn given(host_path: &Path, permissions: &str) -> Device {
    Device {
        host_path: host_path.into(),
        container_path: "/dev/vetch/given".into(),
        permissions: permissions.into(),
    }
}

#[test]
fn a_device_that_was_given_is_used_as_far_as_it_was() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let read = "dd if=/dev/vetch/given bs=512 count=1 of=/dev/null 2>/dev/null && echo read";
        let spec = |device: Device, script: &str| ContainerSpec {
            devices: vec![device],
            ..shell(script)
        };
        let disk = || given(&disk_path(), "r");
        let script = format!("test -b /dev/vetch/given && {read}; : >>/dev/vetch/given");
        let (code, said) = outcome(&runtime, &pod, spec(disk(), &script)).await;
        assert_ne!(code, 0, "{said}");
        assert!(
            said.starts_with("read\n") && said.contains(REFUSED),
            "{said}"
        );
        let control = given("/dev/loop-control".as_ref(), "rwm");
        let script = ": <>/dev/vetch/given && echo opened; mknod /tmp/x c 10 232; : </tmp/x";
        let (_, said) = outcome(&runtime, &pod, spec(control, script)).await;
        assert!(
            said.starts_with("opened\n") && said.contains(REFUSED),
            "{said}"
        );
        let (_, said) = outcome(&runtime, &pod, shell("ls /dev/vetch")).await;
        assert!(said.contains("No such file"), "{said}");

        // The next daemon gives what this one gave.
        let id = run(&runtime, &pod.id, spec(disk(), "exec sleep 1000")).await;
        let cgroup = lab.config.cgroup_root.join("kubepods/burstable/poduid-pod");
        let cgroup = cgroup.join(&id.0);
        drop(runtime);
        drop(CgroupDevice::query(File::open(&cgroup).unwrap()).unwrap());
        assert_eq!(programs(&cgroup), 0);
        let runtime = lab.open().await;
        assert_eq!(programs(&cgroup), 1);
        for (script, want) in [(read, 0), (": >>/dev/vetch/given", 1)] {
            let words = ["sh", "-c", script].map(str::to_owned);
            let limit = Duration::from_secs(20);
            let output = runtime.exec(&id, words.into(), limit).await.unwrap();
            assert_eq!(output.exit_code, want, "{script}");
        }

        for (device, told) in [
            (given("/none".as_ref(), "r"), "looking at device /none"),
            (
                given("/etc".as_ref(), "r"),
                "neither a block nor a character device",
            ),
            (given("/dev/null".as_ref(), "x"), "said by r, w and m"),
        ] {
            let refused = runtime.create_container(&pod.id, spec(device, "")).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(told), "{refused}");
        }
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn devices_that_every_container_has_work() {
    with_sandbox(async |_, runtime, pod| {
        for (script, want) in [
            ("echo gone >/dev/null; cat /dev/null; echo here", "here"),
            ("head -c 4 /dev/zero | hexdump -e '4/1 \"%x\"'", "0000"),
            ("head -c 16 /dev/urandom | wc -c", "16"),
            ("head -c 16 /dev/random | wc -c", "16"),
            (
                "echo x >/dev/full",
                "sh: write error: No space left on device",
            ),
            (
                "mknod /tmp/null c 1 3 && echo gone >/tmp/null && cat /tmp/null && echo here",
                "here",
            ),
            (": <>/dev/ptmx && echo opened", "opened"),
        ] {
            let (_, said) = outcome(runtime, pod, shell(script)).await;
            assert_eq!(said, want, "{script}");
        }
        let spec = ContainerSpec {
            tty: true,
            ..shell(
                "tty; echo to tty >/dev/tty; echo to console >/dev/console; echo to pts >$(tty)",
            )
        };
        let (_, said) = outcome(runtime, pod, spec).await;
        let said: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert_eq!(said, ["/dev/pts/0", "to tty", "to console", "to pts"]);
    });
}

/// Of this very cgroup.
fn programs(cgroup: &Path) -> usize {
    let attached = CgroupDevice::query(File::open(cgroup).unwrap()).unwrap();
    let count = attached.len();
    // Dropping one would detach it.
    attached.into_iter().for_each(forget);
    count
}

#[test]
fn the_program_is_the_cgroups_and_not_the_daemons() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let cgroup = |name: &str| -> PathBuf {
            let pod = lab.config.cgroup_root.join("kubepods/burstable/poduid-pod");
            pod.join(name)
        };
        let plain = run(&runtime, &pod.id, sleeper()).await;
        let free = ContainerSpec {
            privileged: true,
            log_path: "free/0.log".into(),
            ..sleeper()
        };
        let free = run(&runtime, &pod.id, free).await;
        let counts = || {
            [&plain.0, &free.0, &format!("shim-{}", pod.id), ""].map(|name| programs(&cgroup(name)))
        };
        assert_eq!(counts(), [1, 0, 0, 0]);
        drop(runtime);
        assert_eq!(counts(), [1, 0, 0, 0]);

        // The next daemon leaves what is there, and mends what is not.
        drop(lab.open().await);
        assert_eq!(counts(), [1, 0, 0, 0]);
        drop(CgroupDevice::query(File::open(cgroup(&plain.0)).unwrap()).unwrap());
        assert_eq!(counts(), [0, 0, 0, 0]);
        let runtime = lab.open().await;
        assert_eq!(counts(), [1, 0, 0, 0]);

        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn where_the_kernel_takes_no_program_mounts_stand_for_it() {
    let test = || {
        refuse_bpf();
        with_sandbox(async |lab, runtime, pod| {
            let problem = runtime.device_problem().expect("a kernel without bpf(2)");
            assert!(problem.contains(REFUSED), "{problem}");
            let volume = lab.path("volume");
            fs::create_dir(&volume).unwrap();
            for node in ["/tmp/disk", "/dev/disk", "/volume/disk"] {
                let spec = ContainerSpec {
                    mounts: vec![bind(&volume, "/volume")],
                    ..shell(&read_disk(node))
                };
                let (code, said) = outcome(runtime, pod, spec).await;
                assert_ne!(code, 0, "{node}");
                assert!(said.contains("Permission denied"), "{node}: {said}");
            }
            let spec = ContainerSpec {
                devices: vec![given(&disk_path(), "r")],
                ..shell("")
            };
            let refused = runtime.create_container(&pod.id, spec).await.unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains("no device can be given"), "{refused}");
            let usual = shell("head -c 4 /dev/zero | wc -c; : </dev/null");
            assert_eq!(outcome(runtime, pod, usual).await, (0, "4".into()));
        });
    };
    // A thread of its own, which takes the filter with it.
    std::thread::spawn(test).join().unwrap();
}

/// bpf(2) fails with EPERM from here on, for this thread and what it starts.
fn refuse_bpf() {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        // The number of the call is the first word of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_bpf as u32,
        ),
        statement(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its statements live until the call returns, which
    // copies them.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
