//! What is fetched once for all checkouts: kernels and Debian's packages for machines, cargo-deb.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/vetch`, or `~/.cache/vetch`: the XDG Base Directory Specification.
pub fn folder() -> PathBuf {
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("vetch")
}
