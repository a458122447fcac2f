//! Processes of this machine, and a client of the same library at the other end of a narrow connection.

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::testing::{Local, options, run, run_elsewhere};
use super::*;

const LIMIT: Duration = Duration::from_secs(15);
/// What the connection holds: less than a test says.
const NARROW: usize = 16 * 1024;

type Socket = WebSocketStream<DuplexStream>;

struct Session {
    socket: Socket,
    served: JoinHandle<Result<(), Gone>>,
    /// Says so when the process is given up.
    dropped: oneshot::Receiver<()>,
}

impl Session {
    async fn start(protocol: Protocol, flags: &[&str], command: &[&str]) -> Session {
        Session::with(protocol, options(flags, command), run).await
    }

    async fn with<F>(
        protocol: Protocol,
        options: Options,
        start: impl FnOnce(Options, oneshot::Sender<()>) -> F,
    ) -> Session
    where
        F: Future<Output = Result<(Ends, Local), String>> + Send + 'static,
    {
        let (ours, theirs) = tokio::io::duplex(NARROW);
        let (sender, dropped) = oneshot::channel();
        let start = start(options.clone(), sender);
        let served = tokio::spawn(async move { serve(theirs, protocol, &options, start).await });
        Session {
            socket: WebSocketStream::from_raw_socket(ours, Role::Client, None).await,
            served,
            dropped,
        }
    }

    async fn say(&mut self, channel: u8, bytes: &[u8]) {
        send_to(&mut self.socket, channel, bytes).await;
    }

    /// All that is said until the end, in the order of the channels, and how it ended.
    async fn rest(self) -> (Vec<u8>, Vec<u8>, Value) {
        let Session { socket, served, .. } = self;
        let (_, input) = socket.split();
        let told = timeout(LIMIT, hear(input)).await.expect("it ends");
        served.await.unwrap().unwrap();
        told
    }
}

async fn send_to<T>(sink: &mut T, channel: u8, bytes: &[u8])
where
    T: futures::Sink<Message, Error = Error> + Unpin,
{
    let message = [&[channel], bytes].concat();
    sink.send(Message::Binary(message.into())).await.unwrap();
}

