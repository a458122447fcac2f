//! Huge pages that were set aside, by size.

use std::fs;
use std::path::Path;

/// Resource names and bytes, from sysfs; none where the kernel has none.
pub fn read(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).unwrap_or_default();
        found.extend(resource(&entry.file_name().to_string_lossy(), &count));
    }
    found.sort();
    found
}

/// From a directory's name, `hugepages-2048kB`, and its count.
fn resource(name: &str, count: &str) -> Option<(String, u64)> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let count: u64 = count.trim().parse().ok()?;
    let size = match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}Gi", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}Mi", kib >> 10),
        _ => format!("{kib}Ki"),
    };
    Some((
        format!("hugepages-{size}"),
        count.checked_mul(kib)?.checked_mul(1024)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn sizes_as_kubernetes_writes_them() {
        let named = |name: &str, bytes: u64| Some((name.to_owned(), bytes));
        for (dir, count, want) in [
            ("hugepages-2048kB", "3\n", named("hugepages-2Mi", 6 << 20)),
            ("hugepages-1048576kB", "0\n", named("hugepages-1Gi", 0)),
            ("hugepages-64kB", "16", named("hugepages-64Ki", 1 << 20)),
            ("hugepages-x", "1", None),
            ("other", "1", None),
        ] {
            assert_eq!(resource(dir, count), want, "{dir}");
        }
    }
}
