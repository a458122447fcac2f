//! A client made of the codec, at the other end of a narrow connection.

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;
use crate::frame::{Reset, StreamId};
use crate::testing;

type Client = testing::Client<DuplexStream>;

const LIMIT: Duration = Duration::from_secs(15);
/// What the connection holds: less than a test says.
const NARROW: usize = 16 * 1024;

struct Server {
    incoming: Incoming,
    served: JoinHandle<Result<(), Error>>,
}

fn start() -> (Client, Server) {
    let (ours, theirs) = tokio::io::duplex(NARROW);
    let (connection, incoming) = serve(theirs, |headers| headers.get("refuse").is_none());
    let served = tokio::spawn(connection);
    (Client::new(ours), Server { incoming, served })
}

/// With one stream open, whose number is 1.
async fn with_stream() -> (Client, Server, Stream) {
    let (mut client, mut server) = start();
    client.open(1, &[]).await;
    client.accepted(1).await;
    let stream = server.next().await;
    (client, server, stream)
}

impl Server {
    async fn next(&mut self) -> Stream {
        let next = timeout(LIMIT, self.incoming.next());
        next.await.expect("a stream is opened").unwrap()
    }
}

fn data(stream: StreamId, fin: bool, bytes: &[u8]) -> Frame {
    testing::data(stream, fin, bytes)
}

