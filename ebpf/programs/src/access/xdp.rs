//! A frame that the driver has not made a packet of yet. Its checksums are what
//! came by the wire, and nobody keeps a sum over the whole.

use aya_ebpf::{
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
    programs::XdpContext,
};
use vetch_ebpf_common::Difference;

use super::{Context, Short};

impl Context for XdpContext {
    const COMES_AGAIN: bool = true;

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
        // SAFETY: the helper has no preconditions (5.18).
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    /// 5.18, as the next.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Short> {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: the helper fills the value whole, or fails.
        unsafe {
            match bpf_xdp_load_bytes(
                self.ctx,
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            ) {
                0 => Ok(value.assume_init()),
                _ => Err(Short),
            }
        }
    }

    #[inline(always)]
    fn write<T>(&self, offset: u32, value: &T) -> Result<(), Short> {
        let bytes = core::ptr::from_ref(value).cast_mut().cast();
        // SAFETY: the helper reads the value only.
        match unsafe { bpf_xdp_store_bytes(self.ctx, offset, bytes, size_of::<T>() as u32) } {
            0 => Ok(()),
            _ => Err(Short),
        }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn correct(&self, at: u32, change: Difference) -> Result<(), Short> {
        self.correct_transport(at, change, false)
    }

    #[inline(always)]
    fn correct_transport(
        &self,
        at: u32,
        change: Difference,
        zero_is_none: bool,
    ) -> Result<(), Short> {
        let was: u16 = self.read(at)?;
        if zero_is_none && was == 0 {
            return Ok(());
        }
        let mut is = change.corrected(was);
        if zero_is_none && is == 0 {
            is = u16::MAX;
        }
        self.write(at, &is)
    }

    #[inline(always)]
    fn correct_hosts(
        &self,
        at: u32,
        change: Difference,
        _v4: bool,
        zero_is_none: bool,
    ) -> Result<(), Short> {
        self.correct_transport(at, change, zero_is_none)
    }
}
