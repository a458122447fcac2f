//! From a frontend to a backend.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns},
    maps::lpm_trie::Key,
};
use vetch_ebpf_common::{
    Address, Affinity, AffinityKey, BackendKey, Endpoint, From, Frontend, List, Reason, Service,
    ServiceWord, Slot, SourceRange, Terms, one_of, second_is_idler, two_of,
};

use crate::{
    count, live,
    maps::{AFFINITY, BACKENDS, SERVICES, SLOTS, SOURCE_RANGES},
};

pub enum Choice {
    Backend(Endpoint),
    /// In words: a reset, an ICMP error, ECONNREFUSED.
    Refuse(Reason),
    /// Without words, as policy Local asks for.
    Drop(Reason),
}

/// Who is to be served.
pub struct Client {
    pub from: From,
    /// For session affinity. A socket that has no address yet is known by its
    /// network namespace, and what comes by packet by its address; a client
    /// uses one service-port in one of the two ways.
    pub address: Address,
    /// For services that hash: the same client, the same backend.
    pub hash: u32,
    /// Chance would part the datagrams of a conversation that has no flow.
    pub always_hash: bool,
    /// Whoever has only a look before another program chooses counts nothing.
    pub counts: bool,
}

/// How often a reader overtaken by a change looks again. Once is enough
/// unless changes of one service-port come faster than these few loads.
const ATTEMPTS: u32 = 4;

/// Counts what becomes of it for the service-port; the reason is the caller's
/// to count.
#[inline(always)]
pub fn choose(frontend: &Frontend, client: &Client) -> Choice {
    let mut way = u64::from(frontend.flags()) << 32 | u64::from(frontend.service());
    if client.from == From::Outside {
        way |= OUTSIDE;
    }
    if client.always_hash {
        way |= ALWAYS_HASH;
    }
    if client.counts {
        way |= COUNTS;
    }
    let [high, low] = client.address.words();
    let mut backend = Endpoint::new(Address::ANY_V6, [0; 2]);
    match balance(way, client.hash, high, low, &raw mut backend) {
        CHOSEN => Choice::Backend(backend),
        TORN => Choice::Refuse(Reason::Torn),
        NO_LOCAL_ENDPOINTS => Choice::Drop(Reason::NoLocalEndpoints),
        _ => Choice::Refuse(Reason::NoEndpoints),
    }
}

/// What [`balance`] is asked beside a frontend's number and flags.
const COUNTS: u64 = 1 << 61;
const OUTSIDE: u64 = 1 << 62;
const ALWAYS_HASH: u64 = 1 << 63;

/// What it answers.
const CHOSEN: u32 = 0;
const NO_ENDPOINTS: u32 = 1;
const NO_LOCAL_ENDPOINTS: u32 = 2;
const TORN: u32 = 3;

/// [`choose`] by numbers, as a global function has them (5.6): the verifier looks
/// at it once for any of them, not behind each way that leads to it, and knows
/// nothing of it afterwards by which the ways behind it would differ.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn balance(way: u64, hash: u32, high: u64, low: u64, chosen: *mut Endpoint) -> u32 {
    let frontend = Frontend::new(
        way as u32,
        ((way & !(COUNTS | OUTSIDE | ALWAYS_HASH)) >> 32) as u32,
    );
    let client = Client {
        from: if way & OUTSIDE == 0 {
            From::Inside
        } else {
            From::Outside
        },
        address: Address::from_words([high, low]),
        hash,
        always_hash: way & ALWAYS_HASH != 0,
        counts: way & COUNTS != 0,
    };
    // SAFETY: of `choose`; the verifier holds it to the type's size.
    let Some(chosen) = (unsafe { chosen.as_mut() }) else {
        return NO_ENDPOINTS;
    };
    let outcome = choose_for(&frontend, &client, chosen);
    if client.counts {
        if outcome == CHOSEN {
            count::connection(frontend.service());
        } else {
            count::refused(frontend.service());
        }
    }
    outcome
}

