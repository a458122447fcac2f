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

/// The numbers of a block device that root may open, such as an idle loop: a
/// machine that is lent out keeps its disk to itself.
fn disk() -> String {
    let disk = fs::read_dir("/sys/class/block")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .find(|name| File::open(Path::new("/dev").join(name)).is_ok())
        .expect("a block device that root may open");
    let dev = Path::new("/sys/class/block").join(disk).join("dev");
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

fn own_device(host_path: &str, container_path: &str, access: &str) -> Device {
    Device {
        host_path: host_path.into(),
        container_path: container_path.into(),
        access: DeviceAccess {
            read: access.contains('r'),
            write: access.contains('w'),
            make: access.contains('m'),
        },
    }
}

/// What one may do with a device of the machine's that no container has by itself.
const LOOP_CONTROL: &str = "/dev/loop-control";

#[test]
fn devices_that_a_container_asks_for() {
    with_sandbox(async |_, runtime, pod| {
        let with = |script: &str, access: &str| ContainerSpec {
            devices: vec![own_device(LOOP_CONTROL, "/dev/own/control", access)],
            ..shell(script)
        };
        let whole = "ls -l /dev/own/control | grep -c '10, 237'; \
                     : <>/dev/own/control && : </dev/own/control && echo opened";
        let (code, said) = outcome(runtime, pod, with(whole, "rw")).await;
        assert_eq!((code, said.as_str()), (0, "1\nopened"));
        // Less of it, through whatever node; and no other device.
        for (script, access) in [
            (": <>/dev/own/control", "r"),
            (": >>/dev/own/control", "rm"),
            (": </dev/own/control", "w"),
            ("mknod /tmp/own c 10 237 && : <>/tmp/own", "r"),
            (read_disk("/tmp/disk").as_str(), "rwm"),
        ] {
            let (code, said) = outcome(runtime, pod, with(script, access)).await;
            assert_ne!(code, 0, "{script}: {said}");
            assert!(said.contains(REFUSED), "{script}: {said}");
        }
        let reads = ": </dev/own/control && mknod /tmp/own c 10 237 && : </tmp/own && head -c 4 /dev/zero | wc -c";
        let (code, said) = outcome(runtime, pod, with(reads, "r")).await;
        assert_eq!((code, said.as_str()), (0, "4"));

        // All in a directory, wherever a container wants it.
        let directory = ContainerSpec {
            devices: vec![own_device("/dev/net", "/dev/nets", "rw")],
            ..shell("ls /dev/nets")
        };
        let tun = fs::exists("/dev/net/tun").unwrap();
        let made = runtime.create_container(&pod.id, directory).await;
        assert_eq!(made.is_ok(), tun, "{made:?}");
        let missing = ContainerSpec {
            devices: vec![own_device("/dev/no-such-device", "/dev/own", "rw")],
            ..shell("true")
        };
        let refused = runtime
            .create_container(&pod.id, missing)
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("/dev/no-such-device"),
            "{refused}"
        );
    });
}

#[test]
fn a_device_in_a_user_namespace_is_the_nodes() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            user_namespace: Some(UserNamespace::Own),
            ..sandbox(&lab.logs, "pod")
        };
        let pod = runtime.create_sandbox(spec).await.unwrap();
        let spec = ContainerSpec {
            devices: vec![own_device("/dev/zero", "/dev/own", "r")],
            ..shell("head -c 3 /dev/own | wc -c")
        };
        assert_eq!(outcome(&runtime, &pod, spec).await, (0, "3".into()));
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
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
        let more = ContainerSpec {
            devices: vec![own_device(LOOP_CONTROL, "/dev/own", "r")],
            log_path: "more/0.log".into(),
            ..sleeper()
        };
        let more = run(&runtime, &pod.id, more).await;
        let opens = async |runtime: &Runtime| {
            let words = ["sh", "-c", ": </dev/own && ! (: >>/dev/own)"].map(str::to_owned);
            let limit = Duration::from_secs(20);
            runtime
                .exec(&more, words.into(), limit)
                .await
                .unwrap()
                .exit_code
        };
        assert_eq!(opens(&runtime).await, 0);
        let counts = || {
            [&plain.0, &free.0, &format!("shim-{}", pod.id), ""].map(|name| programs(&cgroup(name)))
        };
        assert_eq!(counts(), [1, 0, 0, 0]);
        drop(runtime);
        assert_eq!(counts(), [1, 0, 0, 0]);

        // The next daemon leaves what is there, and mends what is not.
        drop(lab.open().await);
        assert_eq!(counts(), [1, 0, 0, 0]);
        for id in [&plain, &more] {
            drop(CgroupDevice::query(File::open(cgroup(&id.0)).unwrap()).unwrap());
        }
        assert_eq!(counts(), [0, 0, 0, 0]);
        let runtime = lab.open().await;
        assert_eq!(counts(), [1, 0, 0, 0]);
        assert_eq!(opens(&runtime).await, 0);

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
            let usual = shell("head -c 4 /dev/zero | wc -c; : </dev/null");
            assert_eq!(outcome(runtime, pod, usual).await, (0, "4".into()));
            // One's own is had wholly or not at all.
            let own = |access| ContainerSpec {
                devices: vec![own_device(LOOP_CONTROL, "/dev/own", access)],
                ..shell(": <>/dev/own && echo opened")
            };
            assert_eq!(outcome(runtime, pod, own("rw")).await, (0, "opened".into()));
            let refused = runtime
                .create_container(&pod.id, own("r"))
                .await
                .unwrap_err();
            assert!(
                refused
                    .to_string()
                    .contains("only be had to read and to write"),
                "{refused}"
            );
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
