//! Whether a program runs in an image without libraries.

/// An ELF file of 64 bits whose program headers name no loader: elf(5).
pub fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        let value = bytes.iter().rev().try_fold(0_u64, |value, byte| {
            value.checked_mul(256)?.checked_add(u64::from(*byte))
        })?;
        usize::try_from(value).ok()
    };
    let headers = || -> Option<Vec<usize>> {
        let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|header| number(first.checked_add(header * size)?, 4))
            .collect()
    };
    program.starts_with(b"\x7fELF")
        && headers().is_some_and(|kinds| !kinds.is_empty() && !kinds.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own));
        assert!(!is_static(b"\x7fELF"));
        assert!(!is_static(b"#!/bin/sh"));
    }
}