#[inline(always)]
fn choose_for(frontend: &Frontend, client: &Client, chosen: &mut Endpoint) -> u32 {
    let service = frontend.service();
    let Some(words) = SERVICES.get_ptr(service) else {
        return NO_ENDPOINTS;
    };
    let words = words.cast::<u64>();
    // SAFETY: aligned 8-byte loads from a map value; volatile, because the
    // daemon stores them at any time.
    let terms = Terms::from_bits(unsafe { words.add(Service::TERMS).read_volatile() });
    let list = terms.list(frontend, client.from);
    let affinity = AffinityKey::new(client.address, service);
    if terms.has(Terms::AFFINITY)
        && let Some(backend) = recall(&affinity, terms, service, list)
    {
        *chosen = backend;
        return CHOSEN;
    }
    let by_hash = terms.has(Terms::HASH) || client.always_hash;
    let least = terms.has(Terms::LEAST) && !by_hash;
    let seed = if by_hash { client.hash } else { chance() };
    for _ in 0..ATTEMPTS {
        // SAFETY: as above.
        let word = ServiceWord::from_bits(unsafe { words.add(Service::WORD).read_volatile() });
        let (first, count) = match list {
            List::Cluster => (0, word.cluster()),
            List::Local => (word.cluster(), word.local()),
        };
        if count == 0 {
            return match list {
                List::Local if word.cluster() != 0 => NO_LOCAL_ENDPOINTS,
                _ => NO_ENDPOINTS,
            };
        }
        let (base, tag) = (
            word.slot_base() + first,
            Slot::tag(service, word.generation()),
        );
        let backend = if least {
            idler(service, base, count, seed, tag)
        } else {
            read_slot(base + one_of(seed, count), tag)
        };
        if let Some(backend) = backend {
            if terms.has(Terms::AFFINITY) {
                remember(&affinity, backend);
            }
            *chosen = backend;
            return CHOSEN;
        }
    }
    TORN
}

/// Of two backends the one that has fewer live connections.
#[inline(always)]
fn idler(service: u32, base: u32, count: u32, seed: u32, tag: u64) -> Option<Endpoint> {
    let [first, second] = two_of([seed, chance()], count);
    let (first, second) = (
        read_slot(base + first, tag)?,
        read_slot(base + second, tag)?,
    );
    let live = [first, second].map(|backend| live::connections(&BackendKey::new(service, backend)));
    Some(if second_is_idler(live) { second } else { first })
}

#[inline(always)]
fn chance() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

#[inline(always)]
fn read_slot(index: u32, tag: u64) -> Option<Endpoint> {
    let words = SLOTS.get_ptr(index)?.cast::<u64>();
    // SAFETY: a slot is aligned words; the order is the one `Slot` asks for.
    let (endpoint, found) = unsafe {
        (
            [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
            ],
            words.add(Slot::TAG_WORD).read_volatile(),
        )
    };
    (found == tag).then(|| Endpoint::from_words(endpoint))
}

/// The backend of an earlier connection, if it is recent enough and new
/// clients may still be sent there.
#[inline(always)]
fn recall(key: &AffinityKey, terms: Terms, service: u32, list: List) -> Option<Endpoint> {
    // SAFETY: copied before it is used; an element recycled in between can only
    // name a backend that the next lookup does not know for this service.
    let affinity = *unsafe { AFFINITY.get(key) }?;
    if !affinity.holds(now(), terms.affinity_seconds()) {
        return None;
    }
    let flags = serving(service, affinity.backend)?;
    let flag = match list {
        List::Cluster => BackendKey::CLUSTER,
        List::Local => BackendKey::LOCAL,
    };
    if flags & flag == 0 {
        return None;
    }
    remember(key, affinity.backend);
    Some(affinity.backend)
}

/// Of the service-port now; none of its flags if there is no such service-port.
#[inline(always)]
pub fn terms(service: u32) -> Terms {
    let Some(words) = SERVICES.get_ptr(service) else {
        return Terms::default();
    };
    // SAFETY: as in `choose_for`.
    Terms::from_bits(unsafe { words.cast::<u64>().add(Service::TERMS).read_volatile() })
}

/// Of the service-port's word now; 0 if there is no such service-port.
#[inline(always)]
pub fn generation(service: u32) -> u32 {
    let Some(words) = SERVICES.get_ptr(service) else {
        return 0;
    };
    // SAFETY: as in `choose_for`.
    let word = unsafe { words.cast::<u64>().add(Service::WORD).read_volatile() };
    ServiceWord::from_bits(word).generation()
}

/// The lists a serving backend is in; None if it serves no more.
#[inline(always)]
pub fn serving(service: u32, backend: Endpoint) -> Option<u32> {
    // SAFETY: one aligned u32, written whole; freed only after a grace period.
    unsafe { BACKENDS.get(BackendKey::new(service, backend)) }.copied()
}

#[inline(always)]
fn remember(key: &AffinityKey, backend: Endpoint) {
    let affinity = Affinity {
        backend,
        seen: now(),
    };
    // A table that takes no more costs affinity, not the connection.
    let _ = AFFINITY.insert(key, affinity, BPF_ANY.into());
}

/// Whether the service takes clients with this address.
#[inline(always)]
pub fn in_source_ranges(service: u32, client: Address) -> bool {
    let key = Key::new(SourceRange::EXACT, SourceRange::new(service, client));
    SOURCE_RANGES.get(key).is_some()
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}
