//! Limits of huge pages: a file for each size the kernel has,
//! `hugetlb.<size>.max`, and one of reservations beside it since Linux 5.7,
//! `hugetlb.<size>.rsvd.max`: with it a mapping that asks for too much fails,
//! instead of its first access being the end of the process.
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb>

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Error;

/// All files of a cgroup.
pub fn files(cgroup: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(cgroup).map_err(Error::io("reading", cgroup))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

/// What is written into which of them; sizes nobody asked for get nothing.
pub fn wanted(files: &[String], limits: &BTreeMap<u64, i64>) -> Vec<(String, i64)> {
    let of_file = |file: &String| {
        let size = page_size(file)?;
        Some((file.clone(), limits.get(&size).copied().unwrap_or(0)))
    };
    files.iter().filter_map(of_file).collect()
}

/// In bytes, from a limit's file name.
fn page_size(file: &str) -> Option<u64> {
    let size = file.strip_prefix("hugetlb.")?.strip_suffix(".max")?;
    let size = size.strip_suffix(".rsvd").unwrap_or(size);
    let (number, shift) = [("GB", 30), ("MB", 20), ("KB", 10)]
        .into_iter()
        .find_map(|(unit, shift)| Some((size.strip_suffix(unit)?, shift)))?;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_the_kernel_has_is_limited() {
        let limits = BTreeMap::from([(2 << 20, 8 << 20), (16 << 20, 1)]);
        for (file, want) in [
            ("hugetlb.2MB.max", Some(8 << 20)),
            ("hugetlb.2MB.rsvd.max", Some(8 << 20)),
            ("hugetlb.1GB.max", Some(0)),
            ("hugetlb.64KB.max", Some(0)),
            ("hugetlb.2MB.current", None),
            ("hugetlb.2MB.rsvd.current", None),
            ("hugetlb.many.max", None),
            ("memory.max", None),
        ] {
            let want: Vec<_> = want
                .map(|bytes| (file.to_owned(), bytes))
                .into_iter()
                .collect();
            assert_eq!(wanted(&[file.to_owned()], &limits), want, "{file}");
        }
    }
}
