//! What only a whole machine has: limits by the kernel's controllers, and below disks, reboots, a plug to pull.
//!
//! The machines are QEMU's, made by `cargo xtask test` (one) or `cargo xtask e2e` (several).

#[path = "machine/confined.rs"]
mod confined;
#[path = "machine/disks.rs"]
mod disks;
#[path = "machine/memory.rs"]
mod memory;
#[path = "machine/power.rs"]
mod power;

#[path = "cri/client.rs"]
#[allow(dead_code, reason = "the socket's own scenarios use the rest")]
mod client;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_cri_proto::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use vetch_tests::{Cluster, Namespace, Node, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const IMAGE: &str = "vetch.local/echo:v1";

/// A pod of one busybox container.
fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}

fn output(namespace: &Namespace<'_>, pod: Value) -> Result<String> {
    let name = pod["metadata"]["name"]
        .as_str()
        .context("a name")?
        .to_owned();
    namespace.apply(&pod.to_string())?;
    namespace.wait_field(
        &format!("pod/{name}"),
        "/status/phase",
        &json!("Succeeded"),
        MINUTE,
    )?;
    namespace.kubectl(&["logs", &name])?.ok()
}

#[test]
fn cpu_limits_reach_the_kernel() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "cpu")?;
    let mut manifest = pod(
        "limited",
        "cat /sys/fs/cgroup/cpu.max; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; \
         grep nr_throttled /sys/fs/cgroup/cpu.stat",
    );
    manifest["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "200m"}});
    let said = output(&namespace, manifest)?;
    let mut lines = said.lines();
    // 200m of a CPU is 20 ms in each 100 ms: KEP-2254's cfs period.
    ensure!(lines.next() == Some("20000 100000"), "cpu.max: {said}");
    let throttled: u64 = lines
        .next()
        .and_then(|line| line.strip_prefix("nr_throttled "))
        .with_context(|| format!("no nr_throttled in {said}"))?
        .parse()?;
    ensure!(throttled > 0, "a busy loop was never held back");
    Ok(())
}

#[test]
fn containers_do_not_swap() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "swap")?;
    let script = "ls /proc/swaps; cat /sys/fs/cgroup/memory.swap.max; true";
    let said = output(
        &namespace,
        pod("swapless", &format!("({script}) 2>/dev/null")),
    )?;
    // A kernel without swap has neither file.
    ensure!(
        said.is_empty() || said == "/proc/swaps\n0\n",
        "memory.swap.max: {said:?}"
    );
    Ok(())
}

#[test]
fn containers_have_limits_of_their_pod() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "whole")?;
    let script = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max";
    let mut manifest = pod("whole", script);
    manifest["spec"]["resources"] = json!({"limits": {"cpu": "200m", "memory": "64Mi"}});
    let said = output(&namespace, manifest)?;
    ensure!(said == "20000 100000\n67108864\n", "{said:?}");
    // Limits without requests are requests as well.
    let class = namespace.field("pod/whole", "/status/qosClass")?;
    ensure!(class == "Guaranteed", "{class}");
    Ok(())
}

#[test]
fn classes_have_what_their_pods_ask_for() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "classes")?;
    let mut manifest = pod("asks", "exec sleep 3600");
    manifest["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "200m"}});
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/asks", "/status/phase", &json!("Running"), MINUTE)?;
    let name = namespace.field("pod/asks", "/spec/nodeName")?;
    let uid = namespace.field("pod/asks", "/metadata/uid")?;
    let uid = uid.as_str().context("a uid")?;
    let node = cluster.node(name.as_str().context("a node")?)?;
    let read = |file: &str| -> Result<u64> {
        let text = node.run("cat", &[&format!("/sys/fs/cgroup/kubepods/{file}")])?;
        text.trim()
            .parse()
            .with_context(|| format!("{file}: {text:?}"))
    };
    eventually(MINUTE, "the class weighs what its pods do", || {
        let own = read(&format!("burstable/pod{uid}/cpu.weight"))?;
        let class = read("burstable/cpu.weight")?;
        ensure!(own > 1 && class >= own, "the pod {own}, its class {class}");
        Ok(())
    })?;
    ensure!(read("besteffort/cpu.weight")? == 1, "besteffort");
    // Not "max": what the machine has.
    ensure!(read("memory.max")? > 0, "memory.max");
    Ok(())
}

