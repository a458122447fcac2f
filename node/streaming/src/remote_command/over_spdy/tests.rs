//! A client of SPDY at the other end of a narrow connection. What the session makes of pipes is asked of WebSockets.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vetch_spdy::testing::{self, data};
use vetch_spdy::{Frame, Reset, StreamId};

use super::super::channels::Size;
use super::super::testing::{options, run};
use super::*;

const LIMIT: Duration = Duration::from_secs(15);
/// What the connection holds: less than a test says.
const NARROW: usize = 16 * 1024;

struct Session {
    client: testing::Client<DuplexStream>,
    served: JoinHandle<Result<(), Gone>>,
    /// Says so when the process is given up.
    dropped: oneshot::Receiver<()>,
}

impl Session {
    /// With the streams, whose numbers are 1, 3 and so on.
    async fn start(streams: &[&str], flags: &[&str], command: &[&str]) -> Session {
        let (ours, theirs) = tokio::io::duplex(NARROW);
        let options = options(flags, command);
        let (sender, dropped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let start = run(options.clone(), sender);
            serve(theirs, &options, start).await
        });
        let mut client = testing::Client::new(ours);
        for (kind, stream) in streams.iter().zip((1..).step_by(2)) {
            client.open(stream, &[("streamtype", kind)]).await;
            client.accepted(stream).await;
        }
        Session {
            client,
            served,
            dropped,
        }
    }

    /// All that is said until stream 1, of errors, has ended, and how it ended.
    async fn rest(mut self) -> (BTreeMap<StreamId, Vec<u8>>, Value) {
        let mut said: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
        let mut ended = false;
        while !ended {
            match self.client.hear().await {
                Some(Frame::Data { stream, fin, bytes }) => {
                    if !bytes.is_empty() {
                        said.entry(stream).or_default().extend_from_slice(&bytes);
                    }
                    ended = fin && stream == 1;
                }
                other => panic!("{other:?}"),
            }
        }
        drop(self.client);
        let served = timeout(LIMIT, self.served).await.expect("the session ends");
        served.unwrap().unwrap();
        let status = said.remove(&1).unwrap();
        (said, serde_json::from_slice(&status).unwrap())
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

#[tokio::test]
async fn streams_apart_and_then_the_exit_code() {
    let streams = ["error", "stdout", "stderr"];
    let script = "echo out; echo err >&2; exit 3";
    let session = Session::start(&streams, &["output", "error"], &["sh", "-c", script]).await;
    let (said, status) = session.rest().await;
    let wanted = BTreeMap::from([(3, b"out\n".to_vec()), (5, b"err\n".to_vec())]);
    assert_eq!(said, wanted);
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn input_ends_before_output() {
    // In an order of its own.
    let streams = ["error", "stdout", "stdin"];
    let flags = ["input", "output"];
    let script = "cat; seq 200000";
    let mut session = Session::start(&streams, &flags, &["sh", "-c", script]).await;
    session.client.say(data(5, false, b"in\n")).await;
    session.client.say(data(5, true, b"put\n")).await;
    let (said, status) = session.rest().await;
    let lines: String = (1..=200_000).map(|line| format!("{line}\n")).collect();
    let wanted = format!("in\nput\n{lines}");
    let out = &said[&3];
    assert!(*out == wanted.as_bytes(), "{} bytes", out.len());
    assert_eq!(status, success());
}

#[tokio::test]
async fn a_terminal_has_the_clients_size() {
    let script = "until [ \"$(stty size)\" = '42 77' ]; do sleep 0.01; done; echo out";
    let streams = ["error", "stdin", "stdout", "resize"];
    let flags = ["input", "output", "error", "tty"];
    let mut session = Session::start(&streams, &flags, &["sh", "-c", script]).await;
    let sizes = b"{\"Width\":1,\"Height\":2}\n{\"Width\":77,\"Height\":42}\n";
    let (first, second) = sizes.split_at(30);
    session.client.say(data(7, false, first)).await;
    session.client.say(data(7, false, second)).await;
    let (said, status) = session.rest().await;
    assert_eq!(said, BTreeMap::from([(5, b"out\r\n".to_vec())]));
    assert_eq!(status, success());
}

#[tokio::test]
async fn what_is_not_asked_for_is_refused() {
    let mut session = Session::start(&["error"], &["output"], &["echo", "done"]).await;
    for (stream, kind) in [(3, "stderr"), (5, "other")] {
        session.client.open(stream, &[("streamtype", kind)]).await;
        let refused = Frame::RstStream {
            stream,
            status: Reset::PROTOCOL_ERROR,
        };
        assert_eq!(session.client.hear().await, Some(refused));
    }
    session.client.open(7, &[("streamtype", "stdout")]).await;
    session.client.accepted(7).await;
    let (said, status) = session.rest().await;
    assert_eq!(said, BTreeMap::from([(7, b"done\n".to_vec())]));
    assert_eq!(status, success());
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_process_with_it() {
    for command in ["exec sleep 1000", "while :; do echo x; done"] {
        let streams = ["error", "stdin", "stdout"];
        let flags = ["input", "output"];
        let script = format!("echo begun; {command}");
        let mut session = Session::start(&streams, &flags, &["sh", "-c", &script]).await;
        assert!(matches!(
            session.client.hear().await,
            Some(Frame::Data { stream: 5, .. })
        ));
        drop(session.client);
        let served = timeout(LIMIT, session.served).await.expect("it ends");
        assert!(served.unwrap().is_err(), "{command}");
        assert!(session.dropped.await.is_err(), "{command}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_opens_too_little_is_not_waited_for() {
    let session = Session::start(&["error"], &["output"], &["echo", "done"]).await;
    let served = session.served.await.unwrap();
    assert!(matches!(served, Err(Gone::Streams)));
    drop(session.client);
}

#[test]
fn sizes_come_in_pieces() {
    let size = |width, height| Some(Told::Resize(Size { width, height }));
    let mut sizes = BytesMut::new();
    for (piece, wanted) in [
        (&b"{\"Width\":1,"[..], None),
        (b"\"Height\":2}\n{\"Wi", size(1, 2)),
        (b"", None),
        (b"dth\":3,\"Height\":4}\n", size(3, 4)),
        (b"no size", None),
        (b"{\"Width\":5,\"Height\":6}", size(5, 6)),
        (b"{\"Width\":70000,\"Height\":6}", None),
        (&[b'['; SIZE_LIMIT + 1], None),
        (b"{\"Width\":7,\"Height\":8}", size(7, 8)),
    ] {
        sizes.extend_from_slice(piece);
        assert_eq!(next_size(&mut sizes), wanted, "{piece:?}");
    }
}
