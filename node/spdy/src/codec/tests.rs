use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::block::{BlockError, Headers};
use crate::frame::{Frame, GoAway, Reset};
use crate::zlib::ZlibError;

/// A header block without compression, by hand: zlib's head, a stored block of 34 bytes.
const PORT: &[u8] = b"\x78\x01\x00\x1c\x00\xe3\xff\
    \0\0\0\x02\0\0\0\x04port\0\0\0\x0280\0\0\0\x01a\0\0\0\x01b";

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    all(&mut Decoder::default(), &mut BytesMut::from(bytes))
}

fn all(decoder: &mut Decoder, input: &mut BytesMut) -> Result<Vec<Frame>, DecodeError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(input)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn data(stream: u32, fin: bool, bytes: &'static [u8]) -> Frame {
    let bytes = Bytes::from_static(bytes);
    Frame::Data { stream, fin, bytes }
}

#[test]
fn frames_by_hand() {
    let headers = || Headers::new([("port", "80"), ("a", "b")]);
    for (head, block, frame) in [
        (
            &b"\x80\x03\0\x01\x01\0\0\x2d\0\0\0\x05\0\0\0\x03\xe0\0"[..],
            PORT,
            Frame::SynStream {
                stream: 5,
                associated: 3,
                priority: 7,
                fin: true,
                unidirectional: false,
                headers: headers(),
            },
        ),
        (
            b"\x80\x03\0\x01\x02\0\0\x2d\x80\0\0\x05\x80\0\0\0\x1f\xff",
            PORT,
            Frame::SynStream {
                stream: 5,
                associated: 0,
                priority: 0,
                fin: false,
                unidirectional: true,
                headers: headers(),
            },
        ),
        (
            b"\x80\x03\0\x02\0\0\0\x27\0\0\0\x01",
            PORT,
            Frame::SynReply {
                stream: 1,
                fin: false,
                headers: headers(),
            },
        ),
        (
            b"\x80\x03\0\x08\x01\0\0\x27\0\0\0\x01",
            PORT,
            Frame::Headers {
                stream: 1,
                fin: true,
                headers: headers(),
            },
        ),
        (
            b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x07\0\0\0\x05",
            b"",
            Frame::RstStream {
                stream: 7,
                status: Reset::CANCEL,
            },
        ),
        (
            b"\x80\x03\0\x06\0\0\0\x04\xff\xff\xff\xff",
            b"",
            Frame::Ping(u32::MAX),
        ),
        (
            b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\x01",
            b"",
            Frame::GoAway {
                last: 0,
                status: GoAway::PROTOCOL_ERROR,
            },
        ),
        (b"\0\0\0\x01\0\0\0\x03abc", b"", data(1, false, b"abc")),
        (
            b"\x7f\xff\xff\xff\x01\0\0\0",
            b"",
            data(0x7fff_ffff, true, b""),
        ),
    ] {
        let bytes = [head, block].concat();
        assert_eq!(decode(&bytes), Ok(vec![frame.clone()]), "{bytes:?}");
        // Everything but blocks, which may be compressed otherwise.
        let mut output = BytesMut::new();
        Encoder::new().unwrap().encode(&frame, &mut output).unwrap();
        if block.is_empty() {
            assert_eq!(output, bytes);
        }
        assert_eq!(decode(&output), Ok(vec![frame]), "{output:?}");
    }
}

#[test]
fn what_is_not_looked_at() {
    for bytes in [
        // SETTINGS with one, WINDOW_UPDATE, NOOP, CREDENTIAL, and one of no draft.
        &b"\x80\x03\0\x04\0\0\0\x0c\0\0\0\x01\0\0\0\x04\0\0\0\x64"[..],
        b"\x80\x03\0\x09\0\0\0\x08\0\0\0\x01\0\x01\0\0",
        b"\x80\x03\0\x05\0\0\0\0",
        b"\x80\x03\0\x0a\0\0\0\x02ab",
        b"\x80\x03\x12\x34\xff\0\0\x03abc",
    ] {
        let then = b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x01";
        let twice = [bytes, bytes, then].concat();
        assert_eq!(decode(&twice), Ok(vec![Frame::Ping(1)]), "{bytes:?}");
    }
}

#[test]
fn what_is_no_frame() {
    let length = |kind, length| DecodeError::Length { kind, length };
    for (bytes, wanted) in [
        (&b"\x80\x02\0\x06\0\0\0\x04"[..], DecodeError::Version(2)),
        (b"\0\0\0\0\0\0\0\x01", DecodeError::NoStream),
        (
            b"\x80\x03\0\x03\0\0\0\x08\x80\0\0\0\0\0\0\x01",
            DecodeError::NoStream,
        ),
        (b"\x80\x03\0\x06\0\0\0\x05", length(6, 5)),
        (b"\x80\x03\0\x03\0\0\0\x07", length(3, 7)),
        (b"\x80\x03\0\x07\0\0\0\x04", length(7, 4)),
        (b"\x80\x03\0\x01\0\0\0\x09", length(1, 9)),
        (b"\x80\x03\0\x02\0\0\0\x03", length(2, 3)),
        // Before it is there, so that nobody has to keep it.
        (b"\x80\x03\0\x01\0\x01\0\x01", length(1, 0x1_0001)),
        (
            b"\x80\x03\0\x02\0\0\0\x06\0\0\0\x01ab",
            DecodeError::Zlib(ZlibError::Invalid),
        ),
        (
            b"\x80\x03\0\x02\0\0\0\x04\0\0\0\x01",
            DecodeError::Block(BlockError::Short),
        ),
    ] {
        assert_eq!(decode(bytes), Err(wanted), "{bytes:?}");
    }
}

