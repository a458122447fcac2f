//! A session in streams of SPDY, of which each is opened for a channel: `v4.channel.k8s.io` there.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::debug;
use vetch_runtime::Chain;
use vetch_spdy::{Headers, Incoming, Output, Stream};

use super::channels::{ERROR, STDERR, STDOUT, Told};
use super::options::Options;
use super::session::{self, Gone, Hear, Process, Speak};
use super::stdio::Ends;

/// The kubelet waits as long for all of them.
const STREAMS_LIMIT: Duration = Duration::from_secs(30);
/// Of a size in JSON, in bytes.
const SIZE_LIMIT: usize = 1024;

/// Of a stream, in its header `streamtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    fn read(headers: &Headers) -> Option<Kind> {
        match headers.get("streamtype")? {
            "error" => Some(Kind::Error),
            "stdin" => Some(Kind::Stdin),
            "stdout" => Some(Kind::Stdout),
            "stderr" => Some(Kind::Stderr),
            "resize" => Some(Kind::Resize),
            _ => None,
        }
    }

    /// Whether a session with such options has to have it.
    fn is_needed(self, options: &Options) -> bool {
        match self {
            Kind::Error => true,
            Kind::Stdin => options.stdin,
            Kind::Stdout => options.stdout,
            Kind::Stderr => options.stderr,
            Kind::Resize => options.tty,
        }
    }
}

/// `io`: behind the handshake. Returns when the connection is closed.
pub async fn serve<P: Process>(
    io: impl AsyncRead + AsyncWrite,
    options: &Options,
    start: impl Future<Output = Result<(Ends, P), String>>,
) -> Result<(), Gone> {
    let needed =
        |headers: &Headers| Kind::read(headers).is_some_and(|kind| kind.is_needed(options));
    let (connection, mut incoming) = vetch_spdy::serve(io, needed);
    let session = async move {
        let gathered = timeout(STREAMS_LIMIT, gather(&mut incoming, options)).await;
        let (mut speaker, mut client) = gathered.map_err(|_| Gone::Streams)??;
        session::serve(&mut speaker, &mut client, start).await?;
        speaker.end();
        // The streams are dropped, and the client closes the connection.
        Ok::<_, Gone>(())
    };
    let (ended, served) = tokio::join!(connection, session);
    if let Err(error) = ended {
        debug!(error = %Chain(&error), "a session by SPDY");
    }
    served
}

/// Every stream the options ask for, once.
async fn gather(incoming: &mut Incoming, options: &Options) -> Result<(Speaker, Client), Gone> {
    let all = [
        Kind::Error,
        Kind::Stdin,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Resize,
    ];
    let mut streams: [Option<Stream>; 5] = Default::default();
    let missing = |streams: &[Option<Stream>; 5]| {
        let mut kinds = all.into_iter().zip(streams);
        kinds.any(|(kind, stream)| stream.is_none() && kind.is_needed(options))
    };
    while missing(&streams) {
        let stream = incoming.next().await.ok_or(Gone::Left)?;
        let kind = Kind::read(&stream.headers);
        let place = all.into_iter().position(|known| Some(known) == kind);
        if let Some(place) = place.filter(|place| streams[*place].is_none()) {
            streams[place] = Some(stream);
        }
    }
    let [error, stdin, stdout, stderr, resize] = streams;
    let error = error.ok_or(Gone::Left)?.output;
    let client = Client {
        gone: Box::pin(error.closed()),
        stdin,
        resize,
        sizes: BytesMut::new(),
    };
    let speaker = Speaker {
        error,
        stdout: stdout.map(|stream| stream.output),
        stderr: stderr.map(|stream| stream.output),
    };
    Ok((speaker, client))
}

struct Speaker {
    error: Output,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

impl Speaker {
    fn end(&mut self) {
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.end();
        }
        self.error.end();
    }
}

impl Speak for Speaker {
    async fn say(&mut self, message: Vec<u8>) -> Result<(), Gone> {
        let mut bytes = Bytes::from(message);
        let output = match bytes.try_get_u8() {
            Ok(STDOUT) => self.stdout.as_ref(),
            Ok(STDERR) => self.stderr.as_ref(),
            Ok(ERROR) => Some(&self.error),
            _ => None,
        };
        match output {
            Some(output) => Ok(output.write(bytes).await?),
            None => Ok(()),
        }
    }

    /// The connection asks by itself. Its end is not heard while the process takes no input.
    async fn ping(&mut self) -> Result<(), Gone> {
        match self.error.closed().now_or_never() {
            Some(()) => Err(Gone::Left),
            None => Ok(()),
        }
    }
}

struct Client {
    /// By the stream that lasts to the end.
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    stdin: Option<Stream>,
    resize: Option<Stream>,
    /// JSON, as it comes.
    sizes: BytesMut,
}

impl Hear for Client {
    async fn hear(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = next_size(&mut self.sizes) {
                return Some(told);
            }
            tokio::select! {
                () = &mut self.gone => return None,
                bytes = read(&mut self.stdin) => return Some(match bytes {
                    Some(bytes) => Told::Input(bytes),
                    None => Told::EndOfInput,
                }),
                bytes = read(&mut self.resize) => {
                    self.sizes.extend_from_slice(&bytes.unwrap_or_default());
                }
            }
        }
    }
}

/// What the client says on a stream, once: `None` when that has ended, and the stream with it.
async fn read(stream: &mut Option<Stream>) -> Option<Bytes> {
    let Some(open) = stream else {
        return std::future::pending().await;
    };
    if let Ok(Some(bytes)) = open.input.read().await {
        return Some(bytes);
    }
    // There is nothing to say on it: dropped without an end, it would be reset.
    open.output.end();
    *stream = None;
    None
}

/// One after the other, as Go's encoder writes them. What is no size is left out, as is what gets too long for one.
fn next_size(sizes: &mut BytesMut) -> Option<Told> {
    let mut read = serde_json::Deserializer::from_slice(sizes).into_iter();
    match read.next()? {
        Ok(size) => {
            let end = read.byte_offset();
            sizes.advance(end);
            Some(Told::Resize(size))
        }
        Err(error) if error.is_eof() && sizes.len() <= SIZE_LIMIT => None,
        Err(_) => {
            sizes.clear();
            None
        }
    }
}

#[cfg(test)]
mod tests;
