//! Limits: CRI has cgroup v1's numbers, the runtime v2's.

use std::collections::{BTreeMap, HashMap};

use k8s_cri::v1::{HugepageLimit, LinuxContainerResources};
use tonic::Status;
use vetch_runtime::Resources;

use crate::error::unsupported;

/// The kernel's own when none is given: 100 ms.
const DEFAULT_PERIOD: u64 = 100_000;

/// Zero is "not given".
///
/// # Errors
/// `Unimplemented` for what would be left out.
pub fn wanted(given: Option<&LinuxContainerResources>) -> Result<Resources, Status> {
    let Some(given) = given else {
        return Ok(Resources::default());
    };
    if !given.cpuset_cpus.is_empty() || !given.cpuset_mems.is_empty() {
        return Err(unsupported("cpuset: cpuset_cpus and cpuset_mems are"));
    }
    let swap_max = unified(&given.unified)?;
    let period = u64::try_from(given.cpu_period).unwrap_or(0);
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    let oom_score_adj = i32::try_from(given.oom_score_adj)
        .map_err(|_| Status::invalid_argument("oom_score_adj is out of range"))?;
    Ok(Resources {
        cpu_weight: u64::try_from(given.cpu_shares)
            .ok()
            .filter(|shares| *shares > 0)
            .map(weight),
        cpu_max: (given.cpu_quota != 0).then_some((given.cpu_quota, period)),
        memory_max: (given.memory_limit_in_bytes != 0).then_some(given.memory_limit_in_bytes),
        swap_max,
        hugetlb_max: huge_pages(&given.hugepage_limits)?,
        oom_score_adj: Some(oom_score_adj),
        ..Resources::default()
    })
}

/// Of cgroup v2's files those that a kubelet writes; a container is killed whole
/// when it is out of memory, asked or not.
fn unified(files: &HashMap<String, String>) -> Result<Option<i64>, Status> {
    let mut swap_max = None;
    for (file, value) in files {
        match (file.as_str(), value.as_str()) {
            ("memory.oom.group", "1") => {}
            ("memory.swap.max", "max") => swap_max = Some(-1),
            ("memory.swap.max", bytes) => {
                let wrong = |_| Status::invalid_argument(format!("unified: {file} of {bytes:?}"));
                swap_max = Some(bytes.parse().map_err(wrong)?);
            }
            _ => return Err(unsupported(&format!("unified ({file}) is"))),
        }
    }
    Ok(swap_max)
}

/// Sizes that a client with any limits does not name get no pages.
fn huge_pages(limits: &[HugepageLimit]) -> Result<Option<BTreeMap<u64, i64>>, Status> {
    let mut all = BTreeMap::new();
    for limit in limits {
        let size = page_size(&limit.page_size).ok_or_else(|| {
            Status::invalid_argument(format!("hugepage_limits: a page of {:?}", limit.page_size))
        })?;
        // No machine has 2^63 bytes.
        all.insert(size, i64::try_from(limit.limit).unwrap_or(-1));
    }
    Ok((!limits.is_empty()).then_some(all))
}

