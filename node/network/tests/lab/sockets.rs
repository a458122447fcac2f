//! Sockets of another namespace.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use vetch_network::{NetnsError, tcp_socket};

use crate::namespace::Namespace;

#[tokio::test]
async fn a_socket_connects_where_it_was_made() {
    let pod = Namespace::new();
    pod.set_up("lo", true).await;
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let listener = pod.run(|| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let socket = tcp_socket(&pod.path(), ip.is_ipv6()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let (_, client) = listener.accept().unwrap();
        assert_eq!(stream.local_addr().unwrap(), client);
        // This thread has stayed in its own, where nobody listens.
        assert!(TcpStream::connect(address).is_err());
    }
    let gone = tcp_socket(Path::new("/no/such/namespace"), false);
    assert!(matches!(gone, Err(NetnsError::Open { .. })));
}
