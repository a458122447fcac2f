//! What a port answers, made ready when it opens.

use std::io::Write as _;

use super::request::Route;
use super::usage::Source;

/// 64 bytes.
const BODY: &str = "Sixty-four bytes, whoever asks: cheap, and the same every time.\n";

#[derive(Debug)]
pub enum Site {
    Load {
        /// `HOSTNAME:PORT`.
        server: String,
        /// Whole answers to GET /.
        kept: Vec<u8>,
        closed: Vec<u8>,
    },
    Control(Source),
}

impl Site {
    pub fn load(host: &str, port: u16) -> Site {
        let server = format!("{host}:{port}");
        let whole = |keep_alive| {
            let mut answer = Vec::new();
            head(
                &mut answer,
                "200 OK",
                BODY.len() as u64,
                keep_alive,
                &server,
            );
            answer.extend_from_slice(BODY.as_bytes());
            answer
        };
        Site::Load {
            kept: whole(true),
            closed: whole(false),
            server,
        }
    }

    /// Appends the answer, and says how many bytes of a stream follow it.
    pub fn answer(&self, route: Route, keep_alive: bool, output: &mut Vec<u8>) -> u64 {
        match (self, route) {
            (Site::Load { kept, .. }, Route::Root) if keep_alive => output.extend_from_slice(kept),
            (Site::Load { closed, .. }, Route::Root) => output.extend_from_slice(closed),
            (Site::Load { server, .. }, Route::Stream(bytes)) => {
                head(output, "200 OK", bytes, keep_alive, server);
                return bytes;
            }
            (Site::Control(source), Route::Usage) => match source.read() {
                Ok(usage) => self.text(output, "200 OK", &usage, keep_alive),
                Err(error) => {
                    let text = error.to_string();
                    self.text(output, "500 Internal Server Error", &text, keep_alive);
                }
            },
            _ => self.text(output, "404 Not Found", "not found\n", keep_alive),
        }
        0
    }

    pub fn refuse(&self, status: &str, output: &mut Vec<u8>) {
        self.text(output, status, "", false);
    }

    fn text(&self, output: &mut Vec<u8>, status: &str, body: &str, keep_alive: bool) {
        let server = match self {
            Site::Load { server, .. } => server,
            Site::Control(_) => "control",
        };
        head(output, status, body.len() as u64, keep_alive, server);
        output.extend_from_slice(body.as_bytes());
    }
}

fn head(output: &mut Vec<u8>, status: &str, length: u64, keep_alive: bool, server: &str) {
    let connection = match keep_alive {
        true => "",
        false => "Connection: close\r\n",
    };
    // Writing to memory does not fail.
    let _ = write!(
        output,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Server: {server}\r\n{connection}\r\n"
    );
}
