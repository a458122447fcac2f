//! A proxy that starts with everything before it: how long until it serves, and what it keeps in
//! memory for that.
//!
//! For Vetch: the node's daemon is stopped, its programs and maps are taken out of the kernel, and it
//! is started with all Services in the API. The time counts from the start of the process until its
//! last program is attached, which the daemon does when all maps are filled; that they are is looked
//! up afterwards. For kube-proxy: from its start until it has written its first rules. The rules
//! alone: the run of the one program that lays them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use vetch_bench_record::{Better, Figure, median};

use super::blocking;
use super::daemon::{self, Started};
use super::plan::{Measure, Subject};
use super::progress::Progress;
use super::rules::{self, Place};
use super::series::Series;
use crate::run::Run;

/// After a start, until what it needed only then has been given back.
const SETTLE: Duration = Duration::from_secs(1);

/// Rules that are not laid by then are ended: tens of thousands of Services take the programs hours.
const LAY_LIMIT: Duration = Duration::from_secs(120);
/// What takes longer is done once a size.
const ONCE: Duration = Duration::from_secs(10);

/// A proxy just started.
struct Fresh {
    seconds: f64,
    anonymous_mib: f64,
    maps_mib: Option<f64>,
}

impl Series<'_> {
    /// What daemons keep in memory before there is any Service of ours.
    pub async fn weigh_bare(&mut self, run: &mut Run, progress: &Progress) -> Result<()> {
        if !self.has(Measure::Memory) || run.target.local.is_none() {
            return Ok(());
        }
        progress.say("weigh the daemons without Services");
        for subject in self.subjects {
            if !subject.follows() {
                continue;
            }
            let mut all = Vec::new();
            for _ in 0..self.options.rounds {
                match self.fresh(run, subject).await {
                    Ok(fresh) => all.push(fresh.anonymous_mib),
                    // Told where its figures are missed.
                    Err(_) => break,
                }
                self.check_stop(run)?;
            }
            if let Some(middle) = median(&all) {
                self.bare.insert(subject.name().to_owned(), middle);
            }
        }
        Ok(())
    }

    pub async fn program(
        &mut self,
        run: &mut Run,
        services: u32,
        progress: &Progress,
    ) -> Result<()> {
        if !self.has(Measure::Program) && !self.has(Measure::Memory) {
            return Ok(());
        }
        if run.target.local.is_none() {
            run.skip(
                format!("program-from-nothing, proxy-memory and map-memory at {services} services"),
                "they need the processes of the nodes: a cluster of this machine",
            );
            return Ok(());
        }
        progress.say(&format!("{services} Services: proxies start from nothing"));
        self.clear().await?;
        self.slow.clear();
        for round in 0..self.options.rounds as usize {
            for subject in self.subjects {
                let outcome = match subject {
                    Subject::Direct => Ok(()),
                    Subject::Rules(_) => self.lay_once(run, services, round, subject).await,
                    Subject::Cluster(_) | Subject::KubeProxy(_) => {
                        self.start_once(run, services, round, subject).await
                    }
                };
                self.check_stop(run)?;
                if let Err(error) = outcome {
                    let what = format!(
                        "the start of {} from nothing, {services} services, round {}",
                        subject.name(),
                        round + 1
                    );
                    run.skip(what, format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    async fn start_once(
        &mut self,
        run: &mut Run,
        services: u32,
        round: usize,
        subject: &Subject,
    ) -> Result<()> {
        let fresh = self.fresh(run, subject).await?;
        if self.has(Measure::Program) {
            let figure = self.figure("program-from-nothing", subject, "s", services);
            run.add(figure, round, Some(fresh.seconds));
        }
        if self.has(Measure::Memory) {
            let figure = self.figure("proxy-memory", subject, "MiB", services);
            let bare = self.bare.get(subject.name());
            run.add(figure, round, bare.map(|bare| fresh.anonymous_mib - bare));
            if let Some(maps) = fresh.maps_mib {
                let figure = self.figure("map-memory", subject, "MiB", services);
                run.add(figure, round, Some(maps));
            }
        }
        Ok(())
    }

    async fn lay_once(
        &mut self,
        run: &mut Run,
        services: u32,
        round: usize,
        subject: &Subject,
    ) -> Result<()> {
        let Subject::Rules(mode) = subject else {
            bail!("{} has no rules", subject.name());
        };
        if !self.has(Measure::Program) || self.slow.contains(subject.name()) {
            return Ok(());
        }
        let place = self.nodes.watched().place.clone();
        let place = place.context("the node is not on this machine")?;
        if let Err(error) = rules::check(&self.rules) {
            self.slow.insert(subject.name().to_owned());
            return Err(error);
        }
        let took = rules::lay_at_once(&place, *mode, &self.rules, LAY_LIMIT).await;
        rules::clear(&[place]).await?;
        if took.as_ref().map_or(true, |took| *took > ONCE) {
            self.slow.insert(subject.name().to_owned());
        }
        let took = took?;
        if took > ONCE && self.options.rounds > 1 {
            run.skip(
                format!(
                    "program-rules of {}, {services} services, after round {}",
                    subject.name(),
                    round + 1
                ),
                format!("once took {:.0} s", took.as_secs_f64()),
            );
        }
        let figure = Figure::new("program-rules", subject.name(), "s", Better::Lower)
            .with("services", services)
            .with("endpoints", self.endpoints);
        run.add(figure, round, Some(took.as_secs_f64()));
        Ok(())
    }

    async fn fresh(&mut self, run: &Run, subject: &Subject) -> Result<Fresh> {
        match subject {
            Subject::Cluster(_) => self.fresh_vetch(run).await,
            _ => self.fresh_kube_proxy(run, subject).await,
        }
    }

    async fn fresh_vetch(&self, run: &Run) -> Result<Fresh> {
        let (Some(xtask), Some(local)) = (&self.nodes.xtask, &self.nodes.watched().local) else {
            bail!("there is no xtask beside this program to stop and start daemons (VETCH_XTASK)");
        };
        let (xtask, node) = (xtask.clone(), local.clone());
        let wanted = self.cluster.service_ports();
        let Started { seconds, pid } = blocking(move || {
            let started = xtask.start_from_nothing(&node)?;
            let served = daemon::served(&node)?;
            ensure!(
                served >= wanted,
                "its programs were attached with {served} of {wanted} ports of Services in the maps"
            );
            Ok(started)
        })
        .await?;
        run.pause(SETTLE).await;
        Ok(Fresh {
            seconds,
            anonymous_mib: daemon::anonymous_mib(pid)?,
            maps_mib: Some(daemon::maps_mib(pid)?),
        })
    }

    async fn fresh_kube_proxy(&self, run: &Run, subject: &Subject) -> Result<Fresh> {
        let Subject::KubeProxy(mode) = subject else {
            bail!("{} is no program", subject.name());
        };
        let program = self.kube_proxy.as_ref().context("there is no kube-proxy")?;
        let places: Vec<Place> = self.nodes.watched().place.iter().cloned().collect();
        let running = match program.start(&places, *mode).await {
            Ok(running) => running,
            Err(error) => {
                rules::clear(&places).await?;
                return Err(error);
            }
        };
        run.pause(SETTLE).await;
        let seconds = running.synced.as_secs_f64();
        let anonymous = i32::try_from(running.first_pid().unwrap_or(0))
            .map_err(anyhow::Error::from)
            .and_then(daemon::anonymous_mib);
        running.stop().await?;
        rules::clear(&places).await?;
        Ok(Fresh {
            seconds,
            anonymous_mib: anonymous?,
            maps_mib: None,
        })
    }

    fn check_stop(&self, run: &Run) -> Result<()> {
        if run.stopped() {
            bail!("the run was ended early");
        }
        Ok(())
    }
}
