//! The CRI socket of a node, call by call, as a kubelet or crictl uses it.

mod client;
mod fields;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tonic::{Code, Streaming};
use vetch_cri_proto::v1::*;
use vetch_tests::{Cluster, Namespace};

use client::{connect, container, sandbox};

const IMAGE: &str = "vetch.local/echo:v1";
const MINUTE: Duration = Duration::from_secs(60);

/// Until the log holds these words.
async fn logged(path: &Path, words: &str) -> Result<String> {
    let deadline = tokio::time::Instant::now() + MINUTE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.contains(words) {
            return Ok(text);
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{} does not say {words:?}: {text}",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next event of one of these.
async fn event(
    events: &mut Streaming<ContainerEventResponse>,
    ids: &[&str],
) -> Result<(String, ContainerEventType)> {
    loop {
        let next = tokio::time::timeout(MINUTE, events.message()).await;
        let next = next.context("no event within a minute")??;
        let next = next.context("the stream of events has ended")?;
        if ids.contains(&next.container_id.as_str()) {
            let kind = next.container_event_type();
            return Ok((next.container_id, kind));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_from_its_sandbox_to_its_removal() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut cri = connect(cluster.node("node-1")?).await?;
    let logs = tempfile::tempdir()?;
    let version = cri
        .runtime
        .version(VersionRequest::default())
        .await?
        .into_inner();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("vetch", "v1")
    );
    let status = cri
        .runtime
        .status(StatusRequest { verbose: true })
        .await?
        .into_inner();
    let conditions = status.status.context("no status")?.conditions;
    assert!(
        conditions.iter().all(|condition| condition.status),
        "{conditions:?}"
    );
    assert!(
        status.info["config"].contains("rootDir"),
        "{:?}",
        status.info
    );
    let driver = cri
        .runtime
        .runtime_config(RuntimeConfigRequest {})
        .await?
        .into_inner();
    let driver = driver.linux.context("a Linux node")?.cgroup_driver();
    assert_eq!(driver, CgroupDriver::Cgroupfs);

    let mut events = cri
        .runtime
        .get_container_events(GetEventsRequest {})
        .await?
        .into_inner();
    let config = sandbox("whole", logs.path());
    let pod = cri.run_sandbox(&config).await?;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: true,
    };
    let status = cri.runtime.pod_sandbox_status(request).await?.into_inner();
    assert!(status.info["info"].contains("netns"), "{:?}", status.info);
    let status = status.status.context("no status")?;
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(
        (&status.labels, &status.annotations),
        (&config.labels, &config.annotations)
    );
    let ip: IpAddr = status.network.context("no network")?.ip.parse()?;

    let script = "echo $GREETING; echo oops >&2; hostname; cat /etc/resolv.conf; \
                  trap 'exit 7' TERM; while :; do sleep 1000 & wait $!; done";
    let app = cri.run(&pod, &config, container("app", script)).await?;
    let log = logs.path().join("app.log");
    let said = logged(&log, "ndots:3").await?;
    for words in [
        "stdout F hello\n",
        "stderr F oops\n",
        "stdout F cri-host\n",
        "stdout F nameserver 10.0.0.10\n",
        "stdout F search svc.example\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let status = cri.status(&app).await?;
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert!(
        status.started_at >= status.created_at && status.finished_at == 0,
        "{status:?}"
    );
    assert_eq!(status.log_path, log.display().to_string());
    let shares = status
        .resources
        .and_then(|all| all.linux)
        .context("no resources")?
        .cpu_shares;
    assert!(shares.abs_diff(1024) < 30, "{shares}");
    for id in [pod.as_str(), &app] {
        for kind in [
            ContainerEventType::ContainerCreatedEvent,
            ContainerEventType::ContainerStartedEvent,
        ] {
            assert_eq!(
                event(&mut events, &[&pod, &app]).await?,
                (id.to_owned(), kind)
            );
        }
    }

    // A moved log goes on in a new file.
    fs::rename(&log, logs.path().join("old"))?;
    let request = ReopenContainerLogRequest {
        container_id: app.clone(),
    };
    cri.runtime.reopen_container_log(request).await?;
    let said = cri
        .exec(
            &app,
            &["sh", "-c", "echo more >/proc/1/fd/1; echo here; exit 3"],
            0,
        )
        .await?;
    assert_eq!(
        (said.stdout.as_slice(), said.exit_code),
        (&b"here\n"[..], 3)
    );
    logged(&log, "stdout F more").await?;
    let late = cri.exec(&app, &["sleep", "1000"], 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    let said = cri
        .exec(&app, &["ip", "-4", "address", "show", "eth0"], 0)
        .await?;
    let said = String::from_utf8(said.stdout)?;
    assert!(said.contains(&format!("inet {ip}/32")), "{said}");

    // Where a client is sent for a stream is good once; a request that asks for no other protocol is told so.
    let request = ExecRequest {
        container_id: app.clone(),
        cmd: vec!["true".into()],
        stdout: true,
        ..ExecRequest::default()
    };
    let url = cri.runtime.exec(request).await?.into_inner().url;
    let node = cluster.node("node-1")?;
    let ask = || node.run("curl", &["-s", "-w", " %{http_code}", &url]);
    assert_eq!(ask()?, "Upgrade request required 400");
    assert!(ask()?.ends_with(" 404"));

    // An id may be cut short.
    let request = ContainerStatsRequest {
        container_id: app[..12].to_owned(),
    };
    let stats = cri
        .runtime
        .container_stats(request)
        .await?
        .into_inner()
        .stats
        .context("no stats")?;
    let used = |stats: &Option<CpuUsage>| Some(stats.as_ref()?.usage_core_nano_seconds?.value);
    assert!(used(&stats.cpu).is_some_and(|used| used > 0), "{stats:?}");
    assert!(
        stats
            .writable_layer
            .is_some_and(|layer| layer.inodes_used.is_some())
    );
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: pod.clone(),
    };
    let stats = cri
        .runtime
        .pod_sandbox_stats(request)
        .await?
        .into_inner()
        .stats
        .context("no stats")?;
    let stats = stats.linux.context("no stats of Linux")?;
    assert_eq!(stats.containers.len(), 1);
    let link = stats.network.and_then(|network| network.default_interface);
    assert_eq!(link.context("no link")?.name, "eth0");
    let request = ListMetricDescriptorsRequest {};
    let described = cri
        .runtime
        .list_metric_descriptors(request)
        .await?
        .into_inner()
        .descriptors;
    let request = ListPodSandboxMetricsRequest {};
    let metrics = cri
        .runtime
        .list_pod_sandbox_metrics(request)
        .await?
        .into_inner()
        .pod_metrics;
    let own = metrics
        .iter()
        .find(|of| of.pod_sandbox_id == pod)
        .context("no metrics")?;
    let found = own
        .metrics
        .iter()
        .chain(own.container_metrics.iter().flat_map(|of| &of.metrics));
    for metric in found {
        let known = described
            .iter()
            .find(|of| of.name == metric.name)
            .context("not described")?;
        assert_eq!(
            known.label_keys.len(),
            metric.label_values.len(),
            "{metric:?}"
        );
    }

    cri.stop(&app, 30).await?;
    let status = cri.status(&app).await?;
    assert_eq!(
        (status.state(), status.exit_code),
        (ContainerState::ContainerExited, 7)
    );
    assert_eq!(status.reason, "Error");
    cri.remove(&app).await?;
    for kind in [
        ContainerEventType::ContainerStoppedEvent,
        ContainerEventType::ContainerDeletedEvent,
    ] {
        assert_eq!(event(&mut events, &[&app]).await?, (app.clone(), kind));
    }
    let gone = cri.runtime.container_status(ContainerStatusRequest {
        container_id: app.clone(),
        verbose: false,
    });
    assert_eq!(gone.await.unwrap_err().code(), Code::NotFound);
    // What may be asked again.
    cri.stop(&app, 0).await?;
    cri.remove(&app).await?;
    cri.stop_sandbox(&pod).await?;
    cri.stop_sandbox(&pod).await?;
    assert_eq!(
        cri.sandboxes("whole").await?[0].state(),
        PodSandboxState::SandboxNotready
    );
    cri.remove_sandbox(&pod).await?;
    cri.remove_sandbox(&pod).await?;
    assert_eq!(cri.sandboxes("whole").await?, []);
    for kind in [
        ContainerEventType::ContainerStoppedEvent,
        ContainerEventType::ContainerDeletedEvent,
    ] {
        assert_eq!(event(&mut events, &[&pod]).await?, (pod.clone(), kind));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_every_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut cri = connect(cluster.node("node-1")?).await?;
    let all = cri
        .images
        .list_images(ListImagesRequest::default())
        .await?
        .into_inner()
        .images;
    let named = |image: &Image| image.repo_tags.iter().any(|tag| tag == IMAGE);
    let own = all.into_iter().find(named).context("the image of up")?;
    for name in [IMAGE, &own.id, own.id.trim_start_matches("sha256:")] {
        let image = Some(ImageSpec {
            image: name.into(),
            ..ImageSpec::default()
        });
        let request = ImageStatusRequest {
            image: image.clone(),
            verbose: false,
        };
        let found = cri.images.image_status(request).await?.into_inner().image;
        assert_eq!(found.map(|found| found.id), Some(own.id.clone()), "{name}");
        let filter = Some(ImageFilter { image });
        let listed = cri.images.list_images(ListImagesRequest { filter }).await?;
        assert_eq!(listed.into_inner().images.len(), 1, "{name}");
    }
    let missing = || {
        Some(ImageSpec {
            image: "vetch.local/nothing:v1".into(),
            ..ImageSpec::default()
        })
    };
    let request = ImageStatusRequest {
        image: missing(),
        verbose: true,
    };
    assert_eq!(
        cri.images.image_status(request).await?.into_inner().image,
        None
    );
    let request = RemoveImageRequest { image: missing() };
    cri.images.remove_image(request).await?;
    let usage = cri
        .images
        .image_fs_info(ImageFsInfoRequest {})
        .await?
        .into_inner();
    let used = usage.image_filesystems[0]
        .used_bytes
        .context("no bytes")?
        .value;
    assert!(used >= own.size, "{used} < {}", own.size);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_pods_are_seen_and_its_daemon_leaves_others_alone() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let node = cluster.node("node-1")?;
    let logs = tempfile::tempdir()?;
    let mut cri = connect(node).await?;
    let config = sandbox("kept", logs.path());
    let pod = cri.run_sandbox(&config).await?;
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
    let app = cri.run(&pod, &config, container("app", script)).await?;
    let before = cri.status(&app).await?;

    cluster.xtask(&["node", "kill", &node.name])?;
    cluster.xtask(&["node", "start", &node.name])?;
    cluster.wait_node(&node.name, "Ready", MINUTE)?;
    let mut cri = connect(node).await?;
    let after = cri.status(&app).await?;
    assert_eq!(after.state(), ContainerState::ContainerRunning);
    assert_eq!(after.started_at, before.started_at);
    // It looks for what it should end once, after its first list of pods, and a pod that is started now comes
    // after that.
    let namespace = Namespace::create(&cluster, "cri")?;
    let later = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "later"},
        "spec": {"nodeName": node.name, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "app", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]},
        ]},
    });
    namespace.apply(&later.to_string())?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/later",
        "--timeout=60s",
    ];
    namespace.kubectl(&ready)?.ok()?;
    let ended = fs::read_to_string(&node.log)?;
    let ended = ended
        .lines()
        .find(|line| line.contains("ending a pod") && line.contains("kept"));
    assert_eq!(ended, None);
    let all = cri
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await?;
    let mut all = all.into_inner().items.into_iter();
    assert!(all.any(|of| of.metadata.is_some_and(|of| of.name == "later")));
    assert_eq!(cri.containers(&pod).await?.len(), 1);
    cri.stop(&app, 0).await?;
    assert_eq!(cri.status(&app).await?.exit_code, 137);
    let said = fs::read_to_string(logs.path().join("app.log"))?;
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split(" F line ").nth(1))
        .collect();
    for (place, number) in lines.iter().enumerate() {
        if number.parse() != Ok(place + 1) {
            bail!("line {place} says {number}");
        }
    }
    cri.remove_sandbox(&pod).await?;
    Ok(())
}
