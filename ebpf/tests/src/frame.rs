//! Frames written out byte by byte, every checksum from scratch: what the
//! programs correct by differences is compared with this.

use std::net::{IpAddr, SocketAddr};

use vetch_ebpf_common::{Protocol, State};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const IPIP: u8 = 4;
const IPV6: u8 = 41;

#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub mac_to: [u8; 6],
    pub mac_from: [u8; 6],
    pub vlans: Vec<u16>,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub ttl: u8,
    /// IPv4 options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers before the transport's: their types, each of 8
    /// or, if it is a multiple of 8, more bytes.
    pub extensions: Vec<(u8, usize)>,
    pub fragment: Option<Fragment>,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fragment {
    pub id: u16,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Tcp {
        flags: u8,
        payload: usize,
    },
    Udp {
        payload: usize,
    },
    /// A checksum of zero: none.
    UdpUnchecked {
        payload: usize,
    },
    Sctp,
    /// Echo request: the identifier is the source port, and the other does not count.
    Echo,
    /// Echo reply: the identifier is the destination port.
    EchoAnswer,
    /// What a later fragment has.
    Raw {
        protocol: u8,
        payload: usize,
    },
    Error {
        kind: u8,
        code: u8,
        rest: u32,
        quoted: Box<Quote>,
    },
    Other {
        protocol: u8,
    },
    /// As a node sends it on for a pod at this port.
    Tunnel {
        port: u16,
        inner: Box<Frame>,
    },
}

/// The packet that an ICMP error is about, and how much of it is quoted.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    pub frame: Frame,
    /// Bytes behind its IP header, and options or extensions.
    pub bytes: usize,
}

/// What asks for a TCP connection.
pub fn syn(src: &str, dst: &str) -> Frame {
    Frame::tcp(src, dst, State::SYN)
}

/// What a conversation begins with.
pub fn opening(protocol: Protocol, src: &str, dst: &str) -> Frame {
    match protocol {
        Protocol::Tcp => syn(src, dst),
        Protocol::Udp => Frame::udp(src, dst),
        Protocol::Sctp => Frame::new(src, dst, Body::Sctp),
    }
}

impl Frame {
    pub fn new(src: &str, dst: &str, body: Body) -> Self {
        Self {
            mac_to: [0; 6],
            mac_from: [0; 6],
            vlans: Vec::new(),
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            body,
        }
    }

    pub fn tcp(src: &str, dst: &str, flags: u8) -> Self {
        Self::new(src, dst, Body::Tcp { flags, payload: 0 })
    }

    pub fn udp(src: &str, dst: &str) -> Self {
        Self::new(src, dst, Body::Udp { payload: 11 })
    }

    pub fn src(mut self, src: &str) -> Self {
        self.src = src.parse().unwrap();
        self
    }

    pub fn dst(mut self, dst: &str) -> Self {
        self.dst = dst.parse().unwrap();
        self
    }

    pub fn macs(mut self, to: [u8; 6], from: [u8; 6]) -> Self {
        self.mac_to = to;
        self.mac_from = from;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.mac_to, self.mac_from].concat();
        for vlan in &self.vlans {
            bytes.extend([0x81, 0x00]);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(match self.src {
            SocketAddr::V4(_) => [0x08, 0x00],
            SocketAddr::V6(_) => [0x86, 0xdd],
        });
        bytes.extend(self.packet());
        bytes
    }

    /// From the IP header on.
    fn packet(&self) -> Vec<u8> {
        let (mut packet, transport) = self.parts();
        packet.extend(transport);
        packet
    }

