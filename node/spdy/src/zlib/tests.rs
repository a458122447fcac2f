use super::*;

/// RFC 1950: the modulo of Adler-32 is the largest prime below 2^16.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

#[test]
fn the_dictionary_is_the_one_of_spdy_3() {
    assert_eq!(&DICTIONARY[..11], b"\0\0\0\x07options");
    assert!(DICTIONARY.ends_with(b",enq=0."));
    // What every SPDY/3 client begins with, behind the two bytes of zlib's head.
    assert_eq!(adler32(&DICTIONARY), 0xe3c6_a7c2);
}

#[test]
fn blocks_share_a_stream() {
    let mut compressor = Compressor::new().unwrap();
    let mut decompressor = Decompressor::default();
    let big: Vec<u8> = (0..50_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut sizes = Vec::new();
    for block in [
        &b"streamtype and error"[..],
        b"",
        &big,
        b"streamtype and error",
    ] {
        let deflated = compressor.deflate(block).unwrap();
        sizes.push(deflated.len());
        assert_eq!(decompressor.inflate(&deflated, big.len()).unwrap(), block);
    }
    // FDICT, and the dictionary's number (RFC 1950, 2.2).
    let mut first = Compressor::new().unwrap();
    let begun = first.deflate(b"a").unwrap();
    assert_eq!(begun[1] & 0x20, 0x20);
    assert_eq!(begun[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
}

#[test]
fn a_block_without_compression_and_dictionary() {
    // By hand: zlib's head (RFC 1950, 2.2), then a stored block that is not the last (RFC 1951, 3.2.4).
    let block = b"\x78\x01\x00\x03\x00\xfc\xffabc";
    let inflated = Decompressor::default().inflate(block, 3);
    assert_eq!(inflated.as_deref(), Ok(&b"abc"[..]));
}

#[test]
fn what_cannot_be_inflated() {
    // A last block.
    let ended = b"\x78\x01\x01\x00\x00\xff\xff\x00\x00\x00\x01";
    // Another dictionary's number.
    let other = b"\x78\xbb\x00\x00\x00\x01\x00\x00";
    let zeros = Compressor::new().unwrap().deflate(&[0; 1 << 20]).unwrap();
    assert!(zeros.len() < 16 * 1024);
    for (block, wanted) in [
        (&b"no zlib"[..], ZlibError::Invalid),
        (ended, ZlibError::Ended),
        (other, ZlibError::Invalid),
        (&zeros, ZlibError::TooLong { limit: 64 * 1024 }),
    ] {
        let refused = Decompressor::default().inflate(block, 64 * 1024);
        assert_eq!(refused, Err(wanted));
    }
}
