//! `v4.channel.k8s.io`: one connection for each port that was asked for, in the messages of one
//! WebSocket. A message's first byte is its channel: 2n is what client and pod say by the nth port,
//! 2n + 1 why they cannot. Each channel's first message is its port, two bytes, the low one first.
//! No message ends a channel: when all connections are over, the WebSocket is.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures::stream::SplitStream;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tracing::debug;

use super::dial::Target;
use super::refusal;

/// Most that is read of the pod's at once.
const CHUNK: usize = 32 * 1024;
/// Messages that wait for a slow reader; then the others wait with them, as they do with a kubelet.
const WAITING: usize = 8;
const LINGER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    /// In text messages, the channel as a digit: `v4.base64.channel.k8s.io`.
    Base64,
}

/// What is to be said, on which channel.
type Said = (u8, Vec<u8>);

/// Until the client goes, or all connections are over.
pub async fn forward<S>(
    socket: WebSocketStream<S>,
    encoding: Encoding,
    ports: Vec<u16>,
    target: &Target,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (mut sink, messages) = socket.split();
    let (say, mut said) = channel::<Said>(WAITING);
    let (mut inputs, mut connections) = (Vec::new(), Vec::new());
    for (number, port) in (0_u8..).zip(ports) {
        let (input, heard) = channel(WAITING);
        inputs.push(Some(input));
        connections.push(carry(number, port, target, heard, say.clone()));
    }
    drop(say);
    let speak = async {
        while let Some((channel, bytes)) = said.recv().await {
            if sink.send(encode(encoding, channel, &bytes)).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    let carried = async {
        tokio::join!(futures::future::join_all(connections), speak);
    };
    let mut heard = pin!(hear(messages, encoding, inputs));
    tokio::select! {
        () = carried => {
            // It closes its end too; closed before, with something of it unread, the connection would
            // be reset and what was said last lost.
            let _ = timeout(LINGER, heard).await;
        }
        () = &mut heard => debug!("port-forward: the client is gone"),
    }
}

/// Hands on what the client says, until it goes. What nobody listens to is dropped.
async fn hear<S>(
    mut messages: SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    mut inputs: Vec<Option<Sender<Bytes>>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = messages.next().await {
        if message.is_close() {
            return;
        }
        let Some((channel, bytes)) = decode(encoding, message) else {
            continue;
        };
        // Nothing is said on the channels of errors.
        let (number, is_data) = (usize::from(channel / 2), channel % 2 == 0);
        if let Some(slot) = inputs.get_mut(number).filter(|_| is_data)
            && let Some(input) = slot
            && input.send(bytes).await.is_err()
        {
            *slot = None;
        }
    }
}

async fn carry(number: u8, port: u16, target: &Target, heard: Receiver<Bytes>, say: Sender<Said>) {
    let (data, error) = (number * 2, number * 2 + 1);
    for channel in [data, error] {
        let _ = say.send((channel, port.to_le_bytes().to_vec())).await;
    }
    match target.connect(port).await {
        Ok(pod) => join(pod, data, heard, say).await,
        Err(why) => {
            debug!(port, sandbox = target.sandbox, "port-forward: {why}");
            let words = refusal(port, target, &why);
            // Who is gone needs no words.
            let _ = say.send((error, words.into_bytes())).await;
        }
    }
}

/// Until the pod ends its half: the client cannot say that it has ended its own.
async fn join(pod: TcpStream, data: u8, mut heard: Receiver<Bytes>, say: Sender<Said>) {
    let (mut from_pod, mut to_pod) = pod.into_split();
    let there = async {
        while let Some(bytes) = heard.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let back = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from_pod.read(&mut buffer).await {
            if say.send((data, buffer[..length].to_vec())).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

fn encode(encoding: Encoding, channel: u8, bytes: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => Message::Binary([&[channel], bytes].concat().into()),
        Encoding::Base64 => {
            let digit = char::from(b'0'.wrapping_add(channel));
            Message::text(format!("{digit}{}", BASE64.encode(bytes)))
        }
    }
}

/// `None` for what says nothing: pings, empty messages, no base64.
fn decode(encoding: Encoding, message: Message) -> Option<(u8, Bytes)> {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        _ => return None,
    };
    let (channel, rest) = (*bytes.first()?, bytes.slice(1..));
    match encoding {
        Encoding::Binary => Some((channel, rest)),
        Encoding::Base64 => {
            let decoded = BASE64.decode(&rest).ok()?;
            Some((channel.checked_sub(b'0')?, decoded.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::DuplexStream;
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::port_forward::tests::closed;
    use crate::web_socket;

    const LIMIT: Duration = Duration::from_secs(15);

    async fn start(encoding: Encoding, ports: Vec<u16>) -> WebSocketStream<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let socket = web_socket::open(theirs).await;
            forward(socket, encoding, ports, &Target::here()).await;
        });
        WebSocketStream::from_raw_socket(ours, Role::Client, None).await
    }

    async fn hear(client: &mut WebSocketStream<DuplexStream>, encoding: Encoding) -> (u8, Vec<u8>) {
        let message = timeout(LIMIT, client.next())
            .await
            .expect("it says something");
        let (channel, bytes) = decode(encoding, message.unwrap().unwrap()).unwrap();
        (channel, bytes.to_vec())
    }

    #[test]
    fn messages_of_a_channel() {
        for (encoding, message) in [
            (
                Encoding::Binary,
                Message::Binary(Bytes::from_static(b"\x02hi")),
            ),
            (Encoding::Base64, Message::text("2aGk=")),
        ] {
            assert_eq!(encode(encoding, 2, b"hi"), message);
            let decoded = decode(encoding, message);
            assert_eq!(decoded, Some((2, Bytes::from_static(b"hi"))));
            assert_eq!(decode(encoding, Message::Ping(Bytes::new())), None);
            assert_eq!(decode(encoding, Message::Binary(Bytes::new())), None);
        }
        assert_eq!(decode(Encoding::Base64, Message::text("2!")), None);
    }

    #[tokio::test]
    async fn a_port_that_listens_and_one_that_does_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let (_older, _newer, closed) = closed();
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let mut client = start(encoding, vec![open, closed]).await;
            let (mut pod, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
            client.send(encode(encoding, 0, b"ping")).await.unwrap();
            let mut four = [0; 4];
            timeout(LIMIT, pod.read_exact(&mut four))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(&four, b"ping");
            pod.write_all(b"pong").await.unwrap();

            // Of each channel the first message is its port.
            let mut said = vec![Vec::new(); 4];
            while said[0].len() < 6 || said[3].len() < 3 {
                let (channel, bytes) = hear(&mut client, encoding).await;
                said[usize::from(channel)].extend(bytes);
            }
            let port = |port: u16| port.to_le_bytes().to_vec();
            assert_eq!(said[0], [port(open), b"pong".to_vec()].concat());
            assert_eq!(said[1], port(open));
            assert_eq!(said[2], port(closed));
            let words = String::from_utf8_lossy(&said[3][2..]).into_owned();
            let wanted = format!("error forwarding port {closed} to pod s1, uid u1: ");
            assert!(words.starts_with(&wanted), "{words}");

            // When the pod has ended the last connection, the WebSocket is over.
            drop(pod);
            let last = timeout(LIMIT, client.next()).await.unwrap();
            assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_closes_the_pods_side() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = start(Encoding::Binary, vec![port]).await;
        let (mut pod, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        drop(client);
        let read = timeout(LIMIT, pod.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
