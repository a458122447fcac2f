//! From the address dialled to a backend.

use vetch_ebpf_common::{Endpoint, FrontendKey, Protocol, ServiceWord, Slot};

use crate::maps::{FRONTENDS, SERVICES, SLOTS};

pub enum Choice {
    /// Nobody's service address: the call goes where it was going.
    NotAService,
    NoBackends,
    Backend(Endpoint),
}

/// How often a reader overtaken by a change looks again. Once is enough
/// unless changes of one service-port come faster than these few loads.
const ATTEMPTS: u32 = 4;

/// `seed` picks among the backends: the same seed, the same backend, for as
/// long as the backends stay.
#[inline(always)]
pub fn choose(to: Endpoint, protocol: Protocol, seed: u32) -> Choice {
    let key = FrontendKey::new(to.addr(), to.port(), protocol as u8);
    // SAFETY: a frontend is one u32, written whole; the map is not preallocated,
    // so a removed element is freed only after this program has ended (RCU).
    let Some(frontend) = (unsafe { FRONTENDS.get(key) }) else {
        return Choice::NotAService;
    };
    let service = frontend.service();
    let Some(word) = SERVICES.get_ptr(service) else {
        return Choice::NoBackends;
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: an aligned 8-byte load from a map value; volatile, because
        // the daemon stores it at any time.
        let word = ServiceWord::from_bits(unsafe { word.cast::<u64>().read_volatile() });
        if word.backends() == 0 {
            return Choice::NoBackends;
        }
        let offset = (u64::from(seed) * u64::from(word.backends()) >> 32) as u32;
        if let Some(endpoint) = read_slot(
            word.slot_base() + offset,
            Slot::tag(service, word.generation()),
        ) {
            return Choice::Backend(endpoint);
        }
    }
    Choice::NoBackends
}

#[inline(always)]
fn read_slot(index: u32, tag: u64) -> Option<Endpoint> {
    let words = SLOTS.get_ptr(index)?.cast::<u64>();
    // SAFETY: a slot is two aligned words; the order is the one `Slot` asks for.
    let (endpoint, found) = unsafe {
        (
            words.read_volatile(),
            words.add(Slot::TAG_WORD).read_volatile(),
        )
    };
    (found == tag).then(|| Endpoint::from_bits(endpoint))
}
