//! One question to one server.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    ProtoError,
    op::{Message, MessageType, OpCode, Query, ResponseCode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{cache::Question, message::edns};

/// For an answer by UDP: a second server gets its turn before the client asks again.
const BY_UDP: Duration = Duration::from_secs(2);
const BY_TCP: Duration = Duration::from_secs(3);
/// More than we say we take.
const DATAGRAM: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("nothing came in time")]
    Silence,
    #[error("the question cannot be written: {0}")]
    Question(#[from] ProtoError),
    #[error("the answer cannot be read, or is another question's")]
    Answer,
}

/// The answer, read and as it came. Every question has a socket and a number of
/// its own, which is what an off-path attacker would have to guess.
pub async fn ask(
    server: SocketAddr,
    question: &Question,
) -> Result<(Message, Vec<u8>), ExchangeError> {
    let asked = Asked::new(question, true);
    let (message, bytes) = asked.to(server).await?;
    // A server of before EDNS: RFC 6891 6.2.2.
    let code = message.metadata.response_code;
    if matches!(code, ResponseCode::FormErr | ResponseCode::NotImp) && message.edns.is_none() {
        return Asked::new(question, false).to(server).await;
    }
    Ok((message, bytes))
}

struct Asked(Message);

impl Asked {
    fn new(question: &Question, extended: bool) -> Self {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = question.checking_disabled;
        message.add_query(Query::query(question.name.clone(), question.kind));
        message.edns = extended.then(|| edns(question.dnssec_ok));
        Self(message)
    }

    async fn to(&self, server: SocketAddr) -> Result<(Message, Vec<u8>), ExchangeError> {
        let bytes = self.0.to_vec()?;
        let by_udp = timeout(BY_UDP, self.by_udp(server, &bytes)).await;
        let (message, answer) = by_udp.map_err(|_| ExchangeError::Silence)??;
        if !message.metadata.truncation {
            return Ok((message, answer));
        }
        let by_tcp = timeout(BY_TCP, self.by_tcp(server, &bytes)).await;
        by_tcp.map_err(|_| ExchangeError::Silence)?
    }

    async fn by_udp(
        &self,
        server: SocketAddr,
        bytes: &[u8],
    ) -> Result<(Message, Vec<u8>), ExchangeError> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(bytes).await?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let answer = buffer.get(..length).unwrap_or_default();
            // Others are forged, or too late: the right one may still come.
            if let Some(message) = self.answer(answer) {
                return Ok((message, answer.to_vec()));
            }
        }
    }

    async fn by_tcp(
        &self,
        server: SocketAddr,
        bytes: &[u8],
    ) -> Result<(Message, Vec<u8>), ExchangeError> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(bytes.len()).map_err(|_| ExchangeError::Answer)?;
        stream
            .write_all(&[&length.to_be_bytes(), bytes].concat())
            .await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        let message = self.answer(&answer).ok_or(ExchangeError::Answer)?;
        Ok((message, answer))
    }

    fn answer(&self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let is_answer = message.metadata.id == self.0.metadata.id
            && message.metadata.message_type == MessageType::Response
            // Some leave the question out of what they refuse.
            && (message.queries == self.0.queries
                || message.queries.is_empty() && message.answers.is_empty());
        is_answer.then_some(message)
    }
}