    /// The IP header with options or extensions, and what is behind it.
    fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let transport = self.transport();
        let network = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + self.options.len();
                let length = (header + transport.len()) as u16;
                let mut bytes = vec![0x40 | (header / 4) as u8, 0];
                bytes.extend(length.to_be_bytes());
                let (id, offset) = match self.fragment {
                    None => (self.tunnel_port().unwrap_or(0x1234), 0x4000),
                    Some(Fragment { id, offset, more }) => {
                        (id, (offset / 8) | if more { 0x2000 } else { 0 })
                    }
                };
                bytes.extend(id.to_be_bytes());
                bytes.extend(offset.to_be_bytes());
                bytes.extend([self.ttl, self.protocol(), 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(&self.options);
                let sum = checksum(&[&bytes]);
                bytes[10..12].copy_from_slice(&sum);
                bytes
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut chain: Vec<(u8, Vec<u8>)> = self
                    .extensions
                    .iter()
                    .map(|(kind, length)| {
                        let mut bytes = vec![0; *length];
                        bytes[1] = (length / 8 - 1) as u8;
                        // PadN over the rest.
                        bytes[2..4].copy_from_slice(&[1, (length - 4) as u8]);
                        (*kind, bytes)
                    })
                    .collect();
                if let Some(Fragment { id, offset, more }) = self.fragment {
                    let mut bytes = vec![0, 0];
                    bytes.extend((offset | u16::from(more)).to_be_bytes());
                    bytes.extend(u32::from(id).to_be_bytes());
                    chain.push((44, bytes));
                }
                let mut extensions = Vec::new();
                let mut kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).collect();
                kinds.push(self.protocol());
                for ((_, mut bytes), next) in chain.into_iter().zip(&kinds[1..]) {
                    bytes[0] = *next;
                    extensions.extend(bytes);
                }
                let [high, low] = self.tunnel_port().unwrap_or(0).to_be_bytes();
                let mut bytes = vec![0x60, 0, high, low];
                bytes.extend(((extensions.len() + transport.len()) as u16).to_be_bytes());
                bytes.extend([kinds[0], self.ttl]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend(extensions);
                bytes
            }
            _ => panic!("one family a frame"),
        };
        (network, transport)
    }

    fn tunnel_port(&self) -> Option<u16> {
        match self.body {
            Body::Tunnel { port, .. } => Some(port),
            _ => None,
        }
    }

    fn protocol(&self) -> u8 {
        match &self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } | Body::UdpUnchecked { .. } => UDP,
            Body::Sctp => SCTP,
            Body::Echo | Body::EchoAnswer | Body::Error { .. } if self.src.is_ipv4() => ICMP,
            Body::Echo | Body::EchoAnswer | Body::Error { .. } => ICMPV6,
            Body::Raw { protocol, .. } | Body::Other { protocol } => *protocol,
            Body::Tunnel { .. } if self.src.is_ipv4() => IPIP,
            Body::Tunnel { .. } => IPV6,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        let text = |length: usize| (0..length).map(|at| b'a' + (at % 26) as u8);
        let checksum_at = match &self.body {
            Body::Tcp { flags, payload } => {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(text(*payload));
                Some(16)
            }
            Body::Udp { payload } | Body::UdpUnchecked { payload } => {
                bytes.extend((8 + *payload as u16).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(text(*payload));
                matches!(self.body, Body::Udp { .. }).then_some(6)
            }
            // A verification tag and a checksum that covers no address.
            Body::Sctp => {
                bytes.extend([1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 4]);
                None
            }
            Body::Echo => {
                let kind = if self.src.is_ipv4() { 8 } else { 128 };
                bytes = vec![kind, 0, 0, 0];
                bytes.extend(self.src.port().to_be_bytes());
                bytes.extend([0, 1]);
                bytes.extend(text(16));
                Some(2)
            }
            Body::EchoAnswer => {
                let kind = if self.src.is_ipv4() { 0 } else { 129 };
                bytes = vec![kind, 0, 0, 0];
                bytes.extend(self.dst.port().to_be_bytes());
                bytes.extend([0, 1]);
                bytes.extend(text(16));
                Some(2)
            }
            Body::Error {
                kind,
                code,
                rest,
                quoted,
            } => {
                bytes = vec![*kind, *code, 0, 0];
                bytes.extend(rest.to_be_bytes());
                let (header, transport) = quoted.frame.parts();
                bytes.extend(header);
                bytes.extend(&transport[..quoted.bytes.min(transport.len())]);
                Some(2)
            }
            Body::Raw { payload, .. } => {
                bytes = text(*payload).collect();
                None
            }
            Body::Other { .. } => {
                bytes = text(24).collect();
                None
            }
            Body::Tunnel { inner, .. } => {
                bytes = inner.packet();
                None
            }
        };
        if let Some(at) = checksum_at {
            let icmp = self.protocol() == ICMP;
            let pseudo = if icmp {
                Vec::new()
            } else {
                self.pseudo(bytes.len())
            };
            let mut sum = checksum(&[&pseudo, &bytes]);
            if sum == [0, 0] && self.protocol() == UDP {
                sum = [0xff, 0xff];
            }
            bytes[at..at + 2].copy_from_slice(&sum);
        }
        bytes
    }

    /// Of the pseudo header alone: what a sender leaves in the checksum's place
    /// for a device to go on from.
    pub fn pseudo_sum(&self) -> [u8; 2] {
        let [high, low] = checksum(&[&self.pseudo(self.transport().len())]);
        [!high, !low]
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend([0, self.protocol()]);
                bytes.extend((length as u16).to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend([0, 0, 0, self.protocol()]);
            }
            _ => panic!("one family a frame"),
        }
        bytes
    }
}

/// RFC 1071, over parts of even length (the last one may be odd).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), [!0xdd, !0xf2]);
    }
}
