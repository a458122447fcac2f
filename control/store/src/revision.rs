//! etcd's current revision: one read serves all requests that wait for one.

use std::sync::Arc;

use etcd_client::{GetOptions, KvClient, ResponseHeader};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::store::limited;

const BATCH: usize = 1024;

type Answer = oneshot::Sender<Result<i64, Arc<etcd_client::Error>>>;

#[derive(Clone, Debug)]
pub(crate) struct Revisions(mpsc::UnboundedSender<Answer>);

impl Revisions {
    pub fn new(kv: KvClient) -> Revisions {
        let (sender, mut requests) = mpsc::unbounded_channel::<Answer>();
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            // Whoever comes while a read is under way waits for the next: an older answer could miss a write that
            // was acknowledged to it.
            while requests.recv_many(&mut waiting, BATCH).await > 0 {
                let revision = read(&kv).await;
                for answer in waiting.drain(..) {
                    let told = match &revision {
                        Ok(revision) => Ok(*revision),
                        Err(Error::Unavailable(cause)) => Err(Arc::clone(cause)),
                        Err(other) => Err(Arc::new(etcd_client::Error::IoError(
                            std::io::Error::other(other.to_string()),
                        ))),
                    };
                    // A client that went away needs no answer.
                    let _ = answer.send(told);
                }
            }
        });
        Revisions(sender)
    }

    pub async fn current(&self) -> Result<i64, Error> {
        let (sender, answer) = oneshot::channel();
        let gone = || {
            let cause = std::io::Error::other("the store is closed");
            Error::Unavailable(Arc::new(etcd_client::Error::IoError(cause)))
        };
        self.0.send(sender).map_err(|_| gone())?;
        answer
            .await
            .map_err(|_| gone())?
            .map_err(Error::Unavailable)
    }
}

/// A linearizable read that carries no data.
pub(crate) async fn read(kv: &KvClient) -> Result<i64, Error> {
    let options = GetOptions::new().with_keys_only().with_limit(1);
    let response = limited(kv.clone().get("/registry", Some(options))).await?;
    Ok(response.header().map_or(0, ResponseHeader::revision))
}