async fn hear(mut input: SplitStream<Socket>) -> (Vec<u8>, Vec<u8>, Value) {
    let mut said = [Vec::new(), Vec::new(), Vec::new()];
    while let Some(Ok(message)) = input.next().await {
        if let Message::Binary(bytes) = message {
            assert!(said[2].is_empty(), "something came after the status");
            said[usize::from(bytes[0]) - 1].extend_from_slice(&bytes[1..]);
        }
    }
    let [out, err, status] = said;
    (out, err, serde_json::from_slice(&status).unwrap())
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

#[tokio::test]
async fn the_first_protocol_says_nothing_of_a_success() {
    for (protocol, wanted) in [
        (
            Protocol::V1,
            [&b"\x01"[..], b"\x01out\n"].map(|bytes| Message::Binary(bytes.into())),
        ),
        (Protocol::V1Base64, ["1", "1b3V0Cg=="].map(Message::text)),
    ] {
        let session = Session::start(protocol, &["output"], &["echo", "out"]).await;
        let Session {
            mut socket, served, ..
        } = session;
        let mut said = Vec::new();
        let hear = async {
            while let Some(Ok(message)) = socket.next().await {
                if !message.is_close() {
                    said.push(message);
                }
            }
        };
        timeout(LIMIT, hear).await.expect("it ends");
        served.await.unwrap().unwrap();
        assert_eq!(said, wanted);
    }
}

#[tokio::test]
async fn streams_apart_and_then_the_exit_code() {
    for protocol in [Protocol::V5, Protocol::V4] {
        let script = "echo out; echo err >&2; exit 3";
        let session = Session::start(protocol, &["output", "error"], &["sh", "-c", script]).await;
        let (out, err, status) = session.rest().await;
        assert_eq!((&out[..], &err[..]), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(status["details"]["causes"][0]["message"], "3");
    }
    // What nobody asked for goes nowhere.
    let script = ["sh", "-c", "echo out; echo err >&2; cat"];
    let session = Session::start(Protocol::V5, &["error"], &script).await;
    let told = session.rest().await;
    assert_eq!(told, (vec![], b"err\n".to_vec(), success()));
}

#[tokio::test]
async fn what_cannot_be_started_is_told_why() {
    let session = Session::start(Protocol::V5, &["output"], &["/no/such/program"]).await;
    let (_, _, status) = session.rest().await;
    assert_eq!(
        status["message"],
        "Internal error occurred: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_big_output_is_whole() {
    let session = Session::start(Protocol::V5, &["output"], &["seq", "200000"]).await;
    let (out, _, status) = session.rest().await;
    let wanted: String = (1..=200_000).map(|line| format!("{line}\n")).collect();
    assert!(out == wanted.as_bytes(), "{} bytes", out.len());
    assert_eq!(status, success());
}

#[tokio::test]
async fn much_goes_in_and_comes_out_until_the_input_ends() {
    let Session { socket, served, .. } =
        Session::start(Protocol::V5, &["input", "output"], &["cat"]).await;
    let (mut sink, input) = socket.split();
    let heard = tokio::spawn(hear(input));
    for piece in 0..64_u8 {
        send_to(&mut sink, 0, &[piece; 32 * 1024]).await;
    }
    send_to(&mut sink, 255, &[0]).await;
    let (out, _, status) = timeout(LIMIT, heard).await.expect("cat ends").unwrap();
    assert_eq!(status, success());
    let wanted: Vec<u8> = (0..64).flat_map(|piece| [piece; 32 * 1024]).collect();
    assert!(out == wanted, "{} bytes", out.len());
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn input_that_nobody_reads_keeps_no_status_back() {
    let Session { socket, served, .. } =
        Session::start(Protocol::V5, &["input", "output"], &["echo", "done"]).await;
    let (mut sink, input) = socket.split();
    let heard = tokio::spawn(hear(input));
    // More than the connection and the pipe hold; the end of the session ends it.
    let message = || Message::Binary(vec![0; 32 * 1024].into());
    while sink.send(message()).await.is_ok() {}
    let (out, _, status) = timeout(LIMIT, heard).await.expect("it ends").unwrap();
    assert_eq!((&out[..], status), (&b"done\n"[..], success()));
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_child_that_keeps_the_pipes_keeps_no_status_back() {
    let script = "sleep 30 & echo $!";
    let session = Session::start(Protocol::V5, &["output", "error"], &["sh", "-c", script]).await;
    let (out, _, status) = session.rest().await;
    assert_eq!(status, success());
    let child: i32 = String::from_utf8(out).unwrap().trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_terminal_has_the_clients_size_and_one_output() {
    let script =
        "until [ \"$(stty size)\" = '42 77' ]; do sleep 0.01; done; echo to out; echo to err >&2";
    let flags = ["input", "output", "error", "tty"];
    let mut session = Session::start(Protocol::V4, &flags, &["sh", "-c", script]).await;
    session.say(4, br#"{"Width":77,"Height":42}"#).await;
    let (out, _, status) = session.rest().await;
    assert_eq!(&out[..], b"to out\r\nto err\r\n");
    assert_eq!(status, success());
}

#[tokio::test]
async fn a_terminal_elsewhere_is_told_its_size_and_its_input_ends() {
    let options = options(&["input", "output", "tty"], &["cat"]);
    let (sender, mut sizes) = mpsc::unbounded_channel();
    let start = |options, dropped| run_elsewhere(options, dropped, sender);
    let mut session = Session::with(Protocol::V5, options, start).await;
    session.say(4, br#"{"Width":77,"Height":42}"#).await;
    session.say(0, b"word").await;
    session.say(255, &[0]).await;
    let (out, _, status) = session.rest().await;
    assert_eq!((&out[..], status), (&b"word"[..], success()));
    let size = channels::Size {
        width: 77,
        height: 42,
    };
    assert_eq!(sizes.recv().await, Some(size));
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_process_with_it() {
    for command in ["exec sleep 1000", "while :; do echo x; done"] {
        let flags = ["input", "output"];
        let mut session = Session::start(Protocol::V5, &flags, &["sh", "-c", command]).await;
        // Its greeting: the process is being started.
        session.socket.next().await.unwrap().unwrap();
        let Session {
            socket,
            served,
            dropped,
        } = session;
        drop(socket);
        let ended = timeout(LIMIT, served).await.expect("the session ends");
        assert!(ended.unwrap().is_err(), "{command}");
        assert!(dropped.await.is_err(), "{command}");
    }
}
