use futures::channel::mpsc;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;

/// The example of RFC 6455, 1.3.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

fn request(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[test]
fn what_both_speak() {
    for (asked, agreed, form) in [
        (None, None, Form::Binary),
        (Some(""), None, Form::Binary),
        (Some("binary.k8s.io"), Some("binary.k8s.io"), Form::Binary),
        (
            Some("base64.binary.k8s.io"),
            Some("base64.binary.k8s.io"),
            Form::Base64,
        ),
        // The first that is known.
        (
            Some("x, base64.binary.k8s.io, binary.k8s.io"),
            Some("base64.binary.k8s.io"),
            Form::Base64,
        ),
    ] {
        let asked = asked.map(|own| ("sec-websocket-protocol", own));
        let headers: Vec<_> = HANDSHAKE.into_iter().chain(asked).collect();
        let (response, chosen) = shake_hands(&request(&headers)).unwrap();
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(
            headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let told = headers.get(SEC_WEBSOCKET_PROTOCOL);
        let told = told.map(|own| own.to_str().unwrap());
        assert_eq!((told, chosen), (agreed, form), "{asked:?}");
    }
}

#[test]
fn handshakes_that_fail() {
    let with = |kept: &[(&'static str, &'static str)], name, value| {
        let mut headers = kept.to_vec();
        headers.push((name, value));
        headers
    };
    let stranger = with(&HANDSHAKE, "sec-websocket-protocol", "v4.channel.k8s.io");
    let old = with(&HANDSHAKE[..3], "sec-websocket-version", "8");
    for (headers, code, words) in [
        (
            stranger,
            403,
            "requested protocol(s) are not supported: [v4.channel.k8s.io]; supports [binary.k8s.io base64.binary.k8s.io]",
        ),
        (old, 400, "unable to upgrade: "),
        (HANDSHAKE[..2].to_vec(), 400, "unable to upgrade: "),
    ] {
        let refused = shake_hands(&request(&headers)).unwrap_err();
        assert_eq!(refused.code, code, "{headers:?}");
        assert!(refused.message.starts_with(words), "{}", refused.message);
    }
}

type Piece = Result<Bytes, &'static str>;

struct Said {
    client: WebSocketStream<DuplexStream>,
    pieces: mpsc::UnboundedSender<Piece>,
    task: JoinHandle<Result<(), Error>>,
}

async fn said(form: Form) -> Said {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (pieces, stream) = mpsc::unbounded();
    let task = tokio::spawn(say(theirs, form, stream));
    Said {
        client: WebSocketStream::from_raw_socket(ours, Role::Client, None).await,
        pieces,
        task,
    }
}

impl Said {
    fn tell(&self, piece: Piece) {
        self.pieces.unbounded_send(piece).unwrap();
    }

    async fn hear(&mut self) -> Message {
        self.client.next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn each_piece_is_a_message() {
    for (form, wanted) in [
        (
            Form::Binary,
            [&b""[..], b"one\n", b"\xff\0"].map(|own| Message::Binary(Bytes::from_static(own))),
        ),
        (Form::Base64, ["", "b25lCg==", "/wA="].map(Message::text)),
    ] {
        let [greeting, one, two] = wanted;
        let mut said = said(form).await;
        assert_eq!(said.hear().await, greeting);
        said.tell(Ok(Bytes::from_static(b"one\n")));
        // Before there is anything else.
        assert_eq!(said.hear().await, one);
        said.tell(Ok(Bytes::new()));
        said.tell(Ok(Bytes::from_static(b"\xff\0")));
        assert_eq!(said.hear().await, two);
        said.pieces.close_channel();
        let Message::Close(Some(close)) = said.hear().await else {
            panic!("no close message")
        };
        assert_eq!(close.code, CloseCode::Normal);
        assert!(said.client.next().await.is_none());
        said.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_broke_off_is_not_whole() {
    let mut said = said(Form::Binary).await;
    said.hear().await;
    said.tell(Err("the kubelet is gone"));
    let Message::Close(Some(close)) = said.hear().await else {
        panic!("no close message")
    };
    assert_eq!(close.code, CloseCode::Error);
}

#[tokio::test]
async fn a_client_that_leaves_ends_it() {
    let mut said = said(Form::Binary).await;
    said.hear().await;
    for message in [Message::text("nobody listens"), Message::Ping(Bytes::new())] {
        said.client.send(message).await.unwrap();
    }
    assert_eq!(said.hear().await, Message::Pong(Bytes::new()));
    said.client.close(None).await.unwrap();
    said.task.await.unwrap().unwrap();
    assert!(said.pieces.is_closed());
}
