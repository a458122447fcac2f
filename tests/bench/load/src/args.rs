//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::{Args, Parser, ValueEnum};
use thiserror::Error;

/// Beyond it a schedule is a mistake, not a wish.
const MOST_A_SECOND: f64 = 10_000_000.0;

/// The load generator and the server of Vetch's benchmark.
#[derive(Debug, Parser)]
#[command(name = "vetch-load", version)]
pub enum Command {
    /// Answer HTTP/1.1 and echo datagrams. SIGTERM ends it at once.
    ///
    /// GET / answers 64 bytes, GET /stream?bytes=N answers N; `X-Server: HOSTNAME:PORT` names who
    /// answered, PORT being the one that was dialled here. Prints one line of JSON once it serves.
    Serve(Serve),
    /// Ask, measure, and print one line of JSON.
    Run(Run),
    /// One fresh connection each interval; a line of JSON when another server answers.
    Follow(Follow),
}

#[derive(Args, Debug)]
pub struct Serve {
    /// TCP port or ports (FIRST-LAST); 0 is any free one
    #[arg(long, value_name = "PORTS", default_value = "8080")]
    pub tcp: Ports,
    /// UDP port or ports
    #[arg(long, value_name = "PORTS", default_value = "8080")]
    pub udp: Ports,
    /// Port of GET /usage: the CPU time of this pod so far
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    pub control: u16,
    /// Threads that serve; each has sockets of its own (SO_REUSEPORT)
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Where to listen
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub address: IpAddr,
}

/// Closed loop: each connection sends its next request as soon as the answer is there. With --rate,
/// open loop: arrivals are due at constant intervals, whichever connection is free takes the next
/// one, and latency counts from the moment it was due, so that a server that stalls is charged for
/// all who would have come meanwhile (coordinated omission is corrected). Arrivals still without an
/// answer at the end count in the latency with the time they have waited by then.
#[derive(Args, Clone, Debug)]
pub struct Run {
    #[arg(long, value_enum)]
    pub kind: Kind,
    /// Taken in turns: by each request (connect) or each connection (all others)
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true)]
    pub targets: Vec<SocketAddr>,
    /// Requests in flight at most; of udp and dns, sockets with 8 datagrams in flight each
    #[arg(long, value_name = "N", default_value = "16")]
    pub connections: NonZeroUsize,
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Requests a second, of all connections together (not for stream)
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// How long to measure
    #[arg(long, value_name = "S")]
    pub seconds: f64,
    /// How long to load before that
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub warmup: f64,
    /// Control ports of the servers, for their CPU time
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    pub usage: Vec<SocketAddr>,
    /// Of dns: whose IPv4 address is asked for; no search path is added
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Of dns: what is to be answered; another answer is a failure
    #[arg(long, value_enum, default_value_t = Answer::Address)]
    pub answer: Answer,
}

#[derive(Args, Debug)]
pub struct Follow {
    #[arg(long, value_name = "IP:PORT")]
    pub target: SocketAddr,
    #[arg(long, value_name = "S")]
    pub seconds: f64,
    /// Between the starts of two connections
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval_micros: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A new TCP connection each request
    Connect,
    /// Requests on kept connections
    Keepalive,
    /// Bytes of long answers
    Stream,
    /// Datagrams there and back
    Udp,
    /// Questions to a DNS server, by datagrams
    Dns,
}

/// What a name server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// An address at least
    Address,
    /// That there is no such name
    Nxdomain,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connect => "connect",
            Kind::Keepalive => "keepalive",
            Kind::Stream => "stream",
            Kind::Udp => "udp",
            Kind::Dns => "dns",
        }
    }
}

#[derive(Debug, Error, PartialEq)]
pub enum Misuse {
    #[error("{0:?} is neither a port nor FIRST-LAST")]
    Ports(String),
    #[error("--{0} {1}: a time in seconds, above 0 and up to a day, is needed")]
    Time(&'static str, f64),
    #[error("--rate {0}: above 0 and up to 10000000 is possible")]
    Rate(f64),
    #[error("--rate makes no schedule of streams: what counts there is bytes")]
    StreamRate,
    #[error("--kind dns asks for a --name, and no other kind does")]
    Name,
    #[error("--name {0:?} is no domain name: labels of up to 63 bytes, 253 in all")]
    BadName(String),
    #[error("{threads} threads cannot share {connections} connections")]
    Threads { threads: usize, connections: usize },
}

impl Run {
    pub fn check(&self) -> Result<(), Misuse> {
        check_time("seconds", self.seconds)?;
        if self.warmup != 0.0 {
            check_time("warmup", self.warmup)?;
        }
        match self.rate {
            Some(_) if self.kind == Kind::Stream => return Err(Misuse::StreamRate),
            Some(rate) if !(rate > 0.0 && rate <= MOST_A_SECOND) => return Err(Misuse::Rate(rate)),
            _ => {}
        }
        match &self.name {
            name if name.is_some() != (self.kind == Kind::Dns) => return Err(Misuse::Name),
            Some(name) if !is_name(name) => return Err(Misuse::BadName(name.clone())),
            _ => {}
        }
        if self.threads > self.connections {
            return Err(Misuse::Threads {
                threads: self.threads.get(),
                connections: self.connections.get(),
            });
        }
        Ok(())
    }
}

impl Follow {
    pub fn check(&self) -> Result<(), Misuse> {
        check_time("seconds", self.seconds)
    }
}

/// RFC 1035, 2.3.4: what fits a message.
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len()))
}

fn check_time(name: &'static str, seconds: f64) -> Result<(), Misuse> {
    match seconds > 0.0 && seconds <= 86_400.0 {
        true => Ok(()),
        false => Err(Misuse::Time(name, seconds)),
    }
}

/// First and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

impl FromStr for Ports {
    type Err = Misuse;

    fn from_str(text: &str) -> Result<Ports, Misuse> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            // Any free port has no neighbours.
            (Ok(first), Ok(last)) if first <= last && (first > 0 || last == 0) => {
                Ok(Ports { first, last })
            }
            _ => Err(Misuse::Ports(text.into())),
        }
    }
}

#[cfg(test)]
mod tests;
