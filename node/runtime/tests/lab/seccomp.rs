//! Which system calls a container's processes may make.

use std::fs;
use std::time::Duration;

use vetch_runtime::*;

use crate::guard::Lab;
use crate::specs::*;

/// personality(2) with a protection switched off: any user may, without a
/// filter, and no filter lets it through by default.
const REFUSED: &str = "linux64 -R true";
const EPERM: &str = "Operation not permitted";

/// Filters on a process (5.10+); this test's own are on all it starts.
fn filters(status: &str) -> u32 {
    let line = status.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == "Seccomp_filters").then(|| value.trim().parse())
    });
    line.unwrap_or_else(|| panic!("no filters in {status:?}"))
        .unwrap()
}

fn own_filters() -> u32 {
    filters(&fs::read_to_string("/proc/thread-self/status").unwrap())
}

fn by_default(spec: ContainerSpec) -> ContainerSpec {
    ContainerSpec {
        seccomp: Seccomp::RuntimeDefault,
        ..spec
    }
}

fn by_profile(lab: &Lab, profile: serde_json::Value, spec: ContainerSpec) -> ContainerSpec {
    let path = lab.path("profile.json");
    fs::write(&path, profile.to_string()).unwrap();
    ContainerSpec {
        seccomp: Seccomp::Localhost(path),
        ..spec
    }
}

#[test]
fn who_is_filtered() {
    with_sandbox(async |_, runtime, pod| {
        let status = || shell("cat /proc/self/status");
        let user = |no_new_privs| ContainerSpec {
            run_as_user: Some(1000),
            no_new_privs,
            ..status()
        };
        let privileged = ContainerSpec {
            privileged: true,
            ..status()
        };
        let bare = ContainerSpec {
            capabilities_drop: vec!["ALL".into()],
            ..status()
        };
        for (who, spec, more) in [
            ("unconfined", status(), 0),
            ("root", by_default(status()), 1),
            ("a user", by_default(user(false)), 1),
            ("a user without new privileges", by_default(user(true)), 1),
            ("root without capabilities", by_default(bare), 1),
            ("privileged", by_default(privileged), 0),
        ] {
            let (code, said) = outcome(runtime, pod, spec).await;
            assert_eq!(code, 0, "{who}: {said}");
            assert_eq!(filters(&said), own_filters() + more, "{who}: {said}");
            let confined = said.lines().any(|line| line == "Seccomp:\t2");
            assert_eq!(confined, own_filters() + more > 0, "{who}: {said}");
        }
    });
}

#[test]
fn what_the_filter_was_set_with_is_gone() {
    with_sandbox(async |_, runtime, pod| {
        let sets =
            "grep -E '^Cap(Eff|Prm|Bnd|Inh|Amb)' /proc/self/status | awk '{print $2}' | xargs";
        for user in [None, Some(1000)] {
            let spec = || ContainerSpec {
                run_as_user: user,
                ..shell(sets)
            };
            let (_, want) = outcome(runtime, pod, spec()).await;
            let (_, said) = outcome(runtime, pod, by_default(spec())).await;
            assert_eq!(said, want, "{user:?}");
        }
    });
}

#[test]
fn what_runtime_default_refuses() {
    with_sandbox(async |_, runtime, pod| {
        let (code, said) = outcome(runtime, pod, shell(REFUSED)).await;
        assert_eq!(code, 0, "without a filter: {said}");
        for script in [REFUSED, "unshare -U true"] {
            let (code, said) = outcome(runtime, pod, by_default(shell(script))).await;
            assert_ne!(code, 0, "{script}");
            assert!(said.contains(EPERM), "{script}: {said}");
        }
        // With the capability, its calls.
        let mount = "mkdir /mnt && mount -t tmpfs own /mnt && umount /mnt && unshare -m true";
        let admin = ContainerSpec {
            capabilities_add: vec!["SYS_ADMIN".into()],
            ..shell(mount)
        };
        let (code, said) = outcome(runtime, pod, by_default(admin)).await;
        assert_eq!(code, 0, "{said}");
        // What a shell does all day.
        let usual = "mkdir /tmp/d && echo x | tee /tmp/d/f && chown 5:6 /tmp/d/f && (sleep 0 & wait) && date >/dev/null";
        let (code, said) = outcome(runtime, pod, by_default(shell(usual))).await;
        assert_eq!((code, said.as_str()), (0, "x"));
    });
}

