//! Which servers are asked about a name, and in which order.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use hickory_proto::rr::Name;

/// For so long a server that did not answer is asked after the others.
const AVOIDED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    failed: Mutex<Option<Instant>>,
}

#[derive(Debug)]
pub struct Routes {
    /// Domains with servers of their own.
    domains: Vec<(Name, Vec<Arc<Server>>)>,
    others: RwLock<Vec<Arc<Server>>>,
}

impl Server {
    fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            failed: Mutex::default(),
        })
    }

    pub fn has_failed(&self, now: Instant) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    pub fn has_answered(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_avoided(&self, now: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| now.saturating_duration_since(failed) < AVOIDED)
    }
}

impl Routes {
    pub fn new(domains: &[(Name, Vec<SocketAddr>)], others: &[SocketAddr]) -> Self {
        let servers = |addresses: &[SocketAddr]| {
            let servers = addresses.iter().map(|address| Server::new(*address));
            servers.collect::<Vec<_>>()
        };
        let domains = domains.iter();
        Self {
            domains: domains
                .map(|(domain, addresses)| (domain.clone(), servers(addresses)))
                .collect(),
            others: RwLock::new(servers(others)),
        }
    }

    /// For names of no domain with servers of its own. Those that stay keep what
    /// is known of them.
    pub fn set_others(&self, addresses: &[SocketAddr]) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let servers = addresses.iter().map(|address| {
            let known = others.iter().find(|known| known.address == *address);
            known.map_or_else(|| Server::new(*address), Arc::clone)
        });
        let servers = servers.collect();
        *others = servers;
    }

    /// Of the longest domain that has the name, in the order they were given in,
    /// except that those come last that did not answer lately.
    pub fn of(&self, name: &Name, now: Instant) -> Vec<Arc<Server>> {
        let domains = self
            .domains
            .iter()
            .filter(|(domain, _)| domain.zone_of(name));
        let longest = domains.max_by_key(|(domain, _)| domain.iter().count());
        let mut servers = match longest {
            Some((_, servers)) => servers.clone(),
            None => {
                let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
                others.clone()
            }
        };
        servers.sort_by_key(|server| server.is_avoided(now));
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 53).into()
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn asked(routes: &Routes, text: &str, now: Instant) -> Vec<u8> {
        let servers = routes.of(&name(text), now);
        let last = |server: &Arc<Server>| match server.address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        };
        servers.iter().map(last).collect()
    }

    #[test]
    fn the_longest_domain_has_the_name() {
        let domains = [
            (name("corp.example."), vec![address(3)]),
            (name("lab.corp.example."), vec![address(4)]),
        ];
        let routes = Routes::new(&domains, &[address(1), address(2)]);
        let now = Instant::now();
        for (text, expected) in [
            ("www.example.org.", &[1, 2][..]),
            ("notcorp.example.", &[1, 2]),
            ("corp.example.", &[3]),
            ("www.CORP.example.", &[3]),
            ("a.lab.corp.example.", &[4]),
        ] {
            assert_eq!(asked(&routes, text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_silent_server_comes_last_for_a_while() {
        let routes = Routes::new(&[], &[address(1), address(2)]);
        let now = Instant::now();
        routes.of(&name("a."), now)[0].has_failed(now);
        assert_eq!(asked(&routes, "a.", now), [2, 1]);
        // Also where the list is made anew.
        routes.set_others(&[address(1), address(2), address(3)]);
        assert_eq!(asked(&routes, "a.", now), [2, 3, 1]);
        assert_eq!(asked(&routes, "a.", now + AVOIDED), [1, 2, 3]);
        routes.of(&name("a."), now)[2].has_answered();
        assert_eq!(asked(&routes, "a.", now), [1, 2, 3]);
    }
}
