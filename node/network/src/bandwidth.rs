//! Limits of what passes a pod's link: a token bucket (tbf) at each of its two ends.
//!
//! What goes to the pod is queued at the node's end, to which the programs send it instead of past
//! it ([`vetch_ebpf_common::Pod::SHAPED`]). What the pod sends is queued at its own end, where its
//! sockets feel it and wait instead of losing packets: a process that may change its pod's links
//! (`CAP_NET_ADMIN`) can take that limit away.

mod annotations;

use futures::StreamExt;
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage, TcOption},
};
use rtnetlink::{
    Handle,
    packet_core::{
        DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
};
use serde::{Deserialize, Serialize};

use crate::link::{LinkError, failed};

pub use annotations::BandwidthError;

/// In bits a second; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    /// Of what the pod receives.
    pub ingress: Option<u64>,
    /// Of what it sends.
    pub egress: Option<u64>,
}

/// A token bucket, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// A second.
    rate: u64,
    /// What may pass at once.
    burst: u32,
    /// What may wait, with what may pass.
    limit: u32,
}

/// How long a queue of its own may make a packet wait…
const PATIENCE_MS: u64 = 25;
/// …but it takes a segment that the kernel has not cut yet.
const SEGMENT: u64 = 64 << 10;
/// What passes within this is one burst: timers are finer, processors are not.
const BURST_MS: u64 = 10;
/// No less than some frames, whatever the rate.
const LEAST_BURST: u64 = 16 << 10;
const FRAMES: u64 = 2;

impl Bucket {
    /// Rates are those of the limit within a few per cent after the first burst.
    fn new(bits: u64, mtu: u32) -> Self {
        let rate = (bits / 8).max(1);
        let within = |ms| rate.saturating_mul(ms) / 1000;
        let burst = within(BURST_MS)
            .max(LEAST_BURST)
            .max(u64::from(mtu) * FRAMES);
        let limit = burst.saturating_add(within(PATIENCE_MS).max(SEGMENT));
        let bounded = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            rate,
            burst: bounded(burst),
            limit: bounded(limit),
        }
    }

    /// Attributes of linux/pkt_sched.h; by bytes (3.13), because the older ones count ticks.
    fn options(self) -> Vec<TcOption> {
        const PARMS: u16 = 1;
        const RATE64: u16 = 4;
        const BURST: u16 = 6;
        /// Without a table of times for sizes.
        const ETHERNET: u8 = 1;
        let mut parms = Vec::with_capacity(36);
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        // tc_ratespec, and another that stays empty: there is no peak.
        parms.extend([0, ETHERNET, 0, 0, 0, 0, 0, 0]);
        parms.extend(rate.to_ne_bytes());
        parms.extend([0; 12]);
        // tc_tbf_qopt: limit, and two in ticks.
        parms.extend(self.limit.to_ne_bytes());
        parms.extend([0; 8]);
        let option = |kind, bytes| TcOption::Other(DefaultNla::new(kind, bytes));
        vec![
            option(PARMS, parms),
            option(RATE64, self.rate.to_ne_bytes().into()),
            option(BURST, self.burst.to_ne_bytes().into()),
        ]
    }
}

/// Queues what leaves by the link so that no more than this passes; again for another rate.
pub async fn limit(netlink: &Handle, index: u32, bits: u64, mtu: u32) -> Result<(), LinkError> {
    let step = || format!("limit link {index} to {bits} bits a second (the kernel needs sch_tbf)");
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![
        TcAttribute::Kind("tbf".into()),
        TcAttribute::Options(Bucket::new(bits, mtu).options()),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut netlink = netlink.clone();
    let mut answers = netlink.request(request).map_err(failed(step()))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(failed(step())(rtnetlink::Error::NetlinkError(error)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::tc::TcOption::Other;
    use rtnetlink::packet_core::Nla as _;

    use super::*;

    #[test]
    fn what_passes_and_what_waits() {
        const K: u64 = 1000;
        for (bits, mtu, rate, burst, limit) in [
            // Slow ones have a burst and a segment.
            (K, 1500, 125, 16_384, 81_920),
            (K * K, 1500, 125_000, 16_384, 81_920),
            (K * K, 9000, 125_000, 18_000, 83_536),
            // 10 ms of it and 25 more.
            (100 * K * K, 1500, 12_500_000, 125_000, 437_500),
            (K * K * K, 9000, 125_000_000, 1_250_000, 4_375_000),
            // As much as can be said.
            (
                K * K * K * K * K,
                1500,
                125_000_000_000_000,
                u32::MAX,
                u32::MAX,
            ),
        ] {
            let bucket = Bucket::new(bits, mtu);
            let expected = Bucket { rate, burst, limit };
            assert_eq!(bucket, expected, "{bits} {mtu}");
        }
    }

    #[test]
    fn attributes_are_the_kernels() {
        let bucket = Bucket {
            rate: 0x1_0000_0007,
            burst: 0x1234,
            limit: 0x5678,
        };
        let shown: Vec<(u16, Vec<u8>)> = bucket
            .options()
            .iter()
            .map(|option| {
                assert!(matches!(option, Other(_)));
                let mut value = vec![0; option.value_len()];
                option.emit_value(&mut value);
                (option.kind(), value)
            })
            .collect();
        let mut parms = vec![0; 36];
        parms[1] = 1;
        parms[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        parms[24..28].copy_from_slice(&0x5678_u32.to_ne_bytes());
        assert_eq!(
            shown,
            [
                (1, parms),
                (4, 0x1_0000_0007_u64.to_ne_bytes().into()),
                (6, 0x1234_u32.to_ne_bytes().into()),
            ]
        );
    }
}
