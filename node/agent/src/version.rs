//! What the node calls itself.

/// As clients parse it: the Kubernetes release whose contract is kept, and
/// our own version.
pub const KUBELET: &str = concat!("v1.36.0-vetch-", env!("CARGO_PKG_VERSION"));
/// The scheme of container ids.
pub const RUNTIME: &str = concat!("vetch://", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    /// client-go's version.ParseGeneric and ParseSemantic take these.
    #[test]
    fn the_kubelet_version_is_semantic() {
        let rest = super::KUBELET.strip_prefix("v1.36.").unwrap();
        let (patch, pre) = rest.split_once('-').unwrap();
        assert!(patch.parse::<u32>().is_ok());
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && (part == "0" || !part.starts_with('0'))
        };
        assert!(pre.split('.').all(plain), "{pre}");
    }
}