fn reset(stream: StreamId, status: Reset) -> Frame {
    Frame::RstStream { stream, status }
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let (mut client, mut server) = start();
    client.open(1, &[("streamtype", "data")]).await;
    client.accepted(1).await;
    let mut stream = server.next().await;
    assert_eq!(
        (stream.id, stream.headers.get("streamtype")),
        (1, Some("data"))
    );
    client.say(data(1, true, b"question")).await;
    assert_eq!(stream.input.read().await, Ok(Some(Bytes::from("question"))));
    assert_eq!(stream.input.read().await, Ok(None));
    assert_eq!(stream.input.read().await, Ok(None));
    stream.output.write("ans").await.unwrap();
    stream.output.write("wer").await.unwrap();
    stream.output.end();
    assert_eq!(client.all(1).await, b"answer");
    drop(stream);
    // Nothing else is said about it.
    client.say(Frame::Ping(1)).await;
    assert_eq!(client.hear().await, Some(Frame::Ping(1)));
    drop(client);
    timeout(LIMIT, server.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    let (mut client, mut server) = start();
    client.open(1, &[]).await;
    client.open(3, &[]).await;
    client.accepted(1).await;
    client.accepted(3).await;
    let (one, two) = (server.next().await, server.next().await);
    // Each stream is led into the other.
    let lead = |mut input: Input, mut output: Output| async move {
        while let Some(bytes) = input.read().await? {
            output.write(bytes).await?;
        }
        output.end();
        Ok::<_, Closed>((input, output))
    };
    let there = tokio::spawn(lead(one.input, two.output));
    let back = tokio::spawn(lead(two.input, one.output));
    let (reader, mut writer) = tokio::io::split(client.io);
    let mut encoder = client.encoder;
    let said = tokio::spawn(async move {
        for piece in 0..64_u8 {
            for stream in [1, 3] {
                let mut bytes = BytesMut::new();
                let frame = data(stream, piece == 63, &[piece + stream as u8; 20_000]);
                encoder.encode(&frame, &mut bytes).unwrap();
                writer.write_all(&bytes).await.unwrap();
            }
        }
        writer
    });
    let mut reader = reader;
    let mut heard = [Vec::new(), Vec::new()];
    let mut ends = 0;
    let hearing = async {
        while ends < 2 {
            match client.decoder.decode(&mut client.input).unwrap() {
                Some(Frame::Data { stream, fin, bytes }) => {
                    heard[usize::from(stream == 3)].extend_from_slice(&bytes);
                    ends += usize::from(fin);
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(reader.read_buf(&mut client.input).await.unwrap() > 0),
            }
        }
    };
    timeout(LIMIT, hearing).await.expect("all comes back");
    for (stream, heard) in [(3_u8, &heard[0]), (1, &heard[1])] {
        let wanted: Vec<u8> = (0..64).flat_map(|piece| [piece + stream; 20_000]).collect();
        assert!(*heard == wanted, "{} bytes of {stream}", heard.len());
    }
    for led in [there, back] {
        timeout(LIMIT, led).await.unwrap().unwrap().unwrap();
    }
    drop(said.await.unwrap());
}

#[tokio::test]
async fn who_does_not_listen_holds_up_the_client_and_not_the_answers() {
    let (mut client, _server, stream) = with_stream().await;
    // More than the stream, the connection's piece and the pipe hold.
    let mut bytes = BytesMut::new();
    client
        .encoder
        .encode(&data(1, false, &[0; 1 << 20]), &mut bytes)
        .unwrap();
    let held = timeout(Duration::from_millis(200), client.io.write_all(&bytes)).await;
    assert!(held.is_err(), "the client is held up");
    stream.output.write("still").await.unwrap();
    assert_eq!(client.hear().await, Some(data(1, false, b"still")));
    // What its owner gives up is read again, and thrown away.
    drop(stream);
    assert_eq!(client.hear().await, Some(reset(1, Reset::CANCEL)));
}

#[tokio::test]
async fn a_reset_is_known_to_both_halves() {
    let (mut client, _server, mut stream) = with_stream().await;
    client.say(data(1, false, b"a")).await;
    client.say(reset(1, Reset::CANCEL)).await;
    timeout(LIMIT, stream.output.closed())
        .await
        .expect("it is told");
    assert_eq!(stream.output.write("b").await, Err(Closed));
    assert_eq!(stream.input.read().await, Ok(Some(Bytes::from("a"))));
    assert_eq!(stream.input.read().await, Err(Closed));
    stream.output.end();
    drop(stream);
    client.say(Frame::Ping(1)).await;
    assert_eq!(client.hear().await, Some(Frame::Ping(1)));
}

#[tokio::test]
async fn what_is_not_wanted_is_reset_and_the_rest_goes_on() {
    let (mut client, mut server) = start();
    client.open(1, &[("refuse", "me")]).await;
    assert_eq!(client.hear().await, Some(reset(1, Reset::PROTOCOL_ERROR)));
    client.open(3, &[]).await;
    client.accepted(3).await;
    assert_eq!(server.next().await.id, 3);
    // Dropped at once.
    assert_eq!(client.hear().await, Some(reset(3, Reset::CANCEL)));
}

#[tokio::test]
async fn a_client_that_is_gone_takes_its_streams_with_it() {
    let (client, mut server, mut stream) = with_stream().await;
    drop(client);
    assert_eq!(stream.input.read().await, Err(Closed));
    timeout(LIMIT, stream.output.closed())
        .await
        .expect("it is told");
    assert!(server.incoming.next().await.is_none());
    timeout(LIMIT, server.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_no_spdy_ends_it_with_a_goodbye() {
    let (mut client, server) = start();
    client.open(1, &[]).await;
    client.accepted(1).await;
    client
        .io
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    // "GET " is a frame of data, as far as its first bit goes.
    let asked = Frame::RstStream {
        stream: u32::from_be_bytes(*b"GET "),
        status: Reset::INVALID_STREAM,
    };
    assert_eq!(client.hear().await, Some(asked));
    drop(client);
    drop(server);

    let (mut client, server) = start();
    client
        .io
        .write_all(b"\x80\x02\0\x01\0\0\0\x0a")
        .await
        .unwrap();
    let goodbye = Frame::GoAway {
        last: 0,
        status: GoAway::PROTOCOL_ERROR,
    };
    assert_eq!(client.hear().await, Some(goodbye));
    assert_eq!(client.hear().await, None);
    let ended = timeout(LIMIT, server.served).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Decode(DecodeError::Version(2)))));
}

#[tokio::test(start_paused = true)]
async fn all_is_said_before_it_ends() {
    let (mut client, mut server) = start();
    client.open(1, &[]).await;
    let stream = server.next().await;
    let said = tokio::spawn(async move {
        // All of it, not the half that is used.
        let mut stream = stream;
        stream.output.write(vec![7; 1 << 20]).await.unwrap();
        stream.output.end();
    });
    drop(server.incoming);
    client.accepted(1).await;
    let all = client.all(1).await;
    assert!(all == vec![7; 1 << 20], "{} bytes", all.len());
    said.await.unwrap();
    // The stream was dropped with the client's half open; then nobody has anything to say, and the client closes
    // nothing.
    assert_eq!(client.hear().await, Some(reset(1, Reset::CANCEL)));
    let before = Instant::now();
    assert_eq!(client.hear().await, None);
    assert_eq!(before.elapsed().as_secs(), LINGER.as_secs());
    server.served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_asked_whether_it_is_there() {
    let (mut client, _server) = start();
    let before = Instant::now();
    assert_eq!(client.hear().await, Some(Frame::Ping(PING_NUMBER)));
    assert_eq!(before.elapsed().as_secs(), PING.as_secs());
}
