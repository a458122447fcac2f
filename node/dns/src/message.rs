//! Bytes → a question that can be answered, an outcome → bytes.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
};

#[cfg(test)]
mod tests;

/// Of UDP answers in one packet of any link: DNS flag day 2020.
pub const PAYLOAD: u16 = 1232;
/// Without EDNS: RFC 1035 2.3.4.
const PLAIN_PAYLOAD: u16 = 512;
/// RFC 1035 4.1.1.
const HEADER: usize = 12;
/// No record is shorter: a pointer for its name, type, class, TTL, length.
const RECORD: usize = 12;

/// A question as it was asked, its name in the letters it came in: some clients
/// look at those in the answer (0x20).
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    metadata: Metadata,
    pub query: Query,
    /// What EDNS says of it.
    extension: Option<Extension>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Extension {
    payload: u16,
    dnssec_ok: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    Request(Request),
    /// What cannot be asked here, with the answer to that.
    Refused(ResponseCode, Vec<u8>),
    /// No question at all: answers to answers would never end.
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The name is the cluster's.
    pub authoritative: bool,
    /// What the upstream server said of DNSSEC.
    pub authentic: bool,
}

impl Outcome {
    pub fn failed(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            authoritative: false,
            authentic: false,
        }
    }
}

pub fn parse(bytes: &[u8]) -> Parsed {
    let Ok(message) = Message::from_vec(bytes) else {
        return malformed(bytes);
    };
    if message.metadata.message_type != MessageType::Query {
        return Parsed::Nothing;
    }
    let Message {
        metadata,
        queries,
        edns,
        ..
    } = message;
    let extension = edns.as_ref().map(|edns| Extension {
        payload: edns.max_payload(),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    let refuse = |code| {
        let mut message = answer(&metadata, queries.first().cloned(), extension);
        message.metadata.response_code = code;
        let bytes = message.to_vec();
        bytes.map_or(Parsed::Nothing, |bytes| Parsed::Refused(code, bytes))
    };
    if metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let [query] = queries.as_slice() else {
        return refuse(ResponseCode::FormErr);
    };
    if edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    // Nobody is handed a zone.
    let whole = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if whole || query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    Parsed::Request(Request {
        query: query.clone(),
        metadata,
        extension,
    })
}

/// FORMERR to what may have been a question.
fn malformed(bytes: &[u8]) -> Parsed {
    let (Some([high, low, flags, ..]), true) = (bytes.get(..4), bytes.len() >= HEADER) else {
        return Parsed::Nothing;
    };
    let is_answer = flags & 0x80 != 0;
    if is_answer {
        return Parsed::Nothing;
    }
    let code = ResponseCode::FormErr;
    let id = u16::from_be_bytes([*high, *low]);
    let message = Message::error_msg(id, OpCode::Query, code);
    let bytes = message.to_vec();
    bytes.map_or(Parsed::Nothing, |bytes| Parsed::Refused(code, bytes))
}

fn answer(asked: &Metadata, query: Option<Query>, extension: Option<Extension>) -> Message {
    let mut message = Message::response(asked.id, asked.op_code);
    message.metadata = Metadata::response_from_request(asked);
    message.metadata.recursion_available = true;
    message.queries.extend(query);
    message.edns = extension.map(|asked| edns(asked.dnssec_ok));
    message
}

/// What is said of this server.
pub fn edns(dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(dnssec_ok);
    edns
}

impl Request {
    pub fn dnssec_ok(&self) -> bool {
        self.extension.is_some_and(|asked| asked.dnssec_ok)
    }

    pub fn checking_disabled(&self) -> bool {
        self.metadata.checking_disabled
    }

    /// What an answer by UDP may have at most.
    pub fn datagram(&self) -> usize {
        let asked = self.extension.map_or(PLAIN_PAYLOAD, |asked| asked.payload);
        asked.clamp(PLAIN_PAYLOAD, PAYLOAD).into()
    }

    /// The answer in no more bytes than `limit`: first without what is only
    /// helpful, then with as many answers as fit, and said to be truncated. There
    /// are resolvers that take those and never come by TCP.
    pub fn encode(&self, outcome: Outcome, limit: usize) -> Option<Vec<u8>> {
        let mut message = answer(&self.metadata, Some(self.query.clone()), self.extension);
        message.metadata.response_code = outcome.code;
        message.metadata.authoritative = outcome.authoritative;
        message.metadata.authentic_data = outcome.authentic;
        message.answers = outcome.answers;
        message.authorities = outcome.authorities;
        message.additionals = outcome.additionals;
        for record in &mut message.answers {
            if record.name == self.query.name {
                record.name = self.query.name.clone();
            }
        }
        // Thousands of endpoints are not written in vain.
        let most = limit / RECORD;
        if message.answers.len() <= most {
            let whole = message.to_vec().ok()?;
            if whole.len() <= limit {
                return Some(whole);
            }
            message.additionals.clear();
            let shorter = message.to_vec().ok()?;
            if shorter.len() <= limit {
                return Some(shorter);
            }
        }
        message.additionals.clear();
        message.metadata.truncation = true;
        message.authorities.clear();
        let all = std::mem::take(&mut message.answers);
        let mut with = |count: usize| {
            message.answers = all.get(..count)?.to_vec();
            message.to_vec().ok().filter(|bytes| bytes.len() <= limit)
        };
        // As many as fit: each one more makes it longer.
        let (mut fits, mut too_many) = (0, all.len().min(most) + 1);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            match with(middle) {
                Some(_) => fits = middle,
                None => too_many = middle,
            }
        }
        with(fits)
    }
}
