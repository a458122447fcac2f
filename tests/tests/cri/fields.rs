//! What clients ask for of containers and sandboxes, field by field, by what comes of it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use tonic::Code;
use vetch_cri_proto::v1::*;
use vetch_tests::Cluster;

use crate::IMAGE;
use crate::client::{connect, container, sandbox};

const SLEEPS: &str = "trap 'exit 7' USR1; while :; do sleep 1000 & wait $!; done";
/// A device that no container has by itself.
const LOOP_CONTROL: &str = "/dev/loop-control";

fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_what_its_fields_say() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut cri = connect(cluster.node("node-1")?).await?;
    let logs = tempfile::tempdir()?;
    let config = sandbox("fields", logs.path());
    let pod = cri.run_sandbox(&config).await?;
    let mut app = container("app", SLEEPS);
    app.stop_signal = Signal::Sigusr1.into();
    app.devices = vec![Device {
        host_path: LOOP_CONTROL.into(),
        container_path: "/dev/own".into(),
        permissions: "r".into(),
    }];
    let part = Mount {
        container_path: "/part".into(),
        readonly: true,
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..ImageSpec::default()
        }),
        image_sub_path: "bin".into(),
        ..Mount::default()
    };
    app.mounts = vec![part];
    let app = cri.run(&pod, &config, app).await?;
    let said = cri
        .says(&app, "ls /part/busybox; ! ls /part/bin 2>&1")
        .await?;
    ensure!(said.starts_with("/part/busybox\n"), "{said}");
    let said = cri
        .says(
            &app,
            "(: </dev/own) && echo read; (: >>/dev/own) 2>/dev/null || echo refused",
        )
        .await?;
    assert_eq!(said, "read\nrefused\n");
    let status = cri.status(&app).await?;
    assert_eq!(status.stop_signal(), Signal::Sigusr1);
    assert_eq!(status.mounts[0].image_sub_path, "bin");
    cri.stop(&app, 30).await?;
    assert_eq!(cri.status(&app).await?.exit_code, 7);

    let mut user = container("user", SLEEPS);
    security(&mut user).run_as_user = Some(Int64Value { value: 1000 });
    security(&mut user).capabilities = Some(Capability {
        add_ambient_capabilities: vec!["NET_BIND_SERVICE".into()],
        ..Capability::default()
    });
    let user = cri.run(&pod, &config, user).await?;
    let said = cri
        .says(&user, "id -u; grep CapEff /proc/self/status")
        .await?;
    assert_eq!(said, "1000\nCapEff:\t0000000000000400\n");

    // What is not in the image is said before there is a container, as by containerd.
    let mut lost = container("lost", SLEEPS);
    lost.mounts = vec![Mount {
        container_path: "/part".into(),
        readonly: true,
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..ImageSpec::default()
        }),
        image_sub_path: "nothing/here".into(),
        ..Mount::default()
    }];
    let refused = cri.create(&pod, &config, lost).await.unwrap_err();
    ensure!(refused.message().contains("nothing/here"), "{refused}");
    cri.remove_sandbox(&pod).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_is_refused_by_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut cri = connect(cluster.node("node-1")?).await?;
    let logs = tempfile::tempdir()?;
    let config = sandbox("refused", logs.path());
    let pod = cri.run_sandbox(&config).await?;
    let asking = |change: &dyn Fn(&mut ContainerConfig)| {
        let mut config = container("app", SLEEPS);
        change(&mut config);
        config
    };
    for (wanted, code, words) in [
        (
            asking(&|config| {
                config.cdi_devices = vec![CdiDevice {
                    name: "vetch.example/none=x".into(),
                }];
            }),
            Code::InvalidArgument,
            "vetch.example/none=x",
        ),
        (
            asking(&|config| security(config).privileged = true),
            Code::InvalidArgument,
            "privileged",
        ),
        (
            asking(&|config| config.windows = Some(NotLinux {})),
            Code::Unimplemented,
            "windows",
        ),
        (
            asking(&|config| {
                let resources = config.linux.as_mut().unwrap().resources.as_mut();
                let files = &mut resources.unwrap().unified;
                files.insert("cgroup.freeze".into(), "1".into());
            }),
            Code::Unimplemented,
            "cgroup.freeze",
        ),
    ] {
        let refused = cri.create(&pod, &config, wanted).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        ensure!(refused.message().contains(words), "{refused}");
    }
    let request = CheckpointContainerRequest {
        container_id: "x".into(),
        location: "/tmp/x".into(),
        timeout: 1,
    };
    let refused = cri.runtime.checkpoint_container(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let mut slow = sandbox("refused-too", logs.path());
    let fast = ("kubernetes.io/ingress-bandwidth".into(), "fast".into());
    slow.annotations = HashMap::from([fast]);
    let refused = cri.run_sandbox(&slow).await.unwrap_err();
    let refused = refused.downcast::<tonic::Status>()?;
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(cri.sandboxes("refused-too").await?, []);
    cri.remove_sandbox(&pod).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_has_its_rates_and_resources() -> Result<()> {
    let cluster = Cluster::shared()?;
    let node = cluster.node("node-1")?;
    let mut cri = connect(node).await?;
    let logs = tempfile::tempdir()?;
    let mut config = sandbox("slow", logs.path());
    for (key, value) in [("ingress", "10M"), ("egress", "20M")] {
        let key = format!("kubernetes.io/{key}-bandwidth");
        config.annotations.insert(key, value.into());
    }
    let pod = cri.run_sandbox(&config).await?;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: true,
    };
    let status = cri.runtime.pod_sandbox_status(request).await?.into_inner();
    let ip = status.status.and_then(|status| status.network);
    let ip = ip.context("no network")?.ip;
    // The node's end of its link, and its own.
    let route = node.run("ip", &["-o", "route", "get", &ip])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    let link = words.nth(1).context("no link")?;
    let queue = node.run("tc", &["qdisc", "show", "dev", link, "root"])?;
    ensure!(queue.contains("tbf") && queue.contains("10Mbit"), "{queue}");
    let info: serde_json::Value = serde_json::from_str(&status.info["info"])?;
    // Its supervisor is in its network; the bind mount beside may be in another mount namespace.
    let netns = format!("--net=/proc/{}/ns/net", info["pid"]);
    let inside = [&netns[..], "tc", "qdisc", "show", "dev", "eth0", "root"];
    let queue = node.run("nsenter", &inside)?;
    ensure!(queue.contains("tbf") && queue.contains("20Mbit"), "{queue}");

    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.clone(),
        overhead: None,
        resources: Some(LinuxContainerResources {
            cpu_shares: 512,
            ..LinuxContainerResources::default()
        }),
    };
    cri.runtime.update_pod_sandbox_resources(request).await?;

    // A list in parts is the list.
    let mut parts = cri
        .runtime
        .stream_pod_sandboxes(StreamPodSandboxesRequest::default())
        .await?
        .into_inner();
    let mut ids = Vec::new();
    while let Some(part) = parts.message().await? {
        ids.extend(part.pod_sandboxes.into_iter().map(|sandbox| sandbox.id));
    }
    ensure!(ids.contains(&pod), "{ids:?}");
    let mut parts = cri
        .images
        .stream_images(StreamImagesRequest::default())
        .await?
        .into_inner();
    let first = parts.message().await?.context("no images")?;
    ensure!(!first.images.is_empty(), "an empty part");
    cri.remove_sandbox(&pod).await
}
