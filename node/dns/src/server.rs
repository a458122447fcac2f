//! The sockets, and who may ask at them.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::rr::RData;
use rand::Rng as _;
use tracing::{error, info, warn};

use crate::{
    message::{Outcome, Parsed, Request, parse},
    metrics::{Metrics, Source, Transport},
    resolve::{Pending, Resolver, Step},
    shares::{Share, Shares},
};

pub mod tcp;
#[cfg(test)]
mod tests;
pub mod udp;

/// Questions of one client that wait for others.
const WAITING_EACH: usize = 100;
/// Between two tries for an address that somebody else has.
const RETRY: Duration = Duration::from_secs(5);

/// Whether the client is one of those that are served: a pod of this node.
pub type IsClient = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

#[derive(Clone)]
pub struct Server {
    resolver: Resolver,
    metrics: Metrics,
    /// Where this server listens: who comes from there is the node itself.
    own: Arc<[SocketAddr]>,
    is_client: IsClient,
    waiting: Arc<Shares>,
}

enum Handled {
    Reply(Vec<u8>),
    Later(Box<Waiting>),
    Nothing,
}

/// A question that somebody else is asked.
struct Waiting {
    request: Request,
    pending: Pending,
    since: Instant,
    _share: Share,
}

impl Server {
    pub fn new(resolver: Resolver, own: &[SocketAddr], is_client: IsClient) -> Self {
        Self {
            metrics: resolver.metrics.clone(),
            resolver,
            own: own.into(),
            is_client,
            waiting: Shares::new(WAITING_EACH),
        }
    }

    /// Pods of this node and its own processes: this is no resolver for the world.
    fn serves(&self, client: SocketAddr) -> bool {
        let ip = client.ip().to_canonical();
        let is_own = ip.is_loopback() || self.own.iter().any(|own| own.ip() == ip);
        let serves = is_own || (self.is_client)(ip);
        if !serves {
            self.metrics.strangers.inc();
        }
        serves
    }

    /// As far as it goes without waiting.
    fn handle(&self, bytes: &[u8], from: SocketAddr, transport: Transport) -> Handled {
        // The daemon does more than this: a packet must not end it.
        let handled = catch_unwind(AssertUnwindSafe(|| self.try_handle(bytes, from, transport)));
        handled.unwrap_or_else(|_| {
            error!(client = %from, "a DNS message was not understood; please report this");
            Handled::Nothing
        })
    }

    fn try_handle(&self, bytes: &[u8], from: SocketAddr, transport: Transport) -> Handled {
        let since = Instant::now();
        let request = match parse(bytes) {
            Parsed::Request(request) => request,
            Parsed::Refused(code, reply) => {
                self.metrics.asked(transport, from, None);
                self.metrics.answered(code, Source::Server, since.elapsed());
                return Handled::Reply(reply);
            }
            Parsed::Nothing => return Handled::Nothing,
        };
        self.metrics
            .asked(transport, from, Some(request.query.query_type()));
        match self.resolver.step(&request) {
            Step::Done(outcome, source) => self
                .reply(&request, outcome, source, since, transport)
                .map_or(Handled::Nothing, Handled::Reply),
            Step::Ask(pending) => match self.waiting.take(from.ip().to_canonical()) {
                Some(share) => Handled::Later(Box::new(Waiting {
                    request,
                    pending,
                    since,
                    _share: share,
                })),
                None => {
                    self.metrics.dropped.inc();
                    Handled::Nothing
                }
            },
        }
    }

    async fn wait(&self, waiting: Waiting, transport: Transport) -> Option<Vec<u8>> {
        let outcome = self.resolver.ask(waiting.pending).await;
        let (request, since) = (&waiting.request, waiting.since);
        self.reply(request, outcome, Source::Upstream, since, transport)
    }

    fn reply(
        &self,
        request: &Request,
        mut outcome: Outcome,
        source: Source,
        since: Instant,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        self.metrics.answered(outcome.code, source, since.elapsed());
        rotate(&mut outcome);
        let limit = match transport {
            Transport::Udp => request.datagram(),
            Transport::Tcp => usize::from(u16::MAX),
        };
        request.encode(outcome, limit)
    }
}

/// Many clients take the first address: another one each time. Aliases stay in
/// front.
fn rotate(outcome: &mut Outcome) {
    let is_address = |data: &RData| matches!(data, RData::A(_) | RData::AAAA(_));
    let answers = &mut outcome.answers;
    let first = answers.iter().position(|record| is_address(&record.data));
    let Some(addresses) = first.and_then(|first| answers.get_mut(first..)) else {
        return;
    };
    if addresses.len() > 1 && addresses.iter().all(|record| is_address(&record.data)) {
        let by = rand::rng().random_range(0..addresses.len());
        addresses.rotate_left(by);
    }
}

/// Serves at the address until dropped; one that is taken, or not there yet, is
/// asked for again. Until `ready` questions wait in the sockets' queues.
pub async fn serve(
    server: Server,
    address: SocketAddr,
    bind: Bind,
    ready: impl Future<Output = ()>,
) -> Infallible {
    let mut ready = Some(ready);
    let mut told = false;
    loop {
        match bind(address).and_then(adopt) {
            Ok((udp, tcp)) => {
                if let Some(ready) = ready.take() {
                    ready.await;
                }
                info!(%address, "cluster DNS is served");
                tokio::select! {
                    never = udp::serve(server.clone(), udp) => match never {},
                    never = tcp::serve(server.clone(), tcp) => match never {},
                }
            }
            Err(error) if !told => {
                told = true;
                warn!(%address, %error, "cannot serve cluster DNS; trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Opens both sockets of an address.
pub type Bind = Arc<dyn Fn(SocketAddr) -> io::Result<(UdpSocket, TcpListener)> + Send + Sync>;

/// Those of this process alone.
pub fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?))
}

fn adopt(
    (udp, tcp): (UdpSocket, TcpListener),
) -> io::Result<(tokio::net::UdpSocket, tokio::net::TcpListener)> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((
        tokio::net::UdpSocket::from_std(udp)?,
        tokio::net::TcpListener::from_std(tcp)?,
    ))
}
