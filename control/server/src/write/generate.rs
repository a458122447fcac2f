//! Names the server makes up from metadata.generateName.

use rand::Rng as _;

/// Kubernetes' alphabet for generated names: no vowels, no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const LENGTH: usize = 5;
/// metadata.name may have 63 characters in most kinds; a longer prefix is cut, as Kubernetes does.
const PREFIX_LIMIT: usize = 63 - LENGTH;

pub(super) fn name(prefix: &str) -> String {
    let mut end = prefix.len().min(PREFIX_LIMIT);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    for _ in 0..LENGTH {
        name.push(char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_have_five_safe_characters() {
        let made = name("web-");
        assert_eq!(made.len(), 9);
        assert!(
            made[4..].bytes().all(|byte| ALPHABET.contains(&byte)),
            "{made}"
        );
        assert_eq!(name(&"x".repeat(100)).len(), 63);
    }
}
