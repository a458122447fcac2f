//! An HTTP answer, as it comes in.

use std::str::from_utf8;

use httparse::{EMPTY_HEADER, Response, Status};
use thiserror::Error;

/// Longer heads are not the server's.
const HEAD_LIMIT: usize = 16 * 1024;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("the answer is no HTTP: {0}")]
    Head(httparse::Error),
    #[error("the answer's head has no end")]
    Endless,
    #[error("answered {0}")]
    Status(u16),
    #[error("the answer has no Content-Length")]
    Length,
    #[error("the answer has no X-Server")]
    Server,
    #[error("more came than the answer")]
    Excess,
}

/// Of one answer, how far it has come. Reusable for the next when it is done.
#[derive(Debug, Default)]
pub struct Answer {
    /// A head that is not whole yet.
    partial: Vec<u8>,
    /// Bytes of the body still to come; none before the head.
    left: Option<u64>,
}

/// What a piece brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of the body.
    pub body: u64,
    /// The answer is whole.
    pub done: bool,
}

impl Answer {
    /// Takes what was received. `named` hears the server's name once, when the head is whole.
    pub fn take(&mut self, bytes: &[u8], named: impl FnOnce(&[u8])) -> Result<Taken, Malformed> {
        if self.left.is_some() {
            return self.take_body(bytes.len());
        }
        if self.partial.is_empty() {
            let Some((head, length)) = self.take_head(bytes, named)? else {
                self.partial.extend_from_slice(bytes);
                return Ok(Taken {
                    body: 0,
                    done: false,
                });
            };
            self.left = Some(length);
            return self.take_body(bytes.len() - head);
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let Some((head, length)) = self.take_head(&partial, named)? else {
            if partial.len() > HEAD_LIMIT {
                return Err(Malformed::Endless);
            }
            self.partial = partial;
            return Ok(Taken {
                body: 0,
                done: false,
            });
        };
        self.left = Some(length);
        self.take_body(partial.len() - head)
    }

    /// Forgets an answer that is not wanted any more.
    pub fn reset(&mut self) {
        self.partial.clear();
        self.left = None;
    }

    /// Bytes of the head and of the body it announces.
    fn take_head(
        &self,
        bytes: &[u8],
        named: impl FnOnce(&[u8]),
    ) -> Result<Option<(usize, u64)>, Malformed> {
        let mut headers = [EMPTY_HEADER; 16];
        let mut response = Response::new(&mut headers);
        let Status::Complete(head) = response.parse(bytes).map_err(Malformed::Head)? else {
            return Ok(None);
        };
        match response.code {
            Some(200) => {}
            other => return Err(Malformed::Status(other.unwrap_or(0))),
        }
        let value = |name: &str| {
            let mut headers = response.headers.iter();
            let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| header.value)
        };
        let length = value("content-length")
            .and_then(|text| from_utf8(text).ok())
            .and_then(|text| text.parse().ok())
            .ok_or(Malformed::Length)?;
        named(value("x-server").ok_or(Malformed::Server)?);
        Ok(Some((head, length)))
    }

    fn take_body(&mut self, count: usize) -> Result<Taken, Malformed> {
        let left = self.left.unwrap_or(0);
        let body = u64::try_from(count).unwrap_or(u64::MAX);
        let after = left.checked_sub(body).ok_or(Malformed::Excess)?;
        self.left = (after > 0).then_some(after);
        Ok(Taken {
            body,
            done: after == 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-server: pod-1:8080\r\n\r\nhello";

    #[test]
    fn an_answer_comes_in_any_pieces() {
        for size in 1..=WHOLE.len() {
            let mut answer = Answer::default();
            for _ in 0..2 {
                let (mut body, mut done, mut names) = (0, 0, Vec::new());
                for piece in WHOLE.as_bytes().chunks(size) {
                    let taken = answer
                        .take(piece, |name| names.push(name.to_vec()))
                        .unwrap();
                    body += taken.body;
                    done += usize::from(taken.done);
                }
                assert_eq!((body, done), (5, 1), "pieces of {size}");
                assert_eq!(names, [b"pod-1:8080"], "pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_no_good_answer_is_told() {
        let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n");
        for (text, expected) in [
            (
                "SSH-2.0-OpenSSH\r\n\r\n".into(),
                Malformed::Head(httparse::Error::Version),
            ),
            ("HTTP/1.1 503 No\r\n\r\n".into(), Malformed::Status(503)),
            (head("X-Server: a\r\n"), Malformed::Length),
            (head("Content-Length: -1\r\n"), Malformed::Length),
            (head("Content-Length: 1\r\n"), Malformed::Server),
            (format!("{WHOLE}!"), Malformed::Excess),
        ] {
            let taken = Answer::default().take(text.as_bytes(), |_| {});
            assert_eq!(taken, Err(expected), "{text}");
        }
        let mut answer = Answer::default();
        answer.take(&head("").as_bytes()[..17], |_| {}).unwrap();
        let endless = format!("A: {}", "a".repeat(HEAD_LIMIT));
        assert_eq!(
            answer.take(endless.as_bytes(), |_| {}),
            Err(Malformed::Endless)
        );
    }
}
