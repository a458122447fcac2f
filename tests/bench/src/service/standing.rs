//! What stands in the nodes' networks: a subject's rules, or its programs, come with its turn and go
//! with the next turn that is not its own.

use anyhow::{Context as _, Result};
use vetch_bench_rules::Mode;

use super::plan::Subject;
use super::rules::{self, Running};
use super::series::Series;

pub enum Standing {
    Rules(Mode),
    KubeProxy(Mode, Running),
}

impl Standing {
    fn is_of(&self, subject: &Subject) -> bool {
        match self {
            Standing::Rules(mode) => *subject == Subject::Rules(*mode),
            Standing::KubeProxy(mode, _) => *subject == Subject::KubeProxy(*mode),
        }
    }
}

impl Series<'_> {
    /// Brings about what the subject needs, and nothing else. The inner error is the subject's, the
    /// outer one ends the run: then rules may be left.
    pub async fn stand(&mut self, subject: &Subject) -> Result<Result<(), String>> {
        let standing = self.standing.as_ref();
        if standing.is_some_and(|standing| standing.is_of(subject)) {
            return Ok(Ok(()));
        }
        self.clear().await?;
        match self.bring(subject).await {
            Ok(standing) => {
                self.standing = standing;
                Ok(Ok(()))
            }
            Err(error) => {
                rules::clear(&self.nodes.places()).await?;
                Ok(Err(format!("{error:#}")))
            }
        }
    }

    async fn bring(&self, subject: &Subject) -> Result<Option<Standing>> {
        let places = self.nodes.places();
        Ok(match subject {
            Subject::Direct | Subject::Cluster(_) => None,
            Subject::Rules(mode) => {
                rules::check(&self.rules)?;
                rules::lay(&places, *mode, &self.rules).await?;
                Some(Standing::Rules(*mode))
            }
            Subject::KubeProxy(mode) => {
                let program = self.kube_proxy.as_ref().context("there is no kube-proxy")?;
                let running = program.start(&places, *mode).await?;
                Some(Standing::KubeProxy(*mode, running))
            }
        })
    }

    /// No packet passes netfilter afterwards.
    pub async fn clear(&mut self) -> Result<()> {
        match self.standing.take() {
            None => return Ok(()),
            Some(Standing::Rules(_)) => {}
            Some(Standing::KubeProxy(_, running)) => running.stop().await?,
        }
        rules::clear(&self.nodes.places()).await
    }

    /// Of the kube-proxy that stands, the process on the watched node.
    pub fn watched_kube_proxy(&self) -> Option<u32> {
        match &self.standing {
            Some(Standing::KubeProxy(_, running)) => running.first_pid(),
            _ => None,
        }
    }
}