#[test]
fn too_much_memory_is_oomkilled_and_said() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "oom")?;
    let mut manifest = pod("hungry", "cat /sys/fs/cgroup/memory.max; tail /dev/zero");
    manifest["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/hungry", "/status/phase", &json!("Failed"), MINUTE)?;
    let ended = namespace.field("pod/hungry", "/status/containerStatuses/0/state/terminated")?;
    ensure!(
        ended["reason"] == "OOMKilled" && ended["exitCode"] == 137,
        "it ended with {ended}"
    );
    let said = namespace.kubectl(&["logs", "hungry"])?.ok()?;
    ensure!(said == "33554432\n", "memory.max: {said:?}");
    Ok(())
}

#[test]
fn a_memory_limit_does_not_go_below_what_is_used() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "shrink")?;
    let limits =
        |memory: &str| json!({"requests": {"memory": memory}, "limits": {"memory": memory}});
    let mut manifest = pod("shrinks", "exec sleep 3600");
    manifest["spec"]["containers"][0]["resources"] = limits("40Mi");
    namespace.apply(&manifest.to_string())?;
    let state = "/status/containerStatuses/0/state/running/startedAt";
    eventually(MINUTE, "it runs", || namespace.field("pod/shrinks", state))?;
    let resize = |memory: &str| {
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": limits(memory)}]}})
            .to_string();
        let args = [
            "patch",
            "pod",
            "shrinks",
            "--subresource",
            "resize",
            "--patch",
            &patch,
        ];
        namespace.kubectl(&args)?.ok()
    };
    let has = |memory: &str| {
        let at = "/status/containerStatuses/0/resources/limits/memory";
        namespace.wait_field("pod/shrinks", at, &json!(memory), MINUTE)
    };
    resize("30Mi")?;
    has("30Mi")?;
    resize("10Ki")?;
    eventually(MINUTE, "the limit is refused in words", || {
        let found = namespace.get(&["pod/shrinks"])?;
        let conditions = found["status"]["conditions"]
            .as_array()
            .context("conditions")?;
        let told = conditions
            .iter()
            .find(|own| own["type"] == "PodResizeInProgress")
            .context("no resize is in progress")?;
        let words = told["message"].as_str().unwrap_or_default();
        ensure!(
            told["reason"] == "Error" && words.contains("memory limit (10240) below current usage"),
            "{told}"
        );
        Ok(())
    })?;
    has("30Mi")?;
    let max = ["exec", "shrinks", "--", "cat", "/sys/fs/cgroup/memory.max"];
    let said = namespace.kubectl(&max)?.ok()?;
    ensure!(said == "31457280\n", "memory.max: {said:?}");
    resize("40Mi")?;
    has("40Mi")?;
    let restarts = namespace.field("pod/shrinks", "/status/containerStatuses/0/restartCount")?;
    ensure!(restarts == 0, "it was restarted {restarts} times");
    Ok(())
}

/// A node's settings until the test is over, however it ends.
struct Settings<'a>(&'a Node);

const ENV: &str = "/etc/vetch/node.env";

impl<'a> Settings<'a> {
    fn add(node: &'a Node, line: &str) -> Result<Settings<'a>> {
        let settings = Settings(node);
        let script = format!("cp {ENV} {ENV}.before && echo '{line}' >>{ENV}");
        node.run("sh", &["-c", &script])?;
        node.run("systemctl", &["restart", "vetch-node"])?;
        Ok(settings)
    }
}

impl Drop for Settings<'_> {
    fn drop(&mut self) {
        let script = format!("mv {ENV}.before {ENV} && systemctl restart vetch-node");
        let restored = self.0.run("sh", &["-c", &script]);
        if let Err(error) = restored {
            eprintln!("the settings of {} stay changed: {error:#}", self.0.name);
        }
    }
}

