//! A pull that somebody watches: a bar a layer, where there is a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vetch_runtime::images::{LayerProgress, Progress};
use vetch_runtime::{ImageStatus, ImageStore, RegistryAuth};

const EVERY: Duration = Duration::from_millis(100);
const STYLE: &str = "{prefix} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec} {msg}";

pub async fn pull(
    store: &ImageStore,
    reference: &str,
    auth: Option<RegistryAuth>,
) -> Result<ImageStatus> {
    let progress = Progress::default();
    let mut bars = Bars::default();
    let pull = store.pull_showing(reference, auth, progress.clone());
    let mut pull = std::pin::pin!(pull);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            outcome = &mut pull => {
                bars.show(&progress.layers());
                return Ok(outcome?);
            }
            _ = tick.tick() => bars.show(&progress.layers()),
        }
    }
}

/// On standard error; indicatif draws nothing where that is no terminal.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    by_digest: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn show(&mut self, layers: &[LayerProgress]) {
        for layer in layers {
            let bar = self
                .by_digest
                .entry(layer.digest.clone())
                .or_insert_with(|| self.all.add(bar(layer)));
            bar.set_position(layer.done);
            if layer.complete && !bar.is_finished() {
                bar.finish_with_message("done");
            }
        }
    }
}

fn bar(layer: &LayerProgress) -> ProgressBar {
    let short = layer.digest.rsplit(':').next().unwrap_or(&layer.digest);
    let style =
        ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(layer.size)
        .with_style(style)
        .with_prefix(short.chars().take(12).collect::<String>())
}
