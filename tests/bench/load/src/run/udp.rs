//! Datagrams there and back: words that are echoed, or questions to a name server. Each socket has a
//! window of them in flight; what does not come back is lost, and nothing is sent again.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::io::Errno;

use super::worker::{Core, Driver};
use crate::clock::{self, MILLISECOND, Nanos};
use crate::net::{self, EventFlags};

mod question;

pub use question::{Question, Said};

/// Datagrams in flight a socket. With the default 16 sockets they fit the smallest receive buffer
/// that kernels give, so that what is lost is lost on the way.
const WINDOW: usize = 8;
/// Then it is lost.
const TIMEOUT: Nanos = 250 * MILLISECOND;
/// Bytes a datagram that is echoed.
const SIZE: usize = 64;
/// The longest that is taken: what DNS has without extensions.
const LONGEST: usize = 512;

/// What is sent.
pub enum Words {
    Echo,
    Question(Question),
}

struct Flow {
    socket: OwnedFd,
    in_flight: usize,
}

/// A place in a window.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Of the datagram that is in flight, or was last: an answer to an earlier one is too late.
    number: u32,
    in_flight: bool,
    due: Nanos,
    sent: Nanos,
}

/// A unit is a place; those of a flow are neighbours.
pub struct Flows {
    words: Words,
    flows: Vec<Flow>,
    places: Vec<Place>,
}

impl Flows {
    pub fn open(targets: &[SocketAddr], words: Words, core: &Core) -> Result<Flows> {
        let mut flows = Vec::new();
        for (token, target) in targets.iter().enumerate() {
            let socket = net::dial_datagrams(*target)
                .with_context(|| format!("open a datagram socket to {target}"))?;
            core.epoll
                .add(&socket, token, EventFlags::IN)
                .context("watch a datagram socket")?;
            flows.push(Flow {
                socket,
                in_flight: 0,
            });
        }
        Ok(Flows {
            words,
            places: vec![Place::default(); flows.len() * WINDOW],
            flows,
        })
    }

    fn take_answer(&mut self, core: &mut Core, flow: usize, datagram: &[u8]) {
        let now = clock::now();
        let (unit, number, said) = match &self.words {
            Words::Echo => match read(datagram) {
                Some((unit, number)) => (unit, number, Said::Expected),
                None => return,
            },
            Words::Question(question) => match question.read(datagram) {
                Some((id, said)) => {
                    let (place, number) = of_id(id);
                    (flow * WINDOW + place, number, said)
                }
                None => return,
            },
        };
        if unit / WINDOW != flow {
            return;
        }
        let mask = self.words.numbers();
        let Some(place) = self.places.get_mut(unit) else {
            return;
        };
        if !place.in_flight || place.number & mask != number {
            return;
        }
        place.in_flight = false;
        self.flows[flow].in_flight -= 1;
        if let Said::Other(text) = said {
            core.fail(unit, || text);
            return;
        }
        core.tally.bytes(datagram.len() as u64, now);
        core.tally.success(place.due, now, None);
        if let Some(due) = core.next(unit, now) {
            self.start(core, unit, due, now);
        }
    }

    /// Somebody on the way said that it did not arrive: that is true of all that are in flight.
    fn refuse(&mut self, core: &mut Core, flow: usize, step: &str, error: Errno) {
        for unit in flow * WINDOW..(flow + 1) * WINDOW {
            let place = &mut self.places[unit];
            if std::mem::take(&mut place.in_flight) {
                core.fail(unit, || format!("{step}: {error}"));
            }
        }
        self.flows[flow].in_flight = 0;
    }
}

impl Driver for Flows {
    fn units(&self) -> usize {
        self.places.len()
    }

    fn start(&mut self, core: &mut Core, unit: usize, due: Nanos, now: Nanos) {
        let index = unit / WINDOW;
        let (flow, place) = (&mut self.flows[index], &mut self.places[unit]);
        place.number = place.number.wrapping_add(1);
        place.due = due;
        place.sent = now;
        place.in_flight = true;
        flow.in_flight += 1;
        let sent = match &mut self.words {
            Words::Echo => net::send(&flow.socket, &write(unit, place.number)),
            Words::Question(question) => {
                let id = id(unit % WINDOW, place.number);
                net::send(&flow.socket, question.with_id(id))
            }
        };
        if let Err(error) = sent {
            self.refuse(core, index, "send", error);
        }
    }

    fn event(&mut self, core: &mut Core, token: usize, _: EventFlags) {
        // Not one call more than there can be answers.
        let in_flight = self.flows[token].in_flight.max(1);
        for _ in 0..in_flight {
            let mut datagram = [0; LONGEST];
            match net::receive(&self.flows[token].socket, &mut datagram) {
                Ok(count) => self.take_answer(core, token, &datagram[..count]),
                Err(Errno::AGAIN) => return,
                Err(error) => return self.refuse(core, token, "receive", error),
            }
        }
    }

    fn sweep(&mut self, core: &mut Core, now: Nanos) {
        for unit in 0..self.places.len() {
            let place = &mut self.places[unit];
            if !place.in_flight || place.sent + TIMEOUT > now {
                continue;
            }
            place.in_flight = false;
            self.flows[unit / WINDOW].in_flight -= 1;
            core.tally
                .failure(|| "lost: no answer in 250 ms".into(), now);
            if let Some(due) = core.next(unit, now) {
                self.start(core, unit, due, now);
            }
        }
    }

    fn finish(&mut self, core: &mut Core) {
        for place in &self.places {
            if place.in_flight {
                core.tally.unanswered(place.due);
            }
        }
    }
}

impl Words {
    /// The bits of a datagram's number that come back with it.
    fn numbers(&self) -> u32 {
        match self {
            Words::Echo => u32::MAX,
            Words::Question(_) => NUMBERS,
        }
    }
}

/// A DNS message has 16 bits of its own: three for the place in its socket's window, the rest for a
/// number. One of a window ago has it again no sooner than the server has forgotten it.
const NUMBERS: u32 = (1 << 13) - 1;
const _: () = assert!(WINDOW << 13 == 1 << 16);

fn id(place: usize, number: u32) -> u16 {
    // Both fit: see above.
    ((place << 13) as u32 | number & NUMBERS) as u16
}

fn of_id(id: u16) -> (usize, u32) {
    (usize::from(id >> 13), u32::from(id) & NUMBERS)
}

fn write(unit: usize, number: u32) -> [u8; SIZE] {
    let mut datagram = [0; SIZE];
    datagram[..8].copy_from_slice(&(unit as u64).to_le_bytes());
    datagram[8..12].copy_from_slice(&number.to_le_bytes());
    datagram
}

fn read(datagram: &[u8]) -> Option<(usize, u32)> {
    let (unit, rest) = datagram.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let whole = rest.len() == SIZE - 12;
    let unit = usize::try_from(u64::from_le_bytes(*unit)).ok()?;
    whole.then_some((unit, u32::from_le_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_place_and_a_number() {
        for (place, number) in [(0, 0), (7, 0), (0, 8191), (7, 8191), (5, 77)] {
            assert_eq!(of_id(id(place, number)), (place, number));
        }
        assert_eq!(of_id(id(3, u32::MAX)), (3, NUMBERS));
    }

    #[test]
    fn a_datagram_says_which_it_is() {
        let datagram = write(70_000, u32::MAX);
        assert_eq!(read(&datagram), Some((70_000, u32::MAX)));
        assert_eq!(read(&datagram[..SIZE - 1]), None);
        assert_eq!(read(b""), None);
    }
}
