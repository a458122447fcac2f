//! A daemon in a process of its own, to be killed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vetch_runtime::*;

use crate::guard::{Lab, wait_for};
use crate::specs::*;

/// Makes and removes pods until it is killed. Run by `Daemon::start` only.
#[test]
#[ignore = "a process that other tests start"]
fn daemon() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let config = RuntimeConfig {
        root_dir: path("LAB_ROOT"),
        run_dir: path("LAB_RUN"),
        cgroup_root: path("LAB_CGROUP"),
        shim: path("LAB_SHIM"),
        pull_netns: None,
        insecure_registries: Vec::new(),
        registry_hosts_dir: None,
    };
    let logs = path("LAB_LOGS");
    let diary = path("LAB_DIARY");
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::open(config).await.unwrap();
        note(&diary, "open");
        let lives = (0..3).map(|number| {
            let (runtime, logs, diary) = (runtime.clone(), logs.clone(), diary.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    live(&runtime, &logs, &diary, &format!("p{number}-{round}")).await;
                }
            })
        });
        for life in lives.collect::<Vec<_>>() {
            life.await.unwrap();
        }
    });
}

/// Each promise is noted after it was made, each taking back before.
async fn live(runtime: &Runtime, logs: &Path, diary: &Path, name: &str) {
    let spec = sandbox(logs, name);
    let pod = runtime.create_sandbox(spec).await.unwrap();
    note(diary, &format!("+ {}", pod.id));
    let stays = run(runtime, &pod.id, sleeper()).await;
    note(diary, &format!("+ {} {stays} sleeper", pod.id));
    let ends = run(runtime, &pod.id, shell("exit 6")).await;
    exited(runtime, &ends).await;
    note(diary, &format!("+ {} {ends} 6", pod.id));
    let words = vec!["true".to_owned()];
    runtime
        .exec(&stays, words, Duration::from_secs(9))
        .await
        .unwrap();
    note(diary, &format!("- {ends}"));
    runtime.remove_container(&ends).await.unwrap();
    note(diary, &format!("- {stays}"));
    note(diary, &format!("- {}", pod.id));
    runtime.stop_sandbox(&pod.id).await.unwrap();
    runtime.remove_sandbox(&pod.id).await.unwrap();
}

fn note(diary: &Path, line: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(diary)
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

pub struct Daemon {
    child: Child,
    diary: PathBuf,
}

/// A sandbox, or a container with what is known of it.
pub type Promise = (SandboxId, Option<(ContainerId, String)>);

impl Daemon {
    /// Returns when it is at work.
    pub fn start(lab: &Lab) -> Daemon {
        let diary = lab.path("diary");
        let _ = fs::remove_file(&diary);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon::daemon", "--ignored", "--nocapture"])
            .env("LAB_ROOT", &lab.config.root_dir)
            .env("LAB_RUN", &lab.config.run_dir)
            .env("LAB_CGROUP", &lab.config.cgroup_root)
            .env("LAB_SHIM", &lab.config.shim)
            .env("LAB_LOGS", &lab.logs)
            .env("LAB_DIARY", &diary)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon { child, diary };
        wait_for("the daemon to be open", || !daemon.diary().is_empty());
        daemon
    }

    fn diary(&self) -> String {
        fs::read_to_string(&self.diary).unwrap_or_default()
    }

    /// Kills it after `time`; what it had promised and not begun to take back.
    pub fn kill_after(mut self, time: Duration) -> Vec<Promise> {
        std::thread::sleep(time);
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.to_string(),
            "signal: 9 (SIGKILL)",
            "it ended by itself"
        );
        let diary = self.diary();
        let gone: Vec<&str> = diary
            .lines()
            .filter_map(|line| line.strip_prefix("- "))
            .collect();
        diary
            .lines()
            .filter_map(|line| line.strip_prefix("+ "))
            .filter(|line| !gone.iter().any(|id| line.contains(id)))
            .map(|line| {
                let mut words = line.split(' ').map(str::to_owned);
                let sandbox = SandboxId(words.next().unwrap());
                (sandbox, words.next().map(ContainerId).zip(words.next()))
            })
            .collect()
    }
}
