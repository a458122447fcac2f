//! So much for each client, so that none takes everything.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Debug)]
pub struct Shares {
    each: usize,
    /// Clients without any are absent.
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    pub fn new(each: usize) -> Arc<Self> {
        Arc::new(Self {
            each,
            held: Mutex::default(),
        })
    }

    /// `None` for who has all that one may have.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(client).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Share {
            of: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_its_share_and_others_theirs() {
        let shares = Shares::new(2);
        let [one, other] = ["10.244.1.2", "10.244.1.3"].map(|ip| ip.parse().unwrap());
        let first = shares.take(one);
        let second = shares.take(one);
        assert!(first.is_some() && second.is_some());
        assert!(shares.take(one).is_none());
        assert!(shares.take(other).is_some());
        drop(first);
        assert!(shares.take(one).is_some());
        drop(second);
        assert!(shares.held.lock().unwrap().is_empty());
    }
}
