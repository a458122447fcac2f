//! A blob's bytes over as many answers as it takes: where one breaks off, the next is asked for the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::stream::{BoxStream, StreamExt as _, try_unfold};
use oci_client::errors::OciDistributionError;
use reqwest::{Response, StatusCode};

use super::repository::Repository;
use super::words;

/// In a row, without a byte between them; after 0.2 s, and twice as long each time.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

struct Download {
    repository: Arc<Repository>,
    digest: String,
    response: Response,
    at: u64,
    /// Of an answer that begins at the beginning again.
    skip: u64,
    failed: u32,
}

pub fn bytes(
    repository: Arc<Repository>,
    digest: String,
    response: Response,
) -> BoxStream<'static, io::Result<Bytes>> {
    let download = Download {
        repository,
        digest,
        response,
        at: 0,
        skip: 0,
        failed: 0,
    };
    try_unfold(download, |mut download| async {
        let bytes = download.next().await.map_err(io::Error::other)?;
        Ok(bytes.map(|bytes| (bytes, download)))
    })
    .boxed()
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match self.response.chunk().await {
                Ok(Some(mut bytes)) => {
                    let skipped = self.skip.min(bytes.len() as u64);
                    self.skip -= skipped;
                    bytes.advance(skipped as usize);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    self.failed = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                // It has had its time, and a pull has an end.
                Err(error) if error.is_timeout() => return Err(said(error)),
                Err(error) => self.go_on(said(error)).await?,
            }
        }
    }

    /// A new answer from here on, or why there is none.
    async fn go_on(&mut self, mut why: String) -> Result<(), String> {
        while self.failed < TRIES {
            tokio::time::sleep(PAUSE * 2u32.pow(self.failed)).await;
            self.failed += 1;
            tracing::debug!(
                digest = self.digest,
                at = self.at,
                "a download broke off: {why}"
            );
            match self.repository.blob_from(&self.digest, self.at).await {
                Ok(response) => {
                    // A registry that knows no ranges sends the whole.
                    let whole = response.status() != StatusCode::PARTIAL_CONTENT;
                    self.skip = if whole { self.at } else { 0 };
                    self.response = response;
                    return Ok(());
                }
                Err(error) => why = words::words(&error),
            }
        }
        Err(why)
    }
}

fn said(error: reqwest::Error) -> String {
    words::words(&OciDistributionError::RequestError(error))
}
