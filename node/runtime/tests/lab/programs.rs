//! What a container's program finds around it.

use std::fs;

use vetch_runtime::*;

use crate::specs::*;

#[test]
fn what_the_program_is_given() {
    with_sandbox(async |_, runtime, pod| {
        let spec = ContainerSpec {
            env: vec![("GREETING".into(), "two words".into())],
            working_dir: Some("/srv/made/anew".into()),
            ..shell("echo $GREETING; echo $HOSTNAME; echo $HOME; echo $PATH; pwd; id -u; echo $$")
        };
        let (_, said) = outcome(runtime, pod, spec).await;
        assert_eq!(said, "two words\npod\n/root\n/bin\n/srv/made/anew\n0\n1");

        let spec = ContainerSpec {
            run_as_user: Some(33),
            supplemental_groups: vec![7],
            ..shell("id -u; id -g; id -G; echo $HOME; touch /x; echo to stderr >/dev/stderr")
        };
        let (_, said) = outcome(runtime, pod, spec).await;
        let said: Vec<&str> = said.lines().collect();
        for line in ["33", "34", "34 7 40", "/srv", "to stderr"] {
            assert!(said.contains(&line), "no {line:?} in {said:?}");
        }
        assert!(said.contains(&"touch: /x: Permission denied"), "{said:?}");

        let spec = ContainerSpec {
            command: vec![],
            args: vec!["echo".into(), "from args".into()],
            ..shell("")
        };
        let (_, said) = outcome(runtime, pod, spec).await;
        assert_eq!(said, "from args");

        let tty = ContainerSpec {
            tty: true,
            ..shell(
                "tty; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all; echo there >/dev/console",
            )
        };
        let (code, said) = outcome(runtime, pod, tty).await;
        let said: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert_eq!(
            (code, said),
            (0, vec!["/dev/pts/0", "xterm", "all", "there"])
        );
    });
}

#[test]
fn what_the_program_may() {
    with_sandbox(async |_, runtime, pod| {
        let status = "grep -E '^(CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs)' /proc/self/status | awk '{print $2}' | xargs";
        let table = [
            (
                shell(status),
                "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000 0",
            ),
            (
                ContainerSpec {
                    run_as_user: Some(1000),
                    no_new_privs: true,
                    ..shell(status)
                },
                "0000000000000000 0000000000000000 0000000000000000 00000000a80425fb 0000000000000000 1",
            ),
            (
                ContainerSpec {
                    capabilities_drop: vec!["ALL".into()],
                    capabilities_add: vec!["NET_BIND_SERVICE".into()],
                    ..shell(status)
                },
                "0000000000000000 0000000000000400 0000000000000400 0000000000000400 0000000000000000 0",
            ),
        ];
        for (spec, want) in table {
            let (_, said) = outcome(runtime, pod, spec).await;
            assert_eq!(said, want);
        }

        // Each line is tried and must fail.
        let denied = [
            "mount -t tmpfs x /tmp",
            "echo 1 > /proc/sys/kernel/hostname",
            "touch /sys/x",
            "touch /proc/sysrq-trigger && echo h > /proc/sysrq-trigger",
            "mkdir /sys/fs/cgroup/x",
            "test -s /proc/kcore",
            "test -s /proc/keys",
            "ls /sys/firmware/*",
            "mknod /tmp/sda b 254 0 && head -c 1 /tmp/sda",
            "mknod /dev/sda b 254 0 && head -c 1 /dev/sda",
            "chroot /proc/1/root/../../.. /bin/busybox test -e /work",
            "ls /dev/vda",
        ];
        for line in denied {
            let (code, said) = outcome(runtime, pod, shell(line)).await;
            assert_ne!(code, 0, "{line} went well: {said}");
        }
        let (_, said) = outcome(
            runtime,
            pod,
            shell("ls /dev | xargs; set -- /proc/[0-9]*; echo $#; cat /proc/self/cgroup | grep ^0"),
        )
        .await;
        assert_eq!(
            said,
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n1\n0::/"
        );

        let spec = ContainerSpec {
            readonly_rootfs: true,
            ..shell("touch /x; touch /dev/shm/y && echo written")
        };
        let (_, said) = outcome(runtime, pod, spec).await;
        assert!(
            said.contains("Read-only file system") && said.contains("written"),
            "{said}"
        );

        let spec = ContainerSpec {
            privileged: true,
            ..shell(
                "mount -t tmpfs x /tmp && touch /tmp/y /proc/sys/kernel/core_pattern && mkdir /sys/fs/cgroup/x && ls /dev/loop-control /dev/kmsg /dev/vda 2>/dev/null | wc -l; cat /proc/self/status | grep CapEff",
            )
        };
        let (code, said) = outcome(runtime, pod, spec).await;
        assert_eq!(code, 0, "{said}");
    });
}

#[test]
fn volumes_are_where_they_should_be() {
    with_sandbox(async |lab, runtime, pod| {
        let volume = lab.path("volume");
        fs::create_dir_all(volume.join("sub")).unwrap();
        fs::create_dir(volume.join("inner")).unwrap();
        fs::write(volume.join("hosts"), "127.0.0.1 here\n").unwrap();
        fs::write(volume.join("sub/deep"), "deep").unwrap();
        let spec = ContainerSpec {
            mounts: vec![
                bind(&volume.join("sub"), "/data/inner"),
                Mount {
                    readonly: true,
                    ..bind(&volume, "/data")
                },
                bind(&volume.join("hosts"), "/etc/hosts"),
                bind(&volume, "/rw"),
                bind(&volume.join("sub/deep"), "/dev/termination-log"),
            ],
            ..shell(
                "echo -n deeper >/dev/termination-log; cat /etc/hosts /data/inner/deep; echo; touch /data/x; touch /data/inner/y /rw/z && ls /data",
            )
        };
        let (code, said) = outcome(runtime, pod, spec).await;
        assert_eq!(code, 0, "{said}");
        let (refused, said): (Vec<&str>, Vec<&str>) =
            said.lines().partition(|line| line.starts_with("touch: "));
        assert_eq!(refused, ["touch: /data/x: Read-only file system"]);
        assert_eq!(
            said,
            ["127.0.0.1 here", "deeper", "hosts", "inner", "sub", "z"]
        );
        // A link in the image or a volume leads nowhere but into the container.
        let outside = lab.path("outside");
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("trap")).unwrap();
        let spec = ContainerSpec {
            mounts: vec![
                bind(&volume, "/vol"),
                bind(&volume.join("sub"), "/vol/trap/in"),
            ],
            ..shell("cat /vol/trap/in/deep; mount | grep -c trap")
        };
        let (code, _) = outcome(runtime, pod, spec).await;
        assert_eq!(code, 1, "no mount point has the link in its name");
        assert_eq!(crate::guard::entries(&outside), Vec::<String>::new());
    });
}
