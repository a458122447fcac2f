//! Limits: CRI has cgroup v1's numbers, the runtime v2's.

use std::collections::{BTreeMap, HashMap};

use tonic::Status;
use vetch_cri_proto::v1::{HugepageLimit, LinuxContainerResources};
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
    let (own_swap, unified) = unified(&given.unified)?;
    let swap_max = match own_swap {
        Some(bytes) => Some(bytes),
        None => swap(
            given.memory_limit_in_bytes,
            given.memory_swap_limit_in_bytes,
        )?,
    };
    let list = |cpus: &String| Some(cpus.clone()).filter(|cpus| !cpus.is_empty());
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
        cpuset_cpus: list(&given.cpuset_cpus),
        cpuset_mems: list(&given.cpuset_mems),
        unified,
        ..Resources::default()
    })
}

/// CRI limits memory and swap together, cgroup v2 swap alone. As other runtimes do: who has a limit of
/// memory and says nothing of swap has none.
fn swap(memory: i64, both: i64) -> Result<Option<i64>, Status> {
    match (memory, both) {
        (1.., 0) => Ok(Some(0)),
        (_, 0) => Ok(None),
        (_, ..0) => Ok(Some(-1)),
        (1.., both) if both >= memory => Ok(Some(both - memory)),
        _ => Err(Status::invalid_argument(format!(
            "memory_swap_limit_in_bytes of {both} counts memory too, whose limit is {memory}"
        ))),
    }
}

/// Files of cgroup v2: the limit of swap, and those that no other field stands for. A container is
/// killed whole when it is out of memory, unless it says otherwise here.
fn unified(
    files: &HashMap<String, String>,
) -> Result<(Option<i64>, BTreeMap<String, String>), Status> {
    let mut swap_max = None;
    let mut rest = BTreeMap::new();
    for (file, value) in files {
        match (file.as_str(), value.as_str()) {
            ("memory.oom.group", "1") => {}
            ("memory.swap.max", "max") => swap_max = Some(-1),
            ("memory.swap.max", bytes) => {
                let wrong = |_| Status::invalid_argument(format!("unified: {file} of {bytes:?}"));
                swap_max = Some(bytes.parse().map_err(wrong)?);
            }
            // Who writes these has the container elsewhere, or stopped, without the runtime's knowing.
            _ if file.starts_with("cgroup.") => {
                return Err(unsupported(&format!("unified ({file}) is")));
            }
            _ if file.contains('/') || !file.contains('.') => {
                let words = format!("unified: {file:?} is no file of a controller");
                return Err(Status::invalid_argument(words));
            }
            _ => {
                rest.insert(file.clone(), value.clone());
            }
        }
    }
    Ok((swap_max, rest))
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

/// The sandbox's own limits and what it takes beside its containers.
pub fn with_overhead(
    own: Option<&LinuxContainerResources>,
    overhead: Option<&LinuxContainerResources>,
) -> Result<Resources, Status> {
    // Its containers say themselves whether they swap.
    let says_swap = own.is_some_and(|own| {
        own.memory_swap_limit_in_bytes != 0 || own.unified.contains_key("memory.swap.max")
    });
    let own = wanted(own)?;
    let more = wanted(overhead)?;
    let longer = |(quota, period): (i64, u64)| match more.cpu_max {
        Some((more, of)) if quota > 0 && more > 0 && of == period => {
            (quota.saturating_add(more), period)
        }
        _ => (quota, period),
    };
    let larger = |bytes: i64| match more.memory_max {
        Some(more) if bytes > 0 && more > 0 => bytes.saturating_add(more),
        _ => bytes,
    };
    Ok(Resources {
        cpu_max: own.cpu_max.map(longer),
        memory_max: own.memory_max.map(larger),
        swap_max: own.swap_max.filter(|_| says_swap),
        ..own
    })
}

/// What is not given stays, and so does the score, which 0 may be or not.
pub fn changed(
    before: &Resources,
    given: Option<&LinuxContainerResources>,
) -> Result<Resources, Status> {
    Ok(merged(before, wanted(given)?))
}

/// As the runtime takes it: of all but CPU and memory it knows itself what was before.
pub fn merged(before: &Resources, given: Resources) -> Resources {
    Resources {
        cpu_weight: given.cpu_weight.or(before.cpu_weight),
        cpu_max: given.cpu_max.or(before.cpu_max),
        memory_max: given.memory_max.or(before.memory_max),
        oom_score_adj: before.oom_score_adj,
        ..given
    }
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
        cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: resources.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: report_huge_pages(resources),
        memory_swap_limit_in_bytes: match (resources.memory_max, resources.swap_max) {
            (Some(memory @ 1..), Some(swap @ 0..)) => memory.saturating_add(swap),
            (_, Some(..0)) => -1,
            _ => 0,
        },
        unified: resources.unified.clone().into_iter().collect(),
    }
}

fn report_huge_pages(resources: &Resources) -> Vec<HugepageLimit> {
    let limits = resources.hugetlb_max.iter().flatten();
    let of = |(size, bytes): (&u64, &i64)| HugepageLimit {
        page_size: page_name(*size),
        limit: u64::try_from(*bytes).unwrap_or(u64::MAX),
    };
    limits.map(of).collect()
}

fn page_name(size: u64) -> String {
    let units = [("GB", 30), ("MB", 20)];
    let fits = units.into_iter().find(|(_, shift)| size >> shift > 0);
    let (unit, shift) = fits.unwrap_or(("KB", 10));
    format!("{}{unit}", size >> shift)
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
mod tests;
