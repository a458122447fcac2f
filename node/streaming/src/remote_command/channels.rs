//! Kubernetes' remote command protocol: a message is a channel's number and the channel's bytes.
//!
//! `v4.channel.k8s.io` is that; `v5.channel.k8s.io` (KEP-4006) adds a message for the end of a channel, so that the
//! process's input may end before its output. `channel.k8s.io`, and no name, is the one of before: how it ended is said
//! in words, and only if it did not end well. With `base64` in its name the channel is a digit, and the bytes are text.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// How it ended: a Status, once.
pub const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the number of the channel that ends.
const CLOSE: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V1,
    V1Base64,
    V4,
    V4Base64,
    V5,
}

/// Of a client that names none, too.
const V1: &str = "channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";
pub const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";

pub const NAMES: &[&str] = &[V5, V4, V4_BASE64, V1, V1_BASE64, ""];

impl Protocol {
    /// By one of the names above.
    pub fn named(name: &str) -> Protocol {
        match name {
            V5 => Protocol::V5,
            V4 => Protocol::V4,
            V4_BASE64 => Protocol::V4Base64,
            V1_BASE64 => Protocol::V1Base64,
            _ => Protocol::V1,
        }
    }

    pub fn is_text(self) -> bool {
        matches!(self, Protocol::V1Base64 | Protocol::V4Base64)
    }
}

/// A message as those have it whose protocol is text.
pub fn to_text(message: &[u8]) -> String {
    let (channel, bytes) = message.split_first().unwrap_or((&ERROR, &[]));
    let digit = char::from(b'0'.wrapping_add(*channel));
    format!("{digit}{}", BASE64.encode(bytes))
}

/// `None` for what is no such message.
pub fn from_text(text: &[u8]) -> Option<Bytes> {
    let (digit, bytes) = text.split_first()?;
    let channel = digit.checked_sub(b'0')?;
    let bytes = BASE64.decode(bytes).ok()?;
    Some([&[channel], bytes.as_slice()].concat().into())
}

/// What a client's message is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Input(Bytes),
    EndOfInput,
    Resize(Size),
    /// A channel it has nothing to say on, or what cannot be read: left alone, as Kubernetes does.
    Nothing,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

pub fn read(protocol: Protocol, message: &Bytes) -> Told {
    match (message.split_first(), protocol) {
        (Some((&STDIN, _)), _) => Told::Input(message.slice(1..)),
        (Some((&RESIZE, bytes)), _) => match serde_json::from_slice(bytes) {
            Ok(size) => Told::Resize(size),
            Err(_) => Told::Nothing,
        },
        (Some((&CLOSE, &[STDIN])), Protocol::V5) => Told::EndOfInput,
        _ => Told::Nothing,
    }
}

/// What is said on the channel of errors at the end.
pub fn last_word(protocol: Protocol, outcome: Result<i32, String>) -> Option<String> {
    let status = status(outcome);
    match protocol {
        Protocol::V4 | Protocol::V4Base64 | Protocol::V5 => Some(status.to_string()),
        // A success has no words.
        Protocol::V1 | Protocol::V1Base64 => status["message"].as_str().map(ToOwned::to_owned),
    }
}

/// `outcome`: the process's exit code, or why there is none.
fn status(outcome: Result<i32, String>) -> Value {
    match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {why}"),
            "details": {"causes": [{"message": why}]},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let size = |width, height| Told::Resize(Size { width, height });
        let input = |bytes| Told::Input(Bytes::from_static(bytes));
        for (message, v4, v5) in [
            (&b"\x00abc"[..], input(b"abc"), input(b"abc")),
            (b"\x00", input(b""), input(b"")),
            (b"\xff\x00", Told::Nothing, Told::EndOfInput),
            (b"\xff\x01", Told::Nothing, Told::Nothing),
            (b"\xff", Told::Nothing, Told::Nothing),
            (
                b"\x04{\"Width\":80,\"Height\":24}",
                size(80, 24),
                size(80, 24),
            ),
            (b"\x04{\"Width\":70000}", Told::Nothing, Told::Nothing),
            (b"\x01x", Told::Nothing, Told::Nothing),
            (b"", Told::Nothing, Told::Nothing),
        ] {
            let message = Bytes::from_static(message);
            assert_eq!(read(Protocol::V4, &message), v4, "{message:?}");
            assert_eq!(read(Protocol::V5, &message), v5, "{message:?}");
        }
    }

    #[test]
    fn names_are_kubelets() {
        let protocols = [
            Protocol::V5,
            Protocol::V4,
            Protocol::V4Base64,
            Protocol::V1,
            Protocol::V1Base64,
            Protocol::V1,
        ];
        assert_eq!(NAMES.len(), protocols.len(), "{NAMES:?}");
        for (name, protocol) in NAMES.iter().zip(protocols) {
            assert_eq!(Protocol::named(name), protocol, "{name:?}");
        }
    }

    #[test]
    fn text_is_a_digit_and_base64() {
        for (message, text) in [
            (&b"\x01hi"[..], "1aGk="),
            (b"\x01", "1"),
            (b"\x04{}", "4e30="),
        ] {
            assert_eq!(to_text(message), text);
            assert_eq!(from_text(text.as_bytes()).as_deref(), Some(message));
        }
        for text in ["", "!aGk=", "1aGk", "1?"] {
            assert_eq!(from_text(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn only_failures_have_words_in_the_first_protocol() {
        for protocol in [Protocol::V1, Protocol::V1Base64] {
            assert_eq!(last_word(protocol, Ok(0)), None);
            let failed = "command terminated with non-zero exit code: exit status 3";
            assert_eq!(last_word(protocol, Ok(3)).as_deref(), Some(failed));
        }
        for protocol in [Protocol::V4, Protocol::V4Base64, Protocol::V5] {
            let word = last_word(protocol, Ok(0));
            assert_eq!(word, Some(status(Ok(0)).to_string()));
        }
    }

    #[test]
    fn how_it_ended() {
        assert_eq!(status(Ok(0))["status"], "Success");
        let failed = status(Ok(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        let cause = json!({"reason": "ExitCode", "message": "3"});
        assert_eq!(failed["details"]["causes"], json!([cause]));
        let never = status(Err("no".to_owned()));
        assert_eq!(never["message"], "Internal error occurred: no");
    }
}
