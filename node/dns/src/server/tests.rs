//! The whole server on loopback, with real sockets, and servers for it to ask.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, Record, RecordType, rdata::SOA},
};
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, sync::DropGuard};

use super::*;
use crate::{
    Dns, DnsConfig,
    testing::{list, service, services, slices},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// An API server that lets nobody see its namespaces.
fn client() -> kube::Client {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "no"});
        let body = kube::client::Body::from(status.to_string().into_bytes());
        let response = http::Response::builder().status(403).body(body);
        Ok::<_, Infallible>(response.unwrap())
    });
    kube::Client::new(service, "default")
}

struct Running {
    dns: Dns,
    address: SocketAddr,
    _stop: DropGuard,
}

async fn both() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Another process may have that port for the other protocol.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn start(upstreams: &[SocketAddr], domains: &[(&str, SocketAddr)]) -> Running {
    start_with(upstreams, domains, Duration::ZERO).await
}

async fn start_with(
    upstreams: &[SocketAddr],
    domains: &[(&str, SocketAddr)],
    patience: Duration,
) -> Running {
    let (udp, tcp) = both().await;
    let address = tcp.local_addr().unwrap();
    drop((udp, tcp));
    let domains = domains.iter();
    let dns = Dns::new(DnsConfig {
        domain: "cluster.local".into(),
        service: ("kube-system".into(), "kube-dns".into()),
        listen: vec![address],
        upstreams: upstreams.to_vec(),
        domain_upstreams: domains
            .map(|(domain, server)| ((*domain).to_owned(), vec![*server]))
            .collect(),
        resolv_conf: "/nonexistent".into(),
        patience,
    })
    .unwrap();
    let stop = CancellationToken::new();
    let (running, stopped) = (dns.clone(), stop.clone());
    tokio::spawn(async move {
        running
            .run(
                client(),
                Arc::new(|_| false),
                async {},
                Arc::new(bind),
                stopped,
            )
            .await
    });
    let running = Running {
        dns,
        address,
        _stop: stop.drop_guard(),
    };
    timeout(PATIENCE, async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    running
}

impl Running {
    fn told(self) -> Self {
        list(&services(), |event| self.dns.service(event));
        list(&slices(), |event| self.dns.slice(event));
        self
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        by_udp(self.address, &question(name, kind)).await
    }

    /// Until the answer is no failure: namespaces are asked for first.
    async fn known(&self, name: &str) -> Message {
        let asking = async {
            loop {
                let answer = self.ask(name, RecordType::A).await;
                if answer.metadata.response_code != ResponseCode::ServFail {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asking).await.unwrap()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn by_udp(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bytes = question.to_vec().unwrap();
    socket.send_to(&bytes, server).await.unwrap();
    let mut buffer = [0; 4096];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(from, server);
    checked(question, &buffer[..length])
}

async fn by_tcp(stream: &mut TcpStream, question: &Message) -> Message {
    let bytes = question.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length, &bytes[..]].concat())
        .await
        .unwrap();
    let answer = timeout(PATIENCE, async {
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    });
    checked(question, &answer.await.unwrap())
}

fn checked(question: &Message, answer: &[u8]) -> Message {
    let answer = Message::from_vec(answer).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    assert_eq!(answer.queries, question.queries);
    answer
}

fn data(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

/// A server that answers each question as `answer` says, by UDP and TCP; how often
/// it was asked is counted.
struct Other {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Other {
    async fn new<F>(answer: impl Fn(Message, Transport) -> F + Copy + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Message>> + Send,
    {
        let (udp, tcp) = both().await;
        let (udp, address) = (Arc::new(udp), tcp.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let udp = Arc::clone(&udp);
                tokio::spawn(async move {
                    if let Some(message) = answer(question, Transport::Udp).await {
                        udp.send_to(&message.to_vec().unwrap(), client)
                            .await
                            .unwrap();
                    }
                });
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                let question = Message::from_vec(&question).unwrap();
                if let Some(message) = answer(question, Transport::Tcp).await {
                    let bytes = message.to_vec().unwrap();
                    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                    stream
                        .write_all(&[&length, &bytes[..]].concat())
                        .await
                        .unwrap();
                }
            }
        });
        Self { address, asked }
    }

    fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn reply(question: &Message) -> Message {
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.queries = question.queries.clone();
    message
}

fn address_of(name: &Name, ip: [u8; 4], ttl: u32) -> Record {
    Record::from_rdata(
        name.clone(),
        ttl,
        RData::A(std::net::Ipv4Addr::from(ip).into()),
    )
}

/// Knows one address for every name but those below `none.`
async fn knows(question: Message, _: Transport) -> Option<Message> {
    let mut message = reply(&question);
    let name = question.queries[0].name().clone();
    if Name::from_ascii("none.").unwrap().zone_of(&name) {
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, 60);
        message
            .authorities
            .push(Record::from_rdata(name, 60, RData::SOA(soa)));
    } else {
        message.answers.push(address_of(&name, [192, 0, 2, 80], 60));
    }
    Some(message)
}

async fn is_silent(_: Message, _: Transport) -> Option<Message> {
    None
}

async fn fails(question: Message, _: Transport) -> Option<Message> {
    let mut message = reply(&question);
    message.metadata.response_code = ResponseCode::ServFail;
    Some(message)
}

/// Has more than a datagram takes.
async fn is_long(question: Message, transport: Transport) -> Option<Message> {
    let mut message = reply(&question);
    let name = question.queries[0].name().clone();
    match transport {
        Transport::Udp => message.metadata.truncation = true,
        Transport::Tcp => {
            let records = (0..200).map(|last| address_of(&name, [192, 0, 2, last], 60));
            message.answers = records.collect();
        }
    }
    Some(message)
}

const WEB: &str = "web.ns.svc.cluster.local.";

/// As after a restart, where the sockets were there before.
#[tokio::test]
async fn questions_wait_until_names_are_known() {
    let running = start_with(&[], &[], PATIENCE * 6).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let asked = question(WEB, RecordType::A);
    // Each is sent before the names are told.
    let told = async {
        list(&services(), |event| running.dns.service(event));
        list(&slices(), |event| running.dns.slice(event));
    };
    let (udp, tcp, ()) = tokio::join!(
        running.ask(WEB, RecordType::A),
        by_tcp(&mut stream, &asked),
        told
    );
    assert_eq!(data(&udp), ["10.96.0.2"]);
    assert_eq!(data(&tcp), ["10.96.0.2"]);
}

#[tokio::test]
async fn names_of_the_cluster_are_answered_by_udp_and_tcp() {
    let running = start(&[], &[]).await;
    let early = running.ask(WEB, RecordType::A).await;
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail);
    let running = running.told();
    let answer = running.known(WEB).await;
    assert_eq!(data(&answer), ["10.96.0.2"]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);

    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for (name, expected) in [
        (WEB, 1),
        ("db.ns.svc.cluster.local.", 3),
        ("x.cluster.local.", 0),
    ] {
        let answer = by_tcp(&mut stream, &question(name, RecordType::A)).await;
        assert_eq!(answer.answers.len(), expected, "{name}");
    }
    // What is asked next is answered by what was told before.
    let moved = json!({"clusterIP": "10.96.0.3", "ports": [{"port": 80}]});
    running
        .dns
        .service(&Event::Apply(service("ns", "web", &moved)));
    assert_eq!(data(&running.ask(WEB, RecordType::A).await), ["10.96.0.3"]);
}

#[tokio::test]
async fn other_names_are_asked_once_and_kept() {
    let other = Other::new(knows).await;
    let corp = Other::new(fails).await;
    let running = start(&[other.address], &[("corp.example", corp.address)])
        .await
        .told();
    for asked in ["www.example.org.", "WWW.example.org."] {
        let answer = running.ask(asked, RecordType::A).await;
        assert_eq!(data(&answer), ["192.0.2.80"]);
        assert_eq!(answer.answers[0].name.to_ascii(), asked);
        assert!(answer.answers[0].ttl <= 60 && !answer.metadata.authoritative);
    }
    assert_eq!(other.count(), 1);
    for _ in 0..2 {
        let answer = running.ask("a.none.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1);
    }
    assert_eq!(other.count(), 2);
    // Another server's, and its failure is not kept.
    for _ in 0..2 {
        let answer = running.ask("a.corp.example.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!((other.count(), corp.count()), (2, 4));
}

#[tokio::test]
async fn an_external_name_comes_with_its_addresses() {
    let other = Other::new(knows).await;
    let running = start(&[other.address], &[]).await.told();
    let answer = running.known("out.ns.svc.cluster.local.").await;
    assert_eq!(data(&answer), ["www.example.org.", "192.0.2.80"]);
    let answer = running
        .ask("alias.ns.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(data(&answer), ["Web.ns.svc.cluster.local.", "10.96.0.2"]);
    let answer = running
        .ask("ring.ns.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(other.count(), 1);
}

#[tokio::test]
async fn who_is_silent_or_fails_is_one_of_several() {
    let (silent, failing, other) =
        tokio::join!(Other::new(is_silent), Other::new(fails), Other::new(knows));
    let all = [silent.address, failing.address, other.address];
    let running = start(&all, &[]).await;
    let begun = Instant::now();
    let answer = running.ask("www.example.org.", RecordType::A).await;
    assert_eq!(data(&answer), ["192.0.2.80"]);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "a client asks again then"
    );
    // For a while the silent one is asked after the others.
    let answer = running.ask("ftp.example.org.", RecordType::A).await;
    assert_eq!(data(&answer), ["192.0.2.80"]);
    assert_eq!((silent.count(), other.count()), (1, 2));
}

#[tokio::test]
async fn what_is_too_long_is_fetched_and_told_by_tcp() {
    let other = Other::new(is_long).await;
    let running = start(&[other.address], &[]).await;
    let question = question("long.example.org.", RecordType::A);
    let short = by_udp(running.address, &question).await;
    assert!(short.metadata.truncation && !short.answers.is_empty());
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let whole = by_tcp(&mut stream, &question).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
    assert_eq!(other.count(), 1, "it was kept");
}

#[tokio::test]
async fn one_question_of_many_clients_is_asked_once() {
    let other = Other::new(|question, transport| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        knows(question, transport).await
    })
    .await;
    let running = start(&[other.address], &[]).await;
    let asked = (0..20).map(|_| running.ask("www.example.org.", RecordType::A));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(data(&answer), ["192.0.2.80"]);
    }
    assert_eq!(other.count(), 1);
}

/// The server that is asked asks this one in turn.
#[tokio::test]
async fn a_loop_of_servers_ends_in_a_failure() {
    let (udp, tcp) = both().await;
    let relay = tcp.local_addr().unwrap();
    drop(tcp);
    let running = start(&[relay], &[]).await;
    let (home, asked) = (running.address, Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, _) = udp.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            udp.send_to(&buffer[..length], home).await.unwrap();
        }
    });
    let answer = running.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // One for each try, and answers that come back with them.
    assert!(asked.load(Ordering::Relaxed) < 10, "{asked:?}");

    // What is known to be this server is not asked at all.
    let own = start(&[running.address], &[("self.example", running.address)]).await;
    own.dns
        .resolver
        .forwarder
        .routes()
        .set_others(&[own.address]);
    let begun = Instant::now();
    let answer = own.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn only_the_node_and_its_pods_are_served() {
    let running = start(&[], &[]).await;
    let pod: IpAddr = "10.244.1.2".parse().unwrap();
    let own = ["192.0.2.1:10053".parse().unwrap()];
    let server = Server::new(
        running.dns.resolver.clone(),
        &own,
        Arc::new(move |ip| ip == pod),
    );
    for (client, expected) in [
        ("10.244.1.2:4000", true),
        ("[::ffff:10.244.1.2]:4000", true),
        ("192.0.2.1:4000", true),
        ("127.0.0.1:4000", true),
        ("[::1]:4000", true),
        ("10.244.1.3:4000", false),
        ("192.0.2.2:53", false),
        ("[2001:db8::1]:4000", false),
    ] {
        assert_eq!(server.serves(client.parse().unwrap()), expected, "{client}");
    }
    assert_eq!(server.metrics.strangers.get(), 3);
}

#[tokio::test]
async fn a_connection_that_says_nonsense_harms_nobody() {
    let running = start(&[], &[]).await.told();
    running.known(WEB).await;
    for bytes in [&[0, 0][..], &[0, 3, 1, 2, 3], &[255, 255, 0], &[0]] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "{bytes:?} {rest:?}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for _ in 0..100 {
        let bytes: Vec<u8> = (0..40).map(|_| rand::random()).collect();
        socket.send_to(&bytes, running.address).await.unwrap();
    }
    assert_eq!(data(&running.ask(WEB, RecordType::A).await), ["10.96.0.2"]);
}
