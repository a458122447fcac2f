//! The datagram echo: each comes back with the pod's name before it.

use std::io::Result;
use std::net::UdpSocket;

use crate::serve::Shared;

/// The largest there is.
const DATAGRAM: usize = 65_535;

pub fn run(shared: &Shared) -> Result<()> {
    let name = format!("{}: ", shared.identity.pod);
    let mut buffer = vec![0; name.len() + DATAGRAM];
    buffer[..name.len()].copy_from_slice(name.as_bytes());
    loop {
        echo(&shared.udp, &mut buffer, name.len());
    }
}

/// Errors are those of one client: what it sent, or where it no longer listens.
fn echo(socket: &UdpSocket, buffer: &mut [u8], name: usize) {
    if let Ok((count, from)) = socket.recv_from(&mut buffer[name..]) {
        let _ = socket.send_to(&buffer[..name + count], from);
    }
}
