//! User namespaces: what root of a pod is, and is not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use vetch_runtime::*;

use crate::guard::{Lab, Mounts};
use crate::specs::*;

const MAP: &str = "read a b c < /proc/self/uid_map; echo $a $b $c
                   read a b c < /proc/self/gid_map; echo $a $b $c";

fn mapped(lab: &Lab, name: &str) -> SandboxSpec {
    SandboxSpec {
        user_namespace: Some(UserNamespace::Own),
        ..sandbox(&lab.logs, name)
    }
}

/// The first of its users on the node.
fn first_id(made: &SandboxStatus) -> u32 {
    let map = made.spec.id_map().expect("chosen ids");
    assert_eq!(map.length, 65536);
    map.host_id
}

fn with_users(mounts: Mounts, test: impl AsyncFnOnce(&Lab, &Runtime, &SandboxStatus)) {
    let lab = Lab::enter_with(mounts);
    lab.block_on(async {
        let runtime = lab.runtime().await;
        assert_eq!(runtime.user_namespace_problem(), None);
        let spec = mapped(&lab, "pod");
        let made = runtime.create_sandbox(spec).await.unwrap();
        test(&lab, &runtime, &made).await;
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

fn owners(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid())
}

fn files_have_their_owners(mounts: Mounts) {
    with_users(mounts, async |lab, runtime, pod| {
        let volume = lab.path("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("given"), "").unwrap();
        std::os::unix::fs::chown(volume.join("given"), Some(7), Some(8)).unwrap();
        let image = Mount {
            source: MountSource::Image(ImageMount {
                id: crate::image::BUSYBOX.into(),
                sub_path: None,
            }),
            ..bind("/".as_ref(), "/image")
        };
        let script = format!(
            "{MAP}
             id -u
             echo > /written; echo > /volume/written; echo > /dev/shm/written
             chown 5:6 /etc/passwd
             stat -c %u:%g / /written /etc/passwd /volume/given /image/bin/busybox /dev/shm"
        );
        let spec = ContainerSpec {
            mounts: vec![bind(&volume, "/volume"), image],
            ..shell(&script)
        };
        let log = lab.logs.join("pod/app/0.log");
        let id = run(runtime, &pod.id, spec).await;
        assert_eq!(exited(runtime, &id).await.exit_code, Some(0));
        assert_eq!(
            text(&log),
            "0 65536 65536\n0 65536 65536\n0\n0:0\n0:0\n5:6\n7:8\n0:0\n0:0"
        );
        assert_eq!(first_id(pod), 65536);
        let upper = lab
            .config
            .root_dir
            .join("containers")
            .join(&id.0)
            .join("upper");
        assert_eq!(owners(upper.join("written")), (65536, 65536));
        assert_eq!(owners(upper.join("etc/passwd")), (65541, 65542));
        assert_eq!(owners(volume.join("written")), (0, 0));
        assert_eq!(owners(volume.join("given")), (7, 8));
    });
}

#[test]
fn files_have_their_owners_on_a_node_of_its_own() {
    files_have_their_owners(Mounts::Private);
}

#[test]
fn files_have_their_owners_on_a_machine_with_shared_mounts() {
    files_have_their_owners(Mounts::Shared);
}

#[test]
fn root_of_the_pod_is_root_of_nothing_else() {
    with_users(Mounts::Private, async |_, runtime, pod| {
        // Writing what is there already harms no node that lets it happen.
        let script = "mkdir /mnt && mount -t tmpfs t /mnt && echo mounted
            hostname other && hostname
            echo 81 > /proc/sys/net/ipv4/ip_unprivileged_port_start && echo set
            panic=$(cat /proc/sys/kernel/panic)
            { echo $panic > /proc/sys/kernel/panic; } 2>/dev/null || echo refused
            mknod /node c 1 3 2>/dev/null || echo no node
            head -c 3 /dev/zero | wc -c";
        let spec = ContainerSpec {
            privileged: true,
            ..shell(script)
        };
        let (code, said) = outcome(runtime, pod, spec).await;
        assert_eq!(
            (code, said.as_str()),
            (0, "mounted\nother\nset\nrefused\nno node\n3")
        );
    });
}

#[test]
fn processes_run_as_mapped_users() {
    with_users(Mounts::Private, async |_, runtime, pod| {
        let owner = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
            let first = line.unwrap().split_whitespace().next();
            first.unwrap().parse::<u32>().unwrap()
        };
        let id = run(runtime, &pod.id, sleeper()).await;
        let pid = status(runtime, &id).await.pid.unwrap();
        assert_eq!(owner(pid), 65536);
        let shim = pod.shim_pid.unwrap();
        for kind in ["net", "ipc", "uts"] {
            let [of_pod, of_shim] = [pid, shim].map(|pid| namespace(pid, kind));
            assert_eq!(of_pod, of_shim, "{kind}");
        }
        assert_ne!(namespace(pid, "user"), namespace(shim, "user"));
        assert_ne!(namespace(pid, "pid"), namespace(shim, "pid"));

        let script = format!("{MAP}; id -u; echo again > /dev/stdout");
        let words = ["sh", "-c", &script].map(str::to_owned);
        let long = Duration::from_secs(20);
        let output = runtime.exec(&id, words.into(), long).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            said, "0 65536 65536\n0 65536 65536\n0\nagain\n",
            "{:?}",
            output.stderr
        );

        // Its pipes are its own.
        let spec = ContainerSpec {
            run_as_user: Some(1000),
            log_path: "user/0.log".into(),
            ..shell("id -u > /dev/stdout; sleep 1000")
        };
        let log = pod.spec.log_directory.join("user/0.log");
        let user = run(runtime, &pod.id, spec).await;
        assert_eq!(owner(status(runtime, &user).await.pid.unwrap()), 66536);
        crate::guard::wait_for("the user's number", || text(&log) == "1000");
        let terminal = ContainerSpec {
            tty: true,
            ..shell("test -t 0 && echo > /dev/console && exit 5")
        };
        let (code, _) = outcome(runtime, pod, terminal).await;
        assert_eq!(code, 5);

        runtime.stop_container(&id, long).await.unwrap();
        assert_eq!(status(runtime, &id).await.exit_code, Some(3));
    });
}

fn namespace(pid: u32, kind: &str) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

#[test]
fn processes_are_shared_below_a_mapped_first_one() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            share_process_namespace: true,
            ..mapped(&lab, "shared")
        };
        let made = runtime.create_sandbox(spec).await.unwrap();
        let script =
            "cat /proc/1/comm; set -- $(grep ^Uid: /proc/1/status); echo $2; kill -9 1; exit 4";
        let (code, said) = outcome(&runtime, &made, shell(script)).await;
        assert_eq!((code, said.as_str()), (4, "vetch-init\n0"));
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn sysctls_of_the_pods_own_namespaces() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let sysctls = [
            ("net.ipv4.ip_local_port_range", "2000 3000"),
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "20"),
        ];
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let spec = SandboxSpec {
            sysctls: sysctls.map(own).into(),
            ..mapped(&lab, "pod")
        };
        let made = runtime.create_sandbox(spec).await.unwrap();
        let script = "cd /proc/sys; cat net/ipv4/ip_local_port_range | tr '\\t' ' '
                      cat kernel/shm_rmid_forced fs/mqueue/msg_max";
        let (_, said) = outcome(&runtime, &made, shell(script)).await;
        assert_eq!(said, "2000 3000\n1\n20");
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn no_two_pods_have_the_same_users() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let make = async |runtime: &Runtime, name: &str| {
            let made = runtime.create_sandbox(mapped(&lab, name)).await.unwrap();
            (made.id.clone(), first_id(&made))
        };
        let (first, of_first) = make(&runtime, "first").await;
        let (second, of_second) = make(&runtime, "second").await;
        assert_eq!((of_first, of_second), (65536, 131_072));
        drop(runtime);

        let runtime = lab.open().await;
        let found = runtime.sandbox(&second).await.unwrap();
        assert_eq!(first_id(&found), of_second);
        let (_, said) = outcome(&runtime, &found, shell(MAP)).await;
        assert_eq!(said, "0 131072 65536\n0 131072 65536");
        let (third, of_third) = make(&runtime, "third").await;
        assert_eq!(of_third, 196_608);
        runtime.remove_sandbox(&first).await.unwrap();
        let (fourth, of_fourth) = make(&runtime, "fourth").await;
        assert_eq!(of_fourth, of_first);
        for id in [second, third, fourth] {
            runtime.remove_sandbox(&id).await.unwrap();
        }
        lab.assert_nothing_left();
    });
}