#[test]
fn a_node_short_of_memory_ends_who_takes_most() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    let namespace = Namespace::create(&cluster, "evict")?;
    let here = |name: &str, script: &str| {
        let mut manifest = pod(name, script);
        manifest["spec"]["nodeName"] = json!(node.name);
        manifest
    };
    let mut modest = here("modest", "exec sleep 3600");
    modest["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "64Mi"}});
    namespace.apply(&modest.to_string())?;
    namespace.wait_field("pod/modest", "/status/phase", &json!("Running"), MINUTE)?;

    let meminfo = node.run("cat", &["/proc/meminfo"])?;
    let left: u64 = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .split_whitespace()
                .next()
        })
        .context("MemAvailable")?
        .parse()?;
    let line = format!(
        "VETCH_EVICTION_HARD=memory.available<{}Ki",
        left - (100 << 10)
    );
    let settings = Settings::add(node, &line)?;
    let script = "head -c 200000000 /dev/zero >/mem/taken; exec sleep 3600";
    let mut greedy = here("greedy", script);
    greedy["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "mem", "mountPath": "/mem"}]);
    greedy["spec"]["volumes"] = json!([{"name": "mem", "emptyDir": {"medium": "Memory"}}]);
    namespace.apply(&greedy.to_string())?;
    namespace.wait_field("pod/greedy", "/status/reason", &json!("Evicted"), MINUTE)?;
    let message = namespace.field("pod/greedy", "/status/message")?;
    let words = message.as_str().unwrap_or_default();
    ensure!(
        words.starts_with("The node was low on resource: memory. Threshold quantity: ")
            && words.contains("Container app was using ")
            && words.contains(", request is 0, has larger consumption of memory. "),
        "{words:?}"
    );
    let phase = namespace.field("pod/modest", "/status/phase")?;
    ensure!(phase == "Running", "modest is {phase}");

    // It is under pressure for five minutes still.
    under_pressure(&namespace, node, "True")?;
    namespace.apply(&here("best-effort", "exec sleep 3600").to_string())?;
    let refused = json!("Pod was rejected: The node had condition: [MemoryPressure]. ");
    namespace.wait_field("pod/best-effort", "/status/message", &refused, MINUTE)?;
    drop(settings);
    under_pressure(&namespace, node, "False")
}

fn under_pressure(namespace: &Namespace<'_>, node: &Node, wanted: &str) -> Result<()> {
    eventually(2 * MINUTE, &format!("MemoryPressure {wanted}"), || {
        let path = "jsonpath={.status.conditions[?(@.type==\"MemoryPressure\")].status}";
        let get = ["get", "node", &node.name, "-o", path];
        let status = namespace.kubectl(&get)?.ok()?;
        ensure!(status == wanted, "MemoryPressure is {status}");
        Ok(())
    })
}

/// The node has no limit of its own (the kubelet's podPidsLimit is off by default, too), so the
/// test sets the pod's, as an administrator would.
#[test]
fn a_fork_bomb_ends_at_the_pods_limit() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "bomb")?;
    // It waits to be held, and what it forks ends by itself.
    let script = "sleep 3600 & until [ -e /tmp/go ]; do sleep 1; done; \
                  bomb() { sleep 5 | bomb | bomb; }; (bomb) 2>/dev/null & wait";
    let mut manifest = pod("bomb", script);
    manifest["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "tmp", "mountPath": "/tmp"}]);
    manifest["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
    namespace.apply(&manifest.to_string())?;
    let started = "/status/containerStatuses/0/state/running/startedAt";
    eventually(MINUTE, "it runs", || namespace.field("pod/bomb", started))?;
    let place = namespace.field("pod/bomb", "/spec/nodeName")?;
    let node = cluster
        .nodes
        .iter()
        .find(|node| place == node.name.as_str())
        .context("its node")?;
    let uid = namespace.field("pod/bomb", "/metadata/uid")?;
    let uid = uid.as_str().context("a uid")?;
    let find = format!("find /sys/fs/cgroup -type d -name 'pod{uid}' | head -n 1");
    let group = node.run("sh", &["-c", &find])?.trim().to_owned();
    ensure!(!group.is_empty(), "no cgroup of pod {uid}");
    node.run("sh", &["-c", &format!("echo 64 > {group}/pids.max")])?;
    let go = ["exec", "bomb", "--", "sh", "-c", ": > /tmp/go"];
    namespace.kubectl(&go)?.ok()?;
    eventually(MINUTE, "forks are refused", || {
        // Before 6.11 the kernel counts it where the fork was, and not where the limit is.
        let all = format!("find {group} -name pids.events -exec cat {{}} +");
        let said = node.run("sh", &["-c", &all])?;
        let refused = said.lines().any(|line| line != "max 0");
        ensure!(refused, "{said}");
        Ok(())
    })?;
    let most: u64 = node
        .run("cat", &[&format!("{group}/pids.current")])?
        .trim()
        .parse()?;
    ensure!(most <= 64, "{most} processes");
    // Others of the node hear nothing of it.
    let beside = output(&namespace, pod("beside", "echo here"))?;
    ensure!(beside == "here\n", "{beside:?}");
    namespace
        .kubectl(&["delete", "pod", "bomb", "--timeout=60s"])?
        .ok()?;
    eventually(MINUTE, "its cgroup is gone", || {
        node.run("test", &["!", "-e", &group]).map(drop)
    })
}

#[test]
fn every_controller_is_handed_on_to_the_container() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "quiet")?;
    // All controllers are handed on to the container.
    let said = output(
        &namespace,
        pod("controllers", "cat /sys/fs/cgroup/cgroup.controllers"),
    )?;
    for controller in ["cpu", "memory", "pids"] {
        ensure!(
            said.split_whitespace().any(|name| name == controller),
            "the container has no {controller}: {said}"
        );
    }
    let condition = cluster
        .kubectl(&[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[*].status.conditions[?(@.type==\"CgroupControllersMissing\")].status}",
        ])?
        .ok()?;
    ensure!(
        !condition.contains("True"),
        "a node says that controllers are missing"
    );
    Ok(())
}

/// By SIGKILL: systemd keeps its sockets, and the next daemon answers what came meanwhile.
#[test]
fn who_asks_while_the_daemon_is_away_is_answered() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    // A question for kubernetes.default.svc.cluster.local by UDP, and a connection to the kubelet API. Which daemon
    // was there when they came is told by systemd, before and after. The shell's own printf makes a datagram of each line.
    let script = r#"
        tries=0
        away() { [ "$(systemctl show -p MainPID --value vetch-node)" = 0 ]; }
        systemctl kill --kill-who=main --signal=KILL vetch-node
        until away || [ "$((tries += 1))" = 200 ]; do sleep 0.01; done
        exec 3<>"/dev/udp/$1/10053" 4<>/dev/tcp/127.0.0.1/10250 || exit
        env printf '\253\315\1\0\0\1\0\0\0\0\0\0\12kubernetes\7default\3svc\7cluster\5local\0\0\1\0\1' >&3
        away || { echo late; exit; }
        timeout 60 head -c 4 <&3 | od -An -tx1"#;
    let answered = eventually(3 * MINUTE, "one is asked while it is away", || {
        let said = node.run("bash", &["-c", script, "ask", &node.address])?;
        ensure!(said.trim() != "late", "the daemon was there again");
        // SERVFAIL: on a machine this busy the lists took longer than questions wait for them.
        ensure!(said.trim() != "ab cd 81 82", "the daemon had no names yet");
        Ok(said)
    })?;
    // The question's number, an answer with authority, no error.
    ensure!(answered.trim() == "ab cd 85 80", "{answered}");
    cluster.wait_node(&node.name, "Ready", 2 * MINUTE)
}