/// `2MB` in bytes: CRI has the kernel's words.
fn page_size(text: &str) -> Option<u64> {
    let (number, shift) = [("KB", 10), ("MB", 20), ("GB", 30)]
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// What is not given stays, and so does the score, which 0 may be or not.
pub fn changed(
    before: &Resources,
    given: Option<&LinuxContainerResources>,
) -> Result<Resources, Status> {
    let given = wanted(given)?;
    Ok(Resources {
        cpu_weight: given.cpu_weight.or(before.cpu_weight),
        cpu_max: given.cpu_max.or(before.cpu_max),
        memory_max: given.memory_max.or(before.memory_max),
        ..before.clone()
    })
}

/// What is reported back; shares are the ones nearest to the weight.
pub fn report(resources: &Resources) -> LinuxContainerResources {
    let (cpu_quota, period) = resources.cpu_max.unwrap_or_default();
    LinuxContainerResources {
        cpu_period: i64::try_from(period).unwrap_or(i64::MAX),
        cpu_quota,
        cpu_shares: resources.cpu_weight.map_or(0, shares),
        memory_limit_in_bytes: resources.memory_max.unwrap_or_default(),
        oom_score_adj: resources.oom_score_adj.unwrap_or_default().into(),
        ..LinuxContainerResources::default()
    }
}

/// cgroup v1's 2–262144 onto v2's 1–10000, linearly, as KEP-2254 has it and kubelets count.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn shares(weight: u64) -> i64 {
    let shares = 2 + (weight.clamp(1, 10_000) - 1) * 262_142 / 9_999;
    // At most 262144.
    i64::try_from(shares).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_weights() {
        for (shares, want) in [
            (2, 1),
            (1024, 39),
            (262_144, 10_000),
            (0, 1),
            (1 << 30, 10_000),
        ] {
            assert_eq!(weight(shares), want, "{shares}");
        }
        for weight in [1, 39, 10_000] {
            let back = u64::try_from(shares(weight)).unwrap();
            assert!(super::weight(back).abs_diff(weight) <= 1, "{weight}");
        }
    }

    #[test]
    fn zero_is_not_given() {
        let given = LinuxContainerResources::default();
        let none = Resources {
            oom_score_adj: Some(0),
            ..Resources::default()
        };
        assert_eq!(wanted(Some(&given)).unwrap(), none);
        assert_eq!(wanted(None).unwrap(), Resources::default());
        let given = LinuxContainerResources {
            cpu_quota: 50_000,
            memory_limit_in_bytes: 1 << 20,
            oom_score_adj: -998,
            ..given
        };
        let got = wanted(Some(&given)).unwrap();
        assert_eq!(got.cpu_max, Some((50_000, DEFAULT_PERIOD)));
        assert_eq!(got.memory_max, Some(1 << 20));
        assert_eq!(got.oom_score_adj, Some(-998));
        assert_eq!(report(&got).cpu_quota, 50_000);
    }

    #[test]
    fn what_is_not_given_stays() {
        let before = Resources {
            cpu_weight: Some(39),
            memory_max: Some(1 << 20),
            oom_score_adj: Some(5),
            ..Resources::default()
        };
        let given = LinuxContainerResources {
            memory_limit_in_bytes: 1 << 21,
            ..LinuxContainerResources::default()
        };
        let want = Resources {
            memory_max: Some(1 << 21),
            ..before.clone()
        };
        assert_eq!(changed(&before, Some(&given)).unwrap(), want);
        assert_eq!(changed(&before, None).unwrap(), before);
    }

    #[test]
    fn swap_and_huge_pages() {
        let given = |files: &[(&str, &str)], pages: &[(&str, u64)]| LinuxContainerResources {
            unified: files
                .iter()
                .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
                .collect(),
            hugepage_limits: pages
                .iter()
                .map(|(size, limit)| HugepageLimit {
                    page_size: (*size).to_owned(),
                    limit: *limit,
                })
                .collect(),
            ..LinuxContainerResources::default()
        };
        let oom = ("memory.oom.group", "1");
        for (files, pages, want) in [
            (vec![], vec![], Some((None, None))),
            (
                vec![oom, ("memory.swap.max", "0")],
                vec![],
                Some((Some(0), None)),
            ),
            (
                vec![("memory.swap.max", "max")],
                vec![],
                Some((Some(-1), None)),
            ),
            (vec![("memory.swap.max", "some")], vec![], None),
            (vec![("memory.oom.group", "0")], vec![], None),
            (vec![("memory.min", "1")], vec![], None),
            (
                vec![],
                vec![("2MB", 4 << 20), ("1GB", 0)],
                Some((None, Some([(2 << 20, 4 << 20), (1 << 30, 0)].into()))),
            ),
            (vec![], vec![("2Mi", 0)], None),
        ] {
            let got = wanted(Some(&given(&files, &pages))).ok();
            let got = got.map(|got| (got.swap_max, got.hugetlb_max));
            assert_eq!(got, want, "{files:?} {pages:?}");
        }
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        let given = LinuxContainerResources {
            cpuset_cpus: "0-1".into(),
            ..LinuxContainerResources::default()
        };
        let refused = wanted(Some(&given)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
        assert!(refused.message().contains("cpuset"), "{refused}");
    }
}
