//! The two versions of IP.

use vetch_ebpf_common::{Address, IpHeader};

use super::ETH_HEADER;
use crate::{
    access::{Context, read, read_at},
    verdict::Error,
};

/// Where an IP packet is in the frame.
pub struct Header {
    pub l3: u32,
    pub l4: u32,
    /// The datagram's identification in network order, if it is fragmented.
    pub id: u32,
    pub protocol: u8,
    pub v4: bool,
    pub fragment: Fragment,
}

impl Header {
    /// Options of IPv4's, or extension headers of IPv6's.
    #[inline(always)]
    pub const fn has_options(&self) -> bool {
        self.l4 - self.l3 != IpHeader::len(self.v4)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    Whole,
    First,
    Later,
}

type Addresses = (Address, Address);

/// The frame's own.
#[inline(always)]
pub fn outer(
    ctx: &impl Context,
    l3: u32,
    v4: bool,
    header: &mut Header,
) -> Result<Addresses, Error> {
    if l3 != ETH_HEADER {
        quoted(ctx, l3, v4, header)
    } else if v4 {
        ipv4(read_at::<ETH_HEADER, _>(ctx)?, ETH_HEADER, header)
    } else {
        ipv6(ctx, read_at::<ETH_HEADER, _>(ctx)?, ETH_HEADER, header)
    }
}

/// One at any place.
#[inline(always)]
pub fn quoted(
    ctx: &impl Context,
    l3: u32,
    v4: bool,
    header: &mut Header,
) -> Result<Addresses, Error> {
    if v4 {
        ipv4(read(ctx, l3)?, l3, header)
    } else {
        ipv6(ctx, read(ctx, l3)?, l3, header)
    }
}

#[inline(always)]
fn ipv4(
    [first, second, third, src, dst]: [u32; 5],
    l3: u32,
    header: &mut Header,
) -> Result<Addresses, Error> {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let [version_ihl, ..] = first.to_ne_bytes();
    let [id_high, id_low, offset_high, offset_low] = second.to_ne_bytes();
    let [_, protocol, ..] = third.to_ne_bytes();
    let words = u32::from(version_ihl & 0xf);
    if version_ihl >> 4 != 4 || words < 5 {
        return Err(Error::Malformed);
    }
    let offset = u16::from_be_bytes([offset_high, offset_low]);
    header.l3 = l3;
    header.l4 = l3 + words * 4;
    header.id = u32::from_ne_bytes([id_high, id_low, 0, 0]);
    header.protocol = protocol;
    header.v4 = true;
    header.fragment = if offset & OFFSET != 0 {
        Fragment::Later
    } else if offset & MORE_FRAGMENTS != 0 {
        Fragment::First
    } else {
        Fragment::Whole
    };
    Ok((Address::v4_bits(src), Address::v4_bits(dst)))
}

/// Extension headers that a packet may have before it is none of our business.
const MAX_EXTENSIONS: u32 = 6;

#[inline(always)]
fn ipv6(
    ctx: &impl Context,
    [first, second, a, b, c, d, e, f, g, h]: [u32; 10],
    l3: u32,
    header: &mut Header,
) -> Result<Addresses, Error> {
    const HEADER: u32 = 40;
    if first.to_ne_bytes()[0] >> 4 != 6 {
        return Err(Error::Malformed);
    }
    let [_, _, protocol, _] = second.to_ne_bytes();
    header.l3 = l3;
    header.l4 = l3 + HEADER;
    header.protocol = protocol;
    header.v4 = false;
    header.fragment = Fragment::Whole;
    for _ in 0..MAX_EXTENSIONS {
        if !extension(ctx, header)? {
            break;
        }
    }
    Ok((
        Address::v6_bits([a, b, c, d]),
        Address::v6_bits([e, f, g, h]),
    ))
}

/// Steps over an extension header; false if there is none to step over.
#[inline(always)]
fn extension(ctx: &impl Context, header: &mut Header) -> Result<bool, Error> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    match header.protocol {
        HOP_BY_HOP | ROUTING | DESTINATION => {
            let [next, eights]: [u8; 2] = read(ctx, header.l4)?;
            header.protocol = next;
            header.l4 += 8 + u32::from(eights) * 8;
            Ok(true)
        }
        FRAGMENT => {
            let [head, id]: [u32; 2] = read(ctx, header.l4)?;
            let [next, _, offset_high, offset_low] = head.to_ne_bytes();
            let offset = u16::from_be_bytes([offset_high, offset_low]);
            header.protocol = next;
            header.id = id;
            header.l4 += 8;
            if offset & 0xfff8 != 0 {
                header.fragment = Fragment::Later;
                return Ok(false);
            }
            // An atomic fragment (RFC 6946) is whole.
            if offset & 1 != 0 {
                header.fragment = Fragment::First;
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}