#[test]
fn a_profile_of_the_node_s() {
    with_sandbox(async |lab, runtime, pod| {
        let refuse = |rules: serde_json::Value| serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
        let no_room = || {
            refuse(serde_json::json!([
                {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSPC},
            ]))
        };
        let spec = by_profile(lab, no_room(), shell("mkdir /x; touch /y && echo made"));
        let (_, said) = outcome(runtime, pod, spec).await;
        let said: Vec<&str> = said.lines().collect();
        let words = "mkdir: can't create directory '/x': No space left on device";
        assert!(said.contains(&words) && said.contains(&"made"), "{said:?}");

        // By an argument.
        let no_usr1 = refuse(serde_json::json!([
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSPC,
             "args": [{"index": 1, "value": libc::SIGUSR1, "op": "SCMP_CMP_EQ"}]},
        ]));
        let script = "trap : USR1 USR2; kill -USR2 $$ && echo sent; kill -USR1 $$ || echo refused";
        let (_, said) = outcome(runtime, pod, by_profile(lab, no_usr1, shell(script))).await;
        assert!(
            said.contains("sent") && said.contains("refused"),
            "{said:?}"
        );

        let deadly = refuse(serde_json::json!([
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"},
        ]));
        let spec = by_profile(lab, deadly, shell("mkdir /x; echo $?"));
        let (_, said) = outcome(runtime, pod, spec).await;
        assert!(
            said.lines()
                .any(|line| line == (128 + libc::SIGSYS).to_string()),
            "{said}"
        );

        // Every process of the container, those of an exec too; later changes
        // of the file are for later containers.
        let spec = by_profile(lab, no_room(), sleeper());
        let id = run(runtime, &pod.id, spec).await;
        fs::write(lab.path("profile.json"), "{}").unwrap();
        let words = ["mkdir", "/x"].map(str::to_owned).into();
        let output = runtime
            .exec(&id, words, Duration::from_secs(20))
            .await
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("No space left on device"), "{said}");
    });
}

/// What the supervisor calls to make a process of the container is not the
/// program's.
#[test]
fn a_profile_judges_the_program_alone() {
    with_sandbox(async |lab, runtime, pod| {
        let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["capget", "capset", "chdir", "close_range", "faccessat2", "mount", "pivot_root", "poll",
                "prctl", "seccomp", "setgroups", "setns", "setresgid", "setresuid", "setsid", "unshare"],
            "action": "SCMP_ACT_ERRNO"}]});
        for (user, no_new_privs) in [(0, false), (1000, false), (1000, true)] {
            let spec = ContainerSpec {
                run_as_user: Some(user),
                no_new_privs,
                ..shell("echo ran")
            };
            let spec = by_profile(lab, profile.clone(), spec);
            let (code, said) = outcome(runtime, pod, spec).await;
            assert_eq!((code, said.as_str()), (0, "ran"), "user {user}");
        }
    });
}

#[test]
fn a_container_with_a_profile_that_cannot_be_used_is_not_made() {
    with_sandbox(async |lab, runtime, pod| {
        let missing = ContainerSpec {
            seccomp: Seccomp::Localhost(lab.path("missing.json")),
            ..shell("")
        };
        let unknown = serde_json::json!({"defaultAction": "SCMP_ACT_SHRUG"});
        for (spec, words) in [
            (missing, "cannot load seccomp profile"),
            (
                by_profile(lab, unknown, shell("")),
                "decoding seccomp profile failed",
            ),
        ] {
            let error = runtime.create_container(&pod.id, spec).await.unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
        }
        assert_eq!(runtime.sandbox(&pod.id).await.unwrap().containers, []);
    });
}

#[test]
fn a_supervisor_that_sets_no_filters_gets_none() {
    with_sandbox(async |lab, runtime, pod| {
        // What one of an earlier version says of itself.
        let path = lab.config.run_dir.join("sandboxes").join(&pod.id.0);
        let path = path.join("state.json");
        let mut state: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        state.as_object_mut().unwrap().remove("sets_filters");
        fs::write(&path, state.to_string()).unwrap();

        let made = runtime
            .create_container(&pod.id, by_default(shell("true")))
            .await;
        let error = made.unwrap_err().to_string();
        assert!(error.contains("sets no seccomp filters"), "{error}");
        let (code, said) = outcome(runtime, pod, shell("true")).await;
        assert_eq!(code, 0, "{said}");
    });
}

#[test]
fn proc_without_masks() {
    with_sandbox(async |_, runtime, pod| {
        let mounts = || shell("grep -c ' /proc/' /proc/self/mountinfo; exit 0");
        let (_, masks) = outcome(runtime, pod, mounts()).await;
        assert!(masks.parse::<u32>().unwrap() > 4, "{masks}");
        let unmasked = ContainerSpec {
            masked_paths: Some(vec![]),
            readonly_paths: Some(vec![]),
            ..mounts()
        };
        assert_eq!(outcome(runtime, pod, unmasked).await, (0, "0".into()));
    });
}
