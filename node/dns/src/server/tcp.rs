//! Connections: one question after the other, RFC 7766.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{Handled, Server};
use crate::{metrics::Transport, shares::Shares};

const MOST: usize = 512;
const MOST_EACH: usize = 64;
/// Without a question, in one, or without taking the answer.
const IDLE: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_millis(100);

pub async fn serve(server: Server, listener: TcpListener) -> Infallible {
    let all = Arc::new(Semaphore::new(MOST));
    let shares = Shares::new(MOST_EACH);
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "cannot accept");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if !server.serves(client) {
            continue;
        }
        let share = shares.take(client.ip().to_canonical());
        let (Some(share), Ok(permit)) = (share, Arc::clone(&all).try_acquire_owned()) else {
            server.metrics.dropped.inc();
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(&server, stream, client).await {
                debug!(%client, %error, "a connection broke");
            }
            drop((share, permit));
        });
    }
}

async fn converse(server: &Server, stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let Ok(question) = timeout(IDLE, read(&mut stream)).await else {
            return Ok(());
        };
        let Some(question) = question? else {
            return Ok(());
        };
        let reply = match server.handle(&question, client, Transport::Tcp) {
            Handled::Reply(reply) => Some(reply),
            Handled::Later(waiting) => server.wait(*waiting, Transport::Tcp).await,
            Handled::Nothing => None,
        };
        // A client that gets no answer here would wait for it.
        let Some(reply) = reply else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(reply.len()) else {
            return Ok(());
        };
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        match timeout(IDLE, stream.get_mut().write_all(&framed)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

/// One message; `None` at the end of the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}
