use hickory_proto::{
    op::{MessageType, OpCode},
    rr::{Record, rdata::SOA},
};

use super::*;

fn question(name: &str) -> Question {
    Question {
        name: Name::from_ascii(name).unwrap(),
        kind: RecordType::A,
        dnssec_ok: false,
        checking_disabled: false,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_answer_is_told_until_its_time_is_over() {
    let mut cache = Cache::new(10, 1000);
    let now = Instant::now();
    cache.put(question("a."), b"one", 5 * SECOND, now);
    let (message, age) = cache.get(&question("a."), now + 4 * SECOND).unwrap();
    assert_eq!((&*message, age), (&b"one"[..], 4 * SECOND));
    assert!(cache.get(&question("a."), now + 5 * SECOND).is_none());
    assert!(cache.get(&question("b."), now).is_none());
    let signed = Question {
        dnssec_ok: true,
        ..question("a.")
    };
    assert!(cache.get(&signed, now).is_none());
    cache.put(question("a."), b"two", 9 * SECOND, now + SECOND);
    let (message, age) = cache.get(&question("a."), now + 9 * SECOND).unwrap();
    assert_eq!((&*message, age), (&b"two"[..], 8 * SECOND));
    assert_eq!(cache.len(), 1);
}

#[test]
fn neither_number_nor_bytes_grow_beyond_their_limits() {
    let mut cache = Cache::new(3, 1000);
    let now = Instant::now();
    for (name, seconds) in [("a.", 5), ("b.", 3), ("c.", 9), ("d.", 7)] {
        cache.put(question(name), &[0; 10], seconds * SECOND, now);
    }
    let held = |cache: &Cache| {
        ["a.", "b.", "c.", "d.", "e."].map(|name| cache.get(&question(name), now).is_some())
    };
    // What holds the shortest went.
    assert_eq!(held(&cache), [true, false, true, true, false]);
    cache.put(question("e."), &[0; 985], SECOND, now);
    assert_eq!(held(&cache), [false, false, true, false, true]);
    assert_eq!(cache.bytes, 995);
    cache.put(question("a."), &[0; 1001], SECOND, now);
    assert_eq!(held(&cache), [false, false, true, false, true]);
    // What is over goes when there is something new.
    cache.put(question("a."), &[0; 1], 20 * SECOND, now + 10 * SECOND);
    assert_eq!((cache.len(), cache.bytes), (1, 1));
    assert_eq!(cache.by_end.len(), 1);
}

fn message(code: ResponseCode, ttls: &[u32], soa: Option<(u32, u32)>) -> Message {
    let name = Name::from_ascii("a.example.").unwrap();
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    for ttl in ttls {
        let data = RData::A(std::net::Ipv4Addr::LOCALHOST.into());
        message
            .answers
            .push(Record::from_rdata(name.clone(), *ttl, data));
    }
    if let Some((ttl, minimum)) = soa {
        let data = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, minimum);
        let record = Record::from_rdata(name, ttl, RData::SOA(data));
        message.authorities.push(record);
    }
    message
}

#[test]
fn it_holds_as_long_as_its_records_say() {
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    for (code, ttls, soa, expected) in [
        (NoError, &[300, 60][..], None, Some(60)),
        (NoError, &[0], None, None),
        (NoError, &[100_000], None, Some(3600)),
        // Nothing of the type, directly and behind an alias.
        (NoError, &[], Some((900, 30)), Some(30)),
        (NoError, &[], Some((20, 30)), Some(20)),
        (NoError, &[], None, None),
        (NoError, &[300], Some((900, 30)), Some(30)),
        (NXDomain, &[], Some((900, 86_400)), Some(900)),
        (NXDomain, &[], Some((86_400, 86_400)), Some(1800)),
        (NXDomain, &[], None, None),
        (NXDomain, &[10], Some((900, 30)), Some(10)),
        (ServFail, &[], Some((900, 30)), None),
        (Refused, &[], None, None),
    ] {
        let found = holds(&message(code, ttls, soa)).map(|holds| holds.as_secs());
        assert_eq!(found, expected, "{code} {ttls:?} {soa:?}");
    }
    let mut cut = message(NoError, &[60], None);
    cut.metadata.truncation = true;
    assert_eq!(holds(&cut), None);
}

#[test]
fn records_grow_old() {
    let aged = aged(
        message(ResponseCode::NoError, &[60, 2], Some((9, 9))),
        3 * SECOND,
    );
    let ttls: Vec<u32> = aged.answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [57, 0]);
    assert_eq!(aged.authorities[0].ttl, 6);
}
