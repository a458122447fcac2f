//! What a container's user may do beside what files and its number allow.

use std::time::Duration;

use vetch_runtime::*;

use crate::specs::*;

/// CAP_NET_BIND_SERVICE
const BIND: u64 = 1 << 10;
/// CAP_NET_ADMIN, which no container has by itself.
const ADMIN: u64 = 1 << 12;
const SETS: &str = "grep ^Cap /proc/self/status";

/// Inheritable, permitted, effective, bounding, ambient.
fn sets(status: &str) -> [u64; 5] {
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let sets: Vec<u64> = status.lines().filter_map(value).collect();
    sets.try_into().unwrap_or_else(|_| panic!("{status}"))
}

#[test]
fn ambient_capabilities_stay_with_a_user() {
    with_sandbox(async |_, runtime, pod| {
        let of = async |change: &dyn Fn(&mut ContainerSpec)| {
            let mut spec = shell(SETS);
            change(&mut spec);
            let (code, said) = outcome(runtime, pod, spec).await;
            assert_eq!(code, 0, "{said}");
            sets(&said)
        };
        let ambient = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let user = of(&|spec| spec.run_as_user = Some(1000)).await;
        let [_, _, _, bounding, _] = user;
        assert_eq!(user, [0, 0, 0, bounding, 0]);
        assert!(
            bounding & BIND != 0 && bounding & ADMIN == 0,
            "{bounding:#x}"
        );

        // Of what it has, and of what it has not.
        let keeps = of(&|spec| {
            spec.run_as_user = Some(1000);
            spec.capabilities_ambient = ambient(&["NET_BIND_SERVICE"]);
        })
        .await;
        assert_eq!(keeps, [BIND, BIND, BIND, bounding, BIND]);
        let alone = of(&|spec| {
            spec.run_as_user = Some(1000);
            spec.no_new_privs = true;
            spec.capabilities_drop = ambient(&["ALL"]);
            spec.capabilities_ambient = ambient(&["NET_ADMIN"]);
        })
        .await;
        assert_eq!(alone, [ADMIN; 5]);
        let root = of(&|spec| spec.capabilities_ambient = ambient(&["NET_ADMIN"])).await;
        let all = bounding | ADMIN;
        assert_eq!(root, [ADMIN, all, all, all, ADMIN]);

        // A filter of system calls takes a capability that is lent for it, and leaves these.
        let filtered = of(&|spec| {
            spec.run_as_user = Some(1000);
            spec.seccomp = Seccomp::RuntimeDefault;
            spec.capabilities_ambient = ambient(&["NET_BIND_SERVICE"]);
        })
        .await;
        assert_eq!(filtered, [BIND, BIND, BIND, bounding, BIND]);

        let spec = ContainerSpec {
            run_as_user: Some(1000),
            capabilities_ambient: ambient(&["NET_BIND_SERVICE"]),
            ..sleeper()
        };
        let id = run(runtime, &pod.id, spec).await;
        let words = ["sh", "-c", SETS].map(str::to_owned);
        let output = runtime
            .exec(&id, words.into(), Duration::from_secs(20))
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(sets(&said), [BIND, BIND, BIND, bounding, BIND]);
    });
}
