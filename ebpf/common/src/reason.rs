//! Why a call or a packet did not get through.

use crate::names::names;

names! {
    /// Indices of the counters in the map `REASONS`.
    #[repr(u32)]
    #[derive(PartialOrd, Ord, Hash)]
    Reason {
        /// Refused: the service has no endpoints.
        NoEndpoints = 0 "no-endpoints",
        /// Dropped: policy Local, endpoints elsewhere only.
        NoLocalEndpoints = 1 "no-local-endpoints",
        /// Refused: an address of a service, but none of its ports.
        UnknownPort = 2 "unknown-port",
        /// Dropped: the client is in none of `loadBalancerSourceRanges`.
        SourceRange = 3 "source-range",
        /// Refused: a service-port changed faster than its backend could be read.
        Torn = 4 "torn",
        /// Refused: the relation of a socket to its service could not be kept.
        Memory = 5 "memory",
        /// Dropped: every source port tried is taken.
        SourcePorts = 6 "source-ports",
        /// Dropped: the packet ends before its headers do, or they contradict it.
        Malformed = 7 "malformed",
        /// Dropped: a later fragment of a datagram whose first was not seen, for a
        /// service or out of the cluster.
        Fragment = 8 "fragment",
        /// Dropped: a port would have to change of a protocol whose checksum covers
        /// what cannot be recomputed (SCTP): a service's, or one that another pod
        /// has outside the cluster already.
        Unsupported = 9 "unsupported",
        /// Dropped: a flow could not be recorded.
        FlowTable = 10 "flow-table",
        /// Dropped: of another node's load balancer, for nobody that is known here;
        /// or it has no hop left to another node; or it came in VXLAN, and from no node.
        Tunnel = 11 "tunnel",
        /// Refused: longer than the way to the backend's node lets pass.
        TooLong = 12 "too-long",
        /// Dropped: from a pod, with an IPv6 address that is not its own.
        Source = 13 "source",
        /// Dropped: no NetworkPolicy of the pod that it is for lets it in.
        PolicyIngress = 14 "policy-ingress",
        /// Dropped: no NetworkPolicy of the pod that sends it lets it out.
        PolicyEgress = 15 "policy-egress",
        /// Dropped: of or for a pod of which it is not known yet what its policies
        /// are.
        PolicyPending = 16 "policy-pending",
    }
}

impl Reason {
    /// Whether who is turned away is told; other packets are dropped without
    /// words.
    #[inline(always)]
    pub const fn refuses(self) -> bool {
        matches!(
            self,
            Self::NoEndpoints | Self::UnknownPort | Self::Torn | Self::Memory | Self::TooLong
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
