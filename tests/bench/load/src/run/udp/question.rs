//! A question to a name server, built once (RFC 1035, 4.1).

use crate::args::Answer;

/// Before the question.
const HEADER: usize = 12;
/// Recursion is desired, as every resolver has it.
const FLAGS: [u8; 2] = [1, 0];
const ONE: [u8; 2] = [0, 1];
/// Type A, class IN.
const KIND: [u8; 4] = [0, 1, 0, 1];

pub struct Question {
    message: Vec<u8>,
    wanted: Answer,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub enum Said {
    Expected,
    /// In words.
    Other(String),
}

impl Question {
    /// For a name's IPv4 address; each label fits.
    pub fn new(name: &str, wanted: Answer) -> Question {
        let mut message = [[0; 2], FLAGS, ONE, [0; 2], [0; 2], [0; 2]].concat();
        for label in name.trim_end_matches('.').split('.') {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend(KIND);
        Question { message, wanted }
    }

    pub fn with_id(&mut self, id: u16) -> &[u8] {
        self.message[..2].copy_from_slice(&id.to_be_bytes());
        &self.message
    }

    /// Which question a message answers, and how; none where it is no answer to this one.
    pub fn read(&self, message: &[u8]) -> Option<(u16, Said)> {
        const RESPONSE: u8 = 0x80;
        const TRUNCATED: u8 = 0x02;
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let [i, d, flags, more, _, _, answers, few, ..] = *header;
        let asked = &self.message[HEADER..];
        if flags & RESPONSE == 0 || !rest.get(..asked.len())?.eq_ignore_ascii_case(asked) {
            return None;
        }
        let (code, count) = (more & 0xf, u16::from_be_bytes([answers, few]));
        let said = match (self.wanted, code) {
            _ if flags & TRUNCATED != 0 => Said::Other("cut off: ask by TCP".into()),
            (Answer::Address, 0) if count == 0 => Said::Other("no address".into()),
            (Answer::Address, 0) | (Answer::Nxdomain, 3) => Said::Expected,
            (_, code) => Said::Other(format!("response code {code} ({})", name_of(code))),
        };
        Some((u16::from_be_bytes([i, d]), said))
    }
}

/// RFC 1035, 4.1.1.
fn name_of(code: u8) -> &'static str {
    match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => "another",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(question: &mut Question, flags: [u8; 2], count: u8) -> Vec<u8> {
        let mut message = question.with_id(0x1234).to_vec();
        message[2..4].copy_from_slice(&flags);
        message[7] = count;
        // Records are not looked into.
        message.extend([0; 16]);
        message
    }

    #[test]
    fn a_question_byte_by_byte() {
        let expected = [
            &[0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
            b"\x03web\x05vetch\0",
            &[0, 1, 0, 1],
        ];
        for name in ["web.vetch", "web.vetch."] {
            let mut question = Question::new(name, Answer::Address);
            assert_eq!(question.with_id(0xabcd), expected.concat());
        }
    }

    #[test]
    fn only_what_is_asked_for_is_an_answer() {
        use Answer::{Address, Nxdomain};
        for (what, wanted, flags, count, words) in [
            ("an address", Address, [0x85, 0x80], 1, None),
            ("no address", Address, [0x85, 0x80], 0, Some("no address")),
            ("no name", Nxdomain, [0x85, 0x83], 0, None),
            (
                "no name where there is one",
                Address,
                [0x85, 0x83],
                0,
                Some("NXDOMAIN"),
            ),
            (
                "a name where there is none",
                Nxdomain,
                [0x85, 0x80],
                1,
                Some("NOERROR"),
            ),
            (
                "a server in trouble",
                Address,
                [0x81, 0x82],
                0,
                Some("SERVFAIL"),
            ),
            ("a part", Address, [0x87, 0x80], 1, Some("cut off")),
        ] {
            let mut question = Question::new("web.vetch", wanted);
            let message = answer(&mut question, flags, count);
            let (id, said) = question.read(&message).expect(what);
            assert_eq!(id, 0x1234, "{what}");
            match (said, words) {
                (Said::Expected, None) => {}
                (Said::Other(text), Some(words)) => assert!(text.contains(words), "{what}: {text}"),
                (said, _) => panic!("{what}: {said:?}"),
            }
        }
    }

    #[test]
    fn what_answers_another_question_is_nothing() {
        let mut question = Question::new("web.vetch", Answer::Address);
        let whole = answer(&mut question, [0x85, 0x80], 1);
        // Some servers write names in another case.
        let mut shouted = whole.clone();
        shouted[13..16].copy_from_slice(b"WEB");
        assert!(question.read(&shouted).is_some());
        for (what, message) in [
            ("a question", question.with_id(1).to_vec()),
            (
                "another name",
                answer(
                    &mut Question::new("wea.vetch", Answer::Address),
                    [0x85, 0x80],
                    1,
                ),
            ),
            ("half", whole[..20].to_vec()),
            ("a header", whole[..12].to_vec()),
            ("nothing", Vec::new()),
        ] {
            assert_eq!(question.read(&message), None, "{what}");
        }
    }
}
