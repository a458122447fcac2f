//! Servers that say who they are.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers every connection or datagram with one byte.
pub struct Server {
    pub address: SocketAddrV4,
    udp: bool,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn tcp(id: u8) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = v4(listener.local_addr().unwrap());
        Self::start(address, false, move |stop| {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.and_then(|mut stream| stream.write_all(&[id]));
            }
        })
    }

    pub fn udp(id: u8) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = v4(socket.local_addr().unwrap());
        Self::start(address, true, move |stop| {
            let mut bytes = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let _ = socket.send_to(&[id], from);
            }
        })
    }

    fn start(
        address: SocketAddrV4,
        udp: bool,
        serve: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || serve(&seen));
        Self {
            address,
            udp,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.udp {
            let _ = UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(&[0], self.address));
        } else {
            let _ = TcpStream::connect(self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks over a new connection who serves there.
pub fn ask(address: &str) -> std::io::Result<u8> {
    ask_stream(&mut TcpStream::connect(address)?)
}

pub fn ask_stream(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut id = [0];
    stream.read_exact(&mut id)?;
    Ok(id[0])
}

pub fn udp_client() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("bound to {address}"),
    }
}
