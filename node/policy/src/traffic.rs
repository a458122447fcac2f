//! Sets of traffic: which ports of which protocols.

use vetch_ebpf_common::Protocol;

use crate::{Ports, ports::prefixes};

/// Those that have ports.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Ports as ranges, first and last, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<(u16, u16)>);

impl Spans {
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied()
    }

    fn is_all(&self) -> bool {
        self.0 == [(0, u16::MAX)]
    }

    fn or(&self, other: &Self) -> Self {
        let mut all: Vec<(u16, u16)> = self.iter().chain(other.iter()).collect();
        all.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match joined.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    fn and(&self, other: &Self) -> Self {
        let both = |(first, last): (u16, u16)| {
            let parts = other.iter();
            let parts = parts.map(move |(from, to)| (first.max(from), last.min(to)));
            parts.filter(|(first, last)| first <= last)
        };
        Self(self.iter().flat_map(both).collect())
    }

    fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in self.iter() {
            let mut next = u32::from(first);
            for (from, to) in other.iter().filter(|(_, to)| *to >= first) {
                if from > last {
                    break;
                }
                if u32::from(from) > next {
                    left.push((next as u16, from - 1));
                }
                next = u32::from(to) + 1;
            }
            if next <= u32::from(last) {
                left.push((next as u16, last));
            }
        }
        Self(left)
    }
}

/// The ports of each of [`PROTOCOLS`], and whether that of all others is in it, as
/// port 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic([Spans; 4]);

impl Traffic {
    pub fn all() -> Self {
        let ports = Spans(vec![(0, u16::MAX)]);
        let others = Spans(vec![(0, 0)]);
        Self([ports.clone(), ports.clone(), ports, others])
    }

    /// From the first to the last, both included.
    pub fn range(protocol: Protocol, first: u16, last: u16) -> Self {
        let mut one = Self::default();
        for (of, spans) in PROTOCOLS.iter().zip(&mut one.0) {
            if *of == protocol && first <= last {
                spans.0.push((first, last));
            }
        }
        one
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|spans| spans.0.is_empty())
    }

    fn each(&self, other: &Self, what: impl Fn(&Spans, &Spans) -> Spans) -> Self {
        Self(std::array::from_fn(|at| what(&self.0[at], &other.0[at])))
    }

    pub fn or(&self, other: &Self) -> Self {
        self.each(other, Spans::or)
    }

    pub fn and(&self, other: &Self) -> Self {
        self.each(other, Spans::and)
    }

    pub fn without(&self, other: &Self) -> Self {
        self.each(other, Spans::without)
    }

    /// Protocols without ports.
    pub fn has_others(&self) -> bool {
        !self.0[3].0.is_empty()
    }

    /// The ports of each protocol that has some in it.
    pub fn ports(&self) -> impl Iterator<Item = (Protocol, &Spans)> {
        let all = PROTOCOLS.into_iter().zip(&self.0);
        all.filter(|(_, spans)| !spans.0.is_empty())
    }

    /// As rules that let it pass. Port 0, which fragments have that nobody knows the
    /// ports of, is let pass only with all ports of its protocol.
    pub fn rules(&self) -> Vec<Ports> {
        if *self == Self::all() {
            return vec![Ports::All];
        }
        let mut rules = Vec::new();
        let mut partly = Vec::new();
        for (protocol, spans) in PROTOCOLS.into_iter().zip(&self.0) {
            if !spans.is_all() {
                partly.push(protocol as u8);
                let ports = spans.iter().map(|(first, last)| (first.max(1), last));
                let ports = ports.flat_map(|(first, last)| prefixes(first, last));
                rules.extend(ports.map(|(port, length)| Ports::Prefix(protocol, port, length)));
            } else if !self.has_others() {
                rules.push(Ports::Protocol(protocol));
            }
        }
        if self.has_others() {
            rules.extend(all_but(&partly));
        }
        rules
    }
}

