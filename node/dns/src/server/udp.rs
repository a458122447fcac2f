//! Datagrams: what is known is answered at once, the rest when others answered.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, time::sleep};
use tracing::debug;

use super::{Handled, Server};
use crate::metrics::Transport;

/// Questions are short; what is cut off is malformed.
const LONGEST: usize = 4096;
const AFTER_ERROR: Duration = Duration::from_millis(10);

pub async fn serve(server: Server, socket: UdpSocket) -> Infallible {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "cannot receive");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if !server.serves(client) {
            continue;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        match server.handle(bytes, client, Transport::Udp) {
            Handled::Reply(reply) => send(&socket, &reply, client).await,
            // How many there are is bounded by the clients' shares.
            Handled::Later(waiting) => {
                let (server, socket) = (server.clone(), Arc::clone(&socket));
                tokio::spawn(async move {
                    if let Some(reply) = server.wait(*waiting, Transport::Udp).await {
                        send(&socket, &reply, client).await;
                    }
                });
            }
            Handled::Nothing => {}
        }
    }
}

/// Who gets no answer asks again.
async fn send(socket: &UdpSocket, reply: &[u8], client: std::net::SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        debug!(%client, %error, "cannot send");
    }
}
