//! Kubernetes' remote command protocol: a message is a channel's number and the channel's bytes.
//!
//! `v4.channel.k8s.io` is that; `v5.channel.k8s.io` (KEP-4006) adds a message for the end of a channel, so that the
//! process's input may end before its output.

use bytes::Bytes;
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
    V4,
    V5,
}

pub const V4: &str = "v4.channel.k8s.io";
pub const V5: &str = "v5.channel.k8s.io";

impl Protocol {
    /// By one of the names above.
    pub fn named(name: &str) -> Protocol {
        match name {
            V5 => Protocol::V5,
            _ => Protocol::V4,
        }
    }
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

/// `outcome`: the process's exit code, or why there is none.
pub fn status(outcome: Result<i32, String>) -> Value {
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
