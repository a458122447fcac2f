//! What the node, its pods and their containers use: `GET /stats/summary` and `GET /metrics/resource`.
//!
//! `sample` asks the runtime, /proc and the disk, `summary` makes stats/v1alpha1 of the answers, and
//! `resource` Prometheus' text of that. A rate (`usageNanoCores`) is from one question to the next.

mod disk;
mod resource;
mod sample;
mod summary;
mod types;

use std::io;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::Shared;
use super::container_logs::text;
use crate::node::{NodeError, chain};
use sample::Sampler;
use types::Summary;

#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error("the runtime")]
    Runtime(#[from] vetch_runtime::Error),
    #[error("the node")]
    Node(#[from] NodeError),
    #[error("cannot measure the file system of {path}", path = path.display())]
    FileSystem {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the directory {path}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("counting files")]
    Task(#[from] tokio::task::JoinError),
}

pub async fn get_summary(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    match take(&shared, !only_cpu_and_memory(&query)).await {
        Ok(summary) => Json(summary).into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)),
    }
}

/// Said once, and as `true`.
fn only_cpu_and_memory(query: &[(String, String)]) -> bool {
    let mut said = query
        .iter()
        .filter(|(name, _)| name == "only_cpu_and_memory");
    said.next().is_some_and(|(_, value)| value == "true") && said.next().is_none()
}

pub async fn get_resource(State(shared): State<Shared>) -> Response {
    let summary = take(&shared, false).await;
    if let Err(error) = &summary {
        tracing::warn!(error = chain(error), "cannot measure the node");
    }
    resource::text(summary.ok().as_ref()).into_response()
}

async fn take(shared: &Shared, all: bool) -> Result<Summary, StatsError> {
    let sampler = Sampler {
        runtime: &shared.runtime,
        settings: &shared.settings,
        rates: &shared.rates,
        all,
    };
    Ok(summary::of(&sampler.take().await?))
}

#[cfg(test)]
pub use summary::tests as testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let only = "only_cpu_and_memory";
        for (query, want) in [
            (&[][..], false),
            (&[(only, "true")], true),
            (&[(only, "1")], false),
            (&[(only, "true"), (only, "true")], false),
            (&[("other", "true"), (only, "true")], true),
        ] {
            let query: Vec<(String, String)> = query
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(only_cpu_and_memory(&query), want, "{query:?}");
        }
    }
}
