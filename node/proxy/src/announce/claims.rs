//! Which addresses this node may say are its own: those that nobody else on the
//! link answers for (RFC 5227, 2.1; RFC 4862, 5.4). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use vetch_ebpf_common::Mac;

/// Before others are asked again whether they still have an address; doubled each time…
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// …up to here: an address that has become free is announced so long after at most.
const LAST_RETRY: Duration = Duration::from_secs(16);

/// Another host has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub address: IpAddr,
    pub mac: Mac,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(
            f,
            "{} is in use by another host on the link, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}",
            self.address
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Nobody was asked yet.
    New,
    Asked {
        before: Option<(Mac, Duration)>,
    },
    Held,
    Taken {
        by: Mac,
        pause: Duration,
        again: Instant,
    },
}

#[derive(Debug, Default)]
pub struct Claims(BTreeMap<IpAddr, Claim>);

impl Claims {
    /// What this node would like to have. What it `has` already it keeps: the programs answer for
    /// it, and who asked found nobody else.
    pub fn set(&mut self, wanted: &BTreeSet<IpAddr>, has: &BTreeSet<IpAddr>) {
        self.0.retain(|address, _| wanted.contains(address));
        for address in wanted {
            let new = if has.contains(address) {
                Claim::Held
            } else {
                Claim::New
            };
            self.0.entry(*address).or_insert(new);
        }
    }

    pub fn held(&self) -> BTreeSet<IpAddr> {
        let held = self.0.iter().filter(|(_, claim)| **claim == Claim::Held);
        held.map(|(address, _)| *address).collect()
    }

    /// How many another host has, as far as is known.
    pub fn taken(&self) -> usize {
        let is_taken = |claim: &&Claim| {
            matches!(
                claim,
                Claim::Taken { .. } | Claim::Asked { before: Some(_) }
            )
        };
        self.0.values().filter(is_taken).count()
    }

    /// When [`Claims::ask`] has something to ask; a moment that is over where it is now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let due = self.0.values().filter_map(|claim| match claim {
            Claim::New => Some(now),
            Claim::Taken { again, .. } => Some(*again),
            Claim::Asked { .. } | Claim::Held => None,
        });
        due.min()
    }

    /// Those that others are to be asked for now.
    pub fn ask(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        let mut asked = BTreeSet::new();
        for (address, claim) in &mut self.0 {
            let before = match claim {
                Claim::New => None,
                Claim::Taken { by, pause, again } if *again <= now => Some((*by, *pause)),
                _ => continue,
            };
            *claim = Claim::Asked { before };
            asked.insert(*address);
        }
        asked
    }

    /// Who answered for those that were asked for. Returns the news: one that has an address still
    /// was told of.
    pub fn answered(
        &mut self,
        asked: &BTreeSet<IpAddr>,
        by: &BTreeMap<IpAddr, Mac>,
        now: Instant,
    ) -> Vec<Conflict> {
        let mut news = Vec::new();
        for address in asked {
            let Some(claim) = self.0.get_mut(address) else {
                continue;
            };
            // It was let go meanwhile, and wanted again.
            let Claim::Asked { before } = *claim else {
                continue;
            };
            let Some(mac) = by.get(address).copied() else {
                *claim = Claim::Held;
                continue;
            };
            let pause = match before {
                Some((_, pause)) => (pause * 2).min(LAST_RETRY),
                None => FIRST_RETRY,
            };
            *claim = Claim::Taken {
                by: mac,
                pause,
                again: now + pause,
            };
            if before.is_none_or(|(before, _)| before != mac) {
                let address = *address;
                news.push(Conflict { address, mac });
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Mac = [2, 0, 0, 0, 0, 1];
    const TWO: Mac = [2, 0, 0, 0, 0, 2];

    fn set(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn answers(all: &[(&str, Mac)]) -> BTreeMap<IpAddr, Mac> {
        let all = all.iter();
        all.map(|(ip, mac)| (ip.parse().unwrap(), *mac)).collect()
    }

    #[test]
    fn an_address_is_had_when_nobody_answers_for_it() {
        let now = Instant::now();
        let mut claims = Claims::default();
        assert_eq!(claims.due(now), None);
        let both = set(&["192.0.2.7", "2001:db8::7"]);
        claims.set(&both, &set(&[]));
        assert_eq!((claims.held(), claims.due(now)), (set(&[]), Some(now)));
        assert_eq!(claims.ask(now), both);
        // They are under way.
        assert_eq!((claims.ask(now), claims.due(now)), (set(&[]), None));
        let news = claims.answered(&both, &answers(&[("192.0.2.7", ONE)]), now);
        let conflict = Conflict {
            address: "192.0.2.7".parse().unwrap(),
            mac: ONE,
        };
        assert_eq!(news, [conflict]);
        assert_eq!(
            conflict.to_string(),
            "192.0.2.7 is in use by another host on the link, 02:00:00:00:00:01"
        );
        assert_eq!((claims.held(), claims.taken()), (set(&["2001:db8::7"]), 1));
        // What is wanted no more is nobody's concern.
        claims.set(&set(&["2001:db8::7"]), &set(&[]));
        assert_eq!((claims.taken(), claims.due(now)), (0, None));
    }

    /// Rounds of asking: who answers, whether that is news, and how long until the next.
    #[test]
    fn who_has_an_address_is_asked_again_and_told_of_once() {
        let mut now = Instant::now();
        let mut claims = Claims::default();
        let vip = set(&["192.0.2.7"]);
        claims.set(&vip, &set(&[]));
        for (by, news, pause) in [
            (ONE, true, 1),
            (ONE, false, 2),
            (ONE, false, 4),
            (TWO, true, 8),
            (TWO, false, 16),
            (TWO, false, 16),
        ] {
            assert_eq!(claims.ask(now), vip);
            assert_eq!(claims.taken(), usize::from((by, news) != (ONE, true)));
            let told = claims.answered(&vip, &answers(&[("192.0.2.7", by)]), now);
            assert_eq!(!told.is_empty(), news);
            let next = now + Duration::from_secs(pause);
            assert_eq!(claims.due(now), Some(next));
            assert_eq!(claims.ask(next - Duration::from_millis(1)), set(&[]));
            now = next;
        }
        assert_eq!(claims.ask(now), vip);
        assert_eq!(claims.answered(&vip, &answers(&[]), now), []);
        assert_eq!(
            (claims.held(), claims.taken(), claims.due(now)),
            (vip, 0, None)
        );
    }

    #[test]
    fn what_the_programs_answer_for_is_kept() {
        let now = Instant::now();
        let mut claims = Claims::default();
        let vip = set(&["192.0.2.7"]);
        claims.set(&vip, &vip);
        assert_eq!((claims.held(), claims.due(now)), (vip, None));
    }

    #[test]
    fn an_answer_to_an_earlier_wish_is_no_answer() {
        let now = Instant::now();
        let mut claims = Claims::default();
        let (vip, none) = (set(&["192.0.2.7"]), set(&[]));
        claims.set(&vip, &none);
        claims.ask(now);
        claims.set(&none, &none);
        assert_eq!(claims.answered(&vip, &answers(&[]), now), []);
        claims.set(&vip, &none);
        claims.answered(&vip, &answers(&[]), now);
        assert_eq!((claims.held(), claims.ask(now)), (none, vip));
    }
}
