//! Who holds which address: as the caches tell, and what was given out and no cache shows yet.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::key::ObjectKey;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Node(String),
    Service(ObjectKey),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Node(name) => write!(f, "node {name}"),
            Owner::Service(key) => write!(f, "service {key}"),
        }
    }
}

/// By what right an address is held; of two holders the one with the better right keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// The node's own address.
    Own,
    /// Given to a load balancer; the older service was first.
    Given(Timestamp),
    /// One of spec.externalIPs, which anybody may write.
    Said,
}

type Holdings = BTreeSet<(IpAddr, Right)>;

#[derive(Default)]
pub struct Ledger {
    seen: HashMap<Owner, Holdings>,
    reserved: HashMap<Owner, Holdings>,
    holders: HashMap<IpAddr, BTreeSet<(Right, Owner)>>,
}

impl Ledger {
    /// What the cache shows of this owner now. Answers whether an address became free.
    pub fn observe(&mut self, owner: &Owner, holdings: Holdings) -> bool {
        self.change(owner, |ledger| {
            // The cache shows it: no need to remember.
            let arrived = ledger
                .reserved
                .get(owner)
                .is_some_and(|own| own.is_subset(&holdings));
            if arrived {
                ledger.reserved.remove(owner);
            }
            match holdings.is_empty() {
                true => ledger.seen.remove(owner),
                false => ledger.seen.insert(owner.clone(), holdings),
            };
        })
    }

    /// Held by this owner from now on, whatever older cache contents come by.
    pub fn reserve(&mut self, owner: &Owner, holdings: Holdings) -> bool {
        self.change(owner, |ledger| {
            let shown = ledger
                .seen
                .get(owner)
                .is_some_and(|own| holdings.is_subset(own));
            match shown || holdings.is_empty() {
                true => ledger.reserved.remove(owner),
                false => ledger.reserved.insert(owner.clone(), holdings),
            };
        })
    }

    /// It is to have none any more, or is gone.
    pub fn release(&mut self, owner: &Owner) -> bool {
        self.change(owner, |ledger| {
            ledger.reserved.remove(owner);
        })
    }

    /// What was given to it and not yet seen.
    pub fn reserved(&self, owner: &Owner) -> Option<Vec<IpAddr>> {
        let own = self.reserved.get(owner)?;
        Some(own.iter().map(|(address, _)| *address).collect())
    }

    /// Who keeps the address from this owner, whose own right to it is `right`.
    pub fn rival(&self, address: IpAddr, owner: &Owner, right: Right) -> Option<&Owner> {
        let holders = self.holders.get(&address)?;
        let holds = holders.contains(&(right, owner.clone()));
        let first = holders.iter().find(|(_, own)| own != owner);
        let (other, rival) = first?;
        // Who has none yet stands behind everybody.
        (!holds || (*other, rival) < (right, owner)).then_some(rival)
    }

    fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut Ledger)) -> bool {
        let before = self.of(owner);
        change(self);
        let after = self.of(owner);
        for (address, right) in before.difference(&after) {
            if let Some(holders) = self.holders.get_mut(address) {
                holders.remove(&(*right, owner.clone()));
                if holders.is_empty() {
                    self.holders.remove(address);
                }
            }
        }
        for (address, right) in after.difference(&before) {
            let holders = self.holders.entry(*address).or_default();
            holders.insert((*right, owner.clone()));
        }
        before.difference(&after).next().is_some()
    }

    fn of(&self, owner: &Owner) -> Holdings {
        let both = [self.seen.get(owner), self.reserved.get(owner)];
        both.into_iter().flatten().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn service(name: &str) -> Owner {
        Owner::Service(ObjectKey::new("d", name))
    }

    fn since(second: i64) -> Right {
        Right::Given(Timestamp::from_second(second).expect("a time"))
    }

    fn holding(text: &str, right: Right) -> Holdings {
        [(ip(text), right)].into()
    }

    #[test]
    fn what_was_given_is_held_until_the_cache_shows_it() {
        let (mut ledger, a, b) = (Ledger::default(), service("a"), service("b"));
        let own = holding("192.0.2.1", since(5));
        assert!(!ledger.reserve(&a, own.clone()));
        assert_eq!(ledger.reserved(&a), Some(vec![ip("192.0.2.1")]));
        // An older version comes by.
        assert!(!ledger.observe(&a, Holdings::new()));
        assert_eq!(ledger.rival(ip("192.0.2.1"), &b, since(1)), Some(&a));
        assert_eq!(ledger.rival(ip("192.0.2.1"), &a, since(5)), None);
        ledger.observe(&a, own);
        assert_eq!(ledger.reserved(&a), None);
        assert!(ledger.observe(&a, Holdings::new()), "it is free");
        assert_eq!(ledger.rival(ip("192.0.2.1"), &b, since(1)), None);
    }

    #[test]
    fn a_reservation_goes_with_its_service() {
        let (mut ledger, a) = (Ledger::default(), service("a"));
        ledger.reserve(&a, holding("192.0.2.1", since(5)));
        assert!(ledger.release(&a));
        assert!(!ledger.release(&a));
        assert!(ledger.holders.is_empty());
    }

    #[test]
    fn of_two_holders_the_better_right_keeps_the_address() {
        let (older, younger) = (service("z"), service("a"));
        let (node, crooked) = (Owner::Node("n1".into()), service("0"));
        let address = ip("192.0.2.1");
        let mut ledger = Ledger::default();
        ledger.observe(&older, holding("192.0.2.1", since(1)));
        ledger.observe(&younger, holding("192.0.2.1", since(2)));
        ledger.observe(&crooked, holding("192.0.2.1", Right::Said));
        assert_eq!(ledger.rival(address, &older, since(1)), None);
        assert_eq!(ledger.rival(address, &younger, since(2)), Some(&older));
        // A service may say its own address among its externalIPs.
        assert_eq!(ledger.rival(address, &service("x"), since(0)), Some(&older));
        ledger.observe(&node, holding("192.0.2.1", Right::Own));
        assert_eq!(ledger.rival(address, &older, since(1)), Some(&node));
    }
}
