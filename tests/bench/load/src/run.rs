//! The client. [`pace`] says when a request is due, [`worker`] is one thread's loop, [`tcp`] and
//! [`udp`] are what it drives, [`tally`] counts, [`report`] is what comes out.
//!
//! Latency counts from the moment a request was due: in a closed loop that is when it was sent, in
//! an open one it is the schedule's word (coordinated omission is corrected).

mod pace;
mod report;
mod tally;
mod tcp;
mod udp;
mod usage;
mod worker;

use std::thread::Builder;

use anyhow::{Context as _, Result, bail};

use crate::args::{Kind, Run};
use crate::clock::{self, MILLISECOND};
use crate::net;
use pace::{Pace, Schedule};
use report::Report;
use tally::{Tally, Window};
use usage::Usages;
use worker::Worker;

/// For the threads to start before the schedule does.
const LEAD: clock::Nanos = 2 * MILLISECOND;

/// Measures and prints the report, the last line on standard output.
pub fn run(options: &Run) -> Result<()> {
    options.check()?;
    if let Err(error) = net::raise_file_limit() {
        eprintln!("vetch-load: the limit of open files stays as it is: {error}");
    }
    let mut usages = Usages::connect(&options.usage)?;
    let start = clock::now() + LEAD;
    let begin = start + clock::of_seconds(options.warmup);
    let window = Window {
        begin,
        end: begin + clock::of_seconds(options.seconds),
    };
    let threads = options.threads.get();
    let mut running = Vec::new();
    for index in 0..threads {
        let options = options.clone();
        let thread = Builder::new().name(format!("load-{index}"));
        let body = move || {
            clock::sleep_until(start);
            load(&options, index, start, window)
        };
        running.push(thread.spawn(body).context("start a thread")?);
    }

    clock::sleep_until(window.begin);
    let cpu_before = clock::cpu_micros();
    let server_before = usages.read()?;
    clock::sleep_until(window.end);
    let cpu = clock::cpu_micros() - cpu_before;
    let server_after = usages.read();

    let mut total = Tally::new(window, options.rate.is_some());
    for thread in running {
        match thread.join() {
            Ok(tally) => total.add(tally?),
            Err(_) => bail!("a thread panicked"),
        }
    }
    // The servers may be gone by now; what was measured until then stands.
    let server = match server_after {
        Ok(after) => after
            .zip(server_before)
            .map(|(after, before)| after.saturating_sub(before)),
        Err(error) => {
            total.note(format!("{error:#}"));
            None
        }
    };
    if !total.has_any() {
        bail!("nothing was answered: {}", total.excuse());
    }
    let report = Report::new(options, &total, cpu, server);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// One thread's share.
fn load(options: &Run, index: usize, start: clock::Nanos, window: Window) -> Result<Tally> {
    let threads = options.threads.get();
    let total = options.connections.get();
    let share = total / threads + usize::from(index < total % threads);
    // The threads go around the targets from different places.
    let first = index * (total / threads) + index.min(total % threads);
    let targets = options.targets.iter().copied().cycle();
    let targets = targets.skip(first % options.targets.len());
    let pace = match options.rate {
        None => Pace::Closed,
        Some(rate) => Pace::Open(Schedule::share(rate, index, threads, start, window.begin)),
    };
    let tally = Tally::new(window, options.rate.is_some());
    let worker = Worker::new(pace, tally, window).context("make an epoll instance")?;
    let done = match options.kind {
        Kind::Udp | Kind::Dns => {
            let targets: Vec<_> = targets.take(share).collect();
            let words = match &options.name {
                Some(name) => udp::Words::Question(udp::Question::new(name, options.answer)),
                None => udp::Words::Echo,
            };
            let flows = udp::Flows::open(&targets, words, &worker.core)?;
            worker.run(flows)
        }
        kind => {
            let count = options.targets.len();
            worker.run(tcp::Connections::new(
                kind,
                targets.take(count).collect(),
                share,
            ))
        }
    };
    done.context("wait for events")
}
