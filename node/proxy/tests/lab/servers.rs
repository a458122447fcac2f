//! Servers that say who they are.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
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
    pub address: SocketAddr,
    udp: bool,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn tcp(id: u8) -> Self {
        Self::tcp_at(Ipv4Addr::LOCALHOST.into(), id)
    }

    pub fn tcp_at(address: IpAddr, id: u8) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self::start(address, false, move |stop| {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.and_then(|mut stream| stream.write_all(&[id]));
            }
        })
    }

    /// Holds what it accepts until its client goes.
    pub fn tcp_held(id: u8) -> Self {
        Self::tcp_held_at(Ipv4Addr::LOCALHOST.into(), id)
    }

    pub fn tcp_held_at(address: IpAddr, id: u8) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self::start(address, false, move |stop| {
            let hold = |mut stream: TcpStream| {
                let _ = stream.write_all(&[id]);
                let _ = stream.read(&mut [0]);
            };
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(stream) = stream {
                        scope.spawn(move || hold(stream));
                    }
                }
            });
        })
    }

    pub fn udp(id: u8) -> Self {
        Self::udp_at(Ipv4Addr::LOCALHOST.into(), id)
    }

    pub fn udp_at(address: IpAddr, id: u8) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        let address = socket.local_addr().unwrap();
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
        address: SocketAddr,
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
            let _ = UdpSocket::bind((self.address.ip(), 0))
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

/// A megabyte from one end of a connection to the other and back, whole. Both
/// ends are closed for writing then.
#[track_caller]
pub fn there_and_back(stream: &mut TcpStream, accepted: &mut TcpStream) {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = Vec::new();
            accepted.read_to_end(&mut bytes).unwrap();
            accepted.write_all(&bytes).unwrap();
            accepted.shutdown(Shutdown::Write).unwrap();
        });
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(sent == received, "{} bytes came back", received.len());
    });
}
