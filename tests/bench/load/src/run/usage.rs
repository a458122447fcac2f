//! The servers' CPU time, asked at their control ports.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Longer answers are not the server's.
const LONGEST: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    cpu_micros: u64,
}

/// Connections that stand before the load does, so that asking costs one round trip.
pub struct Usages(Vec<(SocketAddr, TcpStream)>);

impl Usages {
    pub fn connect(servers: &[SocketAddr]) -> Result<Usages> {
        let connect = |server: &SocketAddr| {
            let stream = TcpStream::connect_timeout(server, TIMEOUT)
                .with_context(|| format!("usage of {server}: connect"))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok((*server, stream))
        };
        servers
            .iter()
            .map(connect)
            .collect::<Result<_>>()
            .map(Usages)
    }

    /// The sum; none where nobody is to be asked.
    pub fn read(&mut self) -> Result<Option<u64>> {
        // All are asked before the first is listened to: the moments are closer together.
        for (server, stream) in &mut self.0 {
            write!(stream, "GET /usage HTTP/1.1\r\nHost: {server}\r\n\r\n")
                .with_context(|| format!("usage of {server}: ask"))?;
        }
        let mut sum = None;
        for (server, stream) in &mut self.0 {
            let micros = answer(stream).with_context(|| format!("usage of {server}"))?;
            *sum.get_or_insert(0) += micros;
        }
        Ok(sum)
    }
}

fn answer(stream: &mut TcpStream) -> Result<u64> {
    let mut input = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).context("receive")?;
        ensure!(count > 0, "the answer ended early");
        input.extend_from_slice(&piece[..count]);
        ensure!(input.len() < LONGEST, "the answer has no end");
        // A body that is one JSON object is whole when it can be read.
        let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let Some(end) = end else { continue };
        ensure!(
            input.starts_with(b"HTTP/1.1 200 "),
            "answered {:?}",
            String::from_utf8_lossy(&input)
        );
        match serde_json::from_slice::<Usage>(&input[end + 4..]) {
            Ok(usage) => return Ok(usage.cpu_micros),
            Err(error) if error.is_eof() => {}
            Err(error) => return Err(error).context("read the answer"),
        }
    }
}
