//! Which addresses a service gets.

use std::fmt;
use std::net::IpAddr;

use super::pool::Pool;
use crate::service::Family;

/// What a service asks for, and has.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Its families, the main one first.
    pub families: &'a [Family],
    /// spec.loadBalancerIP; empty is none.
    pub requested: &'a str,
    pub held: &'a [IpAddr],
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// At most one a family, in the service's order.
    pub addresses: Vec<IpAddr>,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// All addresses of the family are taken.
    Exhausted(Family),
    /// The pool has no address of any of the service's families.
    NoFamily,
    NoAddress(String),
    /// The requested address is of a family that the service does not have.
    OtherFamily(IpAddr),
    NotInPool(IpAddr),
    Taken(IpAddr, String),
}

impl Problem {
    pub fn reason(&self) -> &'static str {
        match self {
            Problem::Exhausted(_) => "LoadBalancerPoolExhausted",
            Problem::NoFamily => "LoadBalancerPoolWithoutFamily",
            _ => "LoadBalancerIPUnavailable",
        }
    }

    pub fn message(&self, pool: &Pool) -> String {
        match self {
            Problem::Exhausted(family) => {
                format!("all {family} addresses of the load-balancer pool {pool} are taken")
            }
            Problem::NoFamily => format!(
                "the load-balancer pool {pool} has no address of the service's address families"
            ),
            Problem::NoAddress(text) => format!("spec.loadBalancerIP {text:?} is no IP address"),
            Problem::OtherFamily(address) => format!(
                "spec.loadBalancerIP {address} is of none of the service's address families"
            ),
            Problem::NotInPool(address) => {
                format!("spec.loadBalancerIP {address} is not in the load-balancer pool {pool}")
            }
            Problem::Taken(address, by) => {
                format!("spec.loadBalancerIP {address} is held by {by}")
            }
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

enum Asked {
    Nothing,
    One(IpAddr),
    /// Something that this service cannot have. Nothing else is taken in its place.
    Nonsense,
}

/// `rival` is who keeps an address from this service. What the service has it keeps as long as it may; a requested
/// address that is not to be had costs it nothing.
pub fn assign(
    pool: &Pool,
    wish: &Wish<'_>,
    rival: impl Fn(IpAddr) -> Option<String>,
    next_free: impl Fn(Family) -> Option<IpAddr>,
) -> Assignment {
    let mut addresses = Vec::new();
    let mut problems = Vec::new();
    let asked = asked(wish, &mut problems);
    for family in wish.families {
        let held = wish.held.iter().copied().find(|own| {
            Family::of_ip(*own) == *family && pool.contains(*own) && rival(*own).is_none()
        });
        let address = match &asked {
            Asked::Nonsense => held,
            Asked::One(address) if Family::of_ip(*address) == *family => {
                match available(pool, *address, &rival) {
                    Ok(address) => Some(address),
                    Err(problem) => {
                        problems.push(problem);
                        held
                    }
                }
            }
            Asked::Nothing | Asked::One(_) => {
                let given = held.or_else(|| next_free(*family));
                if given.is_none() && pool.has(*family) {
                    problems.push(Problem::Exhausted(*family));
                }
                given
            }
        };
        addresses.extend(address);
    }
    if problems.is_empty() && addresses.is_empty() {
        problems.push(Problem::NoFamily);
    }
    Assignment {
        addresses,
        problems,
    }
}

fn asked(wish: &Wish<'_>, problems: &mut Vec<Problem>) -> Asked {
    if wish.requested.is_empty() {
        return Asked::Nothing;
    }
    let problem = match wish.requested.parse::<IpAddr>() {
        Ok(address) if wish.families.contains(&Family::of_ip(address)) => {
            return Asked::One(address);
        }
        Ok(address) => Problem::OtherFamily(address),
        Err(_) => Problem::NoAddress(wish.requested.to_owned()),
    };
    problems.push(problem);
    Asked::Nonsense
}

fn available(
    pool: &Pool,
    address: IpAddr,
    rival: impl Fn(IpAddr) -> Option<String>,
) -> Result<IpAddr, Problem> {
    if !pool.contains(address) {
        return Err(Problem::NotInPool(address));
    }
    match rival(address) {
        Some(by) => Err(Problem::Taken(address, by)),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// 192.0.2.3 and fd00::3 are somebody else's; 192.0.2.4 and fd00::4 are the next free ones.
    fn assigned(
        families: &[Family],
        requested: &str,
        held: &[&str],
    ) -> (Vec<String>, Vec<&'static str>) {
        let ranges = ["192.0.2.1-192.0.2.9", "fd00::1-fd00::9"];
        let pool = Pool::new(ranges.map(|range| range.parse().expect("a range")).to_vec());
        let held: Vec<IpAddr> = held.iter().map(|text| ip(text)).collect();
        let wish = Wish {
            families,
            requested,
            held: &held,
        };
        let taken = [ip("192.0.2.3"), ip("fd00::3")];
        let rival = |address: IpAddr| taken.contains(&address).then(|| "service d/b".to_owned());
        let next_free = |family: Family| {
            Some(ip(match family {
                Family::V4 => "192.0.2.4",
                Family::V6 => "fd00::4",
            }))
        };
        let assignment = assign(&pool, &wish, rival, next_free);
        (
            assignment
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            assignment.problems.iter().map(Problem::reason).collect(),
        )
    }

    #[test]
    fn an_address_a_family() {
        use Family::{V4, V6};
        const REFUSED: &str = "LoadBalancerIPUnavailable";
        type Row<'a> = (
            &'a str,
            &'a [Family],
            &'a str,
            &'a [&'a str],
            &'a [&'a str],
            &'a [&'a str],
        );
        let table: &[Row<'_>] = &[
            ("the next free one", &[V4], "", &[], &["192.0.2.4"], &[]),
            (
                "it keeps its own",
                &[V4],
                "",
                &["192.0.2.7"],
                &["192.0.2.7"],
                &[],
            ),
            (
                "not another's",
                &[V4],
                "",
                &["192.0.2.3"],
                &["192.0.2.4"],
                &[],
            ),
            (
                "not one the pool had once",
                &[V4],
                "",
                &["198.51.100.1"],
                &["192.0.2.4"],
                &[],
            ),
            (
                "both families",
                &[V6, V4],
                "",
                &["192.0.2.7"],
                &["fd00::4", "192.0.2.7"],
                &[],
            ),
            (
                "one family less",
                &[V4],
                "",
                &["fd00::7", "192.0.2.7"],
                &["192.0.2.7"],
                &[],
            ),
            (
                "the one it asks for",
                &[V4],
                "192.0.2.8",
                &[],
                &["192.0.2.8"],
                &[],
            ),
            (
                "instead of its own",
                &[V4],
                "192.0.2.8",
                &["192.0.2.7"],
                &["192.0.2.8"],
                &[],
            ),
            (
                "and the other by itself",
                &[V4, V6],
                "192.0.2.8",
                &[],
                &["192.0.2.8", "fd00::4"],
                &[],
            ),
            ("taken", &[V4], "192.0.2.3", &[], &[], &[REFUSED]),
            (
                "taken, so it keeps its own",
                &[V4],
                "192.0.2.3",
                &["192.0.2.7"],
                &["192.0.2.7"],
                &[REFUSED],
            ),
            (
                "not in the pool",
                &[V4],
                "198.51.100.1",
                &[],
                &[],
                &[REFUSED],
            ),
            ("of another family", &[V4], "fd00::1", &[], &[], &[REFUSED]),
            ("nonsense", &[V4, V6], "here", &[], &[], &[REFUSED]),
        ];
        for (what, families, requested, held, addresses, problems) in table {
            let (own, found) = assigned(families, requested, held);
            assert_eq!(
                (
                    own.iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .as_slice(),
                    found.as_slice()
                ),
                (*addresses, *problems),
                "{what}"
            );
        }
    }

    #[test]
    fn what_is_not_to_be_had_is_said() {
        let pool = Pool::new(vec!["192.0.2.1".parse().expect("a range")]);
        let told = |families: &[Family], requested: &str, rival: Option<&str>| {
            let wish = Wish {
                families,
                requested,
                held: &[],
            };
            let assignment = assign(&pool, &wish, |_| rival.map(str::to_owned), |_| None);
            let problems = assignment.problems.iter();
            let texts: Vec<String> = problems.map(|own| own.message(&pool)).collect();
            texts.join("; ")
        };
        use Family::{V4, V6};
        for (families, requested, rival, text) in [
            (
                &[V4][..],
                "",
                None,
                "all IPv4 addresses of the load-balancer pool 192.0.2.1 are taken",
            ),
            (
                &[V4, V6],
                "",
                None,
                "all IPv4 addresses of the load-balancer pool 192.0.2.1 are taken",
            ),
            (
                &[V6],
                "",
                None,
                "the load-balancer pool 192.0.2.1 has no address of the service's address families",
            ),
            (
                &[V4],
                "192.0.2.1",
                Some("service d/b"),
                "spec.loadBalancerIP 192.0.2.1 is held by service d/b",
            ),
            (
                &[V4],
                "192.0.2.2",
                None,
                "spec.loadBalancerIP 192.0.2.2 is not in the load-balancer pool 192.0.2.1",
            ),
            (
                &[V4],
                "x",
                None,
                "spec.loadBalancerIP \"x\" is no IP address",
            ),
            (
                &[V4],
                "::1",
                None,
                "spec.loadBalancerIP ::1 is of none of the service's address families",
            ),
        ] {
            assert_eq!(told(families, requested, rival), text);
        }
    }
}
