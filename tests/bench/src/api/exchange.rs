//! One request and its whole answer, timed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Request;
use http_body_util::BodyExt as _;
use serde::Deserialize;

/// How much of an answer is kept; what is not costs the client next to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// Of a list: what is told before its items.
    Head,
    Whole,
}

pub struct Answer {
    pub took: Duration,
    pub bytes: usize,
    pub body: Vec<u8>,
}

impl Keep {
    fn bytes(self) -> usize {
        match self {
            Keep::Nothing => 0,
            Keep::Head => 4096,
            Keep::Whole => usize::MAX,
        }
    }
}

/// The part of a Status that says why.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Reads the answer to its end. A refusal is always kept whole.
///
/// # Errors
/// When there is no answer, or it is no success: with the server's message.
pub async fn exchange(
    client: &kube::Client,
    request: Request<Vec<u8>>,
    keep: Keep,
) -> Result<Answer> {
    let began = Instant::now();
    let response = client.send(request.map(Into::into)).await?;
    let status = response.status();
    let keep = match status.is_success() {
        true => keep.bytes(),
        false => usize::MAX,
    };
    let mut content = response.into_body();
    let mut bytes = 0;
    let mut body = Vec::new();
    while let Some(frame) = content.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes += data.len();
            let wanted = data.len().min(keep - body.len());
            body.extend_from_slice(&data[..wanted]);
        }
    }
    let took = began.elapsed();
    if !status.is_success() {
        let message = serde_json::from_slice::<Refusal>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).trim().to_owned(),
            |refusal| refusal.message,
        );
        bail!("{status}: {message}");
    }
    Ok(Answer { took, bytes, body })
}
