//! Times and memory, to be read by people:
//! `VETCH_SHIM=target/shim/vetch-shim cargo nextest run -p vetch-runtime --release \
//!  --run-ignored only --no-capture measure`

use std::time::{Duration, Instant};

use vetch_runtime::*;

use crate::guard::Lab;
use crate::specs::*;

const ROUNDS: usize = 20;

async fn timed<T>(into: &mut Vec<Duration>, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let outcome = work.await;
    into.push(start.elapsed());
    outcome
}

#[test]
#[ignore = "measures, and judges nothing"]
fn measure_a_pods_life() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let names = [
            "create sandbox",
            "create container",
            "start",
            "exec true",
            "stop container",
            "stop sandbox",
            "remove sandbox",
        ];
        let mut times: [Vec<Duration>; 7] = Default::default();
        for round in 0..ROUNDS {
            let [make, create, start, exec, stop, end, remove] = &mut times;
            let spec = sandbox(&lab.logs, &format!("pod{round}"));
            let pod = timed(make, runtime.create_sandbox(spec)).await.unwrap();
            let command = ["/bin/sleep".to_owned(), "1000".to_owned()];
            let spec = ContainerSpec {
                command: command.into(),
                args: vec![],
                ..shell("")
            };
            let id = timed(create, runtime.create_container(&pod.id, spec))
                .await
                .unwrap();
            timed(start, runtime.start_container(&id)).await.unwrap();
            let words = vec!["/bin/true".to_owned()];
            let output = timed(exec, runtime.exec(&id, words, Duration::from_secs(9))).await;
            assert_eq!(output.unwrap().exit_code, 0);
            timed(stop, runtime.stop_container(&id, Duration::ZERO))
                .await
                .unwrap();
            timed(end, runtime.stop_sandbox(&pod.id)).await.unwrap();
            timed(remove, runtime.remove_sandbox(&pod.id))
                .await
                .unwrap();
        }
        for (name, times) in names.iter().zip(&mut times) {
            times.sort();
            println!(
                "{name:16} median {:>8.2?}  worst {:>8.2?}",
                times[ROUNDS / 2],
                times[ROUNDS - 1]
            );
        }
        lab.assert_nothing_left();
    });
}

#[test]
#[ignore = "measures, and judges nothing"]
fn measure_fifty_pods() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let start = Instant::now();
        let pods = (0..50).map(|number| {
            let (runtime, logs) = (runtime.clone(), lab.logs.clone());
            tokio::spawn(async move {
                let spec = sandbox(&logs, &format!("pod{number}"));
                let pod = runtime.create_sandbox(spec).await.unwrap();
                run(&runtime, &pod.id, sleeper()).await;
                pod.id
            })
        });
        let mut ids = Vec::new();
        for pod in pods.collect::<Vec<_>>() {
            ids.push(pod.await.unwrap());
        }
        println!("50 pods at once: {:.2?}", start.elapsed());
        let shims: Vec<(u64, u64)> = lab.shims().into_iter().map(memory).collect();
        assert_eq!(shims.len(), 50);
        let sum = |of: fn(&(u64, u64)) -> u64| shims.iter().map(of).sum::<u64>() / 50;
        println!(
            "supervisor: Pss {} KiB, of it private {} KiB",
            sum(|shim| shim.0),
            sum(|shim| shim.1)
        );
        drop(runtime);
        let start = Instant::now();
        let runtime = lab.open().await;
        println!("adopted by the next daemon: {:.2?}", start.elapsed());
        let start = Instant::now();
        for id in ids {
            runtime.remove_sandbox(&id).await.unwrap();
        }
        println!("removed one after the other: {:.2?}", start.elapsed());
        lab.assert_nothing_left();
    });
}

/// Proportional and private resident memory in KiB.
fn memory(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = |key: &str| -> u64 {
        text.lines()
            .filter_map(|line| line.strip_prefix(key))
            .filter_map(|rest| rest.trim().strip_suffix(" kB"))
            .map(|number| number.trim().parse::<u64>().unwrap())
            .sum()
    };
    (
        value("Pss:"),
        value("Private_Clean:") + value("Private_Dirty:"),
    )
}
