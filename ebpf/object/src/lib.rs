//! The programs in the kernel as `cargo xtask build-ebpf` made them, once in a
//! daemon for all its parts that load some of them.

/// Who reads ELF in place wants its words aligned.
#[repr(C, align(16))]
struct Aligned<Bytes: ?Sized>(Bytes);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/vetch-ebpf")));

/// The ELF file, aligned to 16 bytes; `None` where the daemon was built
/// without one.
pub fn object() -> Option<&'static [u8]> {
    (!OBJECT.0.is_empty()).then_some(&OBJECT.0)
}
