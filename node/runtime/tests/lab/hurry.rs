//! A container that writes as fast as it can.

use std::path::Path;
use std::time::Duration;

use vetch_runtime::*;

use crate::guard::{entries, memory};
use crate::specs::*;

const LINES: u64 = 800_000;
/// What the supervisor may need besides what it needs at rest, in KiB: the chunk that it read, the
/// entries it becomes where each line is empty, and what the allocator keeps.
const MOST: u64 = 8 << 10;

/// Oldest first: rotated files are named by their time, and the last has no suffix.
fn written(dir: &Path) -> Vec<Line> {
    let mut names = entries(dir);
    names.sort_by_key(|name| (name == "0.log", name.clone()));
    names
        .iter()
        .flat_map(|name| lines(&dir.join(name)))
        .collect()
}

#[test]
fn no_line_is_lost_or_torn_in_a_hurry() {
    with_sandbox(async |lab, runtime, pod| {
        let quiet = ContainerSpec {
            log_path: "quiet/0.log".into(),
            ..sleeper()
        };
        let quiet = run(runtime, &pod.id, quiet).await;
        let shim = pod.shim_pid.unwrap().to_string();
        let before = memory(&shim, "VmRSS");
        let loud = run(
            runtime,
            &pod.id,
            shell(&format!("seq 1 {LINES}; echo end >&2")),
        )
        .await;
        let mut answers = 0;
        loop {
            let echo = ["echo", "here"].map(str::to_owned).into();
            let output = runtime.exec(&quiet, echo, Duration::from_secs(20)).await;
            assert_eq!(output.unwrap().stdout, b"here\n");
            if status(runtime, &loud).await.state == ContainerState::Exited {
                break;
            }
            answers += 1;
        }
        assert!(answers > 0, "it was over before anybody asked");
        let grown = memory(&shim, "VmHWM").saturating_sub(before);
        assert!(grown < MOST, "the supervisor grew by {grown} KiB");

        let mut expected = 1..=LINES;
        let log = written(&lab.logs.join("pod/app"));
        for line in log.iter().filter(|line| line.stream == "stdout") {
            let want = expected.next().map(|number| number.to_string());
            assert_eq!((line.tag.as_str(), Some(&line.text)), ("F", want.as_ref()));
        }
        assert_eq!(expected.next(), None, "lines are lost");
    });
}
