//! A packet of the stack's.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::bpf_csum_update,
    programs::TcContext,
};
use vetch_ebpf_common::Difference;

use super::{Context, Short};

impl Context for TcContext {
    const COMES_AGAIN: bool = false;

    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the verifier lets a classifier read the field.
        unsafe { (*self.skb.skb).len }
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Short> {
        self.load(offset as usize).map_err(|_| Short)
    }

    /// TCP's packets are clones whose headers may be written; the helper knows,
    /// a store in place would copy the head first.
    #[inline(always)]
    fn write<T>(&self, offset: u32, value: &T) -> Result<(), Short> {
        self.store(offset as usize, value, 0).map_err(|_| Short)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the verifier lets a classifier read the field.
        unsafe { (*self.skb.skb).ifindex }
    }

    #[inline(always)]
    fn correct(&self, at: u32, change: Difference) -> Result<(), Short> {
        self.l3_csum_replace(at as usize, 0, change.bits().into(), 0)
            .map_err(|_| Short)
    }

    #[inline(always)]
    fn correct_transport(
        &self,
        at: u32,
        change: Difference,
        zero_is_none: bool,
    ) -> Result<(), Short> {
        self.l4_csum_replace(at as usize, 0, change.bits().into(), flags(zero_is_none))
            .map_err(|_| Short)
    }

    /// Also one that the device is still to finish.
    #[inline(always)]
    fn correct_hosts(
        &self,
        at: u32,
        change: Difference,
        v4: bool,
        zero_is_none: bool,
    ) -> Result<(), Short> {
        let bits = change.bits();
        self.l4_csum_replace(
            at as usize,
            0,
            bits.into(),
            flags(zero_is_none) | u64::from(BPF_F_PSEUDO_HDR),
        )
        .map_err(|_| Short)?;
        if !v4 {
            // The helper takes it that a header's checksum makes up for the
            // addresses, and IPv6 has none; BPF_F_IPV6 tells it, but is younger
            // (6.16) than we ask for. This gives a device's sum over the packet
            // (CHECKSUM_COMPLETE) back what the helper took; without such a sum
            // it fails and nothing was taken.
            // https://lore.kernel.org/bpf/96a6bc3a443e6f0b21ff7b7834000e17fb549e05.1748509484.git.paul.chaignon@gmail.com/
            // SAFETY: the helper takes any packet and number.
            unsafe { bpf_csum_update(self.skb.skb, bits) };
        }
        Ok(())
    }
}

#[inline(always)]
fn flags(zero_is_none: bool) -> u64 {
    if zero_is_none {
        BPF_F_MARK_MANGLED_0.into()
    } else {
        0
    }
}
