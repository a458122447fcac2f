//! Requests over fresh connections, counted by the replica that answered.
//!
//! The client is the echo image's own `load` command, so that the same program runs as a process
//! of a node and inside a pod.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::cluster::Node;

/// What a load run reports.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub requests: u64,
    pub failures: u64,
    /// Up to ten distinct failure texts.
    pub errors: Vec<String>,
    /// Requests answered, by the answering pod's name.
    pub by_pod: BTreeMap<String, u64>,
}

impl Report {
    pub fn parse(text: &str) -> Result<Report> {
        let line = text
            .lines()
            .rfind(|line| line.starts_with('{'))
            .with_context(|| format!("no report in {text:?}"))?;
        Ok(serde_json::from_str(line)?)
    }

    /// No failure, and each of `replicas` within ten points of its fair share.
    pub fn assert_balanced(&self, replicas: usize) -> Result<()> {
        self.assert_lossless()?;
        ensure!(
            self.by_pod.len() == replicas,
            "answered by {:?}",
            self.by_pod
        );
        let fair = 1.0 / replicas as f64;
        for (pod, count) in &self.by_pod {
            let share = *count as f64 / self.requests as f64;
            ensure!(
                (share - fair).abs() <= 0.10,
                "{pod} answered {share:.3} of all: {:?}",
                self.by_pod
            );
        }
        Ok(())
    }

    /// The name of the one pod that answered all requests.
    pub fn only_pod(&self) -> Result<&str> {
        self.assert_lossless()?;
        let mut pods = self.by_pod.keys();
        match (pods.next(), pods.next()) {
            (Some(pod), None) => Ok(pod),
            _ => bail!("answered by {:?}", self.by_pod),
        }
    }

    pub fn assert_lossless(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} of {} requests failed: {:?}",
            self.failures,
            self.requests,
            self.errors
        );
        ensure!(self.requests > 0, "no request was made");
        Ok(())
    }
}

/// A load that goes on beside the scenario until it is stopped.
#[derive(Debug)]
pub struct Running(Child);

impl Node {
    fn load(&self, args: &[&str]) -> Result<Running> {
        let child = self
            .command(&self.echo()?, &[&["load"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run the load")?;
        Ok(Running(child))
    }

    /// `count` requests, one fresh connection (or socket, for udp://) each, from a process of this node.
    pub fn requests(&self, url: &str, count: u64) -> Result<Report> {
        self.load(&["--url", url, "--count", &count.to_string()])?
            .report()
    }

    /// Requests one after the other until [`Running::stop`], at most for `seconds`.
    pub fn start_load(&self, url: &str, seconds: u64) -> Result<Running> {
        self.load(&[
            "--url",
            url,
            "--seconds",
            &seconds.to_string(),
            "--until-stdin-closes",
        ])
    }
}

impl Running {
    /// Ends the load and returns what it saw.
    pub fn stop(mut self) -> Result<Report> {
        drop(self.0.stdin.take());
        self.report()
    }

    fn report(self) -> Result<Report> {
        let output = self.0.wait_with_output()?;
        ensure!(
            output.status.success(),
            "load: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Report::parse(&String::from_utf8_lossy(&output.stdout))
    }
}
