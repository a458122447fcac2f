//! The objects that stay for the whole run, and the end of those that do not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use http::Request;
use kube::api::{DeleteParams, ListParams, PostParams};
use vetch_bench_record::{Better, Figure};

use super::Bench;
use super::exchange::{Keep, exchange};
use super::operation::{MADE, Page, bytes, config_map, own_name, pod};

const IN_FLIGHT: usize = 32;
/// Until a collection is empty.
const EMPTY_LIMIT: Duration = Duration::from_secs(300);
/// Between looks whether it is: short against the seconds it takes.
const EMPTY_PACE: Duration = Duration::from_millis(50);
/// After a deletion: controllers hear of it too.
const SETTLE: Duration = Duration::from_secs(1);

impl Bench<'_> {
    /// False when the run was stopped meanwhile.
    pub(super) async fn prepare(&mut self) -> Result<bool> {
        self.bar
            .set_message(format!("make {} pods to list", self.options.objects));
        let parameters = PostParams::default();
        let mut requests = Vec::new();
        let most = self.options.clients.iter().max().copied().unwrap_or(0);
        for name in (0..most).map(own_name) {
            let object = bytes(&config_map(&name, false, ""));
            requests.push(self.scope.config_maps().create(&parameters, object)?);
            let object = bytes(&pod(&name, false));
            requests.push(self.scope.pods().create(&parameters, object)?);
        }
        for index in 0..self.options.objects {
            let object = bytes(&pod(&format!("listed-{index}"), false));
            requests.push(self.scope.listed().create(&parameters, object)?);
        }
        if !self.send_all(requests).await? {
            return Ok(false);
        }
        let list = self.scope.listed().list(&ListParams::default())?;
        let answer = exchange(&self.clients[0], list, Keep::Whole)
            .await
            .context("list the pods that were made")?;
        let page = Page::read(&answer.body)?;
        ensure!(
            page.items == self.options.objects && page.next.is_none(),
            "{} pods were made, and a list has {}",
            self.options.objects,
            page.items
        );
        self.scope.whole_list_bytes = answer.bytes;
        Ok(true)
    }

    async fn send_all(&self, requests: Vec<Request<Vec<u8>>>) -> Result<bool> {
        let client = &self.clients[0];
        let mut answers = futures::stream::iter(requests)
            .map(|request| exchange(client, request, Keep::Nothing))
            .buffer_unordered(IN_FLIGHT);
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = self.run.stop.cancelled() => return Ok(false),
            };
            match answer {
                Some(answer) => drop(answer.context("make the objects of the run")?),
                None => return Ok(true),
            }
        }
    }

    /// By collection, as `kubectl delete --all` does; how fast is a figure too.
    pub(super) async fn delete_what_was_made(&mut self, round: usize) -> Result<()> {
        self.bar
            .set_message(format!("round {}: delete what was made", round + 1));
        for (measure, collection) in [
            ("delete-collection-configmaps", self.scope.config_maps()),
            ("delete-collection-pods", self.scope.pods()),
        ] {
            let rate = self.empty(&collection).await.context(measure);
            if self.run.stopped() {
                return Ok(());
            }
            let figure = Figure::new(measure, &self.subject, "objects/s", Better::Higher);
            self.run.add(figure, round, rate?);
        }
        self.run.pause(SETTLE).await;
        Ok(())
    }

    /// Objects a second; none when there was nothing, or the run was stopped.
    async fn empty(&self, collection: &kube::core::Request) -> Result<Option<f64>> {
        let client = &self.clients[0];
        let made = ListParams::default().labels(&format!("{}={}", MADE.0, MADE.1));
        let there = exchange(client, collection.list(&made)?, Keep::Whole).await?;
        let objects = Page::read(&there.body)?.items;
        let began = Instant::now();
        let deletion = collection.delete_collection(&DeleteParams::default(), &made)?;
        exchange(client, deletion, Keep::Nothing).await?;
        loop {
            let left = exchange(
                client,
                collection.list(&made.clone().limit(1))?,
                Keep::Whole,
            )
            .await?;
            if Page::read(&left.body)?.items == 0 {
                let seconds = began.elapsed().as_secs_f64();
                return Ok((objects > 0).then(|| objects as f64 / seconds));
            }
            ensure!(
                began.elapsed() < EMPTY_LIMIT,
                "of {objects} objects some are left after {EMPTY_LIMIT:?}"
            );
            if !self.run.pause(EMPTY_PACE).await {
                return Ok(None);
            }
        }
    }
}
