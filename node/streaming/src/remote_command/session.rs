//! One process and its client, to the last byte.
//!
//! Both directions hold at most a message each: a client that does not read holds up the process by its full pipe, a
//! process that does not read holds up the client by the full connection. The status comes after all the process has
//! written. A client that goes away is let go by dropping the process's handle and its streams: what exec runs goes with
//! it, what attach is attached to goes on.
//!
//! How the client is spoken to is [`Speak`]'s and [`Hear`]'s to know.

use std::time::Duration;

use tokio::time::{Instant, interval_at};
use tokio_tungstenite::tungstenite;
use vetch_spdy::Closed;

use super::channels::{self, ERROR, Protocol, Told};
use super::stdio::{Ends, Input, Output};

/// A client that vanished without a word is found out by what it does not acknowledge.
const PING: Duration = Duration::from_secs(30);
/// What a pipe holds at most, pipe(7): one of the process's children may go on filling it.
const REST: usize = 1 << 20;

/// The client went away before the end.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    #[error("it left")]
    Left,
    #[error("it did not open its streams in time")]
    Streams,
    #[error(transparent)]
    WebSocket(#[from] tungstenite::Error),
    #[error(transparent)]
    Spdy(#[from] Closed),
}

/// Let go of when dropped.
pub trait Process: Send {
    /// Its exit code, or in words for the client why there is none. May be dropped and called again.
    fn wait(&mut self) -> impl Future<Output = Result<i32, String>> + Send;
}

/// To the client.
pub trait Speak: Send {
    /// What it was agreed to speak.
    fn protocol(&self) -> Protocol {
        Protocol::V4
    }

    /// A message of `channels`: a channel's number, and bytes.
    fn say(&mut self, message: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send;

    /// Says something that has to be acknowledged, where nothing below does it.
    fn ping(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
}

/// From the client.
pub trait Hear: Send {
    /// `None` when it is gone. May be dropped and called again.
    fn hear(&mut self) -> impl Future<Output = Option<Told>> + Send;
}

/// The last word is the status. `start`: our ends of the process's streams, and the process.
pub async fn serve<P: Process>(
    speaker: &mut impl Speak,
    client: &mut impl Hear,
    start: impl Future<Output = Result<(Ends, P), String>>,
) -> Result<(), Gone> {
    let outcome = match start.await {
        Err(why) => Err(why),
        Ok((ends, mut process)) => {
            let Ends {
                mut input,
                stdout,
                stderr,
            } = ends;
            tokio::select! {
                outcome = speak(speaker, [stdout, stderr], &mut process) => outcome?,
                () = listen(client, &mut input) => return Err(Gone::Left),
            }
        }
    };
    match channels::last_word(speaker.protocol(), outcome) {
        Some(words) => speaker.say([&[ERROR], words.as_bytes()].concat()).await,
        None => Ok(()),
    }
}

/// Sends what the process writes until it has ended; returns how.
async fn speak<P: Process>(
    speaker: &mut impl Speak,
    [mut stdout, mut stderr]: [Option<Output>; 2],
    process: &mut P,
) -> Result<Result<i32, String>, Gone> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    let outcome = loop {
        let (output, message) = tokio::select! {
            outcome = process.wait() => break outcome,
            message = next(&stdout) => (&mut stdout, message),
            message = next(&stderr) => (&mut stderr, message),
            _ = ping.tick() => {
                speaker.ping().await?;
                continue;
            }
        };
        match message {
            Some(message) if output.as_ref().is_some_and(|output| output.wanted) => {
                speaker.say(message).await?;
            }
            Some(_) => {}
            // It may run on.
            None => *output = None,
        }
    };
    for output in [&stdout, &stderr].into_iter().flatten() {
        let mut left = REST;
        while left > 0
            && let Some(message) = output.rest()
        {
            left = left.saturating_sub(message.len());
            if output.wanted {
                speaker.say(message).await?;
            }
        }
    }
    Ok(outcome)
}

async fn next(output: &Option<Output>) -> Option<Vec<u8>> {
    match output {
        Some(output) => output.next().await,
        None => std::future::pending().await,
    }
}

/// Passes on what the client says until it is gone.
async fn listen(client: &mut impl Hear, input: &mut Input) {
    while let Some(told) = client.hear().await {
        match told {
            Told::Input(bytes) => {
                if let Some(stdin) = &input.stdin
                    && stdin.write_all(&bytes).await.is_err()
                {
                    // The process reads no more.
                    input.stdin = None;
                }
            }
            Told::EndOfInput => input.end(),
            Told::Resize(size) => input.resize(size).await,
            Told::Nothing => {}
        }
    }
}