#[test]
fn what_no_user_namespace_can_have_is_refused() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            host_network: true,
            ..mapped(&lab, "host")
        };
        let error = runtime.create_sandbox(spec).await.unwrap_err();
        assert!(matches!(error, Error::UserNamespace(_)), "{error:?}");

        let made = runtime.create_sandbox(mapped(&lab, "pod")).await.unwrap();
        let told = Mount {
            propagation: Propagation::Bidirectional,
            ..bind(&lab.logs, "/logs")
        };
        let spec = ContainerSpec {
            mounts: vec![told],
            ..sleeper()
        };
        let error = runtime.create_container(&made.id, spec).await.unwrap_err();
        assert!(matches!(error, Error::UserNamespace(_)), "{error:?}");

        let spec = ContainerSpec {
            mounts: vec![bind("/proc".as_ref(), "/host")],
            ..sleeper()
        };
        let id = runtime.create_container(&made.id, spec).await.unwrap();
        let error = runtime.start_container(&id).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to start container: mount source /proc: its file system takes no idmapped \
             mount, which a pod with a user namespace needs: invalid argument"
        );
        let program = ContainerSpec {
            command: vec!["nothing".into()],
            log_path: "other/0.log".into(),
            ..sleeper()
        };
        let id = runtime.create_container(&made.id, program).await.unwrap();
        let error = runtime.start_container(&id).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to start container: exec: \"nothing\": executable file not found in $PATH"
        );
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}
