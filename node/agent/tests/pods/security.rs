//! What a pod's security context says is what its containers run with.

use serde_json::json;

use crate::agent::{log, on_a_node, shell};

#[test]
fn which_seccomp_profile_a_container_has() {
    on_a_node(async |lab, cluster, _| {
        std::fs::create_dir_all(lab.path("seccomp/team")).unwrap();
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        ]});
        std::fs::write(lab.path("seccomp/team/no-dirs.json"), profile.to_string()).unwrap();
        // Refused by RuntimeDefault; then what the profile above refuses.
        let script = "linux64 -R true 2>/dev/null && echo free || echo confined
            mkdir /d 2>/dev/null && echo made || echo refused";
        let with = |name: &str, profile| {
            let mut container = shell(name, script);
            container["securityContext"] = json!({"seccompProfile": profile});
            container
        };
        let spec = json!({
            "restartPolicy": "Never",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                shell("pods", script),
                with("free", json!({"type": "Unconfined"})),
                with("own", json!({"type": "Localhost", "localhostProfile": "team/no-dirs.json"})),
            ],
        });
        cluster.create("filtered", spec).await;
        let pod = cluster.phase("filtered", "Succeeded").await;
        for (container, said) in [
            ("pods", "confined\nmade"),
            ("free", "free\nmade"),
            ("own", "free\nrefused"),
        ] {
            assert_eq!(log(lab, &pod, container, 0), said, "{container}");
        }
        cluster.delete("filtered").await;
        cluster.gone("filtered").await;
        lab.assert_nothing_left().await;
    });
}