#[test]
fn a_bomb_is_no_header_block() {
    let mut compressor = crate::zlib::Compressor::new().unwrap();
    let block = compressor.deflate(&vec![0; 2 << 20]).unwrap();
    let mut bytes = b"\x80\x03\0\x02\0".to_vec();
    bytes.extend_from_slice(&(block.len() as u32 + 4).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    let limit = 64 * 1024;
    let wanted = DecodeError::Zlib(ZlibError::TooLong { limit });
    assert_eq!(decode(&bytes), Err(wanted));
}

#[test]
fn data_comes_in_the_pieces_that_are_there() {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::from(&b"\0\0\0\x01\x01\0\0\x05"[..]);
    assert_eq!(all(&mut decoder, &mut input), Ok(vec![]));
    input.extend_from_slice(b"ab");
    assert_eq!(
        all(&mut decoder, &mut input),
        Ok(vec![data(1, false, b"ab")])
    );
    input.extend_from_slice(b"cde\0\0");
    assert_eq!(
        all(&mut decoder, &mut input),
        Ok(vec![data(1, true, b"cde")])
    );
    assert_eq!(&input[..], b"\0\0");
}

#[test]
fn data_that_is_longer_than_a_frame_is_divided() {
    let bytes = Bytes::from(vec![7; LENGTH_LIMIT + 1]);
    let long = Frame::Data {
        stream: 1,
        fin: true,
        bytes,
    };
    let mut output = BytesMut::new();
    Encoder::new().unwrap().encode(&long, &mut output).unwrap();
    let frames = decode(&output).unwrap();
    let pieces: Vec<(usize, bool)> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Data { bytes, fin, .. } => (bytes.len(), *fin),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces, [(LENGTH_LIMIT, false), (1, true)]);
}

fn text(rng: &mut StdRng, first: char, lengths: std::ops::Range<usize>) -> String {
    let length = rng.random_range(lengths);
    let mut word: String = (0..length).map(|_| rng.random_range('a'..='z')).collect();
    word.insert(0, first);
    word
}

fn any_headers(rng: &mut StdRng) -> Headers {
    let count = rng.random_range(0..6_u8);
    Headers::new((0..count).map(|nth| {
        let name = text(rng, char::from(b'a' + nth), 0..20);
        (name, text(rng, '\0', 0..2000))
    }))
}

fn any_frame(rng: &mut StdRng) -> Frame {
    let stream = rng.random_range(1..=0x7fff_ffff);
    let fin = rng.random();
    match rng.random_range(0..7) {
        0 => Frame::SynStream {
            stream,
            associated: rng.random_range(0..=0x7fff_ffff),
            priority: rng.random_range(0..8),
            fin,
            unidirectional: rng.random(),
            headers: any_headers(rng),
        },
        1 => Frame::SynReply {
            stream,
            fin,
            headers: any_headers(rng),
        },
        2 => Frame::RstStream {
            stream,
            status: Reset(rng.random()),
        },
        3 => Frame::Ping(rng.random()),
        4 => Frame::GoAway {
            last: rng.random_range(0..=0x7fff_ffff),
            status: GoAway(rng.random()),
        },
        5 => Frame::Headers {
            stream,
            fin,
            headers: any_headers(rng),
        },
        _ => {
            let length = rng.random_range(0..5000);
            let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
            Frame::Data {
                stream,
                fin,
                bytes: bytes.into(),
            }
        }
    }
}

/// Any frames one after the other come out as they went in, however the connection cuts them.
#[test]
fn whatever_is_encoded_is_decoded() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let frames: Vec<Frame> = (0..20).map(|_| any_frame(&mut rng)).collect();
        let mut encoder = Encoder::new().unwrap();
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encoder.encode(frame, &mut bytes).unwrap();
        }
        assert_eq!(decode(&bytes).as_ref(), Ok(&frames), "seed {seed}");

        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let mut cut = Vec::new();
        while !bytes.is_empty() {
            let there = rng.random_range(1..=bytes.len().min(700));
            input.unsplit(bytes.split_to(there));
            cut.extend(all(&mut decoder, &mut input).unwrap());
        }
        assert_eq!(joined(cut), frames, "seed {seed}");
    }
}

/// Pieces of a frame put together again; no two frames are about the same stream.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut whole: Vec<Frame> = Vec::new();
    for frame in frames {
        let Frame::Data {
            stream: same,
            fin: last,
            bytes: more,
        } = &frame
        else {
            whole.push(frame);
            continue;
        };
        match whole.last_mut() {
            Some(Frame::Data { stream, fin, bytes }) if stream == same => {
                *fin = *last;
                *bytes = [&bytes[..], &more[..]].concat().into();
            }
            _ => whole.push(frame),
        }
    }
    whole
}

#[test]
fn no_bytes_make_it_panic() {
    let mut refused = 0;
    for seed in 0..2000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = BytesMut::new();
        let mut encoder = Encoder::new().unwrap();
        for _ in 0..rng.random_range(0..4) {
            encoder.encode(&any_frame(&mut rng), &mut bytes).unwrap();
        }
        // Some of what is right, some noise: within it, or behind it.
        for _ in 0..rng.random_range(0..8) {
            match bytes.is_empty() {
                true => bytes.extend_from_slice(&[0x80, 3, 0, 1]),
                false => {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] = rng.random();
                }
            }
        }
        let noise: [u8; 64] = rng.random();
        bytes.extend_from_slice(&noise);
        refused += u32::from(decode(&bytes).is_err());
    }
    assert!(refused > 500, "{refused} of 2000 were refused");
}
