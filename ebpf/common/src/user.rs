//! For the daemon: what of this may cross into a map as it is.

#![expect(unsafe_code, reason = "aya asks for the promise by an unsafe trait")]

use aya::Pod;

use crate::{
    Address, Affinity, AffinityKey, BackendKey, Conversation, Endpoint, Flow, Frontend,
    FrontendKey, Latency, Live, PeerPods, ReverseKey, Rule, SourceRange, Sources, Sweep, Traffic,
    Tuple, Uplink,
};

// SAFETY: each is `repr(C)` or packed, of integers and arrays of them, and has
// no padding of the compiler's: the sizes asserted beside them are the sums of
// their fields.
unsafe impl Pod for Address {}
// SAFETY: as above.
unsafe impl Pod for Affinity {}
// SAFETY: as above.
unsafe impl Pod for AffinityKey {}
// SAFETY: as above.
unsafe impl Pod for BackendKey {}
// SAFETY: as above.
unsafe impl Pod for Endpoint {}
// SAFETY: as above.
unsafe impl Pod for Frontend {}
// SAFETY: as above.
unsafe impl Pod for FrontendKey {}
// SAFETY: as above.
unsafe impl Pod for Latency {}
// SAFETY: as above.
unsafe impl Pod for Live {}
// SAFETY: as above.
unsafe impl Pod for crate::Pod {}
// SAFETY: as above.
unsafe impl Pod for PeerPods {}
// SAFETY: as above.
unsafe impl Pod for ReverseKey {}
// SAFETY: as above.
unsafe impl Pod for SourceRange {}
// SAFETY: as above.
unsafe impl Pod for Sources {}
// SAFETY: as above.
unsafe impl Pod for Sweep {}
// SAFETY: as above.
unsafe impl Pod for Traffic {}
// SAFETY: as above.
unsafe impl Pod for Uplink {}
// SAFETY: as above; any byte is a state.
unsafe impl Pod for Flow {}
// SAFETY: as above.
unsafe impl Pod for Tuple {}
// SAFETY: as above.
unsafe impl Pod for Conversation {}
// SAFETY: as above.
unsafe impl Pod for Rule {}
