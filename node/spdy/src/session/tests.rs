use super::*;
use crate::frame::GoAway;

fn syn(stream: StreamId, fin: bool) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin,
        unidirectional: false,
        headers: headers(),
    }
}

fn headers() -> Headers {
    Headers::new([("a", "b")])
}

fn data(stream: StreamId, fin: bool, bytes: &'static [u8]) -> Frame {
    let bytes = Bytes::from_static(bytes);
    Frame::Data { stream, fin, bytes }
}

fn reset(stream: StreamId, status: Reset) -> Frame {
    Frame::RstStream { stream, status }
}

fn opened(stream: StreamId, ended: bool) -> Heard {
    Heard {
        answer: Some(Frame::SynReply {
            stream,
            fin: false,
            headers: Headers::default(),
        }),
        event: Some(Event::Opened {
            stream,
            headers: headers(),
            ended,
        }),
    }
}

fn bytes(stream: StreamId, ended: bool, bytes: &'static [u8]) -> Heard {
    let bytes = Bytes::from_static(bytes);
    event(Event::Bytes {
        stream,
        bytes,
        ended,
    })
}

#[test]
fn conversations() {
    let nothing = Heard::default;
    let client_reset = || reset(1, Reset::CANCEL);
    for (words, frames) in [
        (
            "both halves of a stream, and what comes too late",
            vec![
                (syn(1, false), opened(1, false)),
                (data(1, false, b"ab"), bytes(1, false, b"ab")),
                (data(1, false, b""), nothing()),
                (data(1, true, b"c"), bytes(1, true, b"c")),
                (
                    data(1, false, b"d"),
                    Heard {
                        answer: Some(reset(1, Reset::PROTOCOL_ERROR)),
                        event: Some(Event::Reset(1)),
                    },
                ),
                (data(1, false, b"e"), nothing()),
            ],
        ),
        (
            "one that ends as it begins, and headers that end one",
            vec![
                (syn(1, true), opened(1, true)),
                (syn(5, false), opened(5, false)),
                (
                    Frame::Headers {
                        stream: 5,
                        fin: true,
                        headers: headers(),
                    },
                    bytes(5, true, b""),
                ),
            ],
        ),
        (
            "a reset ends it, once",
            vec![
                (syn(1, false), opened(1, false)),
                (client_reset(), event(Event::Reset(1))),
                (client_reset(), nothing()),
                (data(1, true, b"late"), nothing()),
            ],
        ),
        (
            "streams that are none",
            vec![
                (data(3, true, b"x"), answer(reset(3, Reset::INVALID_STREAM))),
                (reset(3, Reset::CANCEL), nothing()),
            ],
        ),
        (
            "pings of both sides",
            vec![
                (Frame::Ping(7), answer(Frame::Ping(7))),
                (Frame::Ping(2), nothing()),
            ],
        ),
        (
            "after a goodbye nothing is opened, and the rest goes on",
            vec![
                (syn(1, false), opened(1, false)),
                (
                    Frame::GoAway {
                        last: 0,
                        status: GoAway::OK,
                    },
                    nothing(),
                ),
                (syn(3, false), nothing()),
                (data(1, true, b"x"), bytes(1, true, b"x")),
            ],
        ),
    ] {
        let mut session = Session::default();
        for (frame, wanted) in frames {
            let asked = format!("{words}: {frame:?}");
            let heard = session.hear(frame, |_| true);
            assert_eq!(heard, Ok(wanted), "{asked}");
        }
    }
}

#[test]
fn streams_come_in_order() {
    for (first, second) in [(3, 1), (3, 3), (1, 2)] {
        let mut session = Session::default();
        session.hear(syn(first, false), |_| true).unwrap();
        let refused = session.hear(syn(second, false), |_| true);
        let wanted = SessionError::Order {
            stream: second,
            last: first,
        };
        assert_eq!(refused, Err(wanted));
    }
}

#[test]
fn what_is_not_wanted_is_refused() {
    let mut session = Session::default();
    let refused = session.hear(syn(1, false), |headers| headers.get("a") == Some("c"));
    assert_eq!(refused, Ok(answer(reset(1, Reset::PROTOCOL_ERROR))));
    let Frame::SynStream { headers, .. } = syn(3, false) else {
        unreachable!()
    };
    let one_way = Frame::SynStream {
        stream: 3,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: true,
        headers,
    };
    let refused = session.hear(one_way, |_| true);
    assert_eq!(refused, Ok(answer(reset(3, Reset::PROTOCOL_ERROR))));

    let last = 3 + 2 * STREAMS as StreamId;
    for stream in (5..=last).step_by(2) {
        let heard = session.hear(syn(stream, false), |_| true).unwrap();
        assert_eq!(heard, opened(stream, false));
    }
    let more = session.hear(syn(last + 2, false), |_| true);
    assert_eq!(more, Ok(answer(reset(last + 2, Reset::REFUSED_STREAM))));
    // One that has ended both ways makes room, as does one that is reset.
    session.hear(data(5, true, b""), |_| true).unwrap();
    session.say(5, true, Bytes::new()).unwrap();
    session.cancel(7).unwrap();
    for (stream, there) in [(last + 4, true), (last + 6, true), (last + 8, false)] {
        let heard = session.hear(syn(stream, false), |_| true).unwrap();
        assert_eq!(heard == opened(stream, false), there, "{stream}");
    }
}

#[test]
fn what_the_server_says() {
    let mut session = Session::default();
    session.hear(syn(1, false), |_| true).unwrap();
    let say = |session: &mut Session, fin| session.say(1, fin, Bytes::from_static(b"x"));
    assert_eq!(say(&mut session, false), Some(data(1, false, b"x")));
    assert_eq!(say(&mut session, true), Some(data(1, true, b"x")));
    assert_eq!(say(&mut session, false), None, "it has said its last");
    // The client's half is still there.
    let heard = session.hear(data(1, false, b"y"), |_| true);
    assert_eq!(heard, Ok(bytes(1, false, b"y")));
    assert_eq!(session.cancel(1), Some(reset(1, Reset::CANCEL)));
    assert_eq!(session.cancel(1), None);
    assert_eq!(say(&mut session, false), None);
}