#[test]
fn a_client_of_the_socket_chooses_processors() -> Result<()> {
    let cluster = Cluster::machines()?;
    tokio::runtime::Runtime::new()?.block_on(chooses_processors(&cluster))
}

async fn chooses_processors(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("cri.sock");
    node.borrow_socket(Path::new("/run/vetch/cri.sock"), &socket)?;
    let mut cri = client::at(&socket).await?;
    let config = client::sandbox("cpuset", Path::new("/tmp/vetch-test-cpuset"));
    let pod = cri.run_sandbox(&config).await?;
    let mut app = client::container("app", "exec sleep 3600");
    let resources = app
        .linux
        .as_mut()
        .and_then(|linux| linux.resources.as_mut());
    let resources = resources.context("resources")?;
    resources.cpuset_cpus = "1".into();
    resources.cpuset_mems = "0".into();
    resources.memory_limit_in_bytes = 64 << 20;
    resources
        .unified
        .insert("memory.high".into(), (32 << 20).to_string());
    let app = cri.run(&pod, &config, app).await?;
    let script = "grep Cpus_allowed_list /proc/1/status; cd /sys/fs/cgroup; \
                  cat cpuset.cpus.effective cpuset.mems memory.high";
    let said = cri.says(&app, script).await?;
    ensure!(
        said == "Cpus_allowed_list:\t1\n1\n0\n33554432\n",
        "{said:?}"
    );
    let update = |cpus: &str| UpdateContainerResourcesRequest {
        container_id: app.clone(),
        linux: Some(LinuxContainerResources {
            cpuset_cpus: cpus.into(),
            ..LinuxContainerResources::default()
        }),
        ..UpdateContainerResourcesRequest::default()
    };
    cri.runtime.update_container_resources(update("0")).await?;
    let said = cri.says(&app, script).await?;
    ensure!(
        said == "Cpus_allowed_list:\t0\n0\n0\n33554432\n",
        "{said:?}"
    );
    // One that the machine has not; what was stays.
    let refused = cri.runtime.update_container_resources(update("many")).await;
    let refused = refused.map(drop).unwrap_err();
    ensure!(refused.message().contains("cpuset.cpus"), "{refused}");
    let status = cri.status(&app).await?.resources;
    let cpus = status.and_then(|all| all.linux).context("resources")?;
    ensure!(cpus.cpuset_cpus == "0", "{cpus:?}");
    cri.remove_sandbox(&pod).await
}
