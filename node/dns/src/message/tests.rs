use std::net::Ipv4Addr;

use hickory_proto::rr::{Name, RData};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_payload(payload: u16) -> Message {
    let mut message = question("Big.Example.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn request(message: &Message) -> Request {
    match parse(&message.to_vec().unwrap()) {
        Parsed::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn records(name: &str, count: u8) -> Vec<Record> {
    let name = Name::from_ascii(name).unwrap();
    let record = |last| {
        let data = RData::A(Ipv4Addr::new(10, 244, 0, last).into());
        Record::from_rdata(name.clone(), 5, data)
    };
    (0..count).map(record).collect()
}

#[test]
fn what_cannot_be_asked_is_refused_in_words_of_dns() {
    let plain = || question("a.example.", RecordType::A);
    let mut response = plain();
    response.metadata.message_type = MessageType::Response;
    let mut notify = plain();
    notify.metadata.op_code = OpCode::Notify;
    let mut two = plain();
    two.add_query(Query::query(Name::root(), RecordType::NS));
    let mut none = plain();
    none.queries.clear();
    let mut chaos = plain();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let transfer = question("a.example.", RecordType::AXFR);
    let mut newer = with_payload(1232);
    newer.edns.as_mut().unwrap().set_version(1);
    for (message, expected) in [
        (response, None),
        (notify, Some(ResponseCode::NotImp)),
        (two, Some(ResponseCode::FormErr)),
        (none, Some(ResponseCode::FormErr)),
        (chaos, Some(ResponseCode::Refused)),
        (transfer, Some(ResponseCode::Refused)),
        (newer, Some(ResponseCode::BADVERS)),
    ] {
        let parsed = parse(&message.to_vec().unwrap());
        let Some(expected) = expected else {
            assert_eq!(parsed, Parsed::Nothing);
            continue;
        };
        let Parsed::Refused(code, reply) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(code, expected);
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.id, 7);
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        assert_eq!(reply.metadata.response_code.low(), expected.low());
    }
}

#[test]
fn what_is_malformed_gets_no_more_than_a_word() {
    let whole = question("a.example.", RecordType::A).to_vec().unwrap();
    let cut = &whole[..whole.len() - 3];
    let Parsed::Refused(ResponseCode::FormErr, reply) = parse(cut) else {
        panic!("a question that is cut off");
    };
    assert_eq!(reply[..2], whole[..2], "the same number");
    assert_eq!(reply.len(), HEADER);
    let mut answer = cut.to_vec();
    answer[2] |= 0x80;
    assert_eq!(parse(&answer), Parsed::Nothing);
    assert_eq!(parse(&whole[..HEADER - 1]), Parsed::Nothing);
    assert_eq!(parse(&[]), Parsed::Nothing);
}

#[test]
fn an_answer_has_the_letters_of_its_question() {
    let request = request(&question("wEb.eXample.", RecordType::A));
    let mut outcome = Outcome::failed(ResponseCode::NoError);
    outcome.answers = records("web.example.", 1);
    let bytes = request.encode(outcome, 512).unwrap();
    let reply = Message::from_vec(&bytes).unwrap();
    for name in [reply.queries[0].name(), &reply.answers[0].name] {
        assert_eq!(name.to_ascii(), "wEb.eXample.");
    }
    assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
    assert!(reply.edns.is_none(), "nobody asked for it");
}

#[test]
fn an_answer_is_as_long_as_the_client_takes() {
    for (message, limit) in [
        (question("big.example.", RecordType::A), 512),
        (with_payload(100), 512),
        (with_payload(900), 900),
        (with_payload(4096), 1232),
    ] {
        let request = request(&message);
        assert_eq!(request.datagram(), limit);
        let mut outcome = Outcome::failed(ResponseCode::NoError);
        outcome.answers = records("big.example.", 200);
        outcome.additionals = records("more.example.", 3);
        let bytes = request.encode(outcome.clone(), limit).unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        assert!(reply.metadata.truncation);
        // A record here takes 16 bytes, its name being the question's.
        assert!(
            bytes.len() <= limit && bytes.len() + 16 > limit,
            "{}",
            bytes.len()
        );
        assert_eq!(reply.answers[..], outcome.answers[..reply.answers.len()]);
        assert_eq!(reply.edns.is_some(), message.edns.is_some());

        let whole = request.encode(outcome, 65_535).unwrap();
        let whole = Message::from_vec(&whole).unwrap();
        assert_eq!((whole.answers.len(), whole.additionals.len()), (200, 3));
        assert!(!whole.metadata.truncation);
    }
}

#[test]
fn what_is_only_helpful_is_left_out_first() {
    let request = request(&question("big.example.", RecordType::A));
    let mut outcome = Outcome::failed(ResponseCode::NoError);
    outcome.answers = records("big.example.", 28);
    outcome.additionals = records("more.example.", 20);
    let bytes = request.encode(outcome, 512).unwrap();
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!((reply.answers.len(), reply.additionals.len()), (28, 0));
    assert!(!reply.metadata.truncation);
}

/// Random bytes, and questions with some bytes changed: none panics, none makes an
/// answer to an answer, and each reply is a message.
#[test]
fn hostile_bytes_are_survived() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let samples = [
        question("a.b.c.example.", RecordType::SRV)
            .to_vec()
            .unwrap(),
        with_payload(4096).to_vec().unwrap(),
    ];
    for round in 0..20_000 {
        let bytes: Vec<u8> = match round % 3 {
            0 => {
                let length = random.random_range(0..200);
                (0..length).map(|_| random.random()).collect()
            }
            sample => {
                let mut bytes = samples[sample - 1].clone();
                for _ in 0..random.random_range(1..6) {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] = random.random();
                }
                bytes.truncate(random.random_range(0..=bytes.len()));
                bytes
            }
        };
        let is_answer = bytes.get(2).is_some_and(|flags| flags & 0x80 != 0);
        let reply = match parse(&bytes) {
            Parsed::Nothing => continue,
            Parsed::Refused(_, reply) => reply,
            Parsed::Request(request) => {
                let mut outcome = Outcome::failed(ResponseCode::NoError);
                outcome.answers = records("a.b.c.example.", 100);
                let limit = request.datagram();
                let Some(reply) = request.encode(outcome, limit) else {
                    continue;
                };
                assert!(reply.len() <= limit, "seed {seed}: {bytes:?}");
                reply
            }
        };
        assert!(!is_answer, "seed {seed}: an answer was answered: {bytes:?}");
        let reply = Message::from_vec(&reply);
        assert!(reply.is_ok(), "seed {seed}: {bytes:?}");
    }
}
