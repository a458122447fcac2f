//! Kubernetes' remote command protocol: a message is a channel's number and the channel's bytes.
//!
//! `v4.channel.k8s.io` is that; `v5.channel.k8s.io` (KEP-4006) adds a message for the end of a channel, so that the
//! process's input may end before its output.

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

impl Protocol {
    pub const ALL: [Protocol; 2] = [Protocol::V5, Protocol::V4];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::V4 => "v4.channel.k8s.io",
            Protocol::V5 => "v5.channel.k8s.io",
        }
    }

    /// The first of the client's that is known.
    pub fn choose(asked: &[&str]) -> Option<Protocol> {
        let known = |name: &&str| Protocol::ALL.into_iter().find(|own| own.name() == *name);
        asked.iter().find_map(known)
    }
}

/// What a client's message is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Told<'a> {
    Input(&'a [u8]),
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

pub fn read(protocol: Protocol, message: &[u8]) -> Told<'_> {
    match (message.split_first(), protocol) {
        (Some((&STDIN, bytes)), _) => Told::Input(bytes),
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
        Err(why) => {
            let words = format!("error executing command in container: {why}");
            json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": format!("Internal error occurred: {words}"),
                "details": {"causes": [{"message": words}]},
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_choice_counts() {
        for (asked, wanted) in [
            (&["v5.channel.k8s.io"][..], Some(Protocol::V5)),
            (
                &["v4.channel.k8s.io", "v5.channel.k8s.io"],
                Some(Protocol::V4),
            ),
            (
                &["v6.channel.k8s.io", "v5.channel.k8s.io"],
                Some(Protocol::V5),
            ),
            (&["v4.base64.channel.k8s.io"], None),
            (&[], None),
        ] {
            assert_eq!(Protocol::choose(asked), wanted, "{asked:?}");
        }
    }

    #[test]
    fn messages() {
        let size = |width, height| Told::Resize(Size { width, height });
        for (message, v4, v5) in [
            (&b"\x00abc"[..], Told::Input(b"abc"), Told::Input(b"abc")),
            (b"\x00", Told::Input(b""), Told::Input(b"")),
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
            assert_eq!(read(Protocol::V4, message), v4, "{message:?}");
            assert_eq!(read(Protocol::V5, message), v5, "{message:?}");
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
        let words = "Internal error occurred: error executing command in container: no";
        assert_eq!(never["message"], words);
    }
}