/// Every protocol but these, as ranges that are a power of two in size.
fn all_but(these: &[u8]) -> Vec<Ports> {
    let mut ranges = Vec::new();
    let mut parts = vec![(0_u8, 0_u8)];
    while let Some((first, bits)) = parts.pop() {
        let last = first | u8::MAX.checked_shr(bits.into()).unwrap_or(0);
        if !these.iter().any(|one| (first..=last).contains(one)) {
            ranges.push(Ports::Protocols(first, bits));
        } else if bits < 8 {
            parts.push((first, bits + 1));
            parts.push((first | 1 << (7 - bits), bits + 1));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ranges: &[(u16, u16)]) -> Traffic {
        let parts = ranges.iter();
        let parts = parts.map(|(first, last)| Traffic::range(Protocol::Tcp, *first, *last));
        parts.fold(Traffic::default(), |all, part| all.or(&part))
    }

    #[test]
    fn ranges_are_joined_cut_and_taken_away() {
        type Ranges = &'static [(u16, u16)];
        let table: [(Ranges, Ranges, Ranges, Ranges, Ranges); 7] = [
            (&[], &[], &[], &[], &[]),
            (&[(1, 9)], &[], &[(1, 9)], &[], &[(1, 9)]),
            (&[(1, 4)], &[(5, 9)], &[(1, 9)], &[], &[(1, 4)]),
            (
                &[(1, 9)],
                &[(4, 5)],
                &[(1, 9)],
                &[(4, 5)],
                &[(1, 3), (6, 9)],
            ),
            (
                &[(1, 4), (8, 20)],
                &[(3, 9), (15, 30)],
                &[(1, 30)],
                &[(3, 4), (8, 9), (15, 20)],
                &[(1, 2), (10, 14)],
            ),
            (
                &[(0, 65_535)],
                &[(80, 80), (443, 443)],
                &[(0, 65_535)],
                &[(80, 80), (443, 443)],
                &[(0, 79), (81, 442), (444, 65_535)],
            ),
            (&[(7, 7)], &[(0, 65_535)], &[(0, 65_535)], &[(7, 7)], &[]),
        ];
        for (one, other, or, and, without) in table {
            let (one, other) = (tcp(one), tcp(other));
            assert_eq!(one.or(&other), tcp(or), "{one:?} or {other:?}");
            assert_eq!(one.and(&other), tcp(and), "{one:?} and {other:?}");
            assert_eq!(
                one.without(&other),
                tcp(without),
                "{one:?} without {other:?}"
            );
        }
    }

    /// What has no ports comes with port 0.
    fn contains(traffic: &Traffic, protocol: u8, port: u16) -> bool {
        match PROTOCOLS.iter().position(|one| *one as u8 == protocol) {
            Some(at) => {
                let mut spans = traffic.0[at].iter();
                spans.any(|(first, last)| (first..=last).contains(&port))
            }
            None => traffic.has_others(),
        }
    }

    /// As the kernel's longest-prefix match has it.
    fn lets(rules: &[Ports], protocol: u8, port: u16) -> bool {
        rules.iter().any(|rule| match *rule {
            Ports::All => true,
            Ports::Protocols(first, bits) => {
                u16::from(first ^ protocol) >> (8 - u16::from(bits)) == 0
            }
            Ports::Protocol(one) => one as u8 == protocol,
            Ports::Prefix(one, first, bits) => {
                one as u8 == protocol && u32::from(first ^ port) >> (16 - u32::from(bits)) == 0
            }
        })
    }

    #[test]
    fn rules_let_it_pass_and_nothing_else() {
        let without = |ranges: &[(u16, u16)]| Traffic::all().without(&tcp(ranges));
        let others = Traffic::all()
            .without(&Traffic::range(Protocol::Udp, 0, u16::MAX))
            .without(&Traffic::range(Protocol::Sctp, 0, u16::MAX))
            .without(&tcp(&[(0, u16::MAX)]));
        for (traffic, count) in [
            (Traffic::all(), 1),
            (Traffic::default(), 0),
            (tcp(&[(80, 80)]), 1),
            (tcp(&[(0, u16::MAX)]), 1),
            (without(&[(80, 80)]), 8 + 21),
            (without(&[(0, u16::MAX)]), 8),
            (others, 17),
        ] {
            let rules = traffic.rules();
            assert_eq!(rules.len(), count, "{traffic:?}: {rules:?}");
            for protocol in 0..=u8::MAX {
                for port in [0, 1, 79, 80, 81, 443, 32_768, 65_535] {
                    let with_ports = PROTOCOLS.iter().any(|one| *one as u8 == protocol);
                    // The port of a fragment that nobody knows, or of what has none.
                    let expected = if port == 0 && with_ports {
                        (0..=u16::MAX).all(|port| contains(&traffic, protocol, port))
                    } else {
                        contains(&traffic, protocol, port)
                    };
                    let port = if with_ports { port } else { 0 };
                    assert_eq!(
                        lets(&rules, protocol, port),
                        expected,
                        "{protocol} {port}: {rules:?}"
                    );
                }
            }
        }
    }
}
