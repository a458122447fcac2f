//! Listeners of this machine, and a client of SPDY.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vetch_spdy::testing::{Client, data};
use vetch_spdy::{Frame, Reset, StreamId};

use super::*;

const LIMIT: Duration = Duration::from_secs(15);

fn start() -> (Client<DuplexStream>, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let forwarded = tokio::spawn(forward(theirs, Target::here()));
    (Client::new(ours), forwarded)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port of both loopbacks on which nobody listens while this holds it: other tests take ports of the machine, too.
pub(super) fn closed() -> (TcpSocket, TcpSocket, u16) {
    loop {
        let older = TcpSocket::new_v4().unwrap();
        older.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = older.local_addr().unwrap().port();
        let newer = TcpSocket::new_v6().unwrap();
        if newer.bind((Ipv6Addr::LOCALHOST, port).into()).is_ok() {
            return (older, newer, port);
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = timeout(LIMIT, listener.accept()).await;
    accepted.expect("it is connected to").unwrap().0
}

/// As kubectl does: `first` for errors, on which it has nothing to say, and the next for data.
async fn open(client: &mut Client<DuplexStream>, first: StreamId, port: u16) {
    let (port, request) = (port.to_string(), first.to_string());
    for (stream, kind) in [(first, "error"), (first + 2, "data")] {
        let headers = [
            ("streamtype", kind),
            ("port", &*port),
            ("requestid", &*request),
        ];
        client.open(stream, &headers).await;
        client.accepted(stream).await;
        if kind == "error" {
            client.say(data(stream, true, b"")).await;
        }
    }
}

/// What is said on these streams until each has ended.
async fn ends(
    client: &mut Client<DuplexStream>,
    streams: &[StreamId],
) -> BTreeMap<StreamId, Vec<u8>> {
    let mut said: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
    let mut ended = 0;
    while ended < streams.len() {
        match client.hear().await {
            Some(Frame::Data { stream, fin, bytes }) if streams.contains(&stream) => {
                said.entry(stream).or_default().extend_from_slice(&bytes);
                ended += usize::from(fin);
            }
            other => panic!("{other:?}"),
        }
    }
    said
}

#[tokio::test]
async fn each_side_may_end_first() {
    let (listener, port) = listen().await;
    let (mut client, _forwarded) = start();
    for (first, client_first) in [(1, true), (5, false)] {
        open(&mut client, first, port).await;
        let mut pod = accept(&listener).await;
        client.say(data(first + 2, client_first, b"question")).await;
        let mut question = vec![0; 8];
        timeout(LIMIT, pod.read_exact(&mut question))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(question, b"question");
        if client_first {
            assert_eq!(
                timeout(LIMIT, pod.read(&mut question))
                    .await
                    .unwrap()
                    .unwrap(),
                0
            );
        }
        pod.write_all(b"answer").await.unwrap();
        pod.shutdown().await.unwrap();
        let said = ends(&mut client, &[first, first + 2]).await;
        let wanted = BTreeMap::from([(first, vec![]), (first + 2, b"answer".to_vec())]);
        assert_eq!(said, wanted);
        if !client_first {
            client.say(data(first + 2, true, b"more")).await;
            let mut more = Vec::new();
            timeout(LIMIT, pod.read_to_end(&mut more))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(more, b"more");
        }
    }
}

#[tokio::test]
async fn who_listens_on_the_newer_loopback_is_found() {
    let (_closed, newer, port) = closed();
    let listener = newer.listen(1).unwrap();
    let (mut client, _forwarded) = start();
    open(&mut client, 1, port).await;
    drop(accept(&listener).await);
    ends(&mut client, &[1, 3]).await;
}

#[tokio::test]
async fn a_port_nobody_listens_on_ends_no_other_connection() {
    let (listener, port) = listen().await;
    let (_older, _newer, closed) = closed();
    let (mut client, _forwarded) = start();
    open(&mut client, 1, port).await;
    let mut pod = accept(&listener).await;
    open(&mut client, 5, closed).await;
    // Given up, the stream of data is reset; what it is for is said on the other.
    let mut words = Vec::new();
    let mut ended = false;
    while !ended {
        match client.hear().await {
            Some(Frame::Data {
                stream: 5,
                fin,
                bytes,
            }) => {
                words.extend_from_slice(&bytes);
                ended = fin;
            }
            Some(Frame::Data { stream: 7, .. } | Frame::RstStream { stream: 7, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    let refused = |ip: &str| format!("dial tcp {ip}:{closed}: connect: connection refused");
    let wanted = format!(
        "error forwarding port {closed} to pod s1, uid u1: failed to execute portforward in network namespace \"host\": \
         failed to connect to localhost:{closed} inside namespace \"s1\", IPv4: {} IPv6: {}",
        refused("127.0.0.1"),
        refused("[::1]")
    );
    assert_eq!(str::from_utf8(&words).unwrap(), wanted);
    client.say(data(3, false, b"still")).await;
    let mut still = [0; 5];
    timeout(LIMIT, pod.read_exact(&mut still))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&still, b"still");
}

#[tokio::test]
async fn a_connection_that_is_broken_off_is_reset_without_words() {
    let (listener, port) = listen().await;
    let (mut client, _forwarded) = start();
    open(&mut client, 1, port).await;
    let pod = accept(&listener).await;
    client.say(data(3, false, b"unread")).await;
    let peeked = timeout(LIMIT, pod.peek(&mut [0; 6])).await;
    assert!(peeked.expect("it comes").unwrap() > 0);
    // Closed with something unread, it is reset (RFC 2525, 2.17).
    drop(pod);
    let (mut data_reset, mut error_reset) = (false, false);
    while !(data_reset && error_reset) {
        match client.hear().await {
            Some(Frame::RstStream {
                stream: 3,
                status: Reset::CANCEL,
            }) => data_reset = true,
            Some(Frame::RstStream {
                stream: 1,
                status: Reset::CANCEL,
            }) => error_reset = true,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_resets_or_goes_closes_the_pods_side() {
    let (listener, port) = listen().await;
    let (mut client, forwarded) = start();
    open(&mut client, 1, port).await;
    let mut given_up = accept(&listener).await;
    open(&mut client, 5, port).await;
    let mut left = accept(&listener).await;
    client
        .say(Frame::RstStream {
            stream: 3,
            status: Reset::CANCEL,
        })
        .await;
    let mut nothing = [0; 1];
    let read = timeout(LIMIT, given_up.read(&mut nothing))
        .await
        .expect("it is closed");
    assert_eq!(read.unwrap(), 0);
    drop(client);
    let read = timeout(LIMIT, left.read(&mut nothing))
        .await
        .expect("it is closed");
    assert_eq!(read.unwrap(), 0);
    timeout(LIMIT, forwarded)
        .await
        .expect("the forward ends")
        .unwrap();
}

#[tokio::test]
async fn streams_that_ask_for_nothing_are_refused() {
    let (mut client, _forwarded) = start();
    client
        .open(1, &[("streamtype", "data"), ("port", "0")])
        .await;
    let refused = Frame::RstStream {
        stream: 1,
        status: Reset::PROTOCOL_ERROR,
    };
    assert_eq!(client.hear().await, Some(refused));
}
