//! Servers that answer bytes with the same bytes for as long as somebody asks,
//! all of them on one thread.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    thread::JoinHandle,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

/// TCP and UDP.
pub const PORT: u16 = 8080;
/// After this byte the server closes the connection, so that it is not the
/// client who is left with a port in TIME_WAIT.
pub const LAST: u8 = b'!';

/// Of one address, in the namespace of the thread that bound it.
pub struct Echo {
    tcp: TcpListener,
    udp: UdpSocket,
}

/// Ends them when it goes.
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn bind(address: IpAddr) -> Self {
        let tcp = TcpListener::bind((address, PORT)).unwrap();
        let udp = UdpSocket::bind((address, PORT)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Self { tcp, udp }
    }

    pub fn serve(all: Vec<Self>) -> Serving {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                for Self { tcp, udp } in all {
                    tokio::spawn(connections(tcp));
                    tokio::spawn(datagrams(udp));
                }
                let _ = stopped.await;
            });
        });
        Serving {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

async fn connections(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut bytes = [0; 64];
            while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                let written = stream.write_all(&bytes[..len]).await;
                if written.is_err() || bytes[..len].contains(&LAST) {
                    break;
                }
            }
        });
    }
}

async fn datagrams(socket: UdpSocket) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut bytes = [0; 64];
    loop {
        let (len, from) = socket.recv_from(&mut bytes).await?;
        // A client that is gone is no reason to end.
        let _ = socket.send_to(&bytes[..len], from).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
