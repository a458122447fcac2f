//! One connection, from the client's two streams to a port of the pod and back.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::debug;
use vetch_spdy::{Input, Output, Stream};

use super::dial::Target;
use super::pairs::Pair;
use super::refusal;

/// Most that is read of the pod's at once.
const CHUNK: usize = 32 * 1024;

/// Until both have said all, or the client has given it up.
pub async fn carry(pair: Pair<Stream>, target: &Target) {
    let Pair { port, data, error } = pair;
    let Stream { input, output, .. } = data;
    let mut error = error.output;
    let closed = output.closed();
    let carried = async {
        match target.connect(port).await {
            Ok(pod) => join(pod, input, output, error).await,
            Err(why) => {
                debug!(port, sandbox = target.sandbox, "port-forward: {why}");
                // kubectl shows it, and since 1.23 gives the whole forward up.
                let words = refusal(port, target, &why);
                // Who is gone needs no words.
                let _ = error.write(words).await;
                error.end();
            }
        }
    };
    tokio::select! {
        () = carried => {}
        () = closed => {}
    }
}

/// Each direction ends by itself. A connection that the pod breaks off is no error of the forward: kubelets tell it as
/// one, and kubectl then drops all others (kubernetes#111825); here its stream is reset, and the forward goes on.
async fn join(pod: TcpStream, mut input: Input, mut output: Output, mut error: Output) {
    let (mut from_pod, mut to_pod) = pod.into_split();
    let there = async move {
        while let Ok(Some(bytes)) = input.read().await {
            if to_pod.write_all(&bytes).await.is_err() {
                // It reads no more, and may yet say something.
                break;
            }
        }
        // Dropped, this half of the connection is shut down.
        Ok(())
    };
    let back = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match from_pod
                .read_buf(&mut buffer)
                .await
                .map_err(|_| BrokenOff)?
            {
                0 => break,
                _ => output.write(buffer.split()).await.map_err(|_| BrokenOff)?,
            }
        }
        output.end();
        // Nothing can go wrong any more that the client would have to know: older ones wait for this before they close
        // their half.
        error.end();
        Ok(())
    };
    // Broken off, both are dropped, and their streams with them.
    let _: Result<_, BrokenOff> = futures::future::try_join(there, back).await;
}

struct BrokenOff;
